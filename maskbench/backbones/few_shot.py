"""Backbones of few-shot learning: the MLP of Omniglot, Conv-4, ResNet-12 and wide ResNets, all with batch statistics.

Each ends in `head`, the classifier; the rest is the body. Norms are those of batch_statistics.py.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, max_pool2d, pad, relu

from maskbench.backbones.batch_statistics import BatchStatistics
from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.mlp import layers
from maskbench.backbones.norm import need_images
from maskbench.backbones.sizes import widened
from maskbench.common.knobs import Count, Length, Positive, Within


class BatchMLP(nn.Module):
    """[rows, *shape] -> [rows, outputs]: hidden Linear layers with a norm, ReLU and a gate each, then `head`.

    Args:
        widths: units of each hidden layer. width: multiplies every one of them.
        eps: added to the norms' variance.
        bias: of every Linear layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        widths: Sequence[Count],
        width: Positive = 1.0,
        eps: Positive = 1e-3,
        bias: bool = True,
        init: Init = "torch",
    ) -> None:
        super().__init__()
        sizes = [prod(shape), *widened(widths, width)]
        self.hidden, self.gates = layers(sizes, bias)
        self.norms = nn.ModuleList(BatchStatistics(units, eps) for units in sizes[1:])
        self.head = nn.Linear(sizes[-1], outputs, bias=bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer, norm, gate in zip(self.hidden, self.norms, self.gates, strict=True):
            x = gate(relu(norm(layer(x))))
        return self.head(x)


class Conv4(nn.Module):
    """[rows, channels, height, width] -> [rows, outputs]: 3x3 convolutions, a norm and ReLU each, that halve the image; `head`.

    Args:
        channels: of each convolution. width: multiplies every one of them.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        head_init: how those of `head` are; null: like the others.
        halving: by a 2x2 `max_pool` after ReLU (null: max_pool), or by convolutions of `stride` 2, as MAML's on Omniglot.
        average: whether `head` sees the mean over what is left of the image.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        channels: Annotated[Sequence[Count], Length(least=1)],
        width: Positive = 1.0,
        bias: bool = True,
        init: Init = "torch",
        head_init: Init | None = None,
        halving: Literal["max_pool", "stride"] | None = None,
        average: bool | None = None,
    ) -> None:
        super().__init__()
        self.strided, self.average = halving == "stride", bool(average)
        need_images(shape, least=1 if self.strided else 2 ** len(channels))
        sizes = [shape[0], *widened(channels, width)]
        how = {"stride": 2} if self.strided else {"padding": 1}
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, bias=bias, **how) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(BatchStatistics(units) for units in sizes[1:])
        self.gates = nn.ModuleList(Gate(units) for units in sizes[1:])
        up = 2 ** len(channels) - 1 if self.strided else 0  # a stride rounds up, a pool down
        pixels = 1 if self.average else prod((side + up) >> len(channels) for side in shape[1:])
        self.head = nn.Linear(sizes[-1] * pixels, outputs, bias=bias)
        initialise(self, init, head_init)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm, gate in zip(self.convs, self.norms, self.gates, strict=True):
            x = gate(relu(norm(conv(padded(x) if self.strided else x))))
            if not self.strided:
                x = max_pool2d(x, 2)
        return self.head(x.mean((2, 3)) if self.average else x.flatten(1))


def padded(x: Tensor) -> Tensor:
    """Zeros around images for a 3x3 convolution of stride 2 as TensorFlow's SAME has them: of even sides at the end only."""
    rows, columns = x.shape[2] % 2, x.shape[3] % 2
    return pad(x, (columns, 1, rows, 1))


class ResNet12(nn.Module):
    """[rows, channels, height, width] -> [rows, outputs]: blocks of three convolutions, each halving the image, the mean, `head`.

    Leaky ReLU with slope 0.1, no dropout (Lee et al. 2019, as Meta-ticket has it).

    Args:
        channels: of each block. width: multiplies every one of them.
        bias: of `head`; the convolutions have none.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        head_init: how those of `head` are; null: like the others.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        channels: Annotated[Sequence[Count], Length(least=1)],
        width: Positive = 1.0,
        bias: bool = True,
        init: Init = "kaiming_normal",
        head_init: Init | None = None,
    ) -> None:
        super().__init__()
        need_images(shape, least=2 ** len(channels))
        sizes = [shape[0], *widened(channels, width)]
        self.blocks = nn.ModuleList(Block12(before, after) for before, after in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], outputs, bias=bias)
        initialise(self, init, head_init)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Block12(nn.Module):
    """Three convolutions with norms beside one of 1x1; leaky ReLU after the sum, a gate and a 2x2 max-pool."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        sizes = [before, after, after, after]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(BatchStatistics(after) for _ in self.convs)
        self.shortcut, self.shortcut_norm = nn.Conv2d(before, after, 1, bias=False), BatchStatistics(after)
        self.gate = Gate(after)

    def forward(self, x: Tensor) -> Tensor:
        inside = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            inside = norm(conv(inside))
            if i < len(self.convs) - 1:
                inside = leaky_relu(inside, 0.1)
        both = leaky_relu(inside + self.shortcut_norm(self.shortcut(x)), 0.1)
        return max_pool2d(self.gate(both), 2)


class WideResNet(nn.Module):
    """WRN-depth-k (Zagoruyko and Komodakis 2016): norm and ReLU before each convolution, stages of 16k, 32k and 64k channels.

    Args:
        depth: 6 n + 4, with n blocks a stage. widen: k. width: multiplies every channel.
        bias: of `head`; the convolutions have none.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        head_init: how those of `head` are; null: like the others.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        depth: Annotated[int, Within(least=10)],
        widen: Count,
        width: Positive = 1.0,
        bias: bool = True,
        init: Init = "kaiming_normal",
        head_init: Init | None = None,
    ) -> None:
        super().__init__()
        need_images(shape, least=4)
        sizes = widened((16, 16 * widen, 32 * widen, 64 * widen), width)
        self.conv = nn.Conv2d(shape[0], sizes[0], 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        for stage, (before, after) in enumerate(pairwise(sizes)):
            self.blocks.append(WideBlock(before, after, 1 if stage == 0 else 2))
            self.blocks.extend(WideBlock(after, after, 1) for _ in range((depth - 4) // 6 - 1))
        self.norm, self.gate = BatchStatistics(sizes[-1]), Gate(sizes[-1])
        self.head = nn.Linear(sizes[-1], outputs, bias=bias)
        initialise(self, init, head_init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.gate(relu(self.norm(x))).mean((2, 3)))


class WideBlock(nn.Module):
    """x + F(x) with F two convolutions; where the shape changes, a 1x1 convolution of the first ReLU stands for x."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = BatchStatistics(before), nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm2, self.conv2 = BatchStatistics(after), nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.gate = Gate(after)
        self.shortcut = None if (before, stride) == (after, 1) else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        first = relu(self.norm1(x))
        inside = self.conv2(self.gate(relu(self.norm2(self.conv1(first)))))
        return inside + (x if self.shortcut is None else self.shortcut(first))
