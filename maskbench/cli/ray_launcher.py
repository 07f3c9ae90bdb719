"""A launcher of Hydra that hands the runs of a sweep to Ray, on this machine or on a cluster (conf/hydra/launcher/ray.yaml).

A run is a task. Ray starts it again where its process was killed or its node went, and it goes on from its checkpoint.
(hydra-ray-launcher ends a sweep with the first job that fails, and brings Amazon's client and Ray's dashboard along.)
"""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any, final

from hydra.core.plugins import Plugins

from maskbench.cli.elsewhere import Lost, tell
from maskbench.cli.handing_out import Ended, HandingOut, Run
from maskbench.cli.interrupts import terminable
from maskbench.common.errors import UsageError, first_line

NAME = "hydra_plugins.maskbench.RayLauncher"  # the _target_ of hydra.launcher: Hydra takes launchers of this package alone
OBJECTS = 80 * 2**20  # bytes of Ray's memory for objects on this machine: runs hand nothing on
REACHED = 10.0  # seconds within which a head node answers
SAVING = 120.0  # seconds that runs have to save, once they are told to stop
AGAIN = "the same command goes on where it stopped."


@final
class RayLauncher(HandingOut):
    """The runs of a sweep as tasks of Ray."""

    def ended(self, todo: Mapping[int, Run]) -> Iterator[tuple[int, Ended | Lost]]:
        """Have the tasks done; after a KeyboardInterrupt each of them saves and ends."""
        ray = connected(self.settings["address"])
        memory = self.settings["memory_gb"]
        task = ray.remote(do).options(
            num_cpus=self.settings["cpus"],
            num_gpus=self.settings["gpus"],
            memory=None if memory is None else int(memory * 2**30),
            max_retries=self.settings["retries"],
        )
        launcher, here = ray.put(self), surroundings()
        left = {task.remote(launcher, run.arguments, here): number for number, run in todo.items()}
        nodes = [node for node in ray.nodes() if node["Alive"]]
        tell(f"{counted(len(todo), 'run')} handed to Ray: {counted(len(nodes), 'node')} with "
             f"{counted(int(sum(node['Resources'].get('CPU', 0) for node in nodes)), 'core')}")  # fmt: skip
        try:
            while left:
                (over,), _ = ray.wait([*left], num_returns=1)
                yield left.pop(over), returned(ray, over)
        except KeyboardInterrupt:
            tell(f"{counted(len(left), 'run')} told to save and stop")
            for one in left:
                ray.cancel(one)
            ray.wait([*left], num_returns=len(left), timeout=SAVING)
            raise
        finally:
            ray.shutdown()


def connected(address: str | None) -> ModuleType:
    """Ray, with a cluster at hand.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at that address.
    """
    if find_spec("ray") is None:
        raise UsageError("hydra/launcher=ray needs Ray, which is not here: pip install 'maskbench[ray]'.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it tells its makers of its use
    import ray

    reach(address)
    alone = {"include_dashboard": False, "object_store_memory": OBJECTS} if address is None else {}
    try:
        # `local` also where RAY_ADDRESS names a cluster: what a run does follows from its words
        ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **alone)
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = first_line(error).rstrip(".")
        raise UsageError(f"no Ray at hydra.launcher.address={address} ({said}): start it by ray start --head.") from error
    return ray


def reach(address: str | None) -> None:
    """See whether anything listens at `HOST:PORT`; Ray itself tries for minutes.

    Raises:
        UsageError: nothing does.
    """
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACHED).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"no Ray at hydra.launcher.address={address} ({reason}): start it by ray start --head.") from error


def surroundings() -> tuple[str, dict[str, str]]:
    """The working directory, and what of the environment a run may depend on."""
    own = {name: value for name, value in os.environ.items() if name.startswith(("MASKBENCH_", "OMP_", "WANDB_"))}
    return os.getcwd(), own


def returned(ray: ModuleType, task: Any) -> Ended | Lost:
    """What a task returned, or why there is nothing."""
    errors = ray.exceptions
    try:
        return ray.get(task)
    except errors.TaskCancelledError:
        return Lost(f"not finished: it was stopped; {AGAIN}")
    except errors.OutOfMemoryError:
        return Lost(f"not finished: its node ran out of memory (hydra.launcher.memory_gb, hydra.launcher.cpus); {AGAIN}")
    except (errors.WorkerCrashedError, errors.NodeDiedError):
        return Lost(f"not finished: its process was killed more often than hydra.launcher.retries; {AGAIN}")
    except errors.RayError as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Lost(f"not finished: {last}")


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def install() -> None:
    """Let Hydra take this launcher where its config says so."""
    Plugins.instance().class_name_to_class[NAME] = RayLauncher


# ---- inside a task


def do(launcher: RayLauncher, arguments: tuple, here: tuple[str, dict[str, str]]) -> Ended:
    """A run, where the sweep was started; being told to stop, it saves first."""
    import ray

    folder, environment = here
    os.environ.update(environment)
    os.chdir(folder)
    if folder not in sys.path:
        sys.path.append(folder)  # modules of the user's own
    with terminable():
        return launcher.perform(*arguments, ray.get_runtime_context().get_task_id())
