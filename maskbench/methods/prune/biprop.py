"""biprop: multi-prize tickets, binary nets found by pruning random ones (Diffenderfer & Kailkhura 2021, arXiv 2103.09377).

As in edge-popup weights are drawn once, and each layer computes with those of its top `keep` share of |scores|; but of these
only the signs count: all have one size, the layer's gain ||w * m||_1 / ||m||_0. The gradient passes selection and signs
straight through. A finished model is a seed, one bit a weight and one number a layer. With `backbone.activation=sign` hidden
activations are binary too.
"""

from collections.abc import Callable, Iterator
from typing import Literal, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.common.knobs import Keep, Layers
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank
from maskbench.methods.prune.edge_popup import fan_share, kaiming_uniform
from maskbench.training.method import Method


@final
class Biprop(Method):
    """A random net whose weights are selected by trained scores and made binary, never trained themselves.

    Args:
        net: a backbone without biases and without affine norms; its Linear and Conv weights are masked.
        keep: share of each layer's weights that stays: ceil(keep * n) of n, exactly (the authors' `prune_rate`).
        scale_fan: true: weights stand for a fan of keep * fan_in, so they and the gain are larger by sqrt(1 / keep); `authors`:
            by sqrt(1 / (1 - keep)), as in the authors' code, which takes the share that stays for the one that goes.
        dense: modules that no mask is for (`[convs]`): their weights stay as they were drawn, all of them in use.
    """

    def __init__(
        self, net: nn.Module, *, keep: Keep = 0.5, scale_fan: bool | Literal["authors"] = True, dense: Layers = ()
    ) -> None:
        super().__init__(net)
        self.w = {name: net.get_parameter(name) for name in masks.sites(net, skip=dense)}
        self.count = {name: masks.kept_count(keep, w.numel()) for name, w in self.w.items()}
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.w.items()})
        for score in self.scores.values():
            kaiming_uniform(score)
        if scale_fan:
            with torch.no_grad():
                for w in self.w.values():
                    w.mul_(fan_share(keep, scale_fan) ** -0.5)
        self.cutters = {name: masks.Cutter() for name in self.w}
        self.book = MaskBank({name: w.shape for name, w in self.w.items()})

    # ---- the algorithm (algorithm 1)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.scores.values())

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if stage.index in self.book:
            return self.binary(self.book.read(stage.index))
        return self.selected()

    def selected(self) -> dict[str, Tensor]:
        """gain * sign(w) * m of the present scores, straight through: d/dscore = w * sign(score) * d/d(what this returns)."""
        scores = {name: self.score(name) for name in self.w}
        kept = masks.top_shares(self.w, scores, self.cuts(scores), magnitude=True)
        return {name: masks.binary(w, self.count[name]) for name, w in kept.items()}

    def cuts(self, scores: dict[str, Tensor]) -> dict[str, masks.Cut]:
        """Where the ranking of each layer's |scores| is cut."""
        return {name: self.cutters[name].cut(score, self.count[name], magnitude=True) for name, score in scores.items()}

    def learn(self, stage: Stage, fit: Callable) -> None:
        fit(self, stage)
        scores = {name: masks.ranked(self.score(name)) for name in self.w}
        cuts = self.cuts(scores)
        self.book.write(stage.index, {name: masks.kept(score, cuts[name], magnitude=True) for name, score in scores.items()})

    # ---- its parts

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def binary(self, mask: dict[str, Tensor]) -> dict[str, Tensor]:
        """gain * sign(w) * m under masks, bool by weight."""
        return {name: masks.binary(w * mask[name], self.count[name]) for name, w in self.w.items()}

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        return self.book.named()

    def memory(self) -> dict[str, int]:
        """The weights are a seed, unless a file gave them; a stage is one bit a weight and a gain a layer."""
        return {"shared": initial.stored_bytes(self.net), "stage": self.book.bytes() + 4 * len(self.w)}

    @torch.no_grad()
    def extra_metrics(self) -> dict[str, float]:
        """`gain/<layer>` is the size of its weights."""
        last = self.book.read(self.book.stages[-1])
        gains = {name: float(masks.gain(w * last[name], self.count[name])) for name, w in self.w.items()}
        return masks.densities(self.net, last) | {f"gain/{n.removesuffix('.weight')}": gain for n, gain in gains.items()}

    @torch.no_grad()
    def ticket(self) -> dict[str, Tensor]:
        """The binary weights and the mask over them: a plain net that answers as this one does."""
        if not self.book.stages:
            return {}
        last = self.book.read(self.book.stages[-1])
        return dict(self.net.state_dict()) | self.binary(last) | {f"mask|{name}": m.to(torch.uint8) for name, m in last.items()}
