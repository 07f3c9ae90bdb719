"""Residual nets for small images: ResNet-20 of the lottery-ticket papers, ResNet-18 with a 3x3 stem (He et al. 2016).

Convolutions of 3x3 in blocks of two, a norm after each; the first block of every stage but the first halves the image.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.norm import Norm, need_images, norm_of
from maskbench.common.knobs import Count, Length, Positive

Shortcut = Literal["conv", "pad"]
THEIRS = (  # how residual nets are usually named -> how they are here
    (r"^conv1\.", "conv."),
    (r"^bn1\.", "norm."),
    (r"^layer(\d+)\.", lambda found: f"stages.{int(found[1]) - 1}."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.(?:shortcut|downsample)\.0\.", ".shortcut.conv."),
    (r"\.(?:shortcut|downsample)\.1\.", ".shortcut.norm."),
)


class ResNet(nn.Module):
    """[batch, channels, height, width] -> [batch, outputs]: a stem, stages of blocks, the mean over the image, `head`.

    Args:
        base: channels of the first stage; each later one has twice as many. width: multiplies `base`.
        blocks: how many of them each stage has.
        shortcut: what passes around a block that changes the shape: `conv`, a 1x1 convolution and a norm; or `pad`,
            every second pixel and zeros for the new channels, which has no weights.
        norm: `batch`, `batch_no_stats` (statistics of the rows at hand, in testing too) or `none`. affine: whether `batch` has a
            gain and a shift.
        bias: of `head`, and of the convolutions when there is no norm behind them.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    keeps_statistics: ClassVar = {"norm": "batch"}  # superposed.py

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        base: Count,
        blocks: Annotated[Sequence[Count], Length(least=1)],
        width: Positive = 1.0,
        shortcut: Shortcut = "conv",
        norm: Norm = "batch",
        affine: bool = True,
        bias: bool = True,
        init: Init = "kaiming_normal",
    ) -> None:
        super().__init__()
        need_images(shape, least=1)
        channels = [max(1, round(width * base)) * 2**i for i in range(len(blocks))]
        layer, conv_bias = norm_of(norm, affine), bias and norm == "none"
        block = partial(Block, norm=layer, bias=conv_bias, shortcut=shortcut)
        self.inlet = Gate(prod(shape), inlet=True)
        self.conv = nn.Conv2d(shape[0], channels[0], 3, padding=1, bias=conv_bias)
        self.norm, self.gate = layer(channels[0]), Gate(channels[0])
        self.stages = nn.ModuleList(
            nn.Sequential(block(before, after, 1 if i == 0 else 2), *(block(after, after, 1) for _ in range(count - 1)))
            for i, ((before, after), count) in enumerate(zip(pairwise([channels[0], *channels]), blocks, strict=True))
        )
        self.head = nn.Linear(channels[-1], outputs, bias=bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        x = self.gate(F.relu(self.norm(self.conv(x))))
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))

    @staticmethod
    def own_name(name: str) -> str:
        """A tensor's name here, by the name that torchvision and most others give it (pretrained.py)."""
        for usual, ours in THEIRS:
            name = re.sub(usual, ours, name)
        return name


class Block(nn.Module):
    """relu(x + F(x)), F two convolutions; a gate inside and one after the sum."""

    def __init__(
        self, before: int, after: int, stride: int, *, norm: Callable[[int], nn.Module], bias: bool, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=bias)
        self.norm1, self.gate1 = norm(after), Gate(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=bias)
        self.norm2, self.gate2 = norm(after), Gate(after)
        if stride == 1 and before == after:
            self.shortcut = nn.Identity()
        elif shortcut == "conv":
            conv = nn.Conv2d(before, after, 1, stride, bias=bias)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=norm(after)))
        else:
            self.shortcut = Pad(after - before, stride)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.gate1(F.relu(self.norm1(self.conv1(x))))
        return self.gate2(F.relu(self.norm2(self.conv2(inside)) + self.shortcut(x)))


class Pad(nn.Module):
    """Every `stride`-th pixel, and `more` channels of zeros, as many before as after; or so many for each of `parts` of channels,
    which stay apart (of nets that lie side by side)."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride, self.parts = more, stride, 1

    def forward(self, x: Tensor) -> Tensor:
        first, x = self.more // 2, x[:, :, :: self.stride, :: self.stride]
        if self.parts > 1:
            x = x.unflatten(1, (self.parts, -1))
        x = F.pad(x, (0, 0, 0, 0, first, self.more - first))
        return x.flatten(1, 2) if self.parts > 1 else x
