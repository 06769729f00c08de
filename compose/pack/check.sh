#!/bin/sh
# check.sh ARCH DIST NATS_SERVER: what `make dist` made is whole, runs, and finds the demo's alerts; the image is the one that the Dockerfile makes.
#
# Programs of another architecture than this machine's run under qemu, beside this machine's own NATS_SERVER. What cannot be tried here is SKIPPED.
set -eu
cd "$(dirname "$0")/../.."
arch=$1; dist=$2; server=$(realpath "$3")
python=${PYTHON:-.tools/py/bin/python}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
# What amd64 finds, as the README shows it: same recording, same alerts.
wanted=$(sed -n 's/^demo: .*alerts_hash=//p' README.md)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() { echo "dist-check $arch: SKIPPED $1"; }
fail() { echo "dist-check $arch: $1" >&2; exit 1; }

case $arch in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) fail "amd64 and arm64 are known" ;; esac
name=eddy-$version-linux-$arch
[ -f "$dist/$name.tar.gz" ] || { skip "$dist/$name.tar.gz is not there (make dist ARCH=$arch)"; exit 0; }
(cd "$dist" && sha256sum --quiet -c "eddy-$version-sha256sums") || fail "files are not those of eddy-$version-sha256sums"
tar -xzf "$dist/$name.tar.gz" -C "$work"
bin=$work/$name/bin

# --- programs ---------------------------------------------------------------
emulator=
if [ "$(uname -m)" != "$machine" ]; then
  emulator=$(command -v "qemu-$machine-static") || emulator=
fi
if [ "$(uname -m)" != "$machine" ] && [ -z "$emulator" ]; then
  skip "programs: qemu-$machine-static is not installed (apt-get install qemu-user-static)"
else
  for program in "$bin"/eddy*; do
    called=$(basename "$program")
    [ "$called" != eddy-all ] || continue
    if [ -n "$emulator" ]; then
      # In the link's own place: programs start each other by it.
      rm "$program"
      printf '#!/bin/sh\nexec %s -0 %s %s "$@"\n' "$emulator" "$called" "$bin/eddy-all" > "$program"
      chmod 755 "$program"
    fi
    "$program" --version | grep -q "$version" || fail "$called --version does not say $version"
  done
  $emulator "$bin/nats-server" --version
  EDDY_NATS_SERVER="$server" "$bin/eddy" demo --recording "$work/$name/fixtures/fleet" --keep "$work/demo" \
    > "$work/demo.log" 2>&1 || { tail -20 "$work/demo.log" >&2; fail "the demo failed"; }
  found=$(sed -n 's/^demo: .*alerts_hash=//p' "$work/demo.log")
  [ "$found" = "$wanted" ] || fail "the demo's alerts_hash is $found, not $wanted"
  echo "dist-check $arch: programs run${emulator:+ under $(basename "$emulator")}, the demo's alerts_hash is $wanted"
fi

# --- image ------------------------------------------------------------------
if ! docker info > /dev/null 2>&1; then
  skip "image: no container engine answers"
  exit 0
fi
# Under a name of its own, so that no image of this machine is replaced.
tag=eddy:dist-check-$arch
"$python" -B compose/pack/pack.py "$arch" "$work/image" --tag "$tag" > /dev/null
docker load -q -i "$work/image/eddy-$version-image-$arch.tar"
of() { docker image inspect --format '{{json .Config}}' "$1" | "$python" compose/pack/config.py; }
revision=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$tag")
docker build -q -f compose/Dockerfile --target prebuilt --build-arg "ARCH=$arch" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
  -t "$tag-built" . > /dev/null
of "$tag" > "$work/loaded"; of "$tag-built" > "$work/built"
diff "$work/loaded" "$work/built" || fail "the archive's image is configured otherwise than the Dockerfile's"
# Modes, owners, sizes and names; what an engine puts into every container is the same for both.
files() {
  container=$(docker create "$1")
  docker export "$container" | tar -tv --numeric-owner | awk '{print $1, $2, $3, $6, $7, $8}' | sed '/^d/s/ [0-9]* / /2' | sort
  docker rm "$container" > /dev/null
}
files "$tag" > "$work/loaded"; files "$tag-built" > "$work/built"
grep -q ' usr/bin/eddy-all' "$work/loaded" || fail "the archive's image holds no eddy-all"
diff "$work/loaded" "$work/built" || fail "the archive's image holds other files than the Dockerfile's"
if [ "$(uname -m)" = "$machine" ]; then
  docker run --rm --network none "$tag" eddy --version
else
  skip "image: an engine of this machine does not run it"
fi
docker image rm -f "$tag" "$tag-built" > /dev/null
echo "dist-check $arch: the archive's image is the Dockerfile's"
