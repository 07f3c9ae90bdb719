"""Exit statuses and sentences of what runs, with a stand-in for the run."""

import errno
import json
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import InstantiationException

from maskbench.cli import command_line
from maskbench.cli import launch as launching
from maskbench.cli import main as cli
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.runs.record import Record


def raises(error: BaseException):
    def act(cfg) -> float:
        raise error

    return act


def wrapped(error: Exception) -> Exception:
    outer = InstantiationException("Error in call to target 'x'")
    outer.__cause__ = error
    return outer


def test_a_run_gets_its_config_and_directory(runs, capsys: pytest.CaptureFixture) -> None:
    folders = []
    seen = runs(lambda cfg: folders.append(HydraConfig.get().runtime.output_dir) or 0.5)
    assert cli.main(["method=packnet", "seed=3"]) == 0
    assert (seen[0].method.name, seen[0].seed) == ("packnet", 3)
    assert Path(folders[0]) == identity.run_dir(seen[0]).absolute() and Path(folders[0]).is_dir()
    assert capsys.readouterr().err == ""


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (UsageError("do it so."), 2, "maskbench: do it so."),
        pytest.param(wrapped(UsageError("do it so.")), 2, "maskbench: do it so.", marks=pytest.mark.full),
        (OSError(errno.ENOSPC, "No space left on device", "w.bin"), 2, "(w.bin): no space left"),
        pytest.param(OSError(errno.EROFS, "Read-only", "w.bin"), 2, "(w.bin): read-only file system", marks=pytest.mark.full),
        (RuntimeError("shapes differ\nmore"), 1, "maskbench: RuntimeError: shapes differ (traceback in "),
        pytest.param(
            OSError(errno.EIO, "I/O error"), 1, "maskbench: OSError: [Errno 5] I/O error (traceback in ", marks=pytest.mark.full
        ),
        (SystemExit(3), 1, "maskbench: SystemExit: 3 (traceback in "),
        (KeyboardInterrupt(), 130, "maskbench: interrupted"),
    ],
)
def test_statuses(runs, capsys: pytest.CaptureFixture, error: BaseException, status: int, sentence: str) -> None:
    seen = runs(raises(error))
    assert cli.main(["seed=1"]) == status
    told = capsys.readouterr().err
    assert sentence in told and len(told.splitlines()) == 1 and len(seen) == 1


def test_the_traceback_of_a_crash_is_in_the_runs_log(runs, capsys: pytest.CaptureFixture) -> None:
    runs(raises(RuntimeError("shapes differ")))
    cli.main([])  # no arguments: only the usage
    assert "method=supsup" in capsys.readouterr().out
    cli.main(["seed=1"])
    told = capsys.readouterr().err
    log = Path(told.split("traceback in ")[1].strip()[:-1])
    assert log.name == "maskbench.log" and "Traceback" in log.read_text() and "Traceback" not in told


def test_debugging_shows_the_traceback(runs, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKBENCH_DEBUG", "1")
    runs(raises(RuntimeError("shapes differ")))
    assert cli.main(["seed=1"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bad_job_stops_no_other_and_is_named_at_the_end(runs, capsys: pytest.CaptureFixture) -> None:
    def act(cfg) -> float:
        if cfg.seed == 1:
            raise UsageError("seed 1 is unlucky.")
        if cfg.seed == 2:
            raise RuntimeError("boom")
        return 1.0

    seen = runs(act)
    assert cli.main(["-m", "method=supsup", "seed=0,1,2,3"]) == 1
    assert [cfg.seed for cfg in seen] == [0, 1, 2, 3]
    told = capsys.readouterr().err.splitlines()
    assert told[-3] == "maskbench: 2 jobs of the sweep failed:"
    assert told[-2] == "  method=supsup seed=1: seed 1 is unlucky."
    assert told[-1].startswith("  method=supsup seed=2: RuntimeError: boom (traceback in ")


def test_an_interruption_stops_the_sweep(runs) -> None:
    seen = runs(raises(KeyboardInterrupt()))
    assert cli.main(["-m", "seed=0,1"]) == 130
    assert len(seen) == 1


def test_a_sweep_with_a_bad_combination_starts_nothing(runs, tmp_path: Path) -> None:
    seen = runs(lambda cfg: 0.0)
    assert cli.main(["-m", "method=supsup,dense", "task=continual"]) == 2
    assert seen == [] and list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_flags_may_stand_between_overrides(runs) -> None:
    seen = runs(lambda cfg: 0.0)
    assert cli.main(["method=supsup", "-m", "seed=0,1"]) == 0
    assert len(seen) == 2


def test_what_only_a_job_can_see_is_checked_in_the_job(runs) -> None:
    """`++` passes the command line's check of types; a config from elsewhere is not checked there at all."""
    seen = runs(lambda cfg: 0.0)
    (Path("own") / "sub").mkdir(parents=True)
    Path("own/config.yaml").write_text("seed: -1\nhydra: {run: {dir: out}, output_subdir: null}\n")
    assert cli.main(["-cp", str(Path("own").absolute())]) == 2
    assert seen == []


def test_hydras_own_mistakes_are_one_line(runs, capsys: pytest.CaptureFixture) -> None:
    runs(lambda cfg: 0.0)
    assert cli.main(["hydra/launcher=nowhere"]) == 2
    assert cli.main(["hydra.nothing=1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_a_resolver_refuses_is_told_in_its_own_words(runs, capsys: pytest.CaptureFixture) -> None:
    runs(lambda cfg: 0.0)
    assert cli.main(["method=masksembles", "method.scale=0.5"]) == 2
    assert capsys.readouterr().err.startswith("maskbench: method.scale=0.5 must be at least 1")


def test_the_objective_reaches_a_sweeper(runs) -> None:
    runs(lambda cfg: 0.25)
    values = []
    original = launching.job

    def spy(cfg) -> float:
        values.append(original(cfg))
        return values[-1]

    pytest.MonkeyPatch().setattr(launching, "job", spy)
    try:
        launching.launch(["seed=1"], sweep=False)
        runs(raises(RuntimeError("boom")))
        launching.launch(["seed=1"], sweep=False)
    finally:
        pytest.MonkeyPatch().setattr(launching, "job", original)
    assert values[0] == 0.25 and values[1] is None


def test_a_worker_raises_and_tells_the_sweep(runs, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A launcher's worker is another process: it sees `_main_process` unset or of its parent."""
    runs(raises(RuntimeError("boom")))
    launched = launching.job

    def as_worker(cfg) -> float:
        monkeypatch.setattr(launching, "_main_process", os.getpid() + 1)
        return launched(cfg)

    monkeypatch.setattr(launching, "job", as_worker)
    assert cli.main(["-m", "seed=0,1"]) == 1
    told = capsys.readouterr().err
    assert "2 jobs of the sweep failed" in told
    assert "  seed=0: RuntimeError: boom" in told and "  seed=1: RuntimeError: boom" in told


def test_the_environment_is_left_as_it_was(runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    runs(lambda cfg: 0.0)
    cli.main(["seed=1"])
    assert os.environ["HYDRA_FULL_ERROR"] == "0" and launching.WORKER_LOG not in os.environ
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.full
def test_a_run_that_another_process_finished_meanwhile_is_told_and_not_redone(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Between the look at result.json and the lock, the other process writes its result."""
    monkeypatch.chdir(tmp_path)
    words = ["method=dense", "data.base=synthetic", "budget.steps=2", "budget.epochs=null", "logger=none"]
    words += [f"paths.data={data_root}", "loop.progress=false"]
    assert cli.main(words) == 0
    (result,) = tmp_path.glob("outputs/*/*/result.json")
    done, history = result.read_bytes(), (result.parent / "metrics.csv").stat()
    result.unlink()
    acquire = Record.acquire

    def late(record: Record, **how: bool) -> None:
        acquire(record, **how)
        result.write_bytes(done)

    monkeypatch.setattr(Record, "acquire", late)
    capsys.readouterr()
    assert cli.main(words) == 0
    assert "finished by another process" in capsys.readouterr().out
    assert (result.parent / "metrics.csv").stat() == history and result.read_bytes() == done


@pytest.mark.full
def test_a_killed_worker_is_told_by_the_jobs_that_are_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert cli.main(["where", "method=packnet", "seed=0"]) == 0
    done = Path(capsys.readouterr().out.split()[0])

    def launch(*_: object, **__: object) -> None:
        done.mkdir(parents=True)
        for name in ("run.json", "result.json"):
            (done / name).write_text('{"status": "finished"}')
        raise BrokenProcessPool("a worker died")

    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: SimpleNamespace(launch=launch))
    assert cli.main(["-m", "method=packnet", "seed=0,1,2"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "maskbench: 2 jobs of the sweep failed:"
    assert [line.partition(": not finished: a worker was killed")[0] for line in lines[1:]] == [
        "  method=packnet seed=1",
        "  method=packnet seed=2",
    ]
    assert all("the same command runs only what is missing" in line for line in lines[1:])


def test_a_trainer_this_machine_has_not_is_refused_before_data_and_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["method=dense", "trainer=gpu", "logger=none", f"paths.data={tmp_path / 'none'}"]
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("maskbench: trainer.accelerator=gpu, devices=1: ") and len(told.splitlines()) == 1
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob("outputs/*/*/run.json"))


def test_a_key_of_one_part_is_each_jobs_where_parts_are_swept() -> None:
    """Hydra would set it in the config before all choices, whose own method has no such knob."""

    def told(*words: str) -> list[str]:
        return command_line.handed_over(command_line.parse(list(words)))

    words = ("-m", "method=snip,rigl", "method.keep=0.05", "method.dense=[head]", "paths.output=x", "seed=0,1")
    assert told(*words)[:4] == ["method=snip,rigl", "method.keep=choice(0.05)", "method.dense=choice([head])", "paths.output=x"]
    assert "method.keep=0.05" in told("-m", "method=snip", "method.keep=0.05", "seed=0,1"), "no choice is swept"
    assert "method.keep=0.05" in told("method=snip", "method.keep=0.05")
    assert {"+method.x=1", "~method.keep"} <= {*told("-m", "method=snip,rigl", "+method.x=1", "~method.keep")}
    jobs = list(command_line.jobs(command_line.parse(told(*words[:3]))))
    assert [job for job in jobs if "method=rigl" in job] == [["method=rigl", "method.keep=0.05"]]
    assert told("-m", "method=snip,rigl", "data.ood=null")[1] == "++data.ood=null", "of a null Hydra makes no choice"


@pytest.mark.full
def test_a_null_is_each_jobs_too(tmp_path: Path) -> None:
    """Where choices are swept a null reaches every job, whose runs have the keys that they have one by one."""
    words = ["data=mnist", "data.base=synthetic", "data.ood=null", "method.tau=null", "budget.epochs=null", "budget.steps=2"]
    words += ["method=mc_dropout", "task.draws=2", "logger=none", f"paths.output={tmp_path}"]
    assert cli.main(["-m", "backbone=lenet5,lenet_300_100", *words]) == 0
    folders = sorted(tmp_path.glob("*/s0-*"))
    assert [json.loads((folder / "result.json").read_text())["status"] for folder in folders] == ["finished"] * 2
    alone = command_line.parse(["backbone=lenet5", *words])
    assert identity.run_dir(alone.compose([o.input_line for o in alone.overrides])) in folders
