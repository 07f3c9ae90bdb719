"""A command line taken apart: the configs of its jobs, and how often they are composed."""

import shlex
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from maskbench.cli import command_line, preflight, sweep_clock
from maskbench.common import identity
from maskbench.common.errors import UsageError

LINES = [
    "-m method=supsup seed=0,1",
    "-m method=lottery,dense data=mnist seed=1,2 budget.epochs=3 optimizer.lr=0.1,0.2",
    "-m method=supsup,packnet data=splitmnist,permutedmnist budget.steps=null,7",
    "-m experiment=lottery/mnist_quick seed=0,1 task.levels=2,3 tags=[a] ++loop.new=1",
    "-m method=mc_dropout,dense data=boston,mnist optimizer.lr=1e-3,0.01 trainer.precision=bf16-mixed",
    "-m method=packnet seed=range(2) hydra.sweep.subdir=x 'loss=label_smoothing,cross_entropy' paths.output=elsewhere",
    "-m method=dense backbone=resnet18 data=cifar10 backbone.width=0.5,1 method=lottery",
    "-m sweep=supsup_stages seed=0,1",
    "method=pac_net data=friedman1_transfer method.prune.ratio=0.3 notes='a, b' seed=3",
]


@pytest.mark.parametrize("line", LINES)
def test_the_config_of_a_job_is_the_composed_one(line: str) -> None:
    command = command_line.parse(shlex.split(line))
    for words in command_line.jobs(command):
        one, other = command.of_job(words), command.compose(words)
        assert identity.plain(one, {"hydra"}) == identity.plain(other, {"hydra"})
        assert list(one) == list(other) and identity.run_dir(one) == identity.run_dir(other)
        for part in ("sweeper", "launcher", "sweep"):
            assert one.hydra[part] == other.hydra[part]


def test_what_hydra_refuses_is_one_sentence_either_way() -> None:
    command = command_line.parse(["-m", "method=supsup", "method.no=1,2"])
    for words in command_line.jobs(command):
        with pytest.raises(UsageError) as told:
            command.of_job(words)
        with pytest.raises(UsageError, match="method.no") as expected:
            command.compose(words)
        assert str(told.value) == str(expected.value)


def test_the_start_of_a_sweep_composes_the_choices_of_its_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[list[str]] = []
    compose = command_line.Command.compose
    monkeypatch.setattr(command_line.Command, "compose", lambda self, words: composed.append(words) or compose(self, words))
    command = preflight.check(["-m", "method=supsup,packnet", "seed=0,1,2", "optimizer.lr=0.1,0.2", "logger=none"])
    clock = sweep_clock.of(command)
    assert clock is not None and len(clock.folders) == 12
    assert composed == [["method=supsup", "logger=none"], ["method=packnet", "logger=none"]]
    first, second = (command.of_job(["method=supsup", "logger=none", f"seed={seed}"]) for seed in (0, 1))
    assert (first.seed, second.seed, len(composed)) == (0, 1, 2), "each is a copy"


def test_jobs_are_those_of_hydras_sweeper() -> None:
    command = command_line.parse("-m method=supsup,packnet seed=0,1 data=splitmnist optimizer.lr=1e-2".split())
    (expected,) = BasicSweeper.split_arguments(command.overrides, None)
    ours = [command_line.parse(job).compose(job) for job in command_line.jobs(command)]
    theirs = [command.compose(job) for job in expected]
    assert [identity.run_dir(cfg) for cfg in ours] == [identity.run_dir(cfg) for cfg in theirs]


def test_overrides_come_before_flags_for_hydras_parser() -> None:
    command = command_line.parse("-m method=supsup --config-dir . seed=0,1 -r".split())
    assert command.argv == ["method=supsup", "seed=0,1", "-m", "--config-dir", ".", "-r"]


@pytest.mark.parametrize(("given", "other"), [("budget.steps=30", "budget.epochs"), ("budget.epochs=2", "budget.steps")])
def test_a_budget_alone_is_the_one_that_counts(given: str, other: str) -> None:
    for words in (["method=dense", "data=mnist"], ["method=maml"]):
        alone, both = (command_line.parse([*words, given, *more]) for more in ([], [f"{other}=null"]))
        keys = [identity.key(c.compose([o.input_line for o in c.overrides])) for c in (alone, both)]
        assert keys[0] == keys[1] and f"{other}=null" in alone.argv


def test_a_swept_budget_with_null_is_left_as_it_is() -> None:
    assert command_line.parse(["-m", "budget.steps=null,5"]).argv == ["budget.steps=null,5", "-m"]


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    command = command_line.parse(["paths.output=~/x", "seed=1"])
    assert command.argv == [f"paths.output={tmp_path}/x", "seed=1"]
    assert command.compose(command.argv).paths.output == f"{tmp_path}/x"
