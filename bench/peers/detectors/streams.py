"""The recorded streams that the methods run over, and their result files."""

import csv
import dataclasses
import gzip
import io
import math
import pathlib

import numpy as np

NOT_CHANNELS = {"timestamp", "datetime", "label", "scored", "anomaly", "changepoint"}
NAB_PART, NAB_ROWS = 0.15, 750  # NAB: this part of a file may be learned from, and no more rows than these.
SKAB_ROWS = 400
SETS = ("nab", "skab", "telemetry", "gecco")


@dataclasses.dataclass
class Stream:
    """One file: `values` is rows x channels without gaps; the first `granted` rows are for learning and not scored."""

    set: str
    path: str  # Below the set's folder of results.
    stamps: list
    values: np.ndarray
    granted: int


def table(path, delimiter=","):
    """The titles and the rows of a CSV file, gzipped or not."""
    opened = gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="")
    with opened as file:
        rows = list(csv.reader(file, delimiter=delimiter))
    return rows[0], rows[1:]


def carry(values):
    """Each gap takes the value before it; gaps at the start take the first value there is, or 0 if there is none."""
    filled = values.copy()
    for channel in filled.T:
        there = np.flatnonzero(np.isfinite(channel))
        if len(there) == 0:
            channel[:] = 0
            continue
        last = np.maximum.accumulate(np.where(np.isfinite(channel), np.arange(len(channel)), there[0]))
        channel[:] = channel[last]
    return filled


def channels(titles, rows):
    """The columns that are measured, rows x channels; no column with labels is among them."""
    columns = [i for i, title in enumerate(titles) if title not in NOT_CHANNELS]
    return carry(np.array([[float(row[i] or "nan") for i in columns] for row in rows]))


def granted_rows(name, titles, rows):
    """How many rows from the start a method of this set may learn from."""
    if name == "nab":
        return min(math.floor(NAB_PART * len(rows)), NAB_ROWS)
    if name == "skab":
        return SKAB_ROWS
    scored = titles.index("scored")
    return next(i for i, row in enumerate(rows) if float(row[scored]) > 0)


def streams(data, name):
    """Every stream of a set, in order of their paths; SKAB's run without anomalies is left out."""
    root = data / name / "data" if name == "nab" else data / name
    for path in sorted([*root.rglob("*.csv"), *root.rglob("*.csv.gz")]):
        if path.parent.name == "anomaly-free":
            continue
        titles, rows = table(path, ";" if name == "skab" else ",")
        granted = granted_rows(name, titles, rows)
        yield Stream(name, str(path.relative_to(root)), [row[0] for row in rows], channels(titles, rows), granted)


def write(folder, stream, scores):
    """Writes `timestamp,anomaly_score`, a row per row of the stream; gzipped, with no time in it, if the data are."""
    path = pathlib.Path(folder) / stream.set / stream.path
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    text.write("timestamp,anomaly_score\n")
    text.writelines(f"{stamp},{float(score)!r}\n" for stamp, score in zip(stream.stamps, scores, strict=True))
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
