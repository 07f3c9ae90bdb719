"""Real training through the command line, held to the specifications' tolerances.

Runs are kept in outputs/acceptance/<commit>, so that one commit's runs are done once; with uncommitted changes every
run is done anew. WORKERS runs go side by side (default 2), one thread each.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from statistics import mean

import pytest

from maskbench.common import identity, provenance

ROOT = Path(__file__).parents[2]
SEEDS = (0, 1, 2)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The user's own, for parts of runs in this process."""
    return Path(identity.data_dir())


class Runs(list):
    """result.json of each seed, in order."""

    def values(self, metric: str) -> list[float]:
        return [result["metrics"][metric] for result in self]

    def mean(self, metric: str) -> float:
        return mean(self.values(metric))

    def last_rows(self) -> list[dict]:
        return [result["table"][-1] for result in self]


def one(words: tuple[str, ...], seed: int, output: Path) -> dict:
    command = [sys.executable, "-m", "maskbench", *words, f"seed={seed}", f"paths.output={output}", "logger=none"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    folder = done.stderr.rsplit("run directory: ", 1)[1].split("\n")[0]
    return json.loads((ROOT / folder / "result.json").read_text())


@pytest.fixture(scope="session")
def runs() -> Callable[..., Runs]:
    """runs("method=...", ..., seeds=SEEDS): the finished runs of these overrides, one per seed."""
    about = provenance.commit(ROOT)
    output = ROOT / "outputs" / "acceptance" / (about["commit"] or "none")[:10]
    fresh = ("force=true",) if about["dirty"] else ()
    done: dict[tuple, Runs] = {}

    def go(*words: str, seeds: tuple[int, ...] = SEEDS) -> Runs:
        if (words, seeds) not in done:
            with ThreadPoolExecutor(int(os.environ.get("WORKERS", 2))) as pool:
                done[words, seeds] = Runs(pool.map(lambda seed: one((*words, *fresh), seed, output), seeds))
        return done[words, seeds]

    return go


@pytest.fixture(scope="session")
def pixels() -> Callable[[int], float]:
    """pixels(shots): accuracy of the nearest support image in pixels, over glyph28's 5-way test episodes of seed 0."""
    import torch

    from maskbench.data.episodes.few_shot import few_shot

    def nearest(shots: int) -> float:
        (stage,) = few_shot(
            base="glyph28", size=28, ways=5, shots=shots, queries=None, test_queries=15, test_shots=[], cross=[],
            rotations=False, val=1, test=600, source="auto", root=Path(identity.data_dir()), seed=0,
        )  # fmt: skip
        right = []
        for (x, own), y in stage.test.batches(50):
            support, queries = x[:, : own.shape[1]].flatten(2), x[:, own.shape[1] :].flatten(2)
            found = torch.cdist(queries, support).argmin(-1)
            right.append((own.gather(1, found) == y).double().mean(1))
        return torch.cat(right).mean().item()

    return cache(nearest)
