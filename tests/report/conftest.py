"""Finished runs as a run leaves them, written by hand to the documented layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """`record(seed, metrics, method=..., key=..., ...)`: a run directory below tmp_path/outputs."""

    def write(
        seed: int, metrics: dict[str, Any], *, method: str = "supsup", data: str = "toy", key: str = "k1", **more: Any
    ) -> Path:
        run = tmp_path / "outputs" / f"{method}-{data}" / f"s{seed}-{key}"
        run.mkdir(parents=True)
        facts = {"status": "finished", "source": "npm", "commit": "c0ffee" * 7, "dirty": False, "checksums": {}} | more
        config = {
            "seed": seed,
            "method": {"name": method},
            "data": {"name": data},
            "task": {"name": "continual"},
            "budget": {"steps": None, "epochs": 3, "batch_size": 128},
        } | facts.get("config", {})
        about = {
            "status": facts["status"],
            "key": key,
            "seed": seed,
            "choices": {"method": method, "data": data},
            "config": config,
            "commit": facts["commit"],
            "dirty": facts["dirty"],
            "attempts": facts.get("attempts", [{"started": "2020-01-01", "status": facts["status"]}]),
            "data": {"source": facts["source"], "checksums": facts["checksums"]},
            "cpu": "Zuse 3",
            "cores": 2,
            "threads": 1,
        }
        (run / "run.json").write_text(json.dumps(about))
        if facts["status"] == "finished":
            name = next(iter(metrics))
            result = {"status": "finished", "objective": metrics[name], "objective_name": name, "metrics": metrics}
            result |= {"method": method, "data": data, "source": facts["source"], "seed": seed, "key": key, "task": "continual"}
            (run / "result.json").write_text(json.dumps(result))
        return run

    return write
