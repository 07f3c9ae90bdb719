"""Whether a net that came trained still answers as it came: on samples of what it was trained on (Stage.samples), which are no
test set. What is stated is agreement with its own answers, never an accuracy.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.training import evaluate
from maskbench.training.method import Method

TOP = 5


@torch.no_grad()
def as_it_came(method: Method, stage: Stage) -> Tensor:
    """Outputs [images, outputs] of the net by itself, as its weights are now."""
    method.eval()
    return torch.cat(evaluate.pieces(method, method.net, stage, stage.test, None)[0]).cpu()


def reading(stage: Stage, came: Tensor, learnt: Tensor, now: Tensor) -> dict[str, float]:
    """How the outputs of now compare with those the net came with and those of when the stage was counted as learnt.

    Returns:
        `same`: share of images with the answer that the net came with. `kept`: share whose outputs are, bit for bit, those of
        when the stage was learnt. `drift`: the largest change of one of these. `top_1`, `top_5`: images, as a count, whose label
        is the largest output, or among the five largest: of so few no rate is stated.
    """
    y = stage.test.y.cpu()
    return {
        "same": evaluate.share(now.argmax(1) == came.argmax(1)),
        "kept": evaluate.share((now == learnt).all(1)),
        "drift": (now - learnt).abs().max().item(),
        "top_1": int((now.argmax(1) == y).sum()),
        "top_5": int((now.topk(min(TOP, now.shape[1])).indices == y[:, None]).any(1).sum()),
    }


def numbers(stages: Sequence[Stage], lessons: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the record says of samples at the end; nothing of data without them."""
    found = [lessons[-1]["samples"][stage.index] for stage in stages if stage.samples]
    return {f"given_net/{name}": value for reading in found for name, value in reading.items()}


def note(stages: Sequence[Stage], lessons: Sequence[dict[str, Any]]) -> list[str]:
    """What the samples say, in one sentence each."""
    return [
        f"{stage.name}: {len(stage.test)} samples, no test set. At the end {round(told['same'] * len(stage.test))} have the "
        f"answer that the net came with; of {round(told['kept'] * len(stage.test))} no bit of an output has moved since."
        for stage in stages
        if stage.samples
        for told in [lessons[-1]["samples"][stage.index]]
    ]
