#!/bin/sh
# screenshots.sh EDDY SCREENSHOTS FOLDER: pictures of `eddy top` and `eddy console` for the README, of a gateway that has the demo's
# recording up to the middle of a fault, so that something is open.
#   EDDY         the program `eddy`, beside the stages' programs
#   SCREENSHOTS  the example `screenshots` of these tests
set -eu
eddy=$1; shots=$2; folder=$3
here=$(cd "$(dirname "$0")/.." && pwd)
until=2026-01-19T22:00:00Z
work=$(mktemp -d)
gateway=; console=
finish() {
  for pid in $console $gateway; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

mkdir "$work/fleet" "$folder" 2>/dev/null || true
for file in "$here"/fixtures/fleet/*.csv.gz; do
  # Times are RFC 3339, all in UTC, in the first column: they sort as text.
  gzip -dc "$file" | awk -F, -v until="$until" 'NR == 1 || $1 < until' | gzip > "$work/fleet/$(basename "$file")"
done
cd "$here"
"$eddy" up --dir "$work/gateway" --port 0 --site plant-1 2> "$work/up.log" &
gateway=$!
for _ in $(seq 100); do
  "$eddy" health --dir "$work/gateway" > /dev/null 2>&1 && break
  sleep 0.3
done
"$eddy" replay "$work/fleet" --dir "$work/gateway" --json > /dev/null
# Until all of it is judged, and index has told what it knows.
for _ in $(seq 300); do
  lag=$("$eddy" status --dir "$work/gateway" --interval 0.5 --json | python3 -c 'import json, sys; print(sum(r["lag_messages"] + r["in_flight_messages"] for r in json.load(sys.stdin)["readers"]))')
  [ "$lag" = 0 ] && break
done
for pane in overview alerts; do
  "$eddy" top --once --dir "$work/gateway" --as alice --size 110x34 --pane $pane --svg "$folder/top-$pane.svg"
  echo "$folder/top-$pane.svg"
done
"$eddy" console --dir "$work/gateway" --as alice --listen 127.0.0.1:0 > "$work/console.log" 2>&1 &
console=$!
for _ in $(seq 100); do
  url=$(grep -o 'http://127[^ ]*' "$work/console.log" | head -1) && [ -n "$url" ] && break
  sleep 0.2
done
"$shots" "$url" "$folder"
