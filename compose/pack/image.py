"""An image as a file that `docker load`, `podman load` and `ctr images import` (K3s) take, made without any of them.

It is both of the layouts that they know: an OCI image layout (index.json, blobs/) and Docker's (manifest.json), which names the same blobs."""

import hashlib
import io
import json
from pathlib import Path

from tarball import Tarball, compressed

OCI = "application/vnd.oci.image"


class _Hashed(io.RawIOBase):
    """Counts and hashes what goes through to `out`."""

    def __init__(self, out):
        super().__init__()
        self.out, self.size, self.sha256 = out, 0, hashlib.sha256()

    def writable(self):
        return True

    def write(self, data):
        self.out.write(data)
        self.size += len(data)
        self.sha256.update(data)
        return len(data)


def write(out, tag, target, tree, arch, created, work):
    """Writes the image of `target` (see dockerfile.py) to the file `out`; `tree` is what it copies from, `created` (seconds, ISO text) when its
    commit was made, `work` a folder for layers. Tells how large its layers are, unpacked and packed, in bytes."""
    seconds, iso = created
    layers = [_layer(copy, tree, seconds, Path(work) / f"layer-{at}") for at, copy in enumerate(target.copies)]
    config = _json({
        "created": iso,
        "architecture": arch,
        "os": "linux",
        "config": target.config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer['diff']}" for layer in layers]},
        "history": [{"created": iso, "created_by": f"COPY {copy.source}/ {copy.to}"} for copy in target.copies],
    })
    blobs = {layer["digest"]: layer["file"] for layer in layers}
    config_digest = _blob(blobs, config)
    manifest = _json({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", "digest": f"sha256:{config_digest}", "size": len(config)},
        "layers": [
            {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": f"sha256:{layer['digest']}", "size": layer["packed"]} for layer in layers
        ],
    })
    manifest_digest = _blob(blobs, manifest)
    archive = Tarball(seconds)
    archive.text("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    archive.text("index.json", _json(_index(tag, arch, manifest_digest, len(manifest))))
    archive.text("manifest.json", _json([{
        "Config": f"blobs/sha256/{config_digest}",
        "RepoTags": [tag],
        "Layers": [f"blobs/sha256/{layer['digest']}" for layer in layers],
    }]))
    for digest, content in blobs.items():
        if isinstance(content, Path):
            archive.path(content, f"blobs/sha256/{digest}")
        else:
            archive.text(f"blobs/sha256/{digest}", content)
    with open(out, "wb") as file:
        archive.write(file)
    return {"unpacked_bytes": sum(layer["unpacked"] for layer in layers), "packed_bytes": sum(layer["packed"] for layer in layers)}


def _layer(copy, tree, seconds, file):
    layer = Tarball(seconds)
    layer.folder(Path(tree) / copy.source, copy.to, copy.owner)
    with file.open("wb") as out:
        packed = _Hashed(out)
        with compressed(packed) as stream:
            unpacked = _Hashed(stream)
            layer.write(unpacked)
    return {
        "file": file, "packed": packed.size, "digest": packed.sha256.hexdigest(), "unpacked": unpacked.size, "diff": unpacked.sha256.hexdigest(),
    }


def _index(tag, arch, digest, size):
    version = tag.rpartition(":")[2]
    return {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [{
            "mediaType": f"{OCI}.manifest.v1+json",
            "digest": f"sha256:{digest}",
            "size": size,
            "platform": {"architecture": arch, "os": "linux"},
            # The first is containerd's, the second the specification's.
            "annotations": {"io.containerd.image.name": f"docker.io/library/{tag}", "org.opencontainers.image.ref.name": version},
        }],
    }


def _blob(blobs, content):
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return digest


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
