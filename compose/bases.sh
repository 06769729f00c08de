#!/bin/sh
# Makes the base images that the files here name, under the tags that they use, where none can be pulled: from Debian's packages (debootstrap),
# the wheels in .tools/py (make clients) and this machine's Rust. As root.
#
#   compose/bases.sh debian nats seaweedfs      what the tests need
#   compose/bases.sh rust                       what compiles (`--target image`)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools="$here/../.tools"
py="$tools/py/bin"
base="$tools/debian-bookworm.tar"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

debian() {
  if docker image inspect debian:bookworm-slim > /dev/null 2>&1; then return; fi
  if ! [ -f "$base" ]; then
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" > "$work/log" 2>&1 || { tail -5 "$work/log"; exit 1; }
    rm -rf "$work/debian/var/cache/apt" "$work/debian/var/lib/apt/lists" "$work/debian/usr/share/doc" "$work/debian/usr/share/locale"
    tar -C "$work/debian" -cf "$base.part" .
    mv "$base.part" "$base"
  fi
  docker import "$base" debian:bookworm-slim > /dev/null
}

# FILE... of this machine, each at PLACE, on top of FROM, as TAG.
image() {
  tag=$1; from=$2; file=$3; place=$4
  mkdir -p "$work/image"
  cp "$file" "$work/image/file"
  printf 'FROM %s\nCOPY file %s\n' "$from" "$place" > "$work/image/Dockerfile"
  docker build -q -t "$tag" "$work/image" > /dev/null
}

# The wheel's own binary, not the script that finds it.
binary() {
  "$py/python" - "$1" <<'END'
import pathlib, sys, sysconfig
for root in (sysconfig.get_path("purelib"), sysconfig.get_path("scripts")):
    for path in sorted(pathlib.Path(root).rglob(sys.argv[1])):
        if path.is_file() and path.open("rb").read(4) == b"\x7fELF":
            print(path)
            sys.exit()
sys.exit(f"no binary {sys.argv[1]} in {sysconfig.get_path('purelib')}: make clients")
END
}

rust() {
  debian
  toolchain=$(rustc --print sysroot)
  # A distribution's own lies among everything else.
  [ "$toolchain" != /usr ] || { echo "bases.sh: $(command -v rustc) has no folder of its own: put rustup's first on PATH" >&2; exit 1; }
  mkdir -p "$work/rust/toolchain"
  cp -a "$toolchain/bin" "$toolchain/lib" "$work/rust/toolchain/"
  # Whom this machine trusts: a registry may be behind a proxy with a CA of the plant's own.
  cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$work/rust/ca-certificates.crt"
  cat > "$work/rust/Dockerfile" <<'END'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev make cmake && rm -rf /var/lib/apt/lists
COPY toolchain /usr/local/rust
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/bin:/bin
END
  docker build -q --network host -t rust:1.95-bookworm "$work/rust" > /dev/null
}

for name in "$@"; do
  case $name in
    debian) debian ;;
    nats) image nats:2.15.1-scratch scratch "$(binary nats-server)" /nats-server ;;
    seaweedfs) debian; image chrislusf/seaweedfs:4.48 debian:bookworm-slim "$(binary weed)" /usr/bin/weed ;;
    rust) rust ;;
    *) echo "bases.sh: $name: debian, nats, seaweedfs and rust are known" >&2; exit 64 ;;
  esac
  echo "made: $name"
done
