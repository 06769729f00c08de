"""Runs the benchmarks' scorers over results: one row of a table a method."""

import importlib.util
import subprocess
import sys

import numpy as np

from detectors.streams import table

PROFILES = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")
REFRACTORY_ROWS = 100
SKAB_CARRIED = ("--mode", "calib", "--q", ".99", "--mult", "1.5")


def loaded(scorers, name):
    """A scorer as a module."""
    spec = importlib.util.spec_from_file_location(name, scorers / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def last_figure(*command):
    """The last word that a scorer prints."""
    run = subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True, text=True)
    return float(run.stdout.split()[-1])


def refractory(scores):
    """An alarm stands only if it exceeds every standing alarm of the 100 rows before; the others are lowest of all."""
    out = np.full(len(scores), -1e9)
    for row, score in enumerate(scores):
        if score > out[max(0, row - REFRACTORY_ROWS) : row].max(initial=-np.inf):
            out[row] = score
    return out


def nab(results, data, scorers, has_own_refractory):
    """NAB's three profiles without and with the refractory, and the mean VUS-PR."""
    scorer, vus = loaded(scorers, "nab_score"), loaded(scorers, "vus")
    corpus, scores, missing = scorer.load(str(results), str(data / "combined_windows.json"))
    if missing:
        raise SystemExit(f"{results}: no results for {missing}")
    files = np.split(scores, np.cumsum([file.n for file in corpus.geoms])[:-1])
    plain = " / ".join(f"{corpus.best(scores, name)[2]:.1f}" for name in PROFILES)
    standing = np.concatenate([refractory(file) for file in files])
    after = "own" if has_own_refractory else " / ".join(f"{corpus.best(standing, name)[2]:.1f}" for name in PROFILES)
    volumes = [nab_volume(file, each, data / "data", vus) for file, each in zip(corpus.geoms, files)]
    return [plain, after, f"{np.mean([volume for volume in volumes if volume is not None]):.3f}"]


def nab_volume(file, scores, data, vus):
    """VUS-PR of one of NAB's files: its scored rows, labelled inside windows; none where none of these is labelled."""
    labels = (file.wid >= 0)[file.scorable]
    if not labels.any():
        return None
    _, rows = table(data / file.rel)
    return vus.vus(labels, scores[file.scorable], vus.period([float(row[1]) for row in rows]))[1]


def skab(results, data, scorers):
    """SKAB's F1 with the threshold carried from the granted rows, and with the best one."""
    command = (scorers / "skab_score.py", results, "--data", data)
    return [f"{last_figure(*command, *SKAB_CARRIED):.3f}", f"{last_figure(*command):.3f}"]


def volume(results, data, scorers):
    """The mean VUS-PR of a set with labels in its files."""
    return [f"{last_figure(scorers / 'vus.py', results, '--data', data):.3f}"]


def row(folder, data, scorers, has_own_refractory):
    """The figures of a method, "-" for the sets it has no results of."""
    figures = []
    for name, columns in (("nab", 3), ("skab", 2), ("telemetry", 1), ("gecco", 1)):
        if not (folder / name).is_dir():
            figures += ["-"] * columns
        elif name == "nab":
            figures += nab(folder / name, data / name, scorers, has_own_refractory)
        elif name == "skab":
            figures += skab(folder / name, data / name, scorers)
        else:
            figures += volume(folder / name, data / name, scorers)
    return figures
