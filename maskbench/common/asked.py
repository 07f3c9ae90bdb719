"""What a recorded config asks: its settings without what cannot change an answer, and how two of them are told apart. Imports
nothing heavy: whatever reads the records of many runs begins here, and needs no reader of configs.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from maskbench.common import moved
from maskbench.common.shared import alike, once
from maskbench.common.starts import gives, kind

ELSEWHERE = {  # not part of the question
    "hydra", "paths", "logger", "loop", "seed", "force", "stale", "experiment", "trainer", "tags", "notes",
}  # fmt: skip
WORDS = {"about", "tasks", "needs", "gives", "recipe", "workers"}  # descriptions, contracts, and who reads files: not knobs
LABELS = {*WORDS, "_target_"}


def arithmetic(trainer: Mapping[str, Any], loop: Mapping[str, Any]) -> dict[str, Any]:
    """What of the trainer's and the loop's keys changes the bits of a result; the CPU in single precision, the reference, is an
    empty answer."""
    accelerator, memory_format = trainer.get("accelerator"), trainer.get("memory_format")
    told = {
        "precision": trainer.get("precision"),
        "accelerator": {"cpu": None, "cuda": "gpu"}.get(accelerator, accelerator),
        "sync_batchnorm": trainer.get("sync_batchnorm") or None,
        "memory_format": None if memory_format == "contiguous" else memory_format,
        "compile": loop.get("compile") or None,  # sums are rounded in another order
    }
    return {name: value for name, value in told.items() if value is not None}


def spelling(value: object) -> str:
    """JSON that is equal for two values exactly when they are the same setting."""
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))


def question(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config's leaves by dotted name, without what cannot change an answer and without the names of code."""
    settings: dict[str, Any] = {}
    for block in blocks(config):
        settings |= block
    return settings


def blocks(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`question`, a mapping for each part of the config. Those of a part that configs share are one object, as is the list of
    configs that differ in the seed alone: not to be changed."""
    return once(_blocks, alike(config))


def _blocks(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    loose: dict[str, Any] = {}
    for name, part in by_content(config).items():
        if name.partition(".")[0] in ELSEWHERE:
            continue
        if isinstance(part, Mapping):
            made += [loose] if loose else []
            made.append(once(_block, part, name))
            loose = {}
        elif name.rpartition(".")[2] not in LABELS and name != "loss":
            loose[name] = part
    if (config.get("loop") or {}).get("compile"):
        loose["loop.compile"] = True
    return [*made, loose, once(_arithmetic_block, config.get("trainer") or {})]


def by_content(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config (plain containers) in which `backbone.init` does not say where its file lies: `init_sha256` says what it is."""
    backbone = config.get("backbone")
    if not isinstance(backbone, Mapping) or not gives(backbone.get("init")):
        return dict(config)
    if not (known := backbone.get("init_sha256")):
        from maskbench.common import given  # brings the readers of recipes, which few records need

        known = given.sha256(backbone)
    return {**config, "backbone": {**backbone, "init": kind(backbone["init"]), "init_sha256": known}}


def _block(part: Mapping[str, Any], name: str) -> dict[str, Any]:
    settings = {key: value for key, value in leaves({name: part}) if key.rpartition(".")[2] not in LABELS}
    settings.pop("loss", None)  # none chosen: that of the data, which older records do not list
    return settings


def _arithmetic_block(trainer: Mapping[str, Any]) -> dict[str, Any]:
    bits = {"precision": trainer["precision"]} if "precision" in trainer else {}  # as older records list it, null too
    return {f"trainer.{name}": value for name, value in (bits | arithmetic(trainer, {})).items()}


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all that is no mapping; an empty mapping counts as a value."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _canonical(value: object) -> object:
    """Without nulls, empty mappings and descriptions; 10.0 is 10, as both spell the same number."""
    if isinstance(value, dict):
        inner = {str(name): _canonical(item) for name, item in value.items() if name not in WORDS}
        if isinstance(inner.get("_target_"), str):
            inner["_target_"] = moved.first_name(inner["_target_"])  # a file that moved is the same code
        return {name: item for name, item in inner.items() if item is not None and item != {}}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
