"""Runs side by side on MNIST, one epoch of LeNet-300-100 at 5 % of its weights: each has the weights it has alone, to 1e-5."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
WORDS = ("-m", "method=static_sparse,snip", "method.kernel=csr", "budget.epochs=1", "seed=0,1,2", "logger=none")

pytestmark = pytest.mark.slow


def sweep(output: Path, *words: str) -> dict[str, Path]:
    """The run directories of a sweep by their names."""
    command = [sys.executable, "-m", "maskbench", *WORDS, *words, f"paths.output={output}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return {f"{path.parent.name}/{path.name}": path for path in output.glob("*/s*")}


def test_weights_after_an_epoch_are_those_of_the_runs_alone(tmp_path: Path) -> None:
    together, alone = sweep(tmp_path / "together"), sweep(tmp_path / "alone", "loop.side_by_side=off")
    assert together.keys() == alone.keys() and len(alone) == 6
    cpu = []
    for name, folder in alone.items():
        assert len(json.loads((together[name] / "run.json").read_text())["side_by_side"]) == 2
        weights, expected = (load_file(one / "weights.safetensors") for one in (together[name], folder))
        apart = {site: float((weights[site] - w).abs().max()) for site, w in expected.items() if w.is_floating_point()}
        assert max(apart.values()) < 1e-5, apart
        results = [json.loads((one / "result.json").read_text())["metrics"] for one in (together[name], folder)]
        assert abs(results[0]["accuracy"] - results[1]["accuracy"]) < 1e-3
        cpu.append([result["train_cpu_seconds_per_stage"] for result in results])
    assert sum(one for one, _ in cpu) < sum(other for _, other in cpu)
