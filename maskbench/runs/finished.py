"""What is there of a run before it starts, and what becomes of it: a finished run is told again, one whose code changed is
done anew, kept or asked about, and an interrupted one goes on only with the code that began it.

Imports nothing of what a run needs: a repeated sweep costs seconds.
"""

import logging
import os
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from maskbench.common import closure
from maskbench.common.errors import UsageError
from maskbench.common.files import Damaged, read_json
from maskbench.report.freshness import FRESH, UNKNOWN, Freshness, judge
from maskbench.runs.console import Console, cell
from maskbench.runs.record import REDO, Record

log = logging.getLogger("maskbench")
REDONE, KEPT, ASKED = "redo", "keep", "ask"  # values of stale=
PLAIN = ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "hydra._internal.core_plugins.basic_launcher.BasicLauncher")


@dataclass(frozen=True)
class Standing:
    """What a run directory holds for a config.

    result: of a finished run, None otherwise. code: of the result. place: where the next attempt works, beside a result
    that is there. begun: whether an interrupted attempt left progress in that place; attempt: the code of that.
    """

    result: dict[str, Any] | None
    code: Freshness
    place: Path
    begun: bool
    attempt: Freshness


def standing(cfg: DictConfig, folder: Path) -> Standing:
    """What stands in a run directory: a result, a beginning or nothing, and whether today's code made it.

    Raises:
        Unreadable: a file of the run may be sound, and cannot be read now: nothing may be done anew.
        Damaged: the run's result or record is not what was written, and no redo was asked for.
    """
    try:
        result = Record(folder).result
    except Damaged as error:
        if not cfg.force:
            raise Damaged(f"{error}; force=true does the run anew (a damaged result.json stays as result.json.aside)") from error
        result = None
    place = folder if result is None else folder / REDO
    begun = (place / "state" / "checkpoint.pt").exists()
    fresh = Freshness(FRESH)
    if result is None and not begun:
        return Standing(None, fresh, place, False, fresh)
    present = closure.of(OmegaConf.to_container(cfg, resolve=True))
    code = judge(read_json(folder / "run.json"), present) if result else fresh
    attempt = judge(read_json(place / "run.json"), present) if begun and not (cfg.force and result is None) else fresh
    return Standing(result, code, place, begun, attempt)


def earlier(cfg: DictConfig, together: bool = False) -> float | None:
    """The objective of the run that `cfg` asks for, told again if it is finished; None if it is to be done.

    Args:
        together: this very command did it, side by side with others.

    Raises:
        UsageError: the run was interrupted, and its code has changed since.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    Record(folder).settle()
    there = standing(cfg, folder)
    if there.result is not None and together:
        return tell(there.result, f"{title(cfg)}, side by side", folder)
    if there.result is not None and not cfg.force:
        if not there.code.old:
            return tell(there.result, f"{title(cfg)}: finished earlier (force=true redoes it)", folder)
        if choice(cfg, there) == KEPT:
            warn(f"{title(cfg)} is {there.code.word}: {there.code} (stale=keep: not done anew)")
            return tell(there.result, f"{title(cfg)}: finished earlier, {there.code.word}", folder)
        warn(
            f"{title(cfg)} is {there.code.word}: {there.code}; it is done anew, "
            "and the earlier result stays until the new one is whole (stale=keep answers with it)"
        )
    refuse_changed(cfg, there)
    return None


def refuse_changed(cfg: DictConfig, there: Standing) -> None:
    """Refuse to go on with an attempt that other code began.

    Raises:
        UsageError: an interrupted attempt would go on with other code than began it, and nobody asked for that.
    """
    if not (there.begun and there.attempt.changed) or cfg.force or cfg.stale in (REDONE, KEPT):
        return
    raise UsageError(
        f"{title(cfg)}: interrupted, and {there.attempt}; stale=redo starts it anew, "
        "stale=keep goes on all the same (the result is then marked as mixed)."
    )


def anew(cfg: DictConfig, there: Standing) -> bool:
    """Whether an attempt's progress is forgotten: a redo that was interrupted goes on, unless its code changed again."""
    if there.begun and there.attempt.changed:
        return cfg.force or cfg.stale != KEPT
    return cfg.force and there.result is None


def choice(cfg: DictConfig, there: Standing) -> str:
    """What becomes of a finished run that is not fresh: `redo` or `keep`; stale=ask asks where somebody can answer."""
    if cfg.stale != ASKED:
        return cfg.stale or REDONE
    alone = main_process() and HydraConfig.get().mode != RunMode.MULTIRUN
    if not (alone and sys.stdin.isatty() and sys.stderr.isatty()):
        return REDONE
    print(f"{title(cfg)}: {there.code.word}: {there.code}. Do it anew? [Y/n] ", end="", file=sys.stderr, flush=True)
    return KEPT if sys.stdin.readline().strip().lower() in ("n", "no") else REDONE


def answer(cfg: DictConfig, folder: Path, there: Standing) -> float | None:
    """The result that another process wrote between our look and our lock; None if there is still work to do."""
    if there.result is None or cfg.force or there.code.word not in (FRESH, UNKNOWN):
        return None
    return tell(there.result, f"{title(cfg)}: finished by another process", folder)


def warn(text: str) -> None:
    with closing(Console("", live=False, mute=not main_process())):
        log.warning(text)


def title(cfg: DictConfig) -> str:
    debug = OmegaConf.select(cfg, "debug")
    return f"{cfg.method.name} on {cfg.data.name}, seed {cfg.seed}{f' (debug={debug.name})' if debug else ''}"


def tell(result: dict[str, Any], heading: str, folder: Path) -> float:
    """Say what a result.json holds: its tables, or one line within a sweep. Returns the objective."""
    console = Console(heading, live=False, mute=not main_process())
    where = f"data source: {result['source']}; run directory: {folder}"
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        log.info("%s: %s %s; %s", heading, result["objective_name"], cell(result["objective"]), where)
    else:
        console.result(result["metrics"], result["table"], result["notes"], heading)
        log.info(where)
    console.close()
    return float("nan") if result["objective"] is None else result["objective"]  # of a run that diverged


def shares_grid() -> bool:
    """Whether this is a run of a sweep whose jobs need no order: one in other hands may be left for later (cli/launch.py)."""
    hydra = HydraConfig.get()
    kinds = (hydra.sweeper.get("_target_", ""), hydra.launcher.get("_target_", ""))
    return hydra.mode == RunMode.MULTIRUN and kinds == PLAIN


def main_process() -> bool:
    """Whether this process writes and speaks; the other ranks of data-parallel training, on other machines too, only compute."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))
