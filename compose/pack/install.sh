#!/bin/sh
# install.sh: installs this release for systemd, as root. Run again with another release it changes to that one, and with an older one back:
# config, keys and data stay. Nothing is started or stopped.
#
#   /opt/eddy/VERSION/, /opt/eddy/current   the programs; what is current is what the units start
#   /etc/eddy/gateway.toml                  the config, made if there is none
#   /usr/lib/systemd/system, sysusers.d, tmpfiles.d      units, users, folders; /usr/local/bin/eddy
# DESTDIR=DIR: below DIR, for packages and tests.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
version=$(cut -d' ' -f1 "$here/VERSION")
lib=$root/usr/lib
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "install.sh: run it as root" >&2; exit 1; }

mkdir -p "$root/opt/eddy" "$root/etc/eddy" "$root/usr/local/bin" "$lib/systemd/system" "$lib/sysusers.d" "$lib/tmpfiles.d"
rm -rf "$root/opt/eddy/$version.part" && mkdir "$root/opt/eddy/$version.part"
cp -R "$here/." "$root/opt/eddy/$version.part"
rm -rf "$root/opt/eddy/$version.old"
[ ! -e "$root/opt/eddy/$version" ] || mv "$root/opt/eddy/$version" "$root/opt/eddy/$version.old"
mv "$root/opt/eddy/$version.part" "$root/opt/eddy/$version"
rm -rf "$root/opt/eddy/$version.old"
ln -sfn "$version" "$root/opt/eddy/current.new" && mv -T "$root/opt/eddy/current.new" "$root/opt/eddy/current"
ln -sfn /opt/eddy/current/bin/eddy "$root/usr/local/bin/eddy"

cp -R "$here"/systemd/*.service "$here"/systemd/*.service.d "$here"/systemd/*.path "$here"/systemd/*.target "$lib/systemd/system"
cp "$here/systemd/sysusers.conf" "$lib/sysusers.d/eddy.conf"
cp "$here/systemd/tmpfiles.conf" "$lib/tmpfiles.d/eddy.conf"
[ -e "$root/etc/eddy/gateway.toml" ] || cp "$here/systemd/gateway.toml" "$root/etc/eddy/gateway.toml"
if [ -z "$root" ]; then
  systemd-sysusers eddy.conf
  systemd-tmpfiles --create eddy.conf
  systemctl daemon-reload
  systemctl enable eddy.target eddy-bus eddy@capture eddy@preprocess eddy@embed eddy@detect eddy@index
fi
echo "eddy $version is installed: set site.name in /etc/eddy/gateway.toml, then systemctl start eddy.target"
