"""First weights of a net that no rule draws: what a config says of them, `backbone.init=` `imagenet`, `published` (those of a net
of text), `file:PATH` or `run:RUN`. Imports no torch.

A run is known by what the file holds (its SHA-256), never by where it lies. The tensors are taken in backbones/pretrained.py; a
finished run's are made of its `weights.safetensors` (runs/source_run.py).
"""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from maskbench.common import knobs, recipes
from maskbench.common.checksums import digest
from maskbench.common.errors import UsageError
from maskbench.common.knobs import NOTHING, SUFFIXES, Count, Knob
from maskbench.common.starts import FILE, IMAGENET, RECIPES, RUN, gives, kind

STILL = "still"
WEIGHTS = "weights.safetensors"  # in the folder of a finished run
POINTER = b"version https://git-lfs"  # how a git-lfs pointer begins
ABSENT = "absent"  # in the place of the SHA-256 of a file that is not there; no run starts from one


@dataclass(frozen=True)
class FileOfWeights:
    """`file:PATH` of a file whose name says how it is read, `run:` and a finished run's folder or name, or one of RECIPES."""

    def holds(self, value: str) -> bool:
        named = value.startswith(FILE) and value.endswith(SUFFIXES)
        return named or value in RECIPES or (value.startswith(RUN) and value != RUN)

    def __str__(self) -> str:
        files = f"file:PATH, the path of a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        return f"such as imagenet, run:FOLDER of a finished run, or {files}"


Given = Annotated[str, FileOfWeights()]
OWN = {  # keys of backbone that the program reads, whatever net is chosen
    "init_head": Knob(
        "init_head",
        Literal["auto", "fresh", "load"] | None,
        None,
        "of a net whose weights a file gives: `auto` (null: auto) loads the file's head if it has as many classes, else draws a "
        "fresh one by the net's usual rule; `fresh` and `load` insist",
    ),
    "init_norm": Knob(
        "init_norm",
        Literal["still", "train"] | None,
        None,
        "of such a net's batch norms: `still`, their statistics, gains and shifts stay as they came, from the first step on; "
        "`train`, they are the method's, as in any net; null: still after `imagenet`, else train",
    ),
    "init_size": Knob(
        "init_size",
        Count | None,
        None,
        "pixels a side to which images are resized (bicubic) before a net that starts from `imagenet`; null: as they are",
    ),
    "init_stage": Knob(
        "init_stage",
        int | str | None,
        None,
        "of a run of several stages that the weights come from, by its index or name: whose net it is; null: the last",
    ),
    "init_sha256": Knob(
        "init_sha256",
        str | None,
        None,
        "of that file, which a run is known by: worked out by itself; one that is set is what the file must have",
    ),
}


Backbone = Mapping[str, Any]  # the settings of a net


def path(backbone: Backbone) -> Path | None:
    """The file whose content `init` stands for; None of a rule.

    Raises:
        UsageError: it is a library's, which is not there or does not know it.
    """
    init = backbone.get("init")
    if not gives(init):
        return None
    if kind(init) in RECIPES:
        found = recipes.of(backbone)
        return found.place if found else Path(init)
    if kind(init) == RUN:
        return run_folder(init) / WEIGHTS
    return Path(init.removeprefix(FILE)).expanduser()


def recipe(backbone: Backbone) -> recipes.Recipe | None:
    """The recipe by which a net starts; None of any other start."""
    return recipes.of(backbone) if backbone.get("init") in RECIPES else None


def still(backbone: Backbone) -> bool:
    """Whether the net's batch norms stay as they came with its weights."""
    told = backbone.get("init_norm")
    return gives(backbone.get("init")) and (told or (STILL if backbone["init"] == IMAGENET else None)) == STILL


def run_folder(init: str) -> Path:
    """The folder of the run that `run:` names: itself, or the one such below ./outputs; else the name as it stands."""
    name = init.removeprefix(RUN)
    if not (folder := Path(name).expanduser()).is_dir() and "/" not in name:
        found = [place for place in sorted(Path("outputs").glob("*/*")) if place.name == name or place.name.endswith(f"-{name}")]
        return found[0] if len(found) == 1 else folder
    return folder


# ---- who a run is


def sha256(backbone: Backbone) -> str | None:
    """SHA-256 of the file whose content `init` stands for; None of a rule."""
    try:
        if (file := path(backbone)) is None:
            return None
    except UsageError:  # told before anything starts
        return ABSENT
    return of_file(file)


def of_file(file: Path) -> str:
    """SHA-256 of a file; ABSENT where there is none."""
    try:
        about = file.stat()
        return _sha256(file, about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else ABSENT
    except (OSError, ValueError):
        return ABSENT


@lru_cache(maxsize=64)
def _sha256(file: Path, size: int, changed: int) -> str:
    return digest(file, size)


# ---- the keys of backbone


def drawn(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the backbone itself takes: in the place of a file the usual rule, by which what the file does not give
    is drawn."""
    node = {name: value for name, value in backbone.items() if name not in OWN}
    if gives(node.get("init")):
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
    if gives(init):
        wrong.append(knobs.mistake("backbone.init", init, Given))
        wrong += [
            f"backbone.{name}={given[name]} goes with backbone.init={what}: leave it out."
            for name, kind, what in (("init_stage", RUN, "run:FOLDER"), ("init_size", IMAGENET, IMAGENET))
            if name in given and not init.startswith(kind)
        ]
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


def start_mistake(backbone: Backbone) -> str | None:
    """Why a run cannot start from the weights that its backbone names; asked where one is to start, and those of a recipe are
    fetched where they are not yet."""
    init, expected = backbone.get("init"), backbone.get("init_sha256")
    try:
        if (file := path(backbone)) is None:
            return None
        if init in RECIPES:
            return recipe_mistake(backbone)
    except UsageError as error:
        return str(error)
    if init.startswith(RUN) and not file.is_file():
        return f"backbone.init={init}: there is no finished run of that folder or name; maskbench results lists what there is."
    if (wrong := file_mistake(f"backbone.init={init}", file)) is None and expected not in (None, found := of_file(file)):
        wrong = f"backbone.init={init}: the file's SHA-256 is {found}, not backbone.init_sha256={expected}."
    return wrong


def recipe_mistake(backbone: Backbone) -> str | None:
    """Why a run cannot start from its backbone's recipe.

    Raises:
        UsageError: the file is not there and cannot be fetched.
    """
    if (known := recipes.of(backbone)) is None:
        return (
            f"backbone={backbone.get('name')} has no weights of ImageNet: take a backbone that has, or backbone.init=file:PATH."
        )
    if not known.place.is_file():
        known.fetch()
        known = recipes.of(backbone)
    return known.mistake
