"""Parameter superposition by rotations (Cheung et al. 2019, arXiv 1902.05522), SupSup's baseline PSP.

One set of weights is trained on through all stages. Every stage has a fixed random rotation per layer, and multiplies the
layer's input with it: in many dimensions two rotations share little, so stages disturb each other little. They do so
nonetheless, and more with every stage.
"""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.per_stage import NormStatistics
from maskbench.common import streams
from maskbench.data.stage import Stage
from maskbench.training.method import Method


@final
class PSP(Method):
    """One net trained on through all stages, each stage under a fixed random rotation of every layer's inputs.

    A layer's input x becomes R x, for a convolution over the channels of each pixel; that is W R in the place of W.
    Nothing of a rotation is stored: the seed and the stage give it back, one QR decomposition a layer. Biases are shared
    like the weights; running norm statistics are kept per stage.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.w = {name: net.get_parameter(name) for name in masks.sites(net)}
        self.register_buffer("stream", torch.randint(2**62, ()))  # names the rotations
        self.statistics = NormStatistics(net)
        self.held: tuple[int, dict[str, Tensor]] = (-1, {})  # the last stage computed; follows from the stage alone

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        rotations = self.rotations(stage.index)
        weights = {name: torch.einsum("oi...,ij->oj...", w, rotations[name]) for name, w in self.w.items()}
        return weights | (self.statistics.of(stage.index) if stage.index in self.statistics else {})

    def learn(self, stage: Stage, fit: Callable) -> None:
        fit(self, stage)
        self.statistics.keep(self.net, stage.index)

    def rotations(self, stage: int) -> dict[str, Tensor]:
        """The stage's rotation of each layer's inputs, [inputs, inputs], drawn again unless it was asked for last."""
        if self.held[0] != stage:
            rotations = {name: rotation(w.shape[1], (int(self.stream), "rotation", stage, name)) for name, w in self.w.items()}
            self.held = stage, rotations
        device = self.stream.device
        return {name: r.to(device) for name, r in self.held[1].items()}

    def memory(self) -> dict[str, int]:
        """One net and the seed of all rotations; a stage adds its norm statistics, if the net has norms."""
        net = sum(p.numel() * p.element_size() for p in self.net.parameters())
        return {"shared": net + 8, "stage": self.statistics.bytes}


def rotation(size: int, stream: tuple) -> Tensor:
    """A uniformly random orthogonal matrix [size, size] from the named stream: QR of a Gaussian, R's diagonal positive."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=streams.generator(*stream)))
    return q * r.diagonal().sign()
