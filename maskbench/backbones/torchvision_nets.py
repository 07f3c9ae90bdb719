"""torchvision's residual nets for ImageNet, their layers under torchvision's names but for the last, called `head`."""

from collections.abc import Sequence
from math import prod
from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn
from torchvision.models import resnet

from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import Init, initialise
from maskbench.backbones.norm import Norm, need_images, norm_of
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Length, Positive

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
