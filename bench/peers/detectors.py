"""Published detectors over the recorded benchmarks, scored on the same files as eddy: see README.md.

  detectors.py DATA OUT [--method NAME ...] [--score SCORERS_DIR] [--keep]
"""

import argparse
import json
import pathlib
import time

from detectors import scoring
from detectors.methods import METHODS
from detectors.streams import SETS, streams, write

TITLE = (
    "| method | causal | NAB standard / low FP / low FN | with refractory | NAB VUS-PR | SKAB F1, carried threshold "
    "| SKAB F1, best threshold | telemetry VUS-PR | GECCO VUS-PR | CPU seconds |\n|" + "---|" * 10
)
SECONDS = "seconds.json"


def run(method, data, folder):
    """Writes the method's results of every set there is, and the CPU seconds that its scores took."""
    seconds = 0.0
    for name in (name for name in SETS if (data / name).is_dir()):
        for stream in streams(data, name):
            start = time.process_time()
            scores = method.scores(stream)
            seconds += time.process_time() - start
            if scores is not None:
                write(folder, stream, scores)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SECONDS).write_text(json.dumps(round(seconds, 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--score", type=pathlib.Path, metavar="SCORERS_DIR")
    parser.add_argument("--keep", action="store_true", help="do not run what has been run")
    options = parser.parse_args()
    if options.score:
        print(TITLE, flush=True)
    for name in options.method:
        method, folder = METHODS[name], options.out / name
        if not (options.keep and (folder / SECONDS).exists()):
            run(method, options.data, folder)
        if options.score:
            figures = scoring.row(folder, options.data, options.score, method.has_own_refractory)
            seconds = json.loads((folder / SECONDS).read_text())
            cells = [name, "yes" if method.causal else "no, looks ahead", *figures, f"{seconds:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
