"""Signed supermasks: keep, hide, invert (Koster, Grothe & Rettinger 2022, arXiv 2201.13361).

Weights are drawn once and never change but for their signs. Every weight has a score: above a threshold it is kept, below
minus the threshold it is kept with its sign inverted, and between them it is hidden. The gradient passes the mask straight
through. Nothing sets the density: weight decay draws scores towards 0, and what training does not hold up is hidden.
"""

from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.common.knobs import Layers, OpenShare
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank, TensorStore
from maskbench.training.method import Method


@final
class SignedSupermask(Method):
    """A random net under learned masks of -1, 0 and 1.

    Args:
        net: a backbone without biases and without affine norms; its Linear and Conv weights are masked.
        threshold: of |score|, strictly above which a weight is in: this share of the largest |score| that its layer starts
            with; it stays where it is while scores move.
        dense: modules that no mask is for (`[convs]`): their weights stay as they were drawn, all of them in use.
    """

    def __init__(self, net: nn.Module, *, threshold: OpenShare = 0.4, dense: Layers = ()) -> None:
        super().__init__(net)
        self.w = {name: net.get_parameter(name) for name in masks.sites(net, skip=dense)}
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.w.items()})
        self.tau = TensorStore()
        for name in self.w:
            initial.glorot_uniform(self.score(name))
            self.tau.put(name, threshold * self.score(name).abs().max())
        shapes = {name: w.shape for name, w in self.w.items()}
        self.book = MaskBank(shapes | {f"{name}.negative": shape for name, shape in shapes.items()})

    # ---- the algorithm

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.scores.values())

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if stage.index in self.book:
            return {name: w * m for (name, w), m in zip(self.w.items(), self.signs(stage.index).values(), strict=True)}
        return {name: masks.signed(w, self.score(name), self.tau[name]) for name, w in self.w.items()}

    def learn(self, stage: Stage, fit: Callable) -> None:
        fit(self, stage)
        for name in self.w:
            masks.ranked(self.score(name))
        drawn = {name: masks.signs(self.score(name), self.tau[name]) for name in self.w}
        inverted = {f"{name}.negative": m < 0 for name, m in drawn.items()}
        self.book.write(stage.index, {name: m != 0 for name, m in drawn.items()} | inverted)

    # ---- its parts

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def signs(self, stage: int) -> dict[str, Tensor]:
        """A finished stage's masks as floats of {-1, 0, 1}, by weight."""
        mask = self.book.read(stage)
        return {name: mask[name].float() - 2 * mask[f"{name}.negative"].float() for name in self.w}

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        """`<weight>` says what is in and `<weight>.negative` what of it changes sign."""
        return self.book.named()

    def memory(self) -> dict[str, int]:
        """The weights are a seed, unless a file gave them; a stage is two bits a weight."""
        return {"shared": initial.stored_bytes(self.net), "stage": self.book.bytes()}

    def extra_metrics(self) -> dict[str, float]:
        """`inverted` is the share of the kept weights that change their sign."""
        last = self.book.read(self.book.stages[-1])
        kept = {name: last[name] for name in self.w}
        ones, negative = (sum(int(last[f"{name}{end}"].sum()) for name in self.w) for end in ("", ".negative"))
        return masks.densities(self.net, kept) | {"inverted": negative / max(1, ones)}

    @torch.no_grad()
    def ticket(self) -> dict[str, Tensor]:
        """The random weights, inverted where the mask says so, and a mask: a plain net that answers as this one does."""
        if not self.book.stages:
            return {}
        signs = self.signs(self.book.stages[-1])
        used = {name: torch.where(m < 0, -self.w[name], self.w[name]) for name, m in signs.items()}
        return dict(self.net.state_dict()) | used | {f"mask|{name}": (m != 0).to(torch.uint8) for name, m in signs.items()}
