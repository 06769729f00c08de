"""What packs releases: the Dockerfile's reader, archives that are the same twice, an image that an engine can read."""

import hashlib
import io
import json
import sys
import tarfile
import tempfile
import unittest
import zlib
from pathlib import Path

COMPOSE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(COMPOSE / "pack"))

import dockerfile  # noqa: E402
import image  # noqa: E402
import pack  # noqa: E402
from tarball import Tarball  # noqa: E402

TEXT = """\
# A comment, with \\
ARG BASE=scratch
FROM ${BASE} AS base
ARG VERSION=1
LABEL a="x y" \\
      b="${VERSION}"
COPY --chown=7:8 root/ /
ENV PATH=/bin A=b
USER 7:8
ENTRYPOINT []
CMD ["eddy", "--help"]
FROM base AS prebuilt
ARG ARCH=amd64
COPY usr/ dist*/${ARCH} /usr/
FROM debian AS other
RUN make
"""


class Dockerfile(unittest.TestCase):
    def test_a_target_has_what_it_stands_on_and_the_arguments_that_are_given(self):
        target = dockerfile.read(TEXT, "prebuilt", {"ARCH": "arm64", "VERSION": "2"})
        self.assertEqual(target.config, {
            "Labels": {"a": "x y", "b": "2"}, "Env": ["PATH=/bin", "A=b"], "User": "7:8", "Cmd": ["eddy", "--help"],
        })
        self.assertEqual(target.copies, [dockerfile.Copy("root", "/", (7, 8)), dockerfile.Copy("usr", "/usr/"), dockerfile.Copy("dist/arm64", "/usr/")])

    def test_what_it_cannot_do_is_refused(self):
        for line in ["RUN make", "COPY --from=nats /x/ /y/", "COPY file /y", "COPY a*b/ /y/", "COPY a/ --chown=1:1 b/ /y/", "LABEL a=${NOWHERE}", "VOLUME /x", "HEALTHCHECK NONE"]:
            with self.subTest(line), self.assertRaises(dockerfile.Unreadable):
                dockerfile.read(f"FROM scratch AS t\n{line}\n", "t", {})
        for target in ["other", "nowhere"]:
            with self.assertRaises(dockerfile.Unreadable):
                dockerfile.read(TEXT, target, {})

    def test_the_image_of_this_tree_is_not_root_and_starts_what_it_should(self):
        target = dockerfile.read((COMPOSE / "Dockerfile").read_text(), "prebuilt", {"ARCH": "arm64", "VERSION": "9", "REVISION": "r"})
        self.assertEqual((target.config["User"], target.config["Cmd"], target.config["WorkingDir"]), ("10001:10001", ["eddy", "--help"], "/usr/share/eddy"))
        self.assertEqual(target.config["Labels"]["org.opencontainers.image.revision"], "r")
        self.assertEqual([copy.source for copy in target.copies], ["compose/rootfs", "compose/usr", "fixtures/bundles", "compose/usr", "compose/dist/arm64"])


class Archives(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = Path(folder.name)
        for name, text in [("root/keys/.volume", ""), ("usr/share/README", "r"), ("dist/amd64/bin/eddy-all", "program"), ("dist/amd64/share/z", "z")]:
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / name).write_text(text)
        (self.tree / "dist/amd64/bin/eddy-all").chmod(0o775)
        (self.tree / "dist/amd64/bin/eddy").symlink_to("eddy-all")
        self.target = dockerfile.read(TEXT, "prebuilt", {})

    def write(self, name):
        with tempfile.TemporaryDirectory(dir=self.tree) as work:
            figures = image.write(self.tree / name, "eddy:1", self.target, self.tree, "amd64", (1_000_000, "1970-01-12T13:46:40Z"), work)
        return (self.tree / name).read_bytes(), figures

    def test_the_same_tree_makes_the_same_bytes_whenever_it_was_written(self):
        first, _ = self.write("first.tar")
        (self.tree / "root/keys/.volume").touch()
        (self.tree / "dist/amd64/share/z").chmod(0o600)
        self.assertEqual(first, self.write("second.tar")[0])

    def test_an_image_is_both_layouts_and_every_digest_is_right(self):
        content, figures = self.write("image.tar")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            blob = {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}
        for name, data in blob.items():
            if name.startswith("blobs/sha256/"):
                self.assertEqual(name.rpartition("/")[2], hashlib.sha256(data).hexdigest())
        docker = json.loads(blob["manifest.json"])[0]
        digest = json.loads(blob["index.json"])["manifests"][0]["digest"]
        manifest = json.loads(blob[f"blobs/{digest.replace(':', '/')}"])
        self.assertEqual(docker["RepoTags"], ["eddy:1"])
        self.assertEqual(docker["Layers"], [f"blobs/{layer['digest'].replace(':', '/')}" for layer in manifest["layers"]])
        self.assertEqual(docker["Config"], f"blobs/{manifest['config']['digest'].replace(':', '/')}")
        config = json.loads(blob[docker["Config"]])
        unpacked = [zlib.decompress(blob[layer], 31) for layer in docker["Layers"]]
        self.assertEqual(config["rootfs"]["diff_ids"], [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in unpacked])
        self.assertEqual(figures["unpacked_bytes"], sum(len(layer) for layer in unpacked))
        self.assertEqual(config["config"]["User"], "7:8")
        with tarfile.open(fileobj=io.BytesIO(unpacked[0])) as layer:
            self.assertEqual([(e.name, e.uid, e.gid, e.mode) for e in layer], [("keys", 7, 8, 0o755), ("keys/.volume", 7, 8, 0o644)])
        with tarfile.open(fileobj=io.BytesIO(unpacked[2])) as layer:
            found = {entry.name: (entry.uid, entry.mode, entry.linkname, entry.mtime) for entry in layer}
        self.assertEqual(found["usr"], (0, 0o755, "", 1_000_000))
        self.assertEqual(found["usr/bin/eddy-all"], (0, 0o755, "", 1_000_000))
        self.assertEqual(found["usr/bin/eddy"], (0, 0o777, "eddy-all", 1_000_000))

    def test_an_operators_secrets_are_left_out(self):
        (self.tree / "gateway").mkdir()
        for name in ("gateway.toml", "console.token"):
            (self.tree / "gateway" / name).touch()
        tarball = Tarball(0)
        tarball.folder(self.tree / "gateway", "compose/gateway", without=pack.SECRETS)
        self.assertEqual([name for name in tarball.entries if "." in name], ["compose/gateway/gateway.toml"])

    def test_a_folder_that_is_not_there_is_told(self):
        with self.assertRaises(FileNotFoundError):
            Tarball(0).folder(self.tree / "nowhere", "/")


if __name__ == "__main__":
    unittest.main()
