"""What is refused before any data are read: code that cannot be imported or called, layers that the net does not have."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.runs import early

NO_DATA = ("method=lottery", "data=mnist", "data.source=folder", "paths.data=nowhere", "logger=none")
MODULES = {
    "gone.py": "import nothing_of_that_name\n\ndef score(w): return w.final\n\ndef rate(*, warmup): ...\n",
    "wrapped.py": "import functools\n\ndef two(a, b): return a\n\nscore = functools.wraps(print)(two)\ndel score.__wrapped__\n",
}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["method.dense=[haed]"], "method.dense: no layer of MLP is called 'haed'. Did you mean 'head'?"),
        pytest.param(
            ["method.dense=[head,conv99]", "backbone=conv6"],
            "method.dense: no layer of ConvNet is called 'conv99'.",
            marks=pytest.mark.full,
        ),
        pytest.param(
            ["method.criterion=gone.score"],
            "method.criterion=gone.score cannot be imported: No module named 'nothing_of_that",
            marks=pytest.mark.full,
        ),
        pytest.param(
            ["method.criterion=wrapped.score"],
            "method.criterion=wrapped.score must be a function of one argument.",
            marks=pytest.mark.full,
        ),
        pytest.param(["method.mask1=gone.score"], "method.mask1=gone.score cannot be imported", marks=pytest.mark.full),
        pytest.param(["schedule._target_=gone.rate"], "schedule._target_=gone.rate cannot be imported", marks=pytest.mark.full),
        pytest.param(
            ["backbone=conv2", "method.scope=2:4"],
            "method.scope=2:4 takes each 4 inputs together, which does not divide those of every masked layer (convs.0 has 1): "
            "leave such a layer dense, method.dense=[convs.0]",
            marks=pytest.mark.full,
        ),
        pytest.param(
            ["method.scope=unit", "backbone=resnet20"],
            "method.scope=unit cannot cut the units of conv, stages.0.0.conv2",
            marks=pytest.mark.full,
        ),
        pytest.param(
            ["method.scope=global", "method.layer_rates={head:0.1}"], "method.layer_rates has no meaning", marks=pytest.mark.full
        ),
        (["method.dense=[head]"], "nowhere"),  # nothing is wrong with it: that there are no data is what is told
    ],
)
def test_is_told_before_data_are_looked_for(words: list[str], sentence: str, cli: Callable, tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    done = cli(*NO_DATA, *words)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_function_of_more_arguments_is_told_by_its_text(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(w, more): return w.final\n\ndef fine(w, *more, way='x'): return w.final\n")
    done = cli(*NO_DATA, "method.criterion=mine.score", "--cfg", "job")  # torch is never imported for this
    assert done.returncode == 2 and "the dotted path of a function of one argument" in done.stderr
    assert cli(*NO_DATA, "method.criterion=mine.fine", "--cfg", "job").returncode == 0


@pytest.mark.sample(3)
@pytest.mark.parametrize("backbone", ["lenet_300_100", "conv6", "resnet18_cifar", "vgg19", "fold_mlp", "few_shot_conv4"])
def test_layers_are_known_without_data_and_have_no_content(backbone: str, compose: Callable) -> None:
    nets = list(early.sketches(compose("method=dense", "data=mnist", f"backbone={backbone}")))
    names = {tuple(name for name, _ in net.named_modules()) for net in nets}
    assert len(names) == 1, "whatever the shape of the inputs"
    assert all(weight.is_meta for net in nets for weight in net.parameters())


@pytest.mark.full
@pytest.mark.parametrize("method", sorted(path.stem for path in (identity.conf_dir() / "method").glob("*.yaml")))
def test_a_method_can_be_made_before_data_are_there(method: str, compose: Callable) -> None:
    early.require_method(compose(f"method={method}"))


def test_data_of_unknown_shape_are_given_the_benefit_of_the_doubt(compose: Callable) -> None:
    words = ("method=lottery", "data=boston", "backbone=mlp_100x3", "method.scope=1:5")
    early.require_method(compose(*words))  # no net of these shapes has five times as many inputs, but data may
    assert early.shape_of(compose(*words)) is None
    assert early.shape_of(compose("method=lottery")) == (1, 28, 28)
    assert early.shape_of(compose("method=lottery", "data=cifar10")) == (3, 32, 32)
    with pytest.raises(UsageError, match="both say what each layer keeps"):
        early.require_method(compose(*words[:3], "method.distribution=er", "method.conv_rate=0.1"))
