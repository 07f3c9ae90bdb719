"""First weights of a net that no rule draws: what a config says of them, `backbone.init=file:PATH`. Imports no torch.

A run is known by what the file holds (its SHA-256), never by where it lies. The tensors are taken in backbones/pretrained.py.
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from maskbench.common import knobs
from maskbench.common.checksums import digest
from maskbench.common.knobs import NOTHING, SUFFIXES, Knob

FILE = "file:"
POINTER = b"version https://git-lfs"  # how a git-lfs pointer begins
ABSENT = "absent"  # in the place of the SHA-256 of a file that is not there; no run starts from one


@dataclass(frozen=True)
class FileOfWeights:
    """`file:PATH` of a file whose name says how it is read."""

    def holds(self, value: str) -> bool:
        return value.startswith(FILE) and value.endswith(SUFFIXES)

    def __str__(self) -> str:
        return f"such as file:PATH, the path of a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


Given = Annotated[str, FileOfWeights()]
OWN = {  # keys of backbone that the program reads, whatever net is chosen
    "init_head": Knob(
        "init_head",
        Literal["auto", "fresh", "load"] | None,
        None,
        "of a net whose weights a file gives: `auto` (null: auto) loads the file's head if it has as many classes, else draws a "
        "fresh one by the net's usual rule; `fresh` and `load` insist",
    ),
    "init_sha256": Knob(
        "init_sha256",
        str | None,
        None,
        "of that file, which a run is known by: worked out by itself; one that is set is what the file must have",
    ),
}


def is_file(init: object) -> bool:
    """Whether a value of `backbone.init` names a file."""
    return isinstance(init, str) and init.startswith(FILE)


def path(init: object) -> Path | None:
    """The file that a value of `backbone.init` names; None of a rule."""
    return Path(init.removeprefix(FILE)).expanduser() if is_file(init) else None


# ---- who a run is


def sha256(init: object) -> str | None:
    """SHA-256 of the file that a value of `backbone.init` names; None of a rule."""
    if (file := path(init)) is None:
        return None
    try:
        about = file.stat()
        return _sha256(file, about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else ABSENT
    except (OSError, ValueError):
        return ABSENT


@lru_cache(maxsize=64)
def _sha256(file: Path, size: int, changed: int) -> str:
    return digest(file, size)


def by_content(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config (plain containers) in which `backbone.init` does not say where its file lies: `init_sha256` says what it is."""
    backbone = config.get("backbone")
    if not isinstance(backbone, Mapping) or not is_file(backbone.get("init")):
        return dict(config)
    known = backbone.get("init_sha256") or sha256(backbone["init"])
    return {**config, "backbone": {**backbone, "init": FILE, "init_sha256": known}}


# ---- the keys of backbone


def drawn(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the backbone itself takes: in the place of a file the usual rule, by which what the file does not give
    is drawn."""
    node = {name: value for name, value in backbone.items() if name not in OWN}
    if is_file(node.get("init")):
        del node["init"]
        usual = {knob.name: knob.default for knob in knobs.read(str(node.get("_target_"))) or ()}
        if "init" in usual:
            node["init"] = "torch" if usual["init"] is NOTHING else usual["init"]
    return node


def described(taken: Mapping[str | None, Knob]) -> dict[str | None, Knob]:
    """A backbone's knobs by name with what the program adds: a file as the value of `init`, and the keys beside it."""
    rule = taken.get("init", Knob("init", Any, None, ""))
    kind = Given if rule.kind is Any else rule.kind | Given
    return {**taken, "init": Knob("init", kind, rule.default, rule.meaning), **OWN}


def mistakes(backbone: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the keys that the program adds, by themselves and together."""
    init, given = backbone.get("init"), {name: backbone[name] for name in OWN if backbone.get(name) is not None}
    wrong = [knobs.mistake(f"backbone.{name}", backbone.get(name), knob.kind) for name, knob in OWN.items()]
    if is_file(init):
        wrong.append(knobs.mistake("backbone.init", init, Given))
    elif not any(wrong):
        wrong += [
            f"backbone.{name}={value} is about weights that a file gives, and here a rule draws them: leave it out."
            for name, value in given.items()
        ]
    yield from filter(None, wrong)


def file_mistake(key: str, file: Path) -> str | None:
    """Why a file cannot be one of weights, as far as that is seen without reading it; None where it may be. `key` says who names
    it, as `backbone.init=file:PATH`."""
    if file.is_dir():
        return f"{key} is a folder; name the file of weights in it."
    if not file.is_file():
        return f"{key}: there is no such file."
    try:
        with open(file, "rb") as opened:
            begin = opened.read(len(POINTER))
    except OSError as error:
        return f"{key} cannot be read ({(error.strerror or str(error)).lower()})."
    if begin == POINTER:
        return f"{key} is a git-lfs pointer in the place of the weights; git lfs pull fetches them where it came from."
    return None if begin else f"{key} is empty."


def start_mistake(backbone: Mapping[str, Any]) -> str | None:
    """Why a run cannot start from the file that its backbone names; asked where one is to start."""
    init, expected = backbone.get("init"), backbone.get("init_sha256")
    if (file := path(init)) is None:
        return None
    if (wrong := file_mistake(f"backbone.init={init}", file)) is None and expected not in (None, found := sha256(init)):
        wrong = f"backbone.init={init}: the file's SHA-256 is {found}, not backbone.init_sha256={expected}."
    return wrong
