"""Which runs of a sweep or a table train side by side, and that each of them is a run like any other."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from maskbench.cli import command_line, forks, jobs, side_by_side
from maskbench.cli.jobs import Job
from maskbench.common import identity

STATIC = ("-m", "method=static_sparse", "seed=0,1,2")


def labels(*words: str) -> list[list[str]]:
    return [[job.label for job in group] for group in side_by_side.groups(command_line.parse(list(words)))]


def test_runs_that_differ_in_the_seed_alone_are_a_group() -> None:
    of_static = [f"static_sparse on mnist, seed {seed}" for seed in range(3)]
    assert labels(*STATIC) == [of_static]
    assert labels("sweep=seeds", "method=snip") == [[f"snip on mnist, seed {seed}" for seed in range(5)]]
    assert labels(*STATIC, "method.keep=0.05,0.01") == [of_static, of_static]
    both = labels("-m", "method=static_sparse,rigl,snip", "data=fashion_mnist", "seed=3,4")
    assert both == [[f"{name} on fashion_mnist, seed {seed}" for seed in (3, 4)] for name in ("static_sparse", "snip")]


@pytest.mark.full
@pytest.mark.parametrize(
    "words",
    [
        ("method=static_sparse", "seed=0"),  # no sweep
        ("-m", "method=static_sparse", "method.keep=0.05,0.01"),  # of one seed
        (*STATIC, "loop.side_by_side=off"),
        (*STATIC, "loop.side_by_side=false"),
        (*STATIC, "method.keep=0.2"),  # dense products are as cheap
        (*STATIC, "method.scope='2:4'"),
        (*STATIC, "method.kernel=dense"),
        (*STATIC, "backbone=conv2"),
        (*STATIC, "+backbone.redundancy=2"),
        (*STATIC, "loop.threads=2"),
        (*STATIC, "trainer.precision=bf16-mixed"),
        (*STATIC, "trainer.devices=2"),
        (*STATIC, "+trainer.x=1"),
        (*STATIC, "hydra.sweep.dir=elsewhere"),
        ("-m", "method=set,rigl,gradual,one_shot,lottery,dense", "data=mnist", "seed=0,1"),
        (*STATIC, "--cfg", "job"),
    ],
)
def test_others_run_one_after_another(words: tuple[str, ...]) -> None:
    assert labels(*words) == []


def test_a_share_above_what_pays_can_be_asked_for() -> None:
    assert len(labels(*STATIC, "method.keep=0.2", "loop.side_by_side=true")) == 1


def test_what_is_finished_is_in_no_group() -> None:
    command = command_line.parse(list(STATIC))
    (group,) = side_by_side.groups(command)
    for number, job in enumerate(group[:2]):
        job.folders[0].mkdir(parents=True)
        for name in ("run.json", "result.json"):
            (job.folders[0] / name).write_text(json.dumps({"status": "finished"}))
        assert [len(group) for group in side_by_side.groups(command)] == ([2] if number == 0 else [])
    assert [len(group) for group in side_by_side.groups(command_line.parse([*STATIC, "force=true"]))] == [3]


def test_jobs_say_what_the_sweep_says() -> None:
    (group,) = side_by_side.groups(command_line.parse([*STATIC, "method.keep=0.03", "logger=none"]))
    assert group[1].words == ["method=static_sparse", "method.keep=0.03", "logger=none", "seed=1"]
    cfg = command_line.parse(group[1].words).compose(group[1].words)
    assert [identity.run_dir(cfg).absolute()] == group[1].folders and group[1].group == identity.key(cfg)


def some(names: str, warm: bool = True) -> list[Job]:
    return [Job(f"{name}{number}", [], [], warm=warm, group=name.strip("-")) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "parallel", "sizes"),
    [
        ("aaa", 1, [3]),
        ("aaa", 4, [1, 1, 1]),  # as many processes as runs
        ("aaabbb", 2, [3, 3]),
        ("aaabbb", 3, [2, 2, 1, 1]),
        ("ababab", 1, [3, 3]),
        ("aaaaaaa", 1, [5, 2]),  # at most five nets
        ("a-a-", 1, [2, 1, 1]),  # of no group
    ],
)
def test_groups_leave_no_process_without_work(names: str, parallel: int, sizes: list[int]) -> None:
    made = jobs.grouped(some(names), parallel)
    assert sorted(map(len, made), reverse=True) == sizes
    assert all(len({job.group for job in group}) == 1 for group in made)
    assert [len(group) for group in jobs.grouped(some(names, warm=False), parallel)] == [1] * len(names), "no fork, no link"


SMALL = ("method=snip", "data.base=synthetic", "backbone.widths=[40,20]", "method.kernel=csr", "budget.epochs=null",
         "budget.steps=60", "loop.block=5", "logger=none", "loop.checkpoint_seconds=0")  # fmt: skip


def runs(output: Path) -> dict[int, Path]:
    return {int(path.name[1]): path for path in sorted(output.glob("snip-mnist/s*"))}


@pytest.mark.full
def test_a_sweep_whose_runs_trained_side_by_side(interpreter: Callable, build: Callable, tmp_path: Path) -> None:
    """Each has all that a run alone leaves, and says who was beside it; a second time all are found finished."""
    words = ("-m", *SMALL, "seed=0,1,2", "method.keep=0.1,0.05")
    done = interpreter(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(", side by side: accuracy 0.") == 6
    apart = interpreter("-m", *SMALL, "seed=0,1", "method.keep=0.05", "loop.side_by_side=off", "paths.output=apart")
    assert apart.returncode == 0 and "side by side" not in apart.stderr
    for seed, alone in runs(tmp_path / "apart").items():
        folder = tmp_path / "outputs" / "snip-mnist" / alone.name
        assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
        about, of_alone = (json.loads((one / "run.json").read_text()) for one in (folder, alone))
        key = alone.name.partition("-")[2]
        assert about["side_by_side"] == [f"s{other}-{key}" for other in range(3) if other != seed]
        assert about.keys() - {"side_by_side"} == of_alone.keys() and about["code"] == of_alone["code"]
        weights, expected = (load_file(one / "weights.safetensors") for one in (folder, alone))
        assert weights.keys() == expected.keys()
        assert max(float((weights[name] - w).abs().max()) for name, w in expected.items() if w.is_floating_point()) < 1e-5
        assert (folder / "masks.safetensors").read_bytes() == (alone / "masks.safetensors").read_bytes()
    again = interpreter(*words)
    assert again.returncode == 0 and again.stderr.count("finished earlier") == 6


@pytest.mark.full
def test_one_that_is_refused_ends_no_other(interpreter: Callable, tmp_path: Path) -> None:
    words = ("-m", *SMALL, "seed=0,1,2", "method.keep=0.05")
    (group,) = side_by_side.groups(command_line.parse(list(words)))
    (state,) = (folder / "state" for folder in group[1].folders)
    state.mkdir(parents=True)
    (state / "checkpoint.pt").write_bytes(b"of something else")
    done = interpreter(*words)
    assert done.returncode == 2 and done.stderr.count("1 job of the sweep failed") == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("  method=snip data.base=synthetic") and "damaged" in done.stderr
    assert [(path / "result.json").exists() for path in runs(tmp_path / "outputs").values()] == [True, False, True]


@pytest.mark.full
def test_killed_in_the_middle_all_go_on_to_the_same_end(program: Callable, interpreter: Callable, tmp_path: Path) -> None:
    """The whole group by SIGKILL, then the same command."""
    words = ("-m", *SMALL, "seed=0,1", "budget.steps=150")
    whole = interpreter(*words, "paths.output=whole")
    assert whole.returncode == 0, whole.stderr
    process = program(*words)
    while not len([*tmp_path.glob("outputs/*/s*/state/checkpoint.pt")]) == 2:
        assert process.is_alive()
        time.sleep(0.01)
    for about in tmp_path.glob("outputs/*/s*/run.json"):
        number = int(json.loads(about.read_text())["attempts"][-1]["process"].split()[1])
        os.kill(number, signal.SIGKILL)
    process.kill()
    process.join()
    done = interpreter(*words)
    assert done.returncode == 0, done.stderr
    for seed, alone in runs(tmp_path / "whole").items():
        weights, expected = (load_file(one / "weights.safetensors") for one in (runs(tmp_path / "outputs")[seed], alone))
        assert max(float((weights[name] - w).abs().max()) for name, w in expected.items() if w.is_floating_point()) < 1e-5


@pytest.mark.full
def test_the_process_that_trains_ends_when_all_have_left() -> None:
    forks.begin()
    with forks.side_by_side(2) as links:
        assert all(link.writable and not link.closed for link in links)
    assert all(link.closed for link in links)
