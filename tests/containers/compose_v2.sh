#!/bin/sh
# compose_v2.sh OUT: puts Docker's compose plugin, which runs by itself too, at OUT, from the next Debian's package: the current one has only
# docker-compose 1.29, and the files in compose/ are to be read by both. Nothing is installed.
set -eu
mkdir -p "$(dirname "$1")"
out=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mirror=$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian\/Debian //p' | head -1)
[ -n "$mirror" ] || { echo "no Debian among apt's sources" >&2; exit 1; }
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
# Debian's own keys sign it, as they sign the current one.
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$work/sources"
apt() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}
apt update
cd "$work"
apt download docker-compose
dpkg-deb --fsys-tarfile docker-compose_*.deb | tar -xO ./usr/libexec/docker/cli-plugins/docker-compose > compose
chmod 755 compose
mv compose "$out"
