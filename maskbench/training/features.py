"""What a net hands its output layer, computed once for a split: a frozen trunk is run once, and its heads train on features.

And the probe: a stage's own head starts from 100 steps on the features of its training rows, so that no random head sends noise
through a trunk that was trained elsewhere.
"""

from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench.backbones.features import tapped
from maskbench.backbones.per_stage import PrivateHeads
from maskbench.data.stage import Split, Stage
from maskbench.training import evaluate
from maskbench.training.method import Method

STEPS, RATE, DECAY = 100, 3e-3, 1e-3  # of the probe: AdamW on all rows at once


class Features(Stage):
    """A stage whose training and validation inputs are what the net hands its head, [rows, features]."""

    def holds(self, x: Tensor) -> bool:
        """Whether inputs are features."""
        return x.is_floating_point() and tuple(x.shape[1:]) == self.shape


@torch.no_grad()
def features(method: Method, stage: Stage, split: Split) -> tuple[Tensor, Tensor]:
    """(what the head is given [rows, features], targets [rows]) of a split, by the tensors that the stage computes with now."""
    if isinstance(stage, Features):
        return split.tensors(evaluate.device_of(method))
    method.eval()
    kept, targets = [], []
    with tapped(method.net, [], head=True) as at:
        for x, y in split.batches(evaluate.rows_at_once(method, stage), evaluate.device_of(method)):
            method.logits(x, stage)
            kept.append(at["head"])
            targets.append(y)
    return torch.cat(kept), torch.cat(targets)


def cached(method: Method, stage: Stage) -> Features:
    """The stage as the head sees it through a trunk that stands still."""

    def through(split: Split) -> Split:
        return Split(*(part.cpu() for part in features(method, stage, split)))

    train = through(stage.train)
    val = train if stage.val is stage.train else through(stage.val) if len(stage.val) else stage.val
    own = {one.name: getattr(stage, one.name) for one in fields(stage)}
    return Features(**own | {"train": train, "val": val, "shape": tuple(train.x.shape[1:])})


def can_cache(stage: Stage) -> bool:
    """Whether every batch sees the same inputs, nothing being drawn anew for each, and inputs can be told from features."""
    x = getattr(stage.train, "x", None)
    tokens = isinstance(x, Tensor) and not x.is_floating_point()
    return getattr(stage.train, "augment", None) is None and (tokens or len(stage.shape) > 1)


def answer(x: Tensor, head: dict[str, Tensor]) -> Tensor:
    """A head's outputs for features, [rows, outputs]."""
    return F.linear(x, head["head.weight"], head.get("head.bias"))


def untouched(method: Method) -> list[PrivateHeads]:
    """Heads that were opened for the stage in training and not trained yet; asked once a phase, they count as touched then."""
    heads = [module for module in method.modules() if isinstance(module, PrivateHeads) and module.fresh]
    for one in heads:
        one.fresh = False
    return heads


def probe(method: Method, stage: Stage, heads: PrivateHeads) -> None:
    """Let the stage's own head start from the probe; everything else stays as it is."""
    x, y = features(method, stage, stage.train)
    head = {name: p.detach().clone().requires_grad_() for name, p in heads.of(stage.index).items()}
    optimizer = torch.optim.AdamW(head.values(), lr=RATE, weight_decay=DECAY)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimizer.zero_grad()
            stage.criterion(answer(x, head), y).backward()
            optimizer.step()
    with torch.no_grad():
        for name, p in heads.of(stage.index).items():
            p.copy_(head[name])
