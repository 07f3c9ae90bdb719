"""What a run directory holds, as objects: the trained method and the stages of its data; of whoever makes them from a config."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from maskbench.common import identity
from maskbench.common.checksums import check
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable
from maskbench.data.stage import Stage
from maskbench.report import runs as records
from maskbench.runs import trust as trusting
from maskbench.runs.loud import speak_up
from maskbench.runs.plain import Plain, plain
from maskbench.runs.record import Record
from maskbench.training.method import Method

# what a config that is none of ours may raise on the way to a method
UNFIT = (OmegaConfBaseException, AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError)
SHOWN = 6  # stages that a refusal names
TRUSTED = "maskbench.load(RUN, trust=True)"  # how to insist on a record that asks for code outside maskbench
Maker = Callable[[DictConfig], tuple[Method, list[Stage]]]  # of a config's method, its values not yet there, and its data
log = logging.getLogger("maskbench")


class Saved(NamedTuple):
    """method: trained, in evaluation mode; its `net` is the backbone before masks, and says so where it is asked for the answer.
    stages: the data, each with train, val and test. config: of the run, resolved."""

    method: Method
    stages: list[Stage]
    config: DictConfig

    def plain_net(self, stage: int | str | None = None, *, member: int | None = None, mode: str = "") -> nn.Module:
        """The plain net that answers as the method does, masks applied, held to its `predict` on test inputs.

        stage: its index or name, where there are several. member, mode: of plain.py.

        Raises:
            UsageError: no one net answers so, or several do and none was named.
        """
        return self.plain(stage, member=member, mode=mode).net

    def plain(self, stage: int | str | None = None, *, member: int | None = None, mode: str = "") -> Plain:
        """`plain_net` with the masks and what it is held to."""
        return plain(self.method, self.stage(stage), member=member, mode=mode, name=self.config.method.name)

    def stage(self, named: int | str | None, by: str = "--stage (in Python plain_net(stage))") -> Stage:
        """The stage of that index or name; the only one where none is named. `by` is how to name one, for refusals.

        Raises:
            UsageError: there are several, or none of that name.
        """
        if named is None and len(self.stages) == 1:
            return self.stages[0]
        for stage in self.stages:
            if str(named) in (str(stage.index), stage.name):
                return stage
        what = "each of its stages has a net of its own" if named is None else f"it has no stage {named}"
        names = [f"{stage.index} ({stage.name})" for stage in self.stages]
        shown = ", ".join(names if len(names) <= SHOWN else [*names[:SHOWN], f"... {names[-1]}"])
        raise UsageError(f"{what}: name one by {by}: {shown}.")


def load(
    folder: Path,
    make: Maker,
    *,
    data: str | Path | None = None,
    trust: bool = False,
    weights: str | Path | None = None,
) -> Saved:
    """A finished run, or with `weights` what another file of its method's state makes of it.

    Raises:
        UsageError: there is none, its record is damaged or asks for what is no part of maskbench, its files do not fit this code,
            or the data cannot be had.
    """
    Record(folder).settle()
    own = folder / "weights.safetensors"
    found = told(folder, trust, TRUSTED, finished=True)
    check(folder, own.name)
    if (code := found.code_now).old:
        log.warning("%s is %s: %s; its weights meet other code than they were trained with", folder, code.word, code)
    with fitting(folder):
        return filled(unfilled(found, make, data), Path(weights).expanduser() if weights else own)


def told(folder: Path, trust: bool, way: str, finished: bool = False) -> records.Run:
    found = records.load(folder)
    if not found.fault and (not found.about or finished and not (found.result and (folder / "weights.safetensors").exists())):
        raise UsageError(f"{folder} is no directory of a finished run; maskbench results lists what there is.")
    if found.fault or not found.config:
        raise UsageError(f"{folder} cannot be loaded: {printable(found.fault) or 'its run.json holds no config'}.")
    if not trust:
        trusting.refuse(folder, trusting.strange(found.config), way)
    return found


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """One sentence for whatever a config that is none of ours may raise on the way to a method."""
    try:
        yield
    except UNFIT as error:
        reason = printable(error).splitlines()[:1] or [""]
        raise UsageError(f"{folder} cannot be loaded ({type(error).__name__}: {reason[0]}).") from error


def unfilled(found: records.Run, make: Maker, data: str | Path | None) -> Saved:
    """The method and the stages of a record's config."""
    cfg = OmegaConf.create(dict(found.config))
    if data is not None or not Path(cfg.paths.data).expanduser().is_dir():
        cfg.paths.data = str(data or identity.data_dir())
    method, stages = make(cfg)
    return Saved(method, stages, cfg)


def filled(saved: Saved, weights: Path) -> Saved:
    """The same with the weights that the run ended with."""
    method, stages, cfg = saved
    try:
        method.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise UsageError(f"{weights} is damaged ({error}); rerun the run, or take its folder from a copy.") from error
    except (AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"{weights} does not fit what its config makes now ({printable(str(error).partition(chr(10))[0].rstrip(':'))}); "
            "maskbench show tells the commit that wrote it."
        ) from error
    speak_up(method, stages)
    return Saved(method.eval(), stages, cfg)
