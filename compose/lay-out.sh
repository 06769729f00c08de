#!/bin/sh
# lay-out.sh EDDY_ALL CA_CERTIFICATES OUT [NATS_SERVER]: lays the files of an image or archive out below OUT, as they lie below /usr.
set -eu
mkdir -p "$3/bin" "$3/share/eddy/certs"
cp "$1" "$3/bin/eddy-all"
chmod 755 "$3/bin/eddy-all"
for name in eddy eddy-capture eddy-preprocess eddy-embed eddy-detect eddy-index eddy-notify eddy-sync eddy-export eddy-hub eddy-eval eddy-drill; do
  ln -sf eddy-all "$3/bin/$name"
done
cp "$2" "$3/share/eddy/certs/ca-certificates.crt"
if [ -n "${4:-}" ]; then
  cp "$4" "$3/bin/nats-server"
  chmod 755 "$3/bin/nats-server"
fi
