"""The units are ones that systemd takes, are shut off from the rest of the machine, and have the limits of compose/services.yaml."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

COMPOSE = Path(__file__).resolve().parents[1]
UNITS = COMPOSE / "systemd"
STAGES = ["capture", "preprocess", "embed", "detect", "index", "notify", "sync", "export"]
# Of systemd-analyze security, on its scale of 0 (shut) to 10 (open); reaching the network is a stage's work.
EXPOSURE_MAX = 2.0


def settings(path):
    """A unit's [Service] as lists of values by key."""
    found = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def analyze(*words):
    # What is asked of this machine's own units is none of ours.
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@unittest.skipUnless(shutil.which("systemd-analyze"), "SKIPPED: systemd-analyze is not installed (apt-get install systemd)")
class Units(unittest.TestCase):
    def setUp(self):
        """The units as they are installed, with programs of the names that they start."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        release = self.root / "release"
        for name in ["bin", "share/eddy"]:
            (release / name).mkdir(parents=True)
        for name in ["eddy", *(f"eddy-{stage}" for stage in STAGES)]:
            shutil.copy("/bin/true", release / "bin" / name)
        shutil.copytree(UNITS, release / "systemd")
        shutil.copy(COMPOSE / "pack/install.sh", release / "install.sh")
        (release / "VERSION").write_text("0.0.0 test amd64\n")
        self.installed = self.root / "installed"
        environment = {**os.environ, "DESTDIR": str(self.installed)}
        for _ in range(2):
            subprocess.run([release / "install.sh"], env=environment, check=True, capture_output=True)
        self.units = self.installed / "usr/lib/systemd/system"
        # systemd-analyze looks for programs where the units say: here.
        for unit in self.units.rglob("*.*"):
            if unit.is_file():
                unit.write_text(unit.read_text().replace("/opt/eddy", f"{self.installed}/opt/eddy"))

    def names(self):
        return ["eddy-bus.service", *(f"eddy@{stage}.service" for stage in STAGES)]

    def test_an_installation_can_be_repeated_and_keeps_the_config(self):
        config = self.installed / "etc/eddy/gateway.toml"
        config.write_text("mine")
        environment = {**os.environ, "DESTDIR": str(self.installed)}
        subprocess.run([self.root / "release/install.sh"], env=environment, check=True, capture_output=True)
        self.assertEqual(config.read_text(), "mine")
        self.assertEqual(os.readlink(self.installed / "opt/eddy/current"), "0.0.0")
        self.assertEqual([path.name for path in (self.installed / "opt/eddy").iterdir() if not path.is_symlink()], ["0.0.0"])

    def test_systemd_takes_them_without_a_word(self):
        paths = [str(self.units / name) for name in [*self.names(), "eddy-key@sync.service", "eddy-key@sync.path", "eddy.target"]]
        checked = analyze("verify", "--man=no", "--recursive-errors=no", *paths)
        said = [line for line in checked.stderr.splitlines() if "eddy" in line]
        self.assertEqual((checked.returncode, said), (0, []))

    @unittest.skipUnless(shutil.which("systemd-sysusers"), "SKIPPED: systemd-sysusers is not installed (apt-get install systemd)")
    def test_its_users_can_be_made(self):
        made = subprocess.run(["systemd-sysusers", f"--root={self.installed}"], capture_output=True, text=True, check=False)
        self.assertEqual((made.returncode, [line for line in made.stderr.splitlines() if "Creating" not in line]), (0, []))
        users = (self.installed / "etc/passwd").read_text()
        self.assertEqual(re.findall(r"^eddy-(\w+):", users, re.MULTILINE), STAGES)
        self.assertIn("eddy-bundles:", (self.installed / "etc/group").read_text())

    def test_they_are_shut_off_from_the_rest(self):
        for name in self.names():
            checked = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", "--no-pager", str(self.units / name))
            self.assertEqual(checked.returncode, 0, f"{name}: {checked.stdout}{checked.stderr}")


class Files(unittest.TestCase):
    def test_limits_are_those_of_services_yaml(self):
        try:
            import yaml
        except ImportError:
            self.skipTest("SKIPPED: yaml is not installed (make compose-check installs it)")
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (COMPOSE / "services.yaml").read_text())
        services = yaml.safe_load(text)["services"]
        files = {stage: UNITS / f"eddy@{stage}.service.d/10-eddy.conf" for stage in STAGES} | {"bus": UNITS / "eddy-bus.service"}
        for name, file in files.items():
            unit = settings(file)
            self.assertEqual(unit["MemoryMax"], [services[name]["mem_limit"].upper()], name)
            self.assertEqual(unit["CPUQuota"], [f'{services[name]["cpus"] * 100}%'], name)
        environment = dict(value.strip("'").split("=", 1) for value in settings(UNITS / "eddy@.service")["Environment"])
        elsewhere = {"EDDY_BUS_URL", "EDDY_STATE_DIR", "EDDY_BUS_NKEY_FILE", "EDDY_TELEMETRY_LISTEN", "EDDY_CONFIG"}
        for stage in STAGES:
            given = {key: str(value) for key, value in services[stage]["environment"].items() if key not in elsewhere}
            self.assertEqual({key: environment.get(key) for key in given}, given, stage)

    def test_what_starting_again_cannot_help_is_not_started_again(self):
        for name in ["eddy-bus.service", "eddy@.service"]:
            unit = settings(UNITS / name)
            self.assertEqual((unit["Restart"], unit["RestartPreventExitStatus"]), (["on-failure"], ["64 70"]), name)

    def test_each_stage_has_a_user_a_port_and_a_key_of_its_own(self):
        users = re.findall(r"^u eddy-(\w+) ", (UNITS / "sysusers.conf").read_text(), re.MULTILINE)
        self.assertEqual(users, STAGES)
        listens = [
            dict(value.split("=", 1) for value in settings(UNITS / f"eddy@{stage}.service.d/10-eddy.conf")["Environment"])["EDDY_TELEMETRY_LISTEN"]
            for stage in STAGES
        ]
        # As gateway.access.stages_at has them.
        self.assertEqual(listens, [f"127.0.0.1:{9101 + at}" for at in range(len(STAGES))])


if __name__ == "__main__":
    unittest.main()
