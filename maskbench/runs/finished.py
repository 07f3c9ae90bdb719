"""A finished run is reported, not redone, and without importing what a run needs: a repeated sweep costs seconds."""

import logging
import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from maskbench.runs.console import Console, cell
from maskbench.runs.record import Record

log = logging.getLogger("maskbench")


def earlier(cfg: DictConfig) -> float | None:
    """The objective of the run that `cfg` asks for, told again if it is finished; None if it is to be done."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    result = None if cfg.force else Record(folder).result
    return None if result is None else tell(result, f"{title(cfg)}: finished earlier (force=true redoes it)", folder)


def title(cfg: DictConfig) -> str:
    return f"{cfg.method.name} on {cfg.data.name}, seed {cfg.seed}"


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


def main_process() -> bool:
    """Whether this process writes and speaks; the other ranks of data-parallel training only compute."""
    return os.environ.get("LOCAL_RANK", "0") == "0"
