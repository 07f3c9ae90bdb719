"""A net that starts from a file of tensors: reading it without trust, whose tensors they are, the head."""

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from maskbench.backbones import initial, pretrained
from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.backbones.torchvision_nets import ImageNetResNet
from maskbench.common.errors import UsageError


def mlp(outputs: int = 3) -> MLP:
    return MLP((1, 2, 3), outputs, widths=[5, 4])


def saved(content: Any, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def renamed(net: nn.Module, before: str, after: str) -> dict[str, Tensor]:
    return {name.replace(before, after): value for name, value in net.state_dict().items()}


# ---- the same net under the names it was published with

BASE, BLOCKS, CLASSES = 4, (1, 2, 1), 5
# of an independent implementation in plain PyTorch, float64, of He et al.'s CIFAR nets with option A
LOGITS = [
    [0.07894306192911255, 0.38470899603015474, -0.5590058041236554, -0.01092138575489432, 0.7238909451128108],
    [0.08670900841638413, 0.42543616190142686, -0.6055699187409074, -0.0072898951397985245, 0.7669955708358913],
]


def published() -> dict[str, Tensor]:
    """Tensors of such a net, in the order and by the names of its publication; values of a formula."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, units: int) -> None:
        shapes.update({f"{name}.{part}": (units,) for part in ("weight", "bias", "running_mean", "running_var")})

    before = BASE
    shapes["conv1.weight"] = (BASE, 3, 3, 3)
    norm("bn1", BASE)
    for stage, count in enumerate(BLOCKS):
        units = BASE * 2**stage
        for block in range(count):
            for i, inputs in ((1, before), (2, units)):
                shapes[f"layer{stage + 1}.{block}.conv{i}.weight"] = (units, inputs, 3, 3)
                norm(f"layer{stage + 1}.{block}.bn{i}", units)
            before = units
    shapes |= {"linear.weight": (CLASSES, before), "linear.bias": (CLASSES,)}
    tensors = {}
    for number, (name, shape) in enumerate(shapes.items()):
        wave = torch.sin(1.7 * torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape) + number)
        if name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
            value = 1 + 0.5 * wave
        else:
            value = wave * (math.sqrt(2 / math.prod(shape[1:])) * 1.4 if len(shape) > 1 else 0.3)
        tensors[name] = value.float()
    return tensors


def resnet(**knobs: Any) -> ResNet:
    return ResNet((3, 9, 9), CLASSES, **{"base": BASE, "blocks": BLOCKS, "shortcut": "pad"} | knobs)


def test_a_cifar_resnet_with_padded_shortcuts_answers_as_the_published_net(tmp_path: Path) -> None:
    file = {"state_dict": {f"module.{name}": value for name, value in published().items()}, "best_prec1": 91.7}
    net = resnet().eval()
    done = pretrained.start(net, saved(file, tmp_path / "net.th", _use_new_zipfile_serialization=False))
    x = torch.sin(0.37 * torch.arange(2 * 3 * 9 * 9, dtype=torch.float64)).reshape(2, 3, 9, 9).float()
    with torch.no_grad():
        torch.testing.assert_close(net(x), torch.tensor(LOGITS), rtol=0, atol=2e-6)
    assert done["mapped"] == len(published()) and done["unexpected"] == [] and done["head"] == "loaded"
    assert {name.rpartition(".")[2] for name in done["missing"]} == {"num_batches_tracked"}


def test_names_of_residual_nets() -> None:
    usual = {
        "conv1.weight": "conv.weight",
        "bn1.bias": "norm.bias",
        "layer3.0.bn2.running_var": "stages.2.0.norm2.running_var",
        "layer2.0.downsample.0.weight": "stages.1.0.shortcut.conv.weight",
        "layer2.0.shortcut.1.bias": "stages.1.0.shortcut.norm.bias",
    }
    assert {name: ResNet.own_name(name) for name in usual} == usual
    own = resnet(shortcut="conv").state_dict()
    assert {ResNet.own_name(name) for name in own} == set(own)


@pytest.mark.parametrize("layer", ["fc", "classifier", "classifier.6", "head.fc", "linear", "head"])
@pytest.mark.parametrize("wrap", ["", "module.", "_orig_mod.module.", "net."])
def test_a_last_layer_has_many_names_and_a_net_many_wraps(layer: str, wrap: str, tmp_path: Path) -> None:
    there, net = mlp(), mlp()
    tensors = {f"{wrap}{name}": value for name, value in renamed(there, "head", layer).items()}
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    assert pretrained.start(net, path)["head"] == "loaded"
    assert all(torch.equal(value, there.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("wrapped", [("state_dict",), ("state_dict_ema",), ("model",), ("model", "state_dict")])
def test_what_a_training_saves_around_a_net_is_taken_off(wrapped: tuple[str, ...], tmp_path: Path) -> None:
    there, net = mlp(), mlp()
    content: dict = dict(there.state_dict())
    for name in reversed(wrapped):
        content = {"epoch": 3, name: content, "optimizer": {"state": {}}}
    assert pretrained.start(net, saved(content, tmp_path / "net.pt"))["mapped"] == 6
    assert torch.equal(net.head.weight, there.head.weight)


def test_a_checkpoint_that_holds_itself_is_read_to_an_end(tmp_path: Path) -> None:
    content: dict = {}
    content["state_dict"] = content
    with pytest.raises(UsageError, match="holds no tensors by name, only state_dict"):
        pretrained.read(saved(content, tmp_path / "net.pt"))


def test_what_lies_beside_a_net_in_a_run_is_left_there(tmp_path: Path) -> None:
    """A finished run's weights.safetensors: the net by `net.`, and what else the method keeps."""
    there, path = mlp(), tmp_path / "weights.safetensors"
    save_file({f"net.{n}": v for n, v in there.state_dict().items()} | {"hidden.9.scores": torch.ones(2)}, path)
    done = pretrained.start(net := mlp(), path)
    assert done["unexpected"] == ["hidden.9.scores"] and torch.equal(net.hidden[0].weight, there.hidden[0].weight)


# ---- another net's


def test_every_tensor_before_the_head_must_be_there_in_its_shape(tmp_path: Path) -> None:
    tensors = mlp().state_dict()
    del tensors["hidden.0.bias"]
    tensors |= {"hidden.1.weight": torch.ones(4, 7), "hidden.2.weight": torch.ones(1), "extra": torch.ones(1)}
    with pytest.raises(pretrained.Misfit) as refused:
        pretrained.start(net := mlp(), saved(tensors, tmp_path / "net.pt"))
    assert "is of another net than this run's MLP: it has no fitting hidden.0.bias, hidden.1.weight ([4, 7] for [4, 5]);" in (
        text := str(refused.value)
    )
    assert text.endswith("unexpected in it: hidden.2.weight") and not hasattr(net, "given")


def test_a_deeper_net_is_another_net_though_all_that_is_asked_for_is_in_it(tmp_path: Path) -> None:
    deeper = saved(resnet(blocks=(2, 2, 1)).state_dict(), tmp_path / "deeper.pt")
    with pytest.raises(pretrained.Misfit, match=r"unexpected in it: stages\.0\.1\.conv1\.weight, .* and \d+ more$"):
        pretrained.start(resnet(), deeper)


def test_only_as_many_names_are_told_as_help(tmp_path: Path) -> None:
    plain = saved(resnet().state_dict(), tmp_path / "net.pt")
    with pytest.raises(pretrained.Misfit, match=r"no fitting (stages\S+shortcut\S+, ){2}\S+ and 7 more$"):
        pretrained.start(resnet(shortcut="conv"), plain)


def test_two_tensors_for_one_name_are_refused(tmp_path: Path) -> None:
    tensors = mlp().state_dict()
    with pytest.raises(UsageError, match="two tensors for head.bias: head.bias and fc.bias"):
        pretrained.start(mlp(), saved(dict(tensors) | {"fc.bias": torch.ones(3)}, tmp_path / "net.pt"))


def test_torchvisions_names_need_no_table(tmp_path: Path) -> None:
    knobs = {"block": "basic", "layers": [1, 1, 1, 1]}
    there, net = (ImageNetResNet((3, 32, 32), 4, **knobs) for _ in range(2))
    done = pretrained.start(net, saved(renamed(there, "head.", "fc."), tmp_path / "net.pth"))
    assert done["missing"] == [] and torch.equal(net.head.weight, there.head.weight)


# ---- the head


def test_a_head_is_loaded_where_it_has_as_many_classes(tmp_path: Path) -> None:
    path = saved(mlp(3).state_dict(), tmp_path / "net.pt")
    torch.manual_seed(0)
    net = mlp(4)
    drawn = net.head.weight.clone()
    assert pretrained.start(net, path)["head"] == "fresh: the file's has 3 classes, this net 4"
    assert torch.equal(net.head.weight, drawn)
    same = mlp(3)
    assert pretrained.start(same, path, head="fresh")["head"] == "fresh: as asked"
    assert not torch.equal(same.head.weight, torch.load(path)["head.weight"])
    with pytest.raises(UsageError, match="its head does not fit .the file's has 3 classes, this net 4.; leave"):
        pretrained.start(mlp(4), path, head="load")


def test_a_file_without_a_head_or_without_its_bias(tmp_path: Path) -> None:
    tensors = mlp().state_dict()
    del tensors["head.bias"]
    assert pretrained.start(mlp(), saved(tensors, tmp_path / "net.pt"))["head"] == "fresh: the file's has no bias"
    del tensors["head.weight"]
    assert pretrained.start(mlp(), saved(tensors, tmp_path / "net.pt"))["head"] == "fresh: the file has none"


def test_a_bias_that_this_head_has_not_is_left_and_that_is_said(tmp_path: Path) -> None:
    net = ResNet((3, 9, 9), CLASSES, base=BASE, blocks=BLOCKS, shortcut="pad", bias=False)
    done = pretrained.start(net, saved(published(), tmp_path / "net.pt"))
    assert done["head"] == "loaded without its bias" and done["unexpected"] == ["linear.bias"]


# ---- files that are none


class Foreign:
    """Something that is no tensor."""


class Call:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["object", "module", "numpy", "call"])
def test_objects_besides_tensors_are_refused_and_nothing_is_called(kind: str, zipped: bool, tmp_path: Path) -> None:
    thing = {"object": Foreign(), "module": nn.Linear(2, 2), "numpy": np.ones(2), "call": Call(tmp_path / "made")}[kind]
    path = saved({"w": torch.ones(1), "thing": thing}, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError) as refused:
        pretrained.read(path)
    text = str(refused.value)
    assert text == f"backbone.init=file:{path} holds Python objects besides tensors: save its state_dict as safetensors."
    assert not (tmp_path / "made").exists()


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(pickle.dumps({"w": np.ones(2)}))
    with pytest.raises(UsageError, match="save its state_dict as safetensors"):
        pretrained.read(tmp_path / "net.pt")


@pytest.mark.parametrize("way", ["zip", "old", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_half_a_file_is_damaged(way: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / ("net.safetensors" if way == "safetensors" else "net.pth")
    if way == "safetensors":
        save_file(mlp().state_dict(), path)
    else:
        saved(mlp().state_dict(), path, _use_new_zipfile_serialization=way == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UsageError, match="is damaged, or no (safetensors file|file that torch.save wrote)") as refused:
        pretrained.read(path)
    assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"epoch": 3, "best": 0.5}, {"w": torch.ones(1).to_sparse()}])
def test_tensors_without_names_are_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no tensors by name"):
        pretrained.read(saved(content, tmp_path / "net.pt"))


# ---- what is drawn all the same


def test_a_given_net_has_no_rule_so_new_values_are_its_usual_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(mlp().state_dict(), tmp_path / "net.pt")
    net = MLP((1, 2, 3), 3, widths=[5, 4], init="signed_constant")
    assert initial.stored_bytes(net) == 8
    pretrained.start(net, path)
    caplog.set_level("INFO", "maskbench")
    assert initial.fresh(net)["hidden.0.weight"].abs().unique().numel() == 1
    assert f"drawn anew by signed_constant: those that file:{path} gave" in caplog.text
    assert initial.stored_bytes(net) == 4 * sum(p.numel() for p in net.parameters())
