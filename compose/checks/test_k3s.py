"""The manifests fit Kubernetes's schemas, and say what compose/services.yaml and compose/gateway say."""

import re
import sys
import tomllib
import unittest
from pathlib import Path

COMPOSE = Path(__file__).resolve().parents[1]
K3S = COMPOSE / "k3s"
sys.path.insert(0, str(K3S))

try:
    import kubernetes_validate
    import yaml

    import make
except ImportError as missing:
    raise unittest.SkipTest(f"SKIPPED: {missing.name} is not installed (make compose-check installs it)") from missing


def documents():
    for file in sorted(K3S.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from ((file.name, document) for document in yaml.safe_load_all(file.read_text()))


class Manifests(unittest.TestCase):
    def test_each_fits_the_schema_strictly(self):
        seen = 0
        for file, document in documents():
            with self.subTest(file=file, kind=document["kind"]):
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
                seen += 1
        self.assertGreater(seen, 20)

    def test_they_are_those_of_services_yaml(self):
        for file, text in make.files().items():
            self.assertEqual((K3S / file).read_text(), text, f"{file}: make k3s")

    def test_services_images_commands_and_limits_are_those_of_services_yaml(self):
        sets = {document["metadata"]["name"]: document for _, document in documents() if document["kind"] == "StatefulSet"}
        services = make.services()
        self.assertEqual(set(sets), set(services))
        for name, service in services.items():
            pod = sets[name]["spec"]["template"]["spec"]
            container = pod["containers"][0]
            limits = container["resources"]["limits"]
            memory = {"g": 1024, "m": 1}[service["mem_limit"][-1]] * int(service["mem_limit"][:-1])
            self.assertEqual((limits["memory"], float(limits["cpu"])), (f"{memory}Mi", service["cpus"]), name)
            self.assertEqual((container["image"], container["command"]), (service["image"], service["command"]), name)
            self.assertEqual(container["readinessProbe"]["exec"]["command"], service["healthcheck"]["test"][1:], name)
            self.assertEqual(f'{pod["securityContext"]["runAsUser"]}:{pod["securityContext"]["runAsGroup"]}', service["user"], name)
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"], name)

    def test_no_stage_is_given_another_ones_keys(self):
        for _, document in documents():
            name = document["metadata"]["name"]
            if document["kind"] == "StatefulSet" and name != "bus":
                mounts = document["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
                keys = [mount for mount in mounts if mount["name"] == "keys"]
                self.assertEqual([(mount.get("subPath"), mount.get("readOnly")) for mount in keys], [(name, True)], name)

    def test_the_kustomization_names_every_file_and_leaves_out_what_compose_has_in_profiles(self):
        text = (K3S / "kustomization.yaml").read_text()
        listed = set(yaml.safe_load(text)["resources"])
        optional = set(re.findall(r"^  # - (stage-\w+\.yaml)$", text, re.MULTILINE))
        files = {file.name for file in K3S.glob("*.yaml")} - {"kustomization.yaml"}
        self.assertEqual(listed | optional, files)
        gateway = yaml.safe_load((COMPOSE / "gateway.yaml").read_text())["services"]
        self.assertEqual(optional, {f"stage-{name}.yaml" for name in make.PARTS if "profiles" in gateway[name]})

    def test_the_config_is_the_one_of_compose(self):
        config = tomllib.loads((K3S / "gateway.toml").read_text())
        self.assertEqual(config, tomllib.loads((COMPOSE / "gateway/gateway.toml").read_text()))


if __name__ == "__main__":
    unittest.main()
