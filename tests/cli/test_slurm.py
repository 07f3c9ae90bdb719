"""Sweeps on a real Slurm of one node, which is started here from nothing: make test-slurm, as root."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slurm

PATHS = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
PATIENCE = 1200.0  # seconds until something that should come is taken for lost
DATA = ["method=packnet", "data=splitmnist", "data.base=synthetic", "logger=none", "task.trials=2", "task.probe=10"]
SMALL = [*DATA, "backbone.widths=[16,8]", "budget.steps=2"]
LONG = [*DATA, "backbone.widths=[16,8]", "budget.steps=120", "loop.block=2", "loop.checkpoint_seconds=0"]
SLURM = ["sweep=slurm", "hydra.launcher.mem_gb=2"]
CONFIG = """
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
SlurmctldPort={control}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
KillWait=600
NodeName={node} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


# ---- the cluster


@dataclass(frozen=True)
class Cluster:
    env: dict[str, str]

    def ask(self, *words: str) -> str:
        return subprocess.run(words, env=os.environ | self.env, check=True, capture_output=True, text=True).stdout


def until(what: Callable, told: str) -> object:
    """What `what` returns, once that is true."""
    last = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < last, f"waited in vain until {told}"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm of this machine alone, two jobs at a time and no accounting; its three daemons end with the tests."""
    if missing := [name for name in NEEDED if shutil.which(name, path=PATHS) is None]:
        pytest.fail(f"{missing[0]} is missing: apt-get install slurm-wlm munge", pytrace=False)
    if os.getuid():
        pytest.fail("Slurm's daemons are started here as root.", pytrace=False)
    folder, node = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, node=node, control=free_port(), daemon=free_port()))
    made = Cluster({"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATHS})
    files = {"key": key, "socket": folder / "munge.sock", "pid": folder / "munge.pid", "seed": folder / "munge.seed"}
    named = {"key": "key-file", "socket": "socket", "pid": "pid-file", "seed": "seed-file"}
    munge = ["munged", "--foreground", "--force", f"--log-file={folder}/munge.log"]
    munge += [f"--{named[name]}={path}" for name, path in files.items()]
    started: list[subprocess.Popen] = []

    def start(*words: str) -> subprocess.Popen:
        with open(folder / f"{words[0]}.out", "w") as out:
            started.append(subprocess.Popen(words, env=os.environ | made.env, stdout=out, stderr=out))
        return started[-1]

    def idle() -> bool:
        assert all(process.poll() is None for process in started), f"a daemon ended; its log is in {folder}"
        asked = subprocess.run(["sinfo", "-h", "-o", "%T"], env=os.environ | made.env, capture_output=True, text=True)
        return "idle" in asked.stdout

    try:
        listens = start(*munge)
        until(lambda: files["socket"].exists() or listens.poll() is not None, "munged listens")
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D", "-N", node)
        until(idle, "the node is idle")
        yield made
        for words in ((), ("--signal=KILL", "--full")):  # what a test that failed has left
            subprocess.run(["scancel", "--user=root", *words], env=os.environ | made.env)
        until(lambda: not made.ask("squeue", "--me", "--noheader"), "all jobs are over")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


# ---- runs in its hands


@pytest.fixture
def sweep(cli: Callable, cluster: Cluster) -> Callable:
    """`sweep(*words)`: the finished process of a command line, which sees the cluster."""
    return partial(cli, **cluster.env)


@dataclass
class Midway:
    """A sweep with a run that is stopped (SIGSTOP) in the middle of its training."""

    sweep: object  # a process
    log: Path  # of the sweep
    run: Path
    pid: int  # of the run
    job: str

    def join(self) -> tuple[int, str]:
        self.sweep.join()
        return self.sweep.exitcode, self.log.read_text()


@pytest.fixture
def midway(program: Callable, cluster: Cluster, tmp_path: Path) -> Iterator[Callable]:
    stopped: list[int] = []

    def start(*words: str, log: str = "log") -> Midway:
        process = program(*words, log=log, **cluster.env)
        (place,) = until(lambda: sorted(tmp_path.glob("outputs/packnet-*/s*/state/checkpoint.pt")), "the run has saved")
        run = place.parents[1]
        pid = int(re.search(r"process (\d+) on", (run / "run.json").read_text())[1])
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)
        assert not (run / "result.json").exists(), "it is in the middle"
        said = (tmp_path / log).read_text()
        return Midway(process, tmp_path / log, run, pid, re.search(r"as (\S+);", said)[1])

    yield start
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def state(cluster: Cluster, job: str) -> str:
    return re.search(r"JobState=(\w+)", cluster.ask("scontrol", "show", "job", job))[1]


def attempts(run: Path) -> list[str]:
    """How each attempt at the run ended; `killed` if it could not say so itself."""
    told = json.loads((run / "run.json").read_text())["attempts"]
    return [one["status"] if "ended" in one else "killed" for one in told]


@pytest.fixture
def undisturbed(cli: Callable, tmp_path: Path) -> Callable:
    """`undisturbed(run)` holds a run's weights and masks to those of the same run without Slurm, in one go."""

    def check(run: Path) -> None:
        assert cli(*LONG, f"seed={run.name[1:].partition('-')[0]}", "paths.output=alone").returncode == 0
        other = tmp_path / "alone" / run.parent.name / run.name
        for name in ("weights.safetensors", "masks.safetensors"):
            assert (run / name).read_bytes() == (other / name).read_bytes(), name

    return check


def test_a_sweep_ends_whole_and_again_hands_nothing_in(sweep: Callable, tmp_path: Path) -> None:
    words = [*SLURM, *SMALL, "seed=0,1,2,3,4,5"]
    done = sweep(*words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"6 runs handed to Slurm as (\d+)_0 to \1_5; logs in .*outputs/\.submitit\n", done.stderr)
    assert len(re.findall(r"\d/6 seed=\d: finished: .*run directory", done.stderr)) == 6
    runs = sorted(path.parent for path in tmp_path.glob("outputs/packnet-*/s*/result.json"))
    assert [attempts(run) for run in runs] == [["finished"]] * 6
    logs = [path.read_text() for path in tmp_path.glob("outputs/.submitit/*/*.err")]
    assert len(logs) == 6 and not any("sacct" in text or "srun" in text for text in [*logs, done.stderr, done.stdout])
    again = sweep(*words)
    assert again.returncode == 0 and again.stderr.count("finished earlier") == 6 and "handed" not in again.stderr


def test_a_requeued_job_goes_on_to_the_bits_of_an_undisturbed_one(
    midway: Callable, cluster: Cluster, undisturbed: Callable
) -> None:
    at = midway(*SLURM, *LONG, "seed=3")
    cluster.ask("scontrol", "requeue", at.job)
    status, said = at.join()
    assert status == 0 and re.search(r"1/1 .*seed=3.*: finished: ", said), said
    assert attempts(at.run) == ["interrupted", "finished"], "it had time to save"
    undisturbed(at.run)


def warn(cluster: Cluster, at: Midway) -> None:
    """Move the time limit of 60 minutes to 20, which is when Slurm warns; it also lets a stopped process go on."""
    cluster.ask("scontrol", "update", f"JobId={at.job}", "TimeLimit=20")


LIMIT = ["hydra.launcher.timeout_min=10", "+hydra.launcher.additional_parameters.time=60", "hydra.launcher.signal_delay_s=1200"]


def test_a_job_saves_at_its_time_limit_is_queued_again_and_goes_on(
    midway: Callable, cluster: Cluster, undisturbed: Callable
) -> None:
    """submitit counts a turn as timed out after its 10 minutes less 10; Slurm's own limit is 60."""
    at = midway(*SLURM, *LONG, *LIMIT, "hydra.launcher.max_num_timeout=1", "seed=4")
    warn(cluster, at)
    until(lambda: state(cluster, at.job) == "PENDING", "the job is queued again")
    cluster.ask("scontrol", "update", f"JobId={at.job}", "TimeLimit=60")
    status, said = at.join()
    assert status == 0 and re.search(r"1/1 .*seed=4.*: finished: ", said), said
    assert attempts(at.run) == ["interrupted", "finished"]
    undisturbed(at.run)


def test_out_of_turns_is_told_and_the_same_command_goes_on(
    midway: Callable, sweep: Callable, cluster: Cluster, undisturbed: Callable
) -> None:
    words = [*SLURM, *LONG, *LIMIT, "hydra.launcher.max_num_timeout=0", "seed=5"]
    at = midway(*words)
    warn(cluster, at)
    status, said = at.join()
    assert status == 1 and "1 job of the sweep failed:" in said, said
    assert "seed=5" in said.splitlines()[-1]
    assert ": not finished within its time limit (hydra.launcher.timeout_min)" in said.splitlines()[-1]
    done = sweep(*words)
    assert done.returncode == 0 and "1 run handed to Slurm as" in done.stderr, done.stderr
    assert attempts(at.run) == ["interrupted", "finished"]
    undisturbed(at.run)


def test_a_cancelled_job_is_told_and_the_others_are_done(midway: Callable, sweep: Callable, cluster: Cluster) -> None:
    words = [*SLURM, *LONG, "seed=0"]
    at = midway(*words)
    cluster.ask("scancel", at.job)
    status, said = at.join()
    assert status == 1 and "Traceback" not in said, said
    assert f": not finished: cancelled (scancel); job {at.job}, log " in said.splitlines()[-1]
    again = sweep(*SLURM, *LONG, "seed=0,1")
    assert again.returncode == 0 and "2 runs handed to Slurm as" in again.stderr, again.stderr
    assert attempts(at.run) == ["interrupted", "finished"]


def test_the_same_command_waits_again_for_what_is_in_slurms_hands(
    midway: Callable, program: Callable, cluster: Cluster, tmp_path: Path
) -> None:
    words = [*SLURM, *LONG, "seed=6"]
    at = midway(*words)
    at.sweep.terminate()
    status, said = at.join()
    assert status == 130 and f"Slurm goes on with {at.job}: the same command waits for them again" in said, said
    second = program(*words, log="second", **cluster.env)
    said = tmp_path / "second"
    until(lambda: said.exists() and f"1 run in Slurm's hands already as {at.job};" in said.read_text(), "it finds its job")
    os.kill(at.pid, signal.SIGCONT)
    second.join()
    assert second.exitcode == 0 and attempts(at.run) == ["finished"]


def test_a_job_that_fails_is_told_with_its_reason_and_ends_no_other(sweep: Callable, tmp_path: Path) -> None:
    words = [*SLURM, *SMALL, "seed=0,1"]
    places = [Path(line.split()[0]) for line in sweep("where", *words).stdout.splitlines()]
    bad = tmp_path / places[1]
    (bad / "result.json").mkdir(parents=True)  # which cannot be read, and is never taken for absent
    done = sweep(*words)
    assert done.returncode == 2 and "1 job of the sweep failed:" in done.stderr, done.stderr
    assert "seed=1" in done.stderr.splitlines()[-1] and "result.json" in done.stderr.splitlines()[-1]
    assert (tmp_path / places[0] / "result.json").is_file()


def test_what_slurm_refuses_is_one_sentence(sweep: Callable) -> None:
    done = sweep(*SLURM, *SMALL, "hydra.launcher.partition=nowhere")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0] == (
        "maskbench: Slurm refuses the jobs: invalid partition specified: nowhere; mend hydra.launcher.KEY=VALUE."
    )


def test_a_table_is_one_array_of_all_rows_and_seeds_that_can_be_left_and_found_again(sweep: Callable, tmp_path: Path) -> None:
    words = SMALL[1:]
    told = {
        "title": "Tiny",
        "paper": "Nobody 2020, table 1",
        "seeds": [0, 1],
        "runs": {"a": ["method=packnet", *words], "b": ["method=packnet", *words, "method.prune=[0.6]"]},
        "metric": "average_accuracy",
        "transform": "percent",
        "rows": [
            {"id": "a", "name": "A", "run": "a", "rule": {"at_least": 0, "rests_on": "ours"}},
            {"id": "b", "name": "B", "run": "b", "rule": {"at_least": 0, "rests_on": "ours"}},
        ],
    }
    (tmp_path / "conf" / "table").mkdir(parents=True)
    (tmp_path / "conf" / "table" / "tiny.yaml").write_text(yaml.safe_dump(told))
    table = ["table", "tiny", "--config-dir", "conf", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60"]
    left = sweep(*table, "--submit")
    assert left.returncode == 0, left.stderr
    assert re.search(r"4 runs handed to Slurm as (\d+)_0 to \1_3;", left.stderr) and "incomplete" in left.stdout
    done = sweep(*table)
    assert done.returncode == 0, done.stderr
    assert "handed" not in done.stderr and "incomplete" not in done.stdout
    runs = sorted(path.parent for path in tmp_path.glob("outputs/packnet-*/s*/result.json"))
    assert [attempts(run) for run in runs] == [["finished"]] * 4
    assert "4 runs" not in sweep(*table).stderr
