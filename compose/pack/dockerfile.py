"""What a target of compose/Dockerfile puts into an image, read from that file, so that it alone says what an image is.

Only targets that copy from the tree: FROM scratch or another such target, ARG, LABEL, COPY, ENV, WORKDIR, USER, STOPSIGNAL, ENTRYPOINT
and CMD. Anything else is refused, never left out."""

import json
import re
import shlex
from dataclasses import dataclass, field


class Unreadable(Exception):
    """An instruction, or a form of one, that this reader does not know."""


@dataclass
class Copy:
    """COPY: what lies in the folder `source` of the tree comes below `to`, owned by `owner` (uid, gid)."""

    source: str
    to: str
    owner: tuple[int, int] = (0, 0)


@dataclass
class Target:
    """What a target makes: the image's config, by the names of the OCI specification, and the folders that are copied, in order."""

    config: dict = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    args: dict[str, str] = field(default_factory=dict)


def instructions(text):
    """Lines of a Dockerfile as (instruction, rest), comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def read(text, target, given):
    """The target's image, with the build arguments `given` over the file's own defaults."""
    stages, defaults = _stages(text)
    return _target(stages, defaults, target, given)


def _stages(text):
    stages, defaults, current = {}, {}, None
    for name, rest in instructions(text):
        if name == "FROM":
            base, word, alias = (rest.split() + ["", ""])[:3]
            current = []
            stages[alias if word.upper() == "AS" else rest] = (base, current)
        elif current is None:
            key, _, value = rest.partition("=")
            defaults[key] = value
        else:
            current.append((name, rest))
    return stages, defaults


def _target(stages, defaults, name, given):
    if name not in stages:
        raise Unreadable(f"target {name}: no such stage")
    base, lines = stages[name]
    base = _expand(base, {**defaults, **{key: value for key, value in given.items() if key in defaults}})
    made = Target() if base == "scratch" else _target(stages, defaults, base, given)
    for instruction, rest in lines:
        _apply(made, instruction, rest, given)
    return made


def _apply(made, instruction, rest, given):
    config = made.config
    if instruction == "ARG":
        key, _, value = rest.partition("=")
        made.args[key] = given.get(key, value)
        return
    rest = _expand(rest, made.args)
    if instruction == "LABEL":
        config.setdefault("Labels", {}).update(word.split("=", 1) for word in shlex.split(rest))
    elif instruction == "ENV":
        config.setdefault("Env", []).extend(shlex.split(rest))
    elif instruction == "WORKDIR":
        config["WorkingDir"] = rest
    elif instruction == "USER":
        config["User"] = rest
    elif instruction == "STOPSIGNAL":
        config["StopSignal"] = rest
    elif instruction in ("ENTRYPOINT", "CMD"):
        words = json.loads(rest)
        key = {"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}[instruction]
        config.pop(key, None)
        if words:
            config[key] = words
    elif instruction == "COPY":
        made.copies.extend(_copies(rest))
    else:
        raise Unreadable(f"{instruction} {rest}: not known here")


def _copies(rest):
    *words, to = rest.split()
    sources = [word for word in words if not word.startswith("--")]
    owner = (0, 0)
    for flag in words[: len(words) - len(sources)]:
        chown = re.fullmatch(r"--chown=(\d+):(\d+)", flag)
        if not chown:
            raise Unreadable(f"COPY {rest}: only folders, and --chown=UID:GID, are known here")
        owner = (int(chown[1]), int(chown[2]))
    # `dist*/arch`: a builder that comes by does without the folder; here it must be there.
    folders = [re.sub(r"\*/(\w+)$", r"/\1/", source) for source in sources]
    if not folders or not to.startswith("/") or any("*" in folder or not folder.endswith("/") for folder in folders):
        raise Unreadable(f"COPY {rest}: folders, ending in /, to an absolute place are known here")
    return [Copy(folder.rstrip("/"), to, owner) for folder in folders]


def _expand(text, values):
    def value(found):
        key = found[1]
        if key not in values:
            raise Unreadable(f"${{{key}}}: no ARG of that name")
        return values[key]

    return re.sub(r"\$\{(\w+)\}", value, text)
