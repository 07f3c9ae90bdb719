"""edge-popup: what is hidden in a randomly weighted network (Ramanujan et al. 2020, arXiv 1911.13299).

Weights are drawn once and never change. Every weight has a score; each layer computes with the weights of its top
`keep` share of |scores|, and the gradient passes the selection as if it were not there, so that a score goes up where
its weight would have lowered the loss. What is learnt is a mask: a finished model is a seed and one bit a weight.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Dotted, Keep, Layers, Whole
from maskbench.common.named import named
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank
from maskbench.training.method import Method


@final
class EdgePopup(Method):
    """A random net whose weights are selected by trained scores, never trained themselves.

    Args:
        net: a backbone without biases and without affine norms; only its Linear and Conv weights are masked.
        keep: share of the weights that stays: ceil(keep * n) of n, exactly.
        scope: `layer` ranks within each layer (the paper), `global` over all of them.
        score_map: rank by `abs`, |score| (the paper's code), or by `identity`, the score itself.
        score_init: how scores are drawn: `kaiming_uniform` (the paper's code), `relu_uniform`, or any importable function
            of one score tensor by its dotted path.
        scale_fan: true: weights stand for a fan of keep * fan_in, so they are larger by sqrt(1 / keep); `authors`: by
            sqrt(1 / (1 - keep)), as in the authors' code, which takes the share that stays for the one that goes.
        min_keep: weights (a count) that every layer keeps at least; very small shares otherwise cut a layer off.
        dense: modules that no mask is for (`[convs]`): their weights stay as they were drawn, all of them in use.
        keep_warmup: optimiser steps over which the kept share falls linearly from 1 to `keep`; null: `keep` from the start.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep = 0.5,
        scope: Literal["layer", "global"] = "layer",
        score_map: Literal["abs", "identity"] = "abs",
        score_init: Literal["kaiming_uniform", "relu_uniform"] | Dotted = "kaiming_uniform",
        scale_fan: bool | Literal["authors"] = False,
        min_keep: Whole = 0,
        keep_warmup: Count | None = None,
        dense: Layers = (),
    ) -> None:
        super().__init__(net)
        self.keep, self.scope, self.min_keep, self.keep_warmup = keep, scope, min_keep, keep_warmup
        self.magnitude = score_map == "abs"
        self.w = {name: net.get_parameter(name) for name in masks.sites(net, skip=dense)}
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.w.items()})
        draw = named("method.score_init", score_init, SCORES)
        for score in self.scores.values():
            draw(score)
        if scale_fan:
            with torch.no_grad():
                for w in self.w.values():
                    w.mul_(fan_share(keep, scale_fan) ** -0.5)
        self.cutters = {name: masks.Cutter() for name in [*self.w, "global"]}
        self.book = MaskBank({name: w.shape for name, w in self.w.items()})
        self.register_buffer("step", torch.tensor(0))  # of the warm-up
        self.register_buffer("flipped", torch.tensor(0.0))  # share of the mask that training changed

    # ---- the algorithm (section 3)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.scores.values())

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if stage.index in self.book:
            return {name: self.w[name] * m for name, m in self.book.read(stage.index).items()}
        scores = {name: self.score(name) for name in self.w}
        return masks.top_shares(self.w, scores, self.cuts(scores), self.magnitude)

    def cuts(self, scores: dict[str, Tensor]) -> dict[str, masks.Cut]:
        """Where the ranking of each layer's scores is cut at this step."""
        share = self.share()
        if self.scope == "layer":
            counts = {name: self.count(share, s.numel()) for name, s in scores.items()}
            return {name: self.cutters[name].cut(s, counts[name], self.magnitude) for name, s in scores.items()}
        count = masks.kept_count(share, sum(s.numel() for s in scores.values()))
        cuts = self.cutters["global"].cuts(list(scores.values()), count, self.min_keep, self.magnitude)
        return dict(zip(scores, cuts, strict=True))

    def count(self, share: float, n: int) -> int:
        """Weights that a layer of n keeps."""
        return min(n, max(self.min_keep, masks.kept_count(share, n)))

    def learn(self, stage: Stage, fit: Callable) -> None:
        start = {name: self.score(name).detach().clone() for name in self.w}
        fit(self, stage)
        before, after = self.masks_of(start), self.masks_of({name: self.score(name) for name in self.w})
        self.flipped.fill_(masks.density(before[name] != after[name] for name in self.w))
        self.book.write(stage.index, after)

    # ---- its parts

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def masks_of(self, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """The masks that these scores select, bool.

        Raises:
            FloatingPointError: a score is NaN.
        """
        cuts = self.cuts({name: masks.ranked(score) for name, score in scores.items()})
        return {name: masks.kept(score, cuts[name], self.magnitude) for name, score in scores.items()}

    def share(self) -> float:
        """The share kept at this step: `keep`, and more while it warms up."""
        if self.keep_warmup is None:
            return self.keep
        return self.keep + (1 - self.keep) * max(0.0, 1 - int(self.step) / self.keep_warmup)

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        loss = super().loss(batch, stage)
        if self.keep_warmup is not None:
            self.step += 1
        return loss

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        return self.book.named()

    def extra_metrics(self) -> dict[str, float]:
        last = self.book.read(self.book.stages[-1])
        layers = {f"density/{name.removesuffix('.weight')}": masks.density([m]) for name, m in last.items()}
        return {"density": masks.density(last.values()), "mask_flipped": float(self.flipped)} | layers

    def ticket(self) -> dict[str, Tensor]:
        """The random weights and the mask over them: a plain net that answers as this one does."""
        if not self.book.stages:
            return {}
        last = self.book.read(self.book.stages[-1])
        return dict(self.net.state_dict()) | {f"mask|{name}": m.to(torch.uint8) for name, m in last.items()}


def fan_share(keep: float, rule: bool | str) -> float:
    """The share of the fan that `scale_fan` counts.

    Raises:
        UsageError: none is left of it.
    """
    if rule != "authors":
        return keep
    if keep == 1:
        raise UsageError("method.scale_fan=authors divides by 1 - method.keep, and keep is 1: take scale_fan=true")
    return 1 - keep


def kaiming_uniform(score: Tensor) -> None:
    """U(-1, 1) / sqrt(fan_in): the paper's code (Kaiming uniform with a = sqrt(5))."""
    nn.init.kaiming_uniform_(score, a=math.sqrt(5))


def relu_uniform(score: Tensor) -> None:
    """U(-1, 1) * sqrt(2 / fan_in): the scores of Pensia et al. (2020)."""
    nn.init.uniform_(score, -math.sqrt(2 / score[0].numel()), math.sqrt(2 / score[0].numel()))


SCORES = {rule.__name__: rule for rule in (kaiming_uniform, relu_uniform)}
