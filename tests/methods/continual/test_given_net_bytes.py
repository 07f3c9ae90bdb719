"""Bytes of stages packed into EfficientNet-Lite0, exactly: six heads, of 1,000, 40, three times 10 and 9 outputs (the small
decathlon). Nothing is trained: bytes follow from shapes.
"""

import pytest
import torch
from torch import nn

from maskbench.data.stage import Origin, Split, Stage, in_order
from maskbench.methods.continual.heads import Heads
from maskbench.methods.continual.packnet import PackNet
from maskbench.methods.continual.piggyback import Piggyback
from maskbench.methods.continual.separate import Separate

pytest.importorskip("timm", reason="timm is not installed: pip install 'maskbench[pretrained]'")
from maskbench.backbones import norm  # noqa: E402
from maskbench.backbones.timm_nets import Timm  # noqa: E402

CLASSES = (1000, 40, 10, 10, 10, 9)
NET, HEADS = 18_776_488, 404_796
TOTALS = {
    "classifier only": (lambda net: Heads(net, trunk="given"), NET + HEADS),
    "packnet": (lambda net: PackNet(net, prune=[0.25, 0.75]), NET + HEADS + 1_179_792),
    "piggyback": (lambda net: Piggyback(net, backbone="given"), NET + HEADS + 5 * 393_264),
    "separate": (Separate, NET + HEADS + 5 * 13_652_488),
}


def stages() -> list[Stage]:
    none = Split(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long))
    made = [
        Stage(index=i, total=6, name=str(i), train=none, val=none, test=none, classes=(), outputs=outputs, shape=(3, 32, 32),
              origin=Origin("made", "made"), given=i == 0)
        for i, outputs in enumerate(CLASSES)
    ]  # fmt: skip
    return in_order(made)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    net = Timm((3, 32, 32), 1000, arch="tf_efficientnet_lite0")
    norm.hold_still(net)
    net.given = {"head": "loaded"}
    return net


@pytest.mark.parametrize("name", TOTALS)
def test_bytes(name: str, net: nn.Module) -> None:
    make, total = TOTALS[name]
    method = make(net)
    for stage in stages():
        method.learn(stage, lambda *_, **__: None)
    assert method.memory_after(stages()[-1]) == total
