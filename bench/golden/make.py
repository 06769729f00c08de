#!/usr/bin/env python3
"""Makes the golden cases of the scorers: small made-up data, scores and labels, and what the Python scorers say of them.

  make.py SCORERS_DIR        folder of nab_score.py, skab_score.py and vus.py; needs numpy

Writes data/, results/ and expected.json beside this file. The data are made from a seed with nothing but the standard
library's generator, so a second run writes the same bytes.
"""
import csv, json, math, os, random, subprocess, sys
from datetime import datetime, timedelta

HERE = os.path.dirname(os.path.abspath(__file__))


def write(path, head, rows, delimiter=","):
    path = os.path.join(HERE, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", newline="") as f:
        out = csv.writer(f, delimiter=delimiter, lineterminator="\n")
        out.writerow(head)
        out.writerows(rows)


def score(rng, inside, row):
    """Coarse, so that there are ties; sometimes missing."""
    if rng.random() < 0.004:
        return "nan"
    return round(rng.betavariate(2, 5 if inside else 7) + 0.05 * math.sin(row / 7), 2)


def nab(rng):
    labels, truth = {}, {}
    for name, rows, windows, period in [
        ("real/two.csv", 900, [(300, 340), (600, 690)], 48),
        ("real/early.csv", 700, [(80, 120), (400, 420)], 60),
        ("artificial/none.csv", 400, [], 30),
    ]:
        stamps = [str(datetime(2014, 4, 1) + timedelta(minutes=5 * i)) for i in range(rows)]
        inside = [any(a <= i <= b for a, b in windows) for i in range(rows)]
        value = [round(math.sin(2 * math.pi * i / period) + rng.gauss(0, 0.2) + 2 * inside[i], 4) for i in range(rows)]
        write(f"data/nab/data/{name}", ["timestamp", "value"], zip(stamps, value))
        write(f"results/nab/{name}", ["timestamp", "anomaly_score"], zip(stamps, [score(rng, x, i) for i, x in enumerate(inside)]))
        labels[name] = [[stamps[a] + ".000000", stamps[b] + ".000000"] for a, b in windows]
        probation = min(int(0.15 * rows), 750)
        truth[name] = (stamps, value, inside, [int(i >= probation) for i in range(rows)])
    with open(f"{HERE}/data/nab/combined_windows.json", "w") as f:
        json.dump(labels, f, indent=1)
    return truth


def skab(rng):
    for name, rows, anomaly in [("other/1.csv", 620, (500, 560)), ("valve1/0.csv", 700, (450, 520)), ("valve2/0.csv", 600, (480, 590))]:
        stamps = [str(datetime(2020, 3, 9, 10) + timedelta(seconds=i)) for i in range(rows)]
        inside = [anomaly[0] <= i <= anomaly[1] for i in range(rows)]
        changed = [float(i in (anomaly[0], anomaly[1] + 1)) for i in range(rows)]
        write(f"data/skab/{name}", ["datetime", "Pressure", "anomaly", "changepoint"],
              zip(stamps, [round(rng.gauss(0, 1), 3) for _ in stamps], map(float, inside), changed), ";")
        write(f"results/skab/{name}", ["timestamp", "anomaly_score"],
              zip(stamps, [round((2.6 if x else 1) * rng.gammavariate(8, 0.125), 2) for x in inside]))


def telemetry(rng):
    for name, rows, stretches, period in [("a.csv", 900, [(300, 360), (380, 400), (850, 899)], 40), ("b.csv", 500, [(120, 125)], 0), ("c.csv", 300, [], 20)]:
        inside = [any(a <= i <= b for a, b in stretches) for i in range(rows)]
        value = [round(math.sin(2 * math.pi * i / period), 4) if period else 1 for i in range(rows)]
        write(f"data/telemetry/{name}", ["timestamp", "value", "label", "scored"],
              zip(range(rows), value, map(int, inside), [int(i >= 100) for i in range(rows)]))
        write(f"results/telemetry/{name}", ["timestamp", "anomaly_score"], zip(range(rows), [score(rng, x, i) for i, x in enumerate(inside)]))


def run(*command):
    return subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout


def main(scorers):
    rng = random.Random(20261121)
    truth = nab(rng)
    skab(rng)
    telemetry(rng)
    tmp = os.path.join(HERE, ".nab-labelled")
    for name, columns in truth.items():
        write(f".nab-labelled/{name}", ["timestamp", "value", "label", "scored"], zip(*[columns[0], columns[1], map(int, columns[2]), columns[3]]))
    told = os.path.join(HERE, ".nab.json")
    run(f"{scorers}/nab_score.py", f"{HERE}/results/nab", "--labels", f"{HERE}/data/nab/combined_windows.json", "--json", told)
    profiles = json.load(open(told))
    volume = lambda *args: run(f"{scorers}/vus.py", *args).split()
    carried = run(f"{scorers}/skab_score.py", f"{HERE}/results/skab", "--data", f"{HERE}/data/skab", "--mode", "calib", "--q", ".99", "--mult", "1.5").split()
    best = run(f"{scorers}/skab_score.py", f"{HERE}/results/skab", "--data", f"{HERE}/data/skab").split()
    top = volume(f"{HERE}/results/telemetry", "--data", f"{HERE}/data/telemetry", "--ucr")
    expected = {
        "nab": {
            "standard": profiles["standard"]["final"],
            "low_fp": profiles["reward_low_FP_rate"]["final"],
            "low_fn": profiles["reward_low_FN_rate"]["final"],
            "caught": profiles["standard"]["caught"],
            "wrong_rows": profiles["standard"]["fp"],
            "vus_pr": float(volume(f"{HERE}/results/nab", "--data", tmp)[-1]),
        },
        "skab": {
            "f1": float(carried[-1]),
            "far_percent": float(carried[carried.index("FAR", carried.index("points:")) + 1]),
            "mar_percent": float(carried[carried.index("MAR", carried.index("points:")) + 1]),
            "f1_best": float(best[-1]),
        },
        "telemetry": {
            "vus_pr": float(volume(f"{HERE}/results/telemetry", "--data", f"{HERE}/data/telemetry")[-1]),
            "top_1": float(top[-1]),
        },
    }
    with open(f"{HERE}/expected.json", "w") as f:
        json.dump(expected, f, indent=1)
        f.write("\n")
    os.remove(told)
    for name in truth:
        os.remove(f"{tmp}/{name}")
    for folder in ("real", "artificial", ""):
        os.rmdir(os.path.join(tmp, folder))
    print(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
