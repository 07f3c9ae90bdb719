"""What is refused before anything starts, and what is let through."""

import shlex
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from maskbench.cli import command_line, preflight
from maskbench.common.errors import UsageError


def mistakes(line: str) -> list[str]:
    """The sentences for a command line, without starting it."""
    try:
        preflight.check(shlex.split(line))
    except UsageError as error:
        return str(error).splitlines()
    return []


GOOD = [
    "",
    "method=packnet data=permutedmnist seed=3",
    "optimizer.lr=1",  # a whole number where a real one stands
    "budget.steps=null budget.epochs=2",
    "budget.validate_every=10",  # null by default, an int by schema
    "loop.progress=true",  # a word that may be a switch
    "method=packnet method.prune=equal_share",  # a list that may be a word
    "method=packnet data=permutedmnist method.prune=[0.5,1]",  # and the other way round
    "method=dense backbone.outputs=12",  # null by default, free
    "++data.val=null data.source=folder",
    "trainer.devices=auto trainer.precision=bf16-mixed +trainer.profiler=simple",
    "trainer=ddp hydra.run.dir=outputs/x hydra.job.name=train_ddp_process_1 hydra.output_subdir=null",
    "seed=${oc.env:SEED}",
    "~logger",
    "'backbone={bias: false}'",
    "-m method=supsup,packnet seed=0,1,2 data=splitmnist",
    "method=supsup -m seed=range(0,3)",
    "-m trainer=ddp trainer.strategy=ddp_spawn seed=0,1",
    "-m method=glob(*net) budget.steps=10,20",
    "--cfg job paths.output=/dev/null/x",
    "--info defaults-tree",
    "-cp elsewhere anything=goes",
]


@pytest.mark.parametrize("line", GOOD)
def test_let_through(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    assert mistakes(line) == []


BAD = {
    "+trainer.max_time=1": "trainer.max_time=1 is not taken: budget.steps or budget.epochs says how long a phase is",
    "+trainer.overfit_batches=1": "trainer.overfit_batches=1 is not taken: the keys of data say which rows",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run=True is not taken: budget.steps",
    "stale=kep": "stale=kep must be redo, keep, ask, or null.",
    "budget.step=3": "unknown key 'budget.step'. Did you mean 'budget.steps'?",
    "optimizer.lrr=1": "unknown key 'optimizer.lrr'. Did you mean 'optimizer.lr'?",
    "lr=1": "unknown key 'lr'. Did you mean 'optimizer.lr'?",
    "qqqq=1": "unknown key 'qqqq'. Groups: backbone, data,",
    "data.stages=abc": "data.stages=abc must be a whole number (it is 5).",
    "seed=x": "seed=x must be a whole number (it is 0).",
    "seed=1.5": "seed=1.5 must be a whole number",
    "seed=true": "seed=true must be a whole number",
    "seed=-1": "seed=-1 must be at least 0.",
    "force=maybe": "force=maybe must be true or false",
    "backbone.bias=3": "backbone.bias=3 must be true or false",
    "backbone.widths=[300,x]": "backbone.widths=[300,x]: x must be a whole number",
    "method=packnet method.prune=0.5": "method.prune=0.5 must be a list such as [1,2] (it is [0.5,0.75]).",
    "budget=3": "budget=3 must be a mapping",
    "optimizer.lr=null": "optimizer.lr=null must be a number",
    "optimizer.lr=nan": "optimizer.lr=nan must be above 0.",
    "optimizer.lr=0": "optimizer.lr=0 must be above 0.",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1 must be at least 0.",
    "data.val=-1": "data.val=-1 must be at least 0.",
    "data.val=null": "or ++data.val=null to insist",
    "budget.steps=0": "budget.steps=0 must be at least 1.",
    "budget.batch_size=0": "budget.batch_size=0 must be at least 1.",
    "loop.block=0": "loop.block=0 must be at least 1.",
    "loop.progress=maybe": "loop.progress=maybe must be auto, true or false.",
    "budget.steps=null": "budget.steps and budget.epochs are both null",
    "budget.steps=5 budget.epochs=5": "are both set; set one of them to null",
    "data=mnist method=dense budget.steps=5": "budget.steps=5 and budget.epochs=3 are both set; add budget.epochs=null",
    "method=supsup,packnet": "'method=supsup,packnet' is a sweep: add -m",
    "logger=null": "no logger 'null'. Choices: csv, none,",
    "tuned=nothing": "no tuned 'nothing'.",
    "seed=1 word": "'word' is neither key=value nor a flag",
    "-m trainer=ddp seed=0,1": "would start the whole sweep once per device; add trainer.strategy=ddp_spawn",
    "paths.output=/proc/nowhere": "cannot write /proc/nowhere",
    "--config-dir /nowhere seed=1": "there is no folder /nowhere",
}


@pytest.mark.parametrize("line", BAD)
def test_refused(line: str) -> None:
    found = mistakes(line)
    assert len(found) == 1 and BAD[line] in found[0], found


def test_a_sweep_tells_all_bad_combinations_at_once() -> None:
    found = mistakes("-m method=supsup,packnet,dense task=continual,uncertainty seed=0,-1")
    assert sorted(line.split(":")[0] for line in found) == [
        "method=dense cannot do task=continual",
        "method=packnet cannot do task=uncertainty",
        "method=supsup cannot do task=uncertainty",
        "seed=-1 must be at least 0.",
    ]


def test_a_key_that_some_choices_lack_names_the_choice() -> None:
    assert mistakes("-m optimizer=adam,sgd optimizer.momentum=0.5")[0].startswith("optimizer=adam: unknown key")


def test_values_that_only_clash_together_are_found_in_a_sweep() -> None:
    assert "budget.steps=5 and budget.epochs=1 are both set" in mistakes("-m budget.steps=null,5 budget.epochs=1,1")[0]


def test_a_sweep_of_thousands_is_checked_in_a_few_compositions(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    compose = command_line.Command.compose
    monkeypatch.setattr(command_line.Command, "compose", lambda *args: composed.append(1) or compose(*args))
    assert mistakes("-m method=supsup,packnet seed=range(0,5000) optimizer.lr=0.1,0.2,0.3") == []
    assert len(composed) == 2


def test_a_task_mistake_names_what_would_work() -> None:
    (found,) = mistakes("method=supsup task=uncertainty")
    assert "it does task=continual" in found
    assert "dense" in found.split("task=uncertainty is done by method=")[1]


def test_jobs_are_those_of_hydras_sweeper() -> None:
    command = command_line.parse("-m method=supsup,packnet seed=0,1 data=splitmnist optimizer.lr=1e-2".split())
    (expected,) = BasicSweeper.split_arguments(command.overrides, None)
    ours = [command_line.parse(job).compose(job) for job in command_line.jobs(command)]
    theirs = [command.compose(job) for job in expected]
    assert [preflight.identity.run_dir(cfg) for cfg in ours] == [preflight.identity.run_dir(cfg) for cfg in theirs]


def test_overrides_come_before_flags_for_hydras_parser() -> None:
    command = command_line.parse("-m method=supsup --config-dir . seed=0,1 -r".split())
    assert command.argv == ["method=supsup", "seed=0,1", "-m", "--config-dir", ".", "-r"]


def test_groups_of_an_outside_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "wonder.yaml").write_text(
        "# @package _global_\nmethod:\n  _target_: mymod.Wonder\n  name: wonder\n  tasks: [continual]\n  depth: 3\n"
    )
    assert mistakes("--config-dir mine method=wonder method.depth=4") == []
    assert "must be a whole number" in mistakes("--config-dir mine method=wonder method.depth=x")[0]
    assert "method=wonder cannot do task=uncertainty" in mistakes("method=wonder task=uncertainty -cd mine")[0]
    assert ", wonder." in mistakes("-cd mine method=zzz")[0]


def test_every_packaged_method_composes_without_a_mistake() -> None:
    for method in command_line.choices([preflight.identity.conf_dir()], "method"):
        assert mistakes(f"method={method}") == []


def test_looking_for_a_writable_folder_leaves_nothing(tmp_path: Path) -> None:
    preflight.writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a directory"):
        preflight.writable(tmp_path / "file" / "b")
