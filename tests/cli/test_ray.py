"""Sweeps as tasks of Ray: on this machine, and on a cluster of two nodes that are started here as processes (make test-ray)."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="no Ray here: make test-ray installs it")
pytestmark = pytest.mark.full

PATIENCE = 600.0  # seconds until something that should come is taken for lost
DATA = [
    "method=packnet",
    "data=splitmnist",
    "data.base=synthetic",
    "data.stages=2",
    "logger=none",
    "task.trials=2",
    "task.probe=10",
]
SMALL = [*DATA, "backbone.widths=[16,8]", "budget.steps=2"]
LONG = [*DATA, "backbone.widths=[16,8]", "budget.steps=400", "loop.block=2", "loop.checkpoint_seconds=0"]


def until(what: Callable, told: str) -> object:
    """What `what` returns, once that is true."""
    last = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < last, f"waited in vain until {told}"
        time.sleep(0.02)
    return found


def attempts(run: Path) -> list[str]:
    return [one["status"] for one in json.loads((run / "run.json").read_text())["attempts"]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray of two nodes with one core each, a head and a second one; both end with the tests."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address, started = f"127.0.0.1:{port}", []
    folder = tmp_path_factory.mktemp("ray")
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path}
    common = ["--num-cpus=1", "--block", "--disable-usage-stats", f"--object-store-memory={80 * 2**20}"]
    head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    for name, words in (("head", head), ("second", [f"--address={address}", "--node-ip-address=127.0.0.1"])):
        with (folder / name).open("w") as log:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *common]
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
        told = folder / name
        until(lambda told=told: "Ray runtime started" in told.read_text(), f"the {name} node has started")
    yield address
    for process in reversed(started):
        process.terminate()
        process.wait()


def test_a_killed_worker_costs_its_own_run_alone_and_the_sweep_ends_whole(
    cluster: str, program: Callable, cli: Callable, tmp_path: Path
) -> None:
    """The run goes on from its checkpoint in another process, to the bits of one that nobody disturbed."""
    words = ["sweep=ray", f"hydra.launcher.address={cluster}", *LONG]
    sweep = program(*words, "seed=0,1,2", log="log")
    saved = until(lambda: sorted(tmp_path.glob("outputs/packnet-*/s*/state/checkpoint.pt")), "a run has saved")
    run = saved[0].parents[1]
    pid = int(re.search(r"process (\d+) on", (run / "run.json").read_text())[1])
    assert not (run / "result.json").exists(), "it is in the middle"
    os.kill(pid, signal.SIGKILL)
    sweep.join()
    said = (tmp_path / "log").read_text()
    assert sweep.exitcode == 0, said
    assert "3 runs handed to Ray: 2 nodes with 2 cores" in said and len(re.findall(r"\d/3 seed=\d: finished: ", said)) == 3
    runs = sorted(path.parent for path in tmp_path.glob("outputs/packnet-*/s*/result.json"))
    assert len(runs) == 3
    assert {one: attempts(one) for one in runs} == {one: ["finished"] for one in runs} | {run: ["interrupted", "finished"]}

    seed = run.name[1:].partition("-")[0]
    assert cli(*LONG, f"seed={seed}", "paths.output=alone").returncode == 0
    for name in ("weights.safetensors", "masks.safetensors"):
        assert (run / name).read_bytes() == (tmp_path / "alone" / run.parent.name / run.name / name).read_bytes(), name
    again = cli(*words, "seed=0,1,2")
    assert again.returncode == 0 and again.stderr.count("finished earlier") == 3 and "handed" not in again.stderr


def test_a_run_that_fails_is_told_with_its_reason_and_ends_no_other(cluster: str, cli: Callable, tmp_path: Path) -> None:
    words = ["sweep=ray", f"hydra.launcher.address={cluster}", *SMALL, "seed=0,1"]
    places = [Path(line.split()[0]) for line in cli("where", *words).stdout.splitlines()]
    (tmp_path / places[1] / "result.json").mkdir(parents=True)  # which cannot be read, and is never taken for absent
    done = cli(*words)
    assert done.returncode == 2 and "1 job of the sweep failed:" in done.stderr, done.stderr
    assert "seed=1" in done.stderr.splitlines()[-1] and "result.json" in done.stderr.splitlines()[-1]
    assert (tmp_path / places[0] / "result.json").is_file()


def test_ctrl_c_lets_every_run_save_and_the_same_command_goes_on(cluster: str, program: Callable, tmp_path: Path) -> None:
    words = ["sweep=ray", f"hydra.launcher.address={cluster}", *LONG, "loop.checkpoint_seconds=0.5", "seed=0,1"]
    sweep = program(*words, log="first")
    until(lambda: len(sorted(tmp_path.glob("outputs/packnet-*/s*/state/checkpoint.pt"))) == 2, "both runs have saved")
    os.kill(sweep.pid, signal.SIGINT)
    sweep.join()
    said = (tmp_path / "first").read_text()
    assert sweep.exitcode == 130 and "2 runs told to save and stop" in said and "Traceback" not in said, said
    runs = sorted(path.parent for path in tmp_path.glob("outputs/packnet-*/s*/run.json"))
    assert [attempts(run) for run in runs] == [["interrupted"]] * 2
    sweep = program(*words, log="second")
    sweep.join()
    assert sweep.exitcode == 0, (tmp_path / "second").read_text()
    assert [attempts(run) for run in runs] == [["interrupted", "finished"]] * 2


def test_without_an_address_this_machine_is_the_cluster(cli: Callable, tmp_path: Path) -> None:
    done = cli("sweep=ray", *SMALL, "seed=0,1")
    assert done.returncode == 0 and "2 runs handed to Ray: 1 node" in done.stderr, done.stderr
    assert len(sorted(tmp_path.glob("outputs/packnet-*/s*/result.json"))) == 2
