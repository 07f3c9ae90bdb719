"""What thousands of runs cost to list and to report: makes folders of runs as runs leave them, then times the commands on them.

    python scripts/many_runs.py COUNT FOLDER [--json FILE]

FOLDER/outputs is filled up to COUNT finished runs (four methods, five seeds a setting); `maskbench results`, `where` and `report`
run on it in processes of their own, without an index, with the one that the first left, and after one run more. CPU seconds are
those of the process, imports included. The runs' numbers are drawn, the layout and the sizes of their files are real ones.
"""

import argparse
import copy
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskbench.cli import command_line
from maskbench.common import checksums, closure, identity
from maskbench.report import index

SEEDS = 5
KINDS = {  # method -> data, the key that its settings vary beside optimizer.lr
    "lottery": ("mnist", "method.share"),
    "packnet": ("splitmnist", "method.share"),
    "supsup": ("splitmnist", "method.top"),
    "masksembles": ("mnist", "method.scale"),
}
STEPS, EVERY = 2000, 50  # of each part's history
SIZES = {"hidden.0.weight": (100, 784), "hidden.1.weight": (50, 100), "head.weight": (10, 50)}  # of masks
STAGES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="runs")
    parser.add_argument("folder", type=Path, help="where they are, or are to be")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    given = parser.parse_args()
    output = given.folder / "outputs"
    made = fill(output, given.count)
    print(f"{given.count} runs in {output}, {made} of them new")
    rows = list(measured(given.folder, given.count))
    for row in rows:
        each = 1e6 * row["cpu_seconds"] / given.count
        size = f"{row['bytes'] / 1e6:.2f} MB" if row["bytes"] else ""
        print(f"| {row['command']} | {row['index']} | {row['cpu_seconds']:.2f} s | {each:.0f} us | {size} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps({"runs": given.count, "python": sys.version.split()[0], "rows": rows}, indent=1))


# ---- the runs


def fill(output: Path, count: int) -> int:
    """Write runs until there are `count`; how many are new."""
    new = 0
    configs = {method: base(method) for method in KINDS}
    codes = {method: closure.of(config).record for method, config in configs.items()}
    for number in range(count):
        setting, seed = divmod(number, SEEDS)
        method = list(KINDS)[setting % len(KINDS)]
        config = varied(configs[method], setting, seed, KINDS[method][1])
        new += write(output, config, codes[method], random.Random(number))
    return new


def base(method: str) -> dict[str, Any]:
    """The resolved config of a method's run, as plain containers."""
    words = [f"method={method}", f"data={KINDS[method][0]}", "logger=none"]
    return json.loads(json.dumps(identity.plain(command_line.parse(words).compose(words), without={"hydra"})))


def varied(config: dict[str, Any], setting: int, seed: int, knob: str) -> dict[str, Any]:
    config = copy.deepcopy(config) | {"seed": seed}
    config["optimizer"]["lr"] = round(1e-4 * 1.01**setting, 8)
    part, _, name = knob.partition(".")
    config[part][name] = round(0.1 + 0.001 * (setting % 500), 3)
    return config


def write(output: Path, config: dict[str, Any], code: dict[str, Any], draw: random.Random) -> bool:
    """One finished run; whether it was not there yet."""
    (method, data, task), seed = (config[name]["name"] for name in ("method", "data", "task")), config["seed"]
    settings = {name: part for name, part in config.items() if name not in identity.ELSEWHERE}
    key = hashlib.sha256(identity.spelling(settings).encode()).hexdigest()[:10]
    run = output / f"{method}-{data}" / f"s{seed}-{key}"
    if (run / "result.json").exists():
        return False
    run.mkdir(parents=True, exist_ok=True)
    overrides = [f"method={method}", f"data={data}", f"seed={seed}", f"optimizer.lr={config['optimizer']['lr']}"]
    cost = {"wall_seconds": 60 * draw.random(), "cpu_seconds": 50 * draw.random(), "peak_memory_bytes": draw.randrange(2**30)}
    attempt = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00", "status": "finished"}
    about = {
        "key": key, "seed": seed, "choices": {"method": method, "data": data, "task": task}, "overrides": overrides,
        "config": config, "threads": 1, "code": code, "maskbench": "0.1.0", "commit": "c0ffee" * 6 + "c0ff", "branch": "main",
        "dirty": False, "versions": {"torch": "2.6.0", "numpy": "2.1.0"}, "python": "3.12.1", "platform": "Linux",
        "cpu": "Zuse 3", "cores": 2, "memory_bytes": 1 << 34, "argv": ["maskbench", *overrides], "status": "finished",
        "attempts": [attempt | {"code": code["closure"], "resumed": False, "cost": cost}], "cost": cost,
        "data": {"source": "npm", "checksums": {f"file {i}": f"{i:032x}" for i in range(4)}},
    }  # fmt: skip
    result = {"status": "finished", **told(task, draw), "notes": [], "fingerprints": {}}
    result |= {"method": method, "data": data, "source": "npm", "task": task, "seed": seed, "key": key}
    files = {
        "run.json": json.dumps(about, indent=1).encode(),
        "metrics.csv": "\n".join(["stage,phase,step,metric,value", *history(draw)]).encode() + b"\n",
        "curves.json": json.dumps(curves(task, draw)).encode(),
        "result.json": json.dumps(result, indent=1).encode(),
    }
    if task != "uncertainty":
        files["masks.safetensors"] = masks(draw)
    for name, content in files.items():
        (run / name).write_bytes(content)
    listed = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    (run / checksums.NAME).write_text(json.dumps({"files": listed, "sha256": checksums.of_list(listed)}, indent=1))
    return True


def told(task: str, draw: random.Random) -> dict[str, Any]:
    """Objective, metrics, table and matrices as runs of such a task have them."""
    score = draw.random()
    if task == "prune":
        numbers = {"accuracy": score, "dense_accuracy": draw.random(), "density": round(0.8 ** (STAGES - 1), 6)}
        numbers |= {f"accuracy/ticket/{0.8**i:.4f}": draw.random() for i in range(STAGES)}
        numbers |= {f"compression/ticket/{0.8**i:.4f}": draw.random() for i in range(STAGES)}
        table = [{"level": i, "density": 0.8**i, "ticket": draw.random()} for i in range(STAGES)]
        return {"objective": score, "objective_name": "accuracy", "metrics": numbers, "table": table, "matrices": {}}
    if task == "continual":
        rows = [[draw.random() if j <= i else None for j in range(STAGES)] for i in range(STAGES)]
        numbers = {"average_accuracy": score, "forgetting": draw.random(), "memory_bytes": draw.randrange(10**6)}
        numbers |= {"task_inference_accuracy": draw.random(), "task_inference/one_shot": draw.random()}
        table = [{"stage": f"digits {i}", "accuracy when learnt": draw.random()} for i in range(STAGES)]
        about = {"objective": score, "objective_name": "average_accuracy", "metrics": numbers, "table": table}
        return about | {"matrices": {"accuracy": rows}}
    numbers = {"accuracy": score, "nll": draw.random(), "ece": draw.random(), "brier": draw.random()}
    numbers |= {f"auroc_entropy/{name}": draw.random() for name in ("letters", "noise", "fashion")}
    return {"objective": score, "objective_name": "accuracy", "metrics": numbers, "table": [], "matrices": {}}


def history(draw: random.Random) -> Iterator[str]:
    for part in range(STAGES):
        for step in range(EVERY, STEPS + 1, EVERY):
            yield f"part {part},train,{step},loss,{draw.random()!r}"


def curves(task: str, draw: random.Random) -> list[dict[str, Any]]:
    if task != "uncertainty":
        return []
    rows = [{"kind": "members", "members": n, "nll": draw.random(), "accuracy": draw.random()} for n in range(1, 5)]
    return rows + [{"kind": "confidence", "data": "mnist", "threshold": t / 10, "accuracy": draw.random()} for t in range(10)]


def masks(draw: random.Random) -> bytes:
    """The file of masks/packing.py: one bit a weight."""
    import numpy as np
    from safetensors.numpy import save

    shapes = {f"{stage}/{name}": list(shape) for stage in range(STAGES) for name, shape in SIZES.items()}
    packed = {}
    for name, (rows, columns) in shapes.items():
        bits = np.frombuffer(draw.randbytes(rows * columns), np.uint8) < 128
        packed[name] = np.packbits(bits, bitorder="little")
    about = {"format": 1, "bitorder": "little", "shapes": shapes}
    return save(packed, {"masks": json.dumps(about)})


# ---- the clock


def measured(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """CPU seconds of the commands on FOLDER/outputs, and the bytes of the page."""
    commands = {"results": ["results"], "results group=method": ["results", "group=method", "mixed=allow"]}
    commands |= {"where": ["where", "method=lottery", "seed=0"], "report": ["report"]}
    for name, words in commands.items():
        for state in ("none", "there", "one run new"):
            if state == "none":
                index.path(folder / "outputs").unlink(missing_ok=True)
            if state == "one run new":
                touched = next((folder / "outputs").glob("*/*/run.json"))
                os.utime(touched)
            yield {"command": name, "index": state, **clock(folder, words)}


def clock(folder: Path, words: list[str]) -> dict[str, Any]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = [sys.executable, "-m", "maskbench", *words]
    subprocess.run(process, cwd=folder, stdout=subprocess.DEVNULL, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = folder / "outputs" / "report.html"
    return {
        "cpu_seconds": cpu,
        "wall_seconds": time.monotonic() - began,
        "bytes": page.stat().st_size if words[0] == "report" else None,
    }


if __name__ == "__main__":
    main()
