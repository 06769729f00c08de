#!/bin/sh
# lay-out.sh EDDY_ALL CA_CERTIFICATES OUT [NATS_SERVER]: lays the files of an image or archive out below OUT, as they lie below /usr.
# lay-out.sh --links FOLDER: the programs' names beside the eddy-all that lies there.
set -eu
links() {
  for name in eddy eddy-capture eddy-preprocess eddy-embed eddy-detect eddy-index eddy-notify eddy-sync eddy-export eddy-hub eddy-eval eddy-drill; do
    # The bench's own eddy-eval, where it was built beside, is as new; any other file would be of an earlier build.
    if [ "$name" = eddy-eval ] && [ -f "$1/$name" ] && [ ! -L "$1/$name" ]; then continue; fi
    ln -sf eddy-all "$1/$name"
  done
}
if [ "$1" = --links ]; then
  links "$2"
  exit
fi
mkdir -p "$3/bin" "$3/share/eddy/certs"
cp "$1" "$3/bin/eddy-all"
chmod 755 "$3/bin/eddy-all"
links "$3/bin"
cp "$2" "$3/share/eddy/certs/ca-certificates.crt"
if [ -n "${4:-}" ]; then
  cp "$4" "$3/bin/nats-server"
  chmod 755 "$3/bin/nats-server"
fi
