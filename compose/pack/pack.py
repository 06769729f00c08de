"""Packs what compose/pack/build.sh laid out: python3 pack.py ARCH OUT [--tag NAME:TAG]. Standard library alone, no container engine.

OUT/eddy-VERSION-linux-ARCH.tar.gz          programs, units, compose files: for gateways without Docker, and for those with it
OUT/eddy-VERSION-image-ARCH.tar             the image, for `docker load` and K3s
OUT/eddy-VERSION-image-ARCH.json            how large it is: `eddy-bench footprint` reads it
OUT/eddy-VERSION-sha256sums                 of all of these that OUT holds

The same commit, programs and tools make the same bytes: times are the commit's."""

import argparse
import datetime
import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

import dockerfile
import image
from tarball import Tarball, compressed

TREE = Path(__file__).resolve().parents[2]
# Of the tree, beside the programs: what an installation needs, under the names that the files themselves use.
FILES = ["LICENSE", "fixtures/fleet", "compose/systemd"]
COMPOSE = ["services.yaml", "gateway.yaml", "hub.yaml", "demo.yaml", "hub", "demo", "mosquitto", "prometheus", "telegraf", "k3s"]
# What an operator puts beside compose/gateway/gateway.toml, and what is nobody else's.
SECRETS = [".token"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arch", choices=["amd64", "arm64"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tag", help="the image's name [eddy:VERSION]")
    arguments = parser.parse_args()
    version = re.search(r'^version = "(.+)"$', (TREE / "Cargo.toml").read_text(), re.MULTILINE)[1]
    arguments.out.mkdir(parents=True, exist_ok=True)
    revision, seconds = commit()
    for made in [
        release(arguments.arch, arguments.out, version, revision, seconds),
        load(arguments.arch, arguments.out, version, revision, seconds, arguments.tag or f"eddy:{version}"),
        sums(arguments.out, version),
    ]:
        print(made)


def commit():
    """The commit that is packed and its time in seconds; a tree that differs from it says so. Without git: unknown, and 1980, as zip has it."""
    def git(*words):
        return subprocess.run(["git", "-C", TREE, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        revision, seconds = git("log", "-1", "--format=%H %ct").split()
        return revision + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""), int(seconds)
    except (OSError, subprocess.CalledProcessError):
        return "unknown", 315532800


def release(arch, out, version, revision, seconds):
    """The archive of files."""
    name = f"eddy-{version}-linux-{arch}"
    tar = Tarball(seconds)
    tar.folder(TREE / "compose/dist" / arch, name)
    tar.folder(TREE / "fixtures/bundles", f"{name}/share/eddy/fixtures/bundles")
    for file in FILES:
        tar.path(TREE / file, f"{name}/{file.removeprefix('compose/')}")
    for file in COMPOSE:
        tar.path(TREE / "compose" / file, f"{name}/compose/{file}")
    tar.folder(TREE / "compose/gateway", f"{name}/compose/gateway", without=SECRETS)
    tar.path(TREE / "compose/pack/INSTALL.md", f"{name}/INSTALL.md")
    tar.path(TREE / "compose/pack/install.sh", f"{name}/install.sh")
    tar.text(f"{name}/VERSION", f"{version} {revision} {arch}\n")
    path = out / f"{name}.tar.gz"
    with path.open("wb") as file, compressed(file) as stream:
        tar.write(stream)
    return path


def load(arch, out, version, revision, seconds, tag):
    """The image's archive, and its figures."""
    text = (TREE / "compose/Dockerfile").read_text()
    target = dockerfile.read(text, "prebuilt", {"ARCH": arch, "VERSION": version, "REVISION": revision})
    created = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = out / f"eddy-{version}-image-{arch}.tar"
    with tempfile.TemporaryDirectory(dir=out) as work:
        figures = image.write(path, tag, target, TREE, arch, (seconds, created), work)
    figures |= {"image": tag, "arch": arch, "revision": revision, "archive": path.name, "archive_bytes": path.stat().st_size}
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    return path


def sums(out, version):
    """What `sha256sum -c` takes."""
    path = out / f"eddy-{version}-sha256sums"
    lines = []
    for file in sorted(out.glob(f"eddy-{version}-*")):
        if file != path:
            with file.open("rb") as content:
                lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {file.name}\n")
    path.write_text("".join(lines))
    return path


if __name__ == "__main__":
    main()
