#!/usr/bin/env bash
# `make bench-smoke`: the hot paths' instructions beside the committed baseline. Where that was counted in another environment (compiler,
# C library, valgrind, processor), the commit that wrote it is counted here in its place: like is compared with like on any machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v valgrind >/dev/null; then
  echo "bench-smoke: SKIPPED: valgrind is not installed (apt-get install valgrind): no instruction was counted"
  exit 0
fi

cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# All of the workspace is selected, so that dependencies have the features that the tests' builds gave them. Incremental builds inline less
# or more across crates: index.search differed by 7 %.
build() { CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$target" "$cargo" build --workspace --bin eddy-smoke --config bench/smoke/profile.toml; }

build
code=0
"$target/debug/eddy-smoke" "$@" || code=$?
[ "$code" = 3 ] || exit "$code"

base=$(git log -1 --format=%H -- bench/smoke/baseline.json 2>/dev/null) || true
# Where history is cut off, its oldest commit seems to have written every file.
shallow=$(git rev-parse --git-path shallow 2>/dev/null) || true
if [ -f "$shallow" ] && grep -qx "$base" "$shallow"; then base=; fi
tree=.tools/smoke-base
[ -e "$tree/.git" ] || rm -rf "$tree"
git worktree prune 2>/dev/null || true
counted() { if [ -e "$tree/.git" ]; then git -C "$tree" checkout --quiet --detach "$base"; else git worktree add --quiet --detach "$tree" "$base"; fi; }
if [ -z "$base" ] || ! counted; then
  echo "bench-smoke: SKIPPED: the commit that wrote the baseline cannot be had here (a shallow clone?), so nothing was compared"
  exit 0
fi
echo "bench-smoke: counting $(git log -1 --format='%h (%s)' "$base"), which wrote the baseline, on this machine" >&2
cp "$target/debug/eddy-smoke" "$target/debug/eddy-smoke-now"
(cd "$tree" && build)
"$target/debug/eddy-smoke" --write --baseline "$target/smoke-baseline.json" >&2
exec "$target/debug/eddy-smoke-now" --baseline "$target/smoke-baseline.json" "$@"
