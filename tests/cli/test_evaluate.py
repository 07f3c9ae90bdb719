"""`maskbench evaluate`: a net that is there already, judged without training, or refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from maskbench.backbones import foreign
from maskbench.cli.commands import evaluate
from maskbench.cli.main import main
from maskbench.common.errors import UsageError

NETS = """
import torch
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes))

class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(build(10) for _ in range(3))

    def forward(self, x):
        return torch.stack([part(x) for part in self.parts])

def pair():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x
    return Pair()

def wide():
    return build(12)

def coloured():
    return nn.Conv2d(3, 4, 3)

def number():
    return 7

def broken():
    raise RuntimeError("no such day")
"""
FAST = ("data=mnist", "data.base=synthetic", "data.ood=null", "task.draws=0")


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with a module in it."""
    (tmp_path / "somebodys.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def linear() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


# ---- the line that it stands for


def test_the_run_that_the_command_stands_for() -> None:
    assert evaluate.words(["net=a.b:c", "weights=net.pt", "data=mnist", "task=uncertainty", "seed=1"]) == [
        "method=dense", "task=uncertainty", "method.first=given", "backbone=foreign", "backbone.build=a.b.c",
        "backbone.init=file:net.pt", "data=mnist", "seed=1",
    ]  # fmt: skip
    assert evaluate.words(["backbone=lenet5", "weights=run:outputs/a/s0-1"])[2:] == [
        "method.first=given", "backbone.init=run:outputs/a/s0-1", "backbone=lenet5",
    ]  # fmt: skip
    assert "backbone.init='file:it\\'s, mine.pt'" in evaluate.words(["net=a:b", "weights=it's, mine.pt"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["net=a:b", "data=mnist"], "evaluate needs the weights"),
        (["weights=a.pt", "data=mnist"], "evaluate needs one net"),
        (["net=a:b", "backbone=lenet5", "weights=a.pt"], "evaluate needs one net"),
        (["net=a.b", "weights=a.pt"], "net=a.b must be MODULE:FUNCTION"),
        (["net=a:b", "weights=a.pt", "method=swag"], "leave method= out"),
        (["net=a:b", "weights=a.pt", "task=prune"], "leave task= out"),
        (["net=a:b", "weights=nowhere.pt", "data=mnist"], "there is no such file"),
        (["net=a:b", "weights=net.txt", "data=mnist"], "backbone.init="),
    ],
)
def test_a_wrong_line_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate", *words]) == 2
    told = capsys.readouterr().err
    assert sentence in told and "Traceback" not in told and len(told.strip().splitlines()) == 1


def test_help(capsys: pytest.CaptureFixture) -> None:
    assert main(["evaluate"]) == 0
    assert "net=mymodule:build weights=net.pt" in capsys.readouterr().out


# ---- the user's net


def given(build: Callable, function: str, weights: Path, *words: str):
    line = ["method=dense", "method.first=given", "backbone=foreign", f"backbone.build=somebodys.{function}"]
    return build(*line, f"backbone.init=file:{weights}", *FAST, *words)


def test_it_answers_as_it_came_and_nothing_is_trained(nets: Path, build: Callable) -> None:
    net = linear()
    torch.save(net.state_dict(), nets / "net.pt")
    bench = given(build, "build", nets / "net.pt").go()
    x, y = bench.stages[0].test.tensors()
    with torch.no_grad():
        guess = net(x).argmax(-1)
    assert bench.metrics["accuracy"] == (guess == y).double().mean().item()
    assert all(torch.equal(bench.method.net.state_dict()[name], value) for name, value in net.state_dict().items())
    assert bench.fit.steps == 0 and bench.metrics["answer_macs"] == 7840
    assert bench.outcome.notes[0].startswith("The net came trained")
    assert bench.metrics["conformal_coverage_90/lac"] is not None


def test_a_net_that_answers_for_several_members(nets: Path, build: Callable) -> None:
    import somebodys

    torch.manual_seed(0)
    torch.save(somebodys.Three().state_dict(), nets / "three.pt")
    bench = given(build, "Three", nets / "three.pt").go()
    assert bench.metrics["mutual_information"] > 0 and bench.metrics["answer_macs"] == 3 * 7840
    assert len([row for row in bench.outcome.curves if row["kind"] == "members"]) == 3


@pytest.mark.full
def test_weights_of_another_net_are_refused(nets: Path, build: Callable) -> None:
    torch.save({"1.weight": torch.zeros(10, 7)}, nets / "other.pt")
    with pytest.raises(UsageError, match=r"it has no fitting 1\.weight \(\[10, 7\] for \[10, 784\]\), 1\.bias"):
        given(build, "build", nets / "other.pt")


def test_no_code_of_a_pickle_is_run(nets: Path, build: Callable) -> None:
    torch.save({"net": linear()}, nets / "objects.pt")
    with pytest.raises(UsageError, match="holds Python objects besides tensors"):
        given(build, "build", nets / "objects.pt")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("somebodys.number", "made a int, where a torch.nn.Module is asked for"),
        ("somebodys.broken", "failed: RuntimeError: no such day"),
        ("somebodys.absent", "cannot be imported: module 'somebodys' has no attribute 'absent'"),
        ("nobodys.build", "cannot be imported: No module named 'nobodys'"),
        ("somebodys.nn", "is no function and no class"),
        ("build", "must be the dotted name of a function"),
        ("somebodys.pair", "answers with a tuple"),
        ("somebodys.wide", r"answers two inputs with \[2, 12\]; of data with 10 classes \[2, 10\] is asked for"),
        ("somebodys.coloured", r"does not take the data's inputs of \[1, 28, 28\]: RuntimeError"),
        (None, "needs the function that makes your net"),
    ],
)
def test_what_is_no_net_for_these_data(name: str | None, sentence: str, nets: Path) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        foreign.build((1, 28, 28), 10, build=name)
    assert "\n" not in str(refused.value)


def test_the_whole_command(nets: Path, cli: Callable) -> None:
    torch.save(linear().state_dict(), nets / "net.pt")
    done = cli("evaluate", "net=somebodys:build", "weights=net.pt", *FAST, "logger=none")
    assert done.returncode == 0, done.stderr
    (folder,) = nets.glob("outputs/dense-mnist/s0-*")
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"]["train_cpu_seconds_per_stage"] == 0
    assert torch.equal(load_file(folder / "weights.safetensors")["net.1.weight"], linear()[1].weight)
    assert "somebodys" in json.loads((folder / "run.json").read_text())["code"]["modules"]


@pytest.mark.full
def test_the_whole_command_refuses_weights_of_another_net(nets: Path, cli: Callable) -> None:
    torch.save(linear().state_dict(), nets / "net.pt")
    wrong = cli("evaluate", "net=somebodys:wide", "weights=net.pt", *FAST, "logger=none")
    assert wrong.returncode == 2 and "[2, 12]" in wrong.stderr and "Traceback" not in wrong.stderr
