"""VGG for small images, as in the lottery-ticket papers: 3x3 convolutions with norms, then the mean and one Linear."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.norm import Norm, need_images, norm_of
from maskbench.backbones.sizes import widened
from maskbench.common.knobs import Count, Length, Positive


class VGG(nn.Module):
    """[batch, channels, height, width] -> [batch, outputs]; a 2x2 max-pool between groups of convolutions.

    Args:
        blocks: convolutions of each group. channels: of each group's convolutions. width: multiplies them.
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
        blocks: Annotated[Sequence[Count], Length(least=1)],
        channels: Annotated[Sequence[Count], Length(least=1)],
        width: Positive = 1.0,
        norm: Norm = "batch",
        affine: bool = True,
        bias: bool = True,
        init: Init = "kaiming_normal",
    ) -> None:
        super().__init__()
        need_images(shape, least=2 ** (len(blocks) - 1))
        units = [c for c, count in zip(widened(channels, width), blocks, strict=True) for _ in range(count)]
        ends = [sum(blocks[: i + 1]) - 1 for i in range(len(blocks) - 1)]
        self.pool_after = frozenset(ends)
        layer = norm_of(norm, affine)
        self.inlet = Gate(prod(shape), inlet=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1, bias=bias and norm == "none") for i, o in pairwise([shape[0], *units])
        )
        self.norms = nn.ModuleList(layer(u) for u in units)
        self.gates = nn.ModuleList(Gate(u) for u in units)
        self.head = nn.Linear(units[-1], outputs, bias=bias)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        for i, (conv, norm, gate) in enumerate(zip(self.convs, self.norms, self.gates, strict=True)):
            x = gate(relu(norm(conv(x))))
            if i in self.pool_after:
                x = max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))
