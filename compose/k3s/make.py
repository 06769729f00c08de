"""Makes the manifests of the bus and the stages from compose/services.yaml, so that neither can say something else: make k3s

bus.yaml and stage-NAME.yaml beside this file; the rest (namespace, volumes, network policy, kustomization) is written by hand."""

import re
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
HEAD = """\
# Made by compose/k3s/make.py from compose/services.yaml (make k3s): not to be edited. NOT RUN: checked against the schemas of Kubernetes alone.
"""
USER = 10001
# A stage's volume, and the bus's: gateway.store_mb_max, and room.
STATE, STREAMS = "4Gi", "10Gi"
# Who has a secret of its own, `eddy-NAME`, which need not be there, and where its files are seen. Export's are its environment.
SECRETS = {"bus": "/secrets", "capture": "/secrets", "notify": "/secrets", "sync": "/certs"}
TELEMETRY, BUS, HTTP = 9100, 4222, 8086
# The shares of a processor that Docker gives who does not ask, and what such a service requests here, in thousandths of one.
SHARES, CPU_M = 1024, 50
PARTS = ["bus", "capture", "preprocess", "embed", "detect", "index", "notify", "sync", "export"]


def services():
    """The services of compose/services.yaml that make a gateway, with the defaults of its variables."""
    text = (HERE.parent / "services.yaml").read_text()
    known = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))["services"]
    return {name: known[name] for name in PARTS}


def documents(name, service):
    """The Service, where others ask for it, and the StatefulSet of one: never two at once, as the contract of stages wants it."""
    labels = {"app.kubernetes.io/name": "eddy", "app.kubernetes.io/component": name}
    return [_service(name, labels), _stateful_set(name, service, labels)]


def _service(name, labels):
    numbers = {"telemetry": TELEMETRY} | ({"nats": BUS} if name == "bus" else {})
    if name == "capture":
        numbers["http"] = HTTP
    ports = [{"name": port, "port": number, "targetPort": port} for port, number in numbers.items()]
    # Also while it is not ready: `eddy status` asks the sick above all.
    spec = {"selector": labels, "ports": ports, "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(name, labels), "spec": spec}


def _stateful_set(name, service, labels):
    pod = {
        "automountServiceAccountToken": False,
        # A service's own variables (EDDY_...) would be taken for config.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(service["stop_grace_period"].rstrip("s")),
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(name, service)],
        "volumes": _volumes(name, service),
    }
    own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": STREAMS if name == "bus" else STATE}}}
    spec = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": own}],
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": _metadata(name, labels), "spec": spec}


def _container(name, service):
    memory = int(re.fullmatch(r"(\d+)m", service["mem_limit"].replace("2g", "2048m"))[1])
    environment = [{"name": key, "value": str(value)} for key, value in service["environment"].items()]
    port = {"name": "nats", "containerPort": BUS} if name == "bus" else {"name": "telemetry", "containerPort": TELEMETRY}
    container = {
        "name": name,
        "image": service["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": service["command"],
        "env": environment,
        "ports": [port, *([{"name": "http", "containerPort": HTTP}] if name == "capture" else [])],
        # No liveness probe: what is unwell because of what is around it, or of its config, is not helped by killing it. What fails ends.
        "readinessProbe": {
            "exec": {"command": service["healthcheck"]["test"][1:]}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "resources": {
            "limits": {"cpu": str(service["cpus"]), "memory": f"{memory}Mi"}, "requests": {"cpu": f"{service.get('cpu_shares', SHARES) * CPU_M // SHARES}m", "memory": f"{memory // 4}Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": service["read_only"], "capabilities": {"drop": ["ALL"]},
        },
        # The operator acts inside the bus's pod, which can write its own folder.
        "volumeMounts": [_mount(volume) for volume in service["volumes"] if not volume.startswith("audit:")] + _shared_mounts(name),
    }
    if name == "export":
        container["envFrom"] = [{"secretRef": {"name": "eddy-export", "optional": True}}]
    return container


def _mount(volume):
    """services.yaml's VOLUME:PLACE[:ro]. Keys are one claim, a folder for each user, of which a stage is given its own."""
    source, place, *mode = volume.split(":")
    read_only = {"readOnly": True} if mode else {}
    if source.startswith("key-"):
        return {"name": "keys", "mountPath": place, "subPath": source.removeprefix("key-"), **read_only}
    return {"name": "bundles" if source == "bundles" else "data", "mountPath": place, **read_only}


def _shared_mounts(name):
    mounts = [{"name": "config", "mountPath": "/etc/eddy", "readOnly": True}]
    if name in SECRETS:
        mounts.append({"name": "secrets", "mountPath": SECRETS[name], "readOnly": True})
    return mounts


def _volumes(name, service):
    claims = [claim for claim in ("keys", "bundles") if any(_mount(volume)["name"] == claim for volume in service["volumes"])]
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": f"eddy-{claim}"}} for claim in claims]
    volumes.append({"name": "config", "configMap": {"name": "eddy-config"}})
    if name in SECRETS:
        volumes.append({"name": "secrets", "secret": {"secretName": f"eddy-{name}", "optional": True, "defaultMode": 0o440}})
    return volumes


def _metadata(name, labels):
    return {"name": name, "namespace": "eddy", "labels": labels}


class _Plain(yaml.SafeDumper):
    """Without anchors: every document says all of itself."""

    def ignore_aliases(self, data):
        return True


def files():
    """The text of each file, by its name."""
    return {
        f"{'' if name == 'bus' else 'stage-'}{name}.yaml": HEAD + yaml.dump_all(documents(name, service), Dumper=_Plain, sort_keys=False, width=140)
        for name, service in services().items()
    }


if __name__ == "__main__":
    for file, text in files().items():
        (HERE / file).write_text(text)
        print(HERE / file, file=sys.stderr)
