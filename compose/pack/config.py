"""What matters of an image's config, of `docker image inspect --format '{{json .Config}}'` on standard input: one key a line, sorted."""

import json
import sys

KEYS = ["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels", "StopSignal", "Volumes", "ExposedPorts"]

given = json.load(sys.stdin)
for key in KEYS:
    print(key, json.dumps(given.get(key) or None, sort_keys=True))
