"""How far a sweep is whose runs come one after another, and what is left of it: a line as each begins. Imports no torch."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from maskbench.cli import command_line
from maskbench.cli.command_line import Command
from maskbench.cli.estimates import Estimates, outlook, question
from maskbench.common import identity
from maskbench.report.runs import state
from maskbench.runs.finished import PLAIN

MOST = 64  # runs: the config of each takes a hundredth of a second, once preflight has composed its choices


class Clock:
    """The runs of a sweep, by their directories, and how long such runs took."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self.times = Estimates({question(folder): None for folder in self.folders})
        self.over: set[Path] = set()

    def begins(self, folder: Path) -> str:
        """What to say as the run in this folder begins; empty for one that the sweep does not know."""
        if (folder := folder.absolute()) not in self.folders:
            return ""
        self.over.add(folder)
        later = [one for one in self.folders if one not in self.over and state(one) != "finished"]
        left = [folder, *later]
        told = outlook([self.times.of(one) for one in left], 1).told(" left")
        return f"run {len(self.folders) - len(later)} of {len(self.folders)}: {told}"

    def ended(self, folder: Path) -> None:
        self.times.look(folder.absolute())


def of(command: Command) -> Clock | None:
    """The clock of a sweep; None where the runs are not one after another in this process, or too many to look at."""
    if not (command.multirun and command.ours) or command.args.cfg or command.args.info:
        return None
    jobs = list(islice(command_line.jobs(command), MOST + 1))
    if not 1 < len(jobs) <= MOST:
        return None
    configs = [command.of_job(job) for job in jobs]
    hydra = configs[0].hydra
    if (hydra.sweeper.get("_target_"), hydra.launcher.get("_target_")) != PLAIN:
        return None
    return Clock([identity.run_dir(cfg).absolute() for cfg in configs])
