"""Convolutional nets of the lottery-ticket and edge-popup papers: LeNet-5 and Conv-2/4/6/8."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, dropout1d, max_pool2d

from maskbench.backbones.activations import ACTIVATIONS, Activation
from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.mlp import layers
from maskbench.backbones.norm import need_images
from maskbench.backbones.redundant import linear
from maskbench.backbones.sizes import widened
from maskbench.common.knobs import Count, Length, Positive, Share, Whole


class ConvNet(nn.Module):
    """[batch, channels, height, width] -> [batch, outputs]: convolutions, then hidden Linear layers, then `head`.

    Args:
        channels: of each convolution. pool_after: indices of the convolutions that a 2x2 max-pool follows.
        kernel: of every convolution. padding: of each, as torch takes it.
        dropout: shares dropped after the convolutions and after each hidden Linear layer, in training. drop_channels: after the
            convolutions channels go as a whole.
        widths: of the hidden Linear layers. Every hidden layer is followed by an activation and a gate; the pixels have one too.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        activation: of the hidden layers (activations.py).
        redundancy, between: of the Linear layers (redundant.py); null: plain ones.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        channels: Annotated[Sequence[Count], Length(least=1)],
        pool_after: Sequence[Whole],
        kernel: Count,
        padding: Sequence[Whole | Literal["same", "valid"]],
        widths: Sequence[Count],
        bias: bool,
        init: Init,
        activation: Activation = "relu",
        dropout: tuple[Share, Share] = (0.0, 0.0),
        drop_channels: bool = False,
        redundancy: Count | None = None,
        between: bool = True,
    ) -> None:
        super().__init__()
        need_images(shape, least=1)
        self.pool_after = frozenset(pool_after)
        self.dropout, self.drop_channels = dropout, drop_channels
        self.activation = ACTIVATIONS[activation]
        self.inlet = Gate(prod(shape), inlet=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, kernel, padding=p, bias=bias)
            for (i, o), p in zip(pairwise([shape[0], *channels]), padding, strict=True)
        )
        self.conv_gates = nn.ModuleList(Gate(c) for c in channels)
        with torch.no_grad():
            flat = self.features(torch.zeros(1, *shape)).shape[1]
        sizes = [flat, *widths]
        self.hidden, self.gates = layers(sizes, bias, redundancy, between)
        self.head = linear(sizes[-1], outputs, bias, redundancy, between)
        initialise(self, init)

    def features(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        for i, (conv, gate) in enumerate(zip(self.convs, self.conv_gates, strict=True)):
            x = gate(self.activation(conv(x)))
            if i in self.pool_after:
                x = max_pool2d(x, 2)
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.drop_channels:
            x = dropout1d(x.unflatten(1, (self.convs[-1].out_channels, -1)), self.dropout[0], self.training).flatten(1)
        else:
            x = self.drop(x, self.dropout[0])
        for layer, gate in zip(self.hidden, self.gates, strict=True):
            x = self.drop(gate(self.activation(layer(x))), self.dropout[1])
        return self.head(x)

    def drop(self, x: Tensor, share: float) -> Tensor:
        return dropout(x, share, self.training) if share else x


def ConvK(  # noqa: N802 - named like the class it builds
    shape: tuple[int, int, int],
    outputs: int,
    *,
    channels: Annotated[Sequence[Count], Length(least=1)],
    widths: Sequence[Count],
    width: Positive = 1.0,
    bias: bool = True,
    init: Init = "glorot_normal",
    activation: Activation = "relu",
    dropout: Annotated[Sequence[Share], Length(least=2, most=2)] = (0.0, 0.0),
) -> ConvNet:
    """Conv-2, -4, -6 and -8: 3x3 convolutions, a pool after every second one.

    Args:
        channels: of each convolution. widths: of the hidden Linear layers. width: multiplies every one of them.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        activation: of the hidden layers (activations.py).
        dropout: shares dropped after the convolutions and after each hidden Linear layer, in training.
    """
    return ConvNet(
        shape,
        outputs,
        channels=widened(channels, width),
        pool_after=range(1, len(channels), 2),
        kernel=3,
        padding=["same"] * len(channels),
        widths=widened(widths, width),
        bias=bias,
        init=init,
        activation=activation,
        dropout=(dropout[0], dropout[1]),
    )


def LeNet5(  # noqa: N802
    shape: tuple[int, int, int],
    outputs: int,
    *,
    channels: Annotated[Sequence[Count], Length(least=1)],
    widths: Sequence[Count],
    width: Positive = 1.0,
    bias: bool = True,
    init: Init = "glorot_normal",
    activation: Activation = "relu",
    keep_size: bool = False,
    redundancy: Count | None = None,
    between: bool = True,
) -> ConvNet:
    """LeNet-5 with max-pooling: 5x5 convolutions, a 2x2 max-pool after each, then hidden Linear layers.

    Args:
        channels: of each convolution. widths: of the hidden Linear layers. width: multiplies every one of them.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
        activation: of the hidden layers (activations.py).
        keep_size: whether every convolution is padded to keep its input's size; else only the first, of images below 32.
        redundancy: links in the place of each weight of the Linear layers (redundant.py); null: plain layers.
        between: a ReLU behind the links.
    """
    first, rest = (2, 2) if keep_size else (2 if shape[-1] < 32 else 0, 0)
    return ConvNet(
        shape,
        outputs,
        channels=widened(channels, width),
        pool_after=range(len(channels)),
        kernel=5,
        padding=[first] + [rest] * (len(channels) - 1),
        widths=widened(widths, width),
        bias=bias,
        init=init,
        activation=activation,
        redundancy=redundancy,
        between=between,
    )


def ConvExample(  # noqa: N802
    shape: tuple[int, int, int],
    outputs: int,
    *,
    channels: Annotated[Sequence[Count], Length(least=1)],
    widths: Sequence[Count],
    dropout: Annotated[Sequence[Share], Length(least=2, most=2)],
    width: Positive = 1.0,
    bias: bool = True,
    init: Init = "glorot_normal",
    drop_channels: bool | None = None,
) -> ConvNet:
    """The convolutional net of PyTorch's MNIST example: 3x3 convolutions without padding, one pool after them, dropout.

    Args:
        channels: of each convolution. widths: of the hidden Linear layers. width: multiplies every one of them.
        dropout: shares dropped after the convolutions and after each hidden Linear layer, in training.
        drop_channels: after the convolutions, channels go as a whole (Dropout2d), as in that example; null: pixels one by one.
        bias: of every layer.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """
    return ConvNet(
        shape,
        outputs,
        channels=widened(channels, width),
        pool_after=[len(channels) - 1],
        kernel=3,
        padding=[0] * len(channels),
        widths=widened(widths, width),
        bias=bias,
        init=init,
        dropout=(dropout[0], dropout[1]),
        drop_channels=bool(drop_channels),
    )
