"""One of several ranks that train together: runs what it is told over `link`, as the command line would, and answers.

Started by test_contract_ranks.py, which sets link, rank, world, port and data.
"""
# ruff: noqa: F821 - the names it is given

import os
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

link: Connection
rank: int
world: int
port: int

os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}  # then Lightning starts no processes itself

import torch  # noqa: E402

from maskbench.common import identity  # noqa: E402
from maskbench.runs.assemble import Run  # noqa: E402
from maskbench.runs.build import make  # noqa: E402
from maskbench.runs.record import History  # noqa: E402
from maskbench.training.journal import Journal, snapshot  # noqa: E402

identity.register()


def answer(cfg: Any, folder: Path) -> dict[str, Any]:
    """What is left of a run on this rank: its state, masks, numbers and history, and where its generator stands."""
    folder.mkdir(parents=True, exist_ok=True)
    run, main = Run(cfg, folder), rank == 0
    stages = run.stages()
    method = run.method(stages)
    history = History(folder / "metrics.csv", write=main)
    journal = Journal(folder, method, seed=cfg.seed, every=cfg.loop.checkpoint_seconds, history=history, write=main)
    fit = run.fit(journal, lambda *row: history.add(*row[:3], row[4]), lambda *_: None)
    try:
        outcome = make(cfg.task, method, stages, fit, journal)
    finally:
        history.close()
    numbers = {name: value for name, value in outcome.metrics.items() if "seconds" not in name}
    masks = {name: mask.cpu() for name, mask in method.masks().items()}
    return {"state": snapshot(method), "masks": masks, "metrics": numbers, "draw": torch.rand(3), "steps": fit.steps}


while True:
    try:
        cfg, folder = link.recv()
    except EOFError:
        break
    try:
        link.send(answer(cfg, folder))
    except Exception:
        link.send(traceback.format_exc())
        break
