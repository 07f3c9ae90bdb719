"""torchvision's residual nets and VGG for ImageNet, their layers under torchvision's names but for the last, called `head`."""

from collections.abc import Sequence
from math import prod
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.models import resnet

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.norm import Norm, need_images, norm_of
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Length, Positive, Share

BLOCKS = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}


class ImageNetResNet(resnet.ResNet):
    """[batch, channels, height, width] -> [batch, outputs]; a gate after the stem and after each of the four stages.

    torchvision's weights load after renaming `fc.*` to `head.*`.

    Args:
        block: `basic` or `bottleneck`. layers: blocks of each stage.
        width: 1; methods that may widen a net name it.
        width_per_group: of the convolutions inside a bottleneck; 128 makes the wide nets.
        norm: `batch`, `batch_no_stats` (statistics of the rows at hand, in testing too) or `none`. affine: whether `batch` has a
            gain and a shift.
        bias: of `head`; the convolutions have none.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    keeps_statistics: ClassVar = {"norm": "batch"}  # superposed.py

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        block: Literal["basic", "bottleneck"],
        layers: Annotated[Sequence[Count], Length(least=4, most=4)],
        width: Positive = 1.0,
        width_per_group: Count = 64,
        norm: Norm = "batch",
        affine: bool = True,
        bias: bool = True,
        init: Init = "kaiming_normal",
    ) -> None:
        need_images(shape, least=1)
        if width != 1:
            raise UsageError(
                f"backbone.width={width:g}: torchvision's nets have one width; resnet18_cifar and others can be widened"
            )
        layer = norm_of(norm, affine=True)  # torchvision sets gain and shift itself; taken out below
        super().__init__(BLOCKS[block], list(layers), width_per_group=width_per_group, norm_layer=layer)
        if shape[0] != 3:
            self.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        self.head = nn.Linear(self.fc.in_features, outputs, bias=bias)
        del self.fc
        self.inlet = Gate(prod(shape), inlet=True)
        units = [64, *(64 * 2**i * BLOCKS[block].expansion for i in range(4))]
        self.gates = nn.ModuleList(Gate(u) for u in units)
        if not affine:
            take_out_affine(self)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        x = self.maxpool(self.gates[0](self.relu(self.bn1(self.conv1(x)))))
        for gate, stage in zip(self.gates[1:], (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
            x = gate(stage(x))
        return self.head(self.avgpool(x).flatten(1))


def take_out_affine(net: nn.Module) -> None:
    """Leave the batch norms of `net` their statistics only."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.affine, module.weight, module.bias = False, None, None


GROUPS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions of each group, by the number of layers
WIDTHS = (64, 128, 256, 512, 512)
HIDDEN = 4096


class ImageNetVGG(nn.Module):
    """[batch, channels, height, width] -> [batch, outputs]: VGG of ImageNet (Simonyan & Zisserman 2015) as torchvision lays it
    out, the net of PackNet's and Piggyback's tables; a gate after each group of convolutions and each hidden layer.

    torchvision's weights load as they are.

    Args:
        layers: 16 or 19 with weights. norm: of convolutions, as in the residual nets; `none` is the plain net.
        dropout: between hidden layers.
        init: how weights are drawn (initial.py); `torch`: as torch's layers draw themselves.
    """

    keeps_statistics: ClassVar = {"norm": "batch"}  # superposed.py

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        *,
        layers: Literal[16, 19] = 16,
        norm: Norm = "none",
        dropout: Share = 0.5,
        init: Init = "kaiming_normal",
    ) -> None:
        super().__init__()
        need_images(shape, least=32)
        layer = norm_of(norm, affine=True)
        plan = [c for width, count in zip(WIDTHS, GROUPS[layers], strict=True) for c in (*[width] * count, "M")]
        parts: list[nn.Module] = []
        before = shape[0]
        for one in plan:
            if one == "M":
                parts.append(nn.MaxPool2d(2, 2))
                continue
            norms = [] if norm == "none" else [layer(one)]
            parts += [nn.Conv2d(before, one, 3, padding=1), *norms, nn.ReLU()]
            before = one
        self.inlet = Gate(prod(shape), inlet=True)
        self.features = nn.Sequential(*parts)
        self.gates = nn.ModuleList(Gate(units) for units in (*WIDTHS, HIDDEN, HIDDEN))
        self.avgpool, self.dropout = nn.AdaptiveAvgPool2d(7), nn.Dropout(dropout)
        self.classifier = nn.ModuleDict({"0": nn.Linear(WIDTHS[-1] * 49, HIDDEN), "3": nn.Linear(HIDDEN, HIDDEN)})
        self.head = nn.Linear(HIDDEN, outputs)
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:
        x, groups = self.inlet(x), iter(self.gates)
        for part in self.features:
            x = part(x)
            if isinstance(part, nn.MaxPool2d):
                x = next(groups)(x)
        x = self.avgpool(x).flatten(1)
        for layer in self.classifier.values():
            x = self.dropout(next(groups)(relu(layer(x))))
        return self.head(x)
