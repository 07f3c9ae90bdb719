"""A launcher of Hydra that hands the runs of a sweep to Slurm (slurm.py).

Its settings are hydra.launcher of the plugin hydra-submitit-launcher, in the place of whose launcher it stands; that asks sacct,
hands in finished runs, and leaves a run in the middle of a step when its time is up.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, final

from hydra.core.plugins import Plugins

from maskbench.cli import slurm
from maskbench.cli.elsewhere import Lost
from maskbench.cli.handing_out import Ended, HandingOut, Run


@final
class SlurmLauncher(HandingOut):
    """The runs of a sweep as the jobs of one array; the settings' names are submitit's."""

    def ended(self, todo: Mapping[int, Run]) -> Iterator[tuple[int, Ended | Lost]]:
        """Hand in, and wait; after a KeyboardInterrupt the jobs stay in Slurm's hands."""
        runs = [(run.label, run.folder, run.arguments) for run in todo.values()]
        handed = dict(zip(todo, slurm.hand_in(self, self.settings, runs), strict=True))
        slurm.announce([*handed.values()])
        left = set(handed)
        try:
            for number, value in slurm.results(handed):
                left.remove(number)
                yield number, value
        except KeyboardInterrupt:
            slurm.leave([one for number, one in handed.items() if number in left])
            raise

    # ---- inside a job

    def __call__(self, words: list[str], number: int, state: dict) -> Ended:
        return slurm.stoppable(lambda: self.perform(words, number, state, os.environ.get("SLURM_JOB_ID", "")))

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit keeps for the next turn of a job that it has queued again: the same, as a run knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def install() -> None:
    """Let Hydra take this launcher where its config names the plugin's, if that is there."""
    known = Plugins.instance().class_name_to_class
    if slurm.LAUNCHER in known:
        known[slurm.LAUNCHER] = SlurmLauncher
