"""Rules, their tests and their runbook agree, promtool is content, and the dashboards are what their generator writes."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

COMPOSE = Path(__file__).resolve().parents[1]
PROMETHEUS = COMPOSE / "prometheus"
sys.path.insert(0, str(COMPOSE / "grafana"))

try:
    import yaml
except ImportError as missing:
    raise unittest.SkipTest(f"SKIPPED: {missing.name} is not installed (make compose-check installs it)") from missing

PROMTOOL = os.environ.get("EDDY_PROMTOOL") or str(COMPOSE.parent / ".tools/prometheus/usr/bin/promtool")


def rules(file):
    return [rule for group in yaml.safe_load((PROMETHEUS / "rules" / file).read_text())["groups"] for rule in group["rules"]]


def tests(file):
    return yaml.safe_load((PROMETHEUS / "tests" / file).read_text())["tests"]


class Rules(unittest.TestCase):
    def test_each_alert_is_tested_where_it_fires_and_where_it_stays_quiet(self):
        cases = {case["name"]: case for case in tests("alerts.yml")}
        self.assertEqual([rule["alert"] for rule in rules("alerts.yml")], list(cases))
        for name, case in cases.items():
            *quiet, asked = case["alert_rule_test"]
            # Before: quiet everywhere.
            self.assertEqual([early for early in quiet if early.get("exp_alerts")], [])
            sites = [site for series in case["input_series"] for site in re.findall(r'site="(\w+)"', series["series"])]
            fires = {alert["exp_labels"]["site"] for alert in asked["exp_alerts"]}
            self.assertEqual((asked["alertname"], set(sites), fires), (name, {"bad", "good"}, {"bad"}))

    def test_each_recording_rule_has_a_value_in_its_tests(self):
        asked = " ".join(one["expr"] for case in tests("recording.yml") for one in case["promql_expr_test"])
        for rule in rules("recording.yml"):
            self.assertIn(rule["record"], asked)

    def test_each_alert_has_its_entry_in_the_runbook_and_links_it(self):
        entries = re.findall(r"^## (\w+)$", (PROMETHEUS / "RUNBOOK.md").read_text(), re.MULTILINE)
        self.assertEqual(entries, [rule["alert"] for rule in rules("alerts.yml")])
        for rule in rules("alerts.yml"):
            self.assertEqual(rule["annotations"]["runbook"], f'RUNBOOK.md#{rule["alert"].lower()}')
            self.assertIn(rule["labels"]["severity"], ["page", "ticket"])

    def test_promtool_is_content(self):
        if not Path(PROMTOOL).exists():
            self.skipTest(f"SKIPPED: {PROMTOOL} is not there (make prometheus)")
        for arguments in [
            ["check", "config", "prometheus.yml", "local.yml", "fleet.yml"],
            ["check", "rules", "rules/recording.yml", "rules/alerts.yml"],
            ["test", "rules", "tests/recording.yml", "tests/alerts.yml"],
        ]:
            ran = subprocess.run([PROMTOOL, *arguments], cwd=PROMETHEUS, capture_output=True, text=True)
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)


class Dashboards(unittest.TestCase):
    def test_they_are_what_the_generator_writes(self):
        import generate

        written = {file.name: file.read_text() for file in (COMPOSE / "grafana/dashboards").iterdir()}
        self.assertEqual(set(written), set(generate.files()))
        for file, text in generate.files().items():
            self.assertEqual(written[file], text, f"{file}: make dashboards")

    def test_every_query_keeps_to_the_variables_and_every_panel_has_its_place(self):
        import generate

        for name, (title, panels) in generate.DASHBOARDS.items():
            made = generate.dashboard(name, title, panels)["panels"]
            taken = [(x, y) for one in made for place in [one["gridPos"]] for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])]
            self.assertEqual(len(taken), len(set(taken)), f"{name}: panels lie over each other")
            for target in (target for one in made for target in one["targets"]):
                # What lies over a day is no rate of the moment.
                spans = set(re.findall(r"\[([^\]]+)\]", target["expr"]))
                self.assertLessEqual(spans, {"$window", "1d"}, target["expr"])


if __name__ == "__main__":
    unittest.main()
