"""A finished run's state without one of its stages, and the proof that every other stage answers as before, bit for bit."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.common.files import make_folder, replace
from maskbench.data.stage import Stage
from maskbench.runs.plain import as_they_are
from maskbench.runs.read_back import Saved
from maskbench.tasks.contracts import Forgets, InfersStage
from maskbench.training import evaluate
from maskbench.training.journal import snapshot
from maskbench.training.method import Method

WEIGHTS, MASKS, PROOF = "weights.safetensors", "masks.safetensors", "forgotten.json"
ASKED = 128  # images of the forgotten stage whose stage is asked for once it is gone


def forget(saved: Saved, stage: Stage) -> tuple[Method, dict[str, Any]]:
    """(the method without that stage, the proof). `saved.method` itself stays as it is.

    The other stages are asked about the whole of their test sets before and after; what answers after is a copy that has read
    the bytes that are written.

    Raises:
        UsageError: the method cannot forget it, or (never, if its `forget` is right) another stage answers otherwise.
    """
    name, method = saved.config.method.name, copy.deepcopy(saved.method)
    if not isinstance(method, Forgets):
        raise UsageError(f"method={name} cannot forget a stage: what it has learnt is not apart by stages.")
    if not method.has_learned(stage):
        raise UsageError(f"method={name} has nothing of stage {stage.index} ({stage.name}) to forget.")
    others = [other for other in saved.stages if other is not stage and method.has_learned(other)]
    before = {other.index: answers(method, other) for other in others}
    sizes = [size(method)]
    try:
        method.forget(stage)
    except UsageError as error:
        raise UsageError(f"method={name} cannot forget stage {stage.index} ({stage.name}): {error}") from error
    after = copy.deepcopy(saved.method)
    after.load_state_dict(safetensors.torch.load(written(method)))
    sizes.append(size(after))
    if after.has_learned(stage):
        raise UsageError(f"method={name}: stage {stage.index} still has an answer; nothing was written.")
    rows = [row(other, before[other.index], answers(after, other)) for other in others]
    if moved := [told["stage"] for told in rows if not told["equal"]]:
        raise UsageError(f"method={name}: stages {', '.join(moved)} answer otherwise without it; nothing was written.")
    proof = {
        "forgotten": {"stage": stage.name, "index": stage.index},
        "method": name,
        "others": rows,
        "later": [other.name for other in others if other.index > stage.index],
        "state_bytes": dict(zip(("before", "after"), sizes, strict=True)),
        "state_sha256": hashlib.sha256(written(after)).hexdigest(),
    }
    return after, proof | named(after, stage, others)


def answers(method: Method, stage: Stage) -> Tensor:
    """What the members say to the whole test set, before the link: [members, images, outputs]."""
    return evaluate.members(method, changed(stage, link=as_they_are), stage.test)[0]


def row(stage: Stage, before: Tensor, after: Tensor) -> dict[str, Any]:
    """What is proven of another stage."""
    told = {"stage": stage.name, "images": before.shape[1], "equal": before.shape == after.shape and torch.equal(before, after)}
    return told | {"sha256_before": sha256(before), "sha256_after": sha256(after)}


def sha256(x: Tensor) -> str:
    return hashlib.sha256(x.cpu().contiguous().numpy().tobytes()).hexdigest()


@torch.no_grad()
def named(method: Method, stage: Stage, others: Sequence[Stage]) -> dict[str, Any]:
    """Of a method that finds the stage itself: how often it names the forgotten one for images of that stage, which is never."""
    if not (isinstance(method, InfersStage) and method.inference_rules and others):
        return {}
    x, _ = stage.test.tensors(first=ASKED)
    found = method.infer(x[:, None], method.inference_rules[0])
    return {"inferred": {"images": len(x), "named": int((found == stage.index).sum())}}


def written(method: Method) -> bytes:
    return safetensors.torch.save(snapshot(method))


def size(method: Method) -> int:
    return sum(value.numel() * value.element_size() for value in method.state_dict().values())


def write(method: Method, proof: dict[str, Any], folder: Path) -> list[str]:
    """Write the state, the masks and the proof; a line on each file."""
    make_folder(folder)
    replace(folder / WEIGHTS, lambda path: path.write_bytes(written(method)))
    lines = [f"{folder / WEIGHTS}: {proof['state_bytes']['after']:,} bytes of {proof['state_bytes']['before']:,}"]
    if left := {name: mask.cpu() for name, mask in method.masks().items()}:
        replace(folder / MASKS, lambda path: masks.save(path, left))
        lines.append(f"{folder / MASKS}: {len(left)} masks")
    replace(folder / PROOF, lambda path: path.write_text(json.dumps(proof, indent=1)))
    images = sum(told["images"] for told in proof["others"])
    told = f"{len(proof['others'])} stages answer {images:,} test images as before, bit for bit"
    return [*lines, f"{folder / PROOF}: {told}"]
