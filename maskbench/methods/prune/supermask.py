"""Learned supermasks (Zhou et al. 2019, arXiv 1905.01067, section 6): a mask that makes an untrained network see.

Weights are drawn once and never change. Every weight has a logit, and each forward pass keeps it with probability
sigmoid(logit); the gradient passes the draw straight through. What is tested are samples of the mask, fresh ones.
"""

from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.common import streams
from maskbench.common.knobs import Count
from maskbench.data.stage import Stage
from maskbench.masks.stores import MaskBank
from maskbench.training.method import Method


@final
class Supermask(Method):
    """A random net under masks that are drawn by learned probabilities.

    Args:
        net: a backbone; its Linear and Conv weights are masked, everything else stays as it was drawn.
        start: the logit every weight starts with; 0: in or out with equal chances. It moves the density; nothing sets it.
        constant: weights are sign(w) * (deviation of the layer's weights) instead of w (the paper's signed constant).
        rescale: weights times n / ones of the mask in use, layer by layer (the paper's dynamic weight rescaling).
        samples: masks drawn to test with.
    """

    def __init__(
        self, net: nn.Module, *, start: float = 0.0, constant: bool = False, rescale: bool = False, samples: Count = 10
    ) -> None:
        super().__init__(net)
        self.rescale, self.samples = rescale, samples
        self.w = {name: net.get_parameter(name) for name in masks.sites(net)}
        if constant:
            with torch.no_grad():
                for w in self.w.values():
                    w.copy_(w.sign() * w.std(correction=0))
        self.chances = nn.ParameterDict({n.replace(".", "|"): torch.full_like(w, start) for n, w in self.w.items()})
        self.book = MaskBank({name: w.shape for name, w in self.w.items()})
        self.register_buffer("stream", torch.randint(2**62, ()))  # names the samples that are tested

    # ---- the algorithm

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.chances.values())

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        """A fresh draw; once the stage is finished, the weights that are more likely in than out."""
        if stage.index in self.book:
            return self.masked({name: m.float() for name, m in self.book.read(stage.index).items()})
        return self.masked({name: masks.bernoulli(self.logit(name)) for name in self.w})

    def masked(self, mask: dict[str, Tensor]) -> dict[str, Tensor]:
        """w * m, rescaled by the inverse share of ones; the gradient goes through that share too."""
        if not self.rescale:
            return {name: w * mask[name] for name, w in self.w.items()}
        return {name: w * mask[name] * (w.numel() / mask[name].sum().clamp(min=1)) for name, w in self.w.items()}

    def learn(self, stage: Stage, fit: Callable) -> None:
        fit(self, stage)
        self.book.write(stage.index, self.likely())

    # ---- reading the answer

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """One member per sampled mask, [samples, batch, outputs]. Sample i is the same mask for every batch and every
        evaluation, as far as the probabilities are the same: its noise is a stream of its own, which training never saw."""
        return torch.stack([self.answer(x, stage, self.sample(i)) for i in range(self.samples)])

    def predict_threshold(self, x: Tensor, stage: Stage) -> Tensor:
        """One member: the weights that are more likely in than out."""
        return self.answer(x, stage, self.likely())[None]

    def prediction_modes(self) -> dict[str, Callable[[Tensor, Stage], Tensor]]:
        return {"": self.predict, "threshold": self.predict_threshold}

    def answer(self, x: Tensor, stage: Stage, mask: dict[str, Tensor]) -> Tensor:
        """Predictions [batch, outputs] under masks, bool by weight."""
        tensors = self.masked({name: m.float() for name, m in mask.items()})
        return stage.link(functional_call(self.net, tensors, (x,)))

    def sample(self, number: int) -> dict[str, Tensor]:
        """Masks of sample `number`, bool."""
        mask = {}
        for name in self.w:
            stream = streams.generator(int(self.stream), "sample", number, name)
            noise = torch.rand(self.w[name].shape, generator=stream)
            mask[name] = noise.to(self.stream.device) < self.logit(name).sigmoid()
        return mask

    def likely(self) -> dict[str, Tensor]:
        """Weights that are in with a probability above one half, bool."""
        return {name: masks.ranked(self.logit(name)) > 0 for name in self.w}

    def logit(self, name: str) -> nn.Parameter:
        return self.chances[name.replace(".", "|")]

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.book

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        """The threshold masks."""
        return self.book.named()

    @torch.no_grad()
    def extra_metrics(self) -> dict[str, float]:
        """`density` is the expected one, the mean of sigmoid(logit); beside it the samples' and the threshold's."""
        p = {name: self.logit(name).sigmoid() for name in self.w}
        total = sum(w.numel() for w in self.w.values())
        sampled = [masks.density(self.sample(i).values()) for i in range(self.samples)]
        return {
            "density": sum(float(v.double().sum()) for v in p.values()) / total,
            "density_sampled": sum(sampled) / len(sampled),
            "density_threshold": masks.density(self.likely().values()),
        } | {f"density/{name.removesuffix('.weight')}": float(v.mean()) for name, v in p.items()}

    @torch.no_grad()
    def ticket(self) -> dict[str, Tensor]:
        """The weights as the threshold mask uses them (rescaled, where they are) and that mask."""
        if not self.book.stages:
            return {}
        mask = self.book.read(self.book.stages[-1])
        used = {name: w.clone() for name, w in self.w.items()}
        if self.rescale:
            for name, w in used.items():
                w.mul_(w.numel() / mask[name].sum().clamp(min=1))
        return dict(self.net.state_dict()) | used | {f"mask|{name}": m.to(torch.uint8) for name, m in mask.items()}
