"""Makes the dashboards of Grafana: make dashboards (standard library only).

dashboards/NAME.json beside this file, as Grafana provisions them. What a panel asks stands in panels.py; every query takes $site and, where
it takes a rate, $window, and gives something on a gateway that is well: tests/end_to_end/metrics asks them all of a running Prometheus."""

import json
import sys
from pathlib import Path

from panels import DASHBOARDS

HERE = Path(__file__).resolve().parent
SOURCE = {"type": "prometheus", "uid": "eddy"}
# Grafana's grid is 24 wide.
WIDE, HIGH, SMALL = 8, 7, 4


def variables():
    """The site, and over how long rates are taken."""
    site = {
        "name": "site", "label": "Site", "type": "query", "datasource": SOURCE, "query": "label_values(eddy_start_time_seconds, site)",
        "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }
    spans = ["1m", "5m", "15m", "1h", "6h"]
    window = {
        "name": "window", "label": "Window", "type": "custom", "query": ",".join(spans), "current": {"text": "5m", "value": "5m"},
        "options": [{"text": span, "value": span, "selected": span == "5m"} for span in spans],
    }
    return [site, window]


def panel(number, place, kind, title, unit, means, queries):
    """One panel. `means`: what it says when it is bad, shown as its description."""
    targets = [
        {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend, "instant": kind == "stat"}
        for n, (expr, legend) in enumerate(queries)
    ]
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}} if kind == "stat" else {"legend": {"displayMode": "list", "placement": "bottom"}}
    return {
        "id": number, "type": kind, "title": title, "description": means, "datasource": SOURCE, "gridPos": place, "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []}, "options": options,
    }


def places(kinds):
    """Where panels stand, row by row: figures are half as wide and lower."""
    x = y = height = 0
    for kind in kinds:
        width, high = (SMALL, 4) if kind == "stat" else (WIDE, HIGH)
        if x + width > 24 or (x and high != height):
            x, y = 0, y + height
        height = high
        yield {"x": x, "y": y, "w": width, "h": high}
        x += width


def dashboard(name, title, panels):
    """A whole dashboard."""
    placed = zip(panels, places([one[0] for one in panels]))
    return {
        "uid": f"eddy-{name}", "title": title, "tags": ["eddy"], "timezone": "browser", "schemaVersion": 39, "version": 1, "refresh": "10s",
        "editable": False, "time": {"from": "now-1h", "to": "now"}, "templating": {"list": variables()},
        "panels": [panel(n + 1, place, *one) for n, (one, place) in enumerate(placed)],
    }


def files():
    """Every file by its name, as it has to be."""
    return {f"{name}.json": json.dumps(dashboard(name, title, panels), indent=1) + "\n" for name, (title, panels) in DASHBOARDS.items()}


if __name__ == "__main__":
    for file, text in files().items():
        (HERE / "dashboards" / file).write_text(text)
    sys.exit(0)
