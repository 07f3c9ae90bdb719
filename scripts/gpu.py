"""`make gpu`: what one GPU makes of this bench, in one file: outputs/gpu.json. Without a GPU one line says so, and all is well.

    python scripts/gpu.py [--device cuda] [--minutes 10] [--only tests,bench,tables] [--tables packnet]
    python scripts/gpu.py --device cpu      the same code on the CPU, in the same time
    python scripts/gpu.py --wheels          what a machine without network needs beside torch and Lightning, from what is here

Three parts share the minutes, in this order:

- tests: those marked `device`. A step of every mechanism is made on the device from the state and batch of the CPU, and held to
  it within the tolerances of tests/contract/test_contract_on_device.py; masks are the same bits; runs keep their facts, and
  their bits through an interruption; all pure functions of masks agree. `--all`: every method.
- bench: ms of a training step of LeNet, ResNet-18 and ResNet-50, fp32 and bf16, beside a bare loop (bench_devices.py).
- tables: the quick scoreboard of the tables that are named, on the device, one seed; of those whose data is here.

It needs no network and no W&B; docs/gpu.md lists the wheels to carry to a machine that has none. Exit status 1: a test or
the bench failed.
"""

import argparse
import ast
import csv
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/masks/test_masks_on_device.py", "tests/contract/test_contract_on_device.py")
PARTS = ("tests", "bench", "tables")
SHARES = {"tests": 0.55, "bench": 0.6, "tables": 1.0}  # of the time that is left when a part begins
THERE = ("torch", "pytorch-lightning")  # on a machine with a GPU
NEEDED = (
    "hydra-core", "omegaconf", "torchvision", "torchmetrics", "numpy", "scipy", "matplotlib", "rich", "safetensors", "filelock",
    "pytest", "hypothesis",
)  # fmt: skip
GRACE = 20.0  # seconds for a process that was told to end


def main(argv: Sequence[str] | None = None) -> int:
    """Do the parts, write the file, print what it says; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together (default 10)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to do, of {','.join(PARTS)}")
    parser.add_argument("--all", action="store_true", help="tests of every method, not of one for each mechanism")
    parser.add_argument("--tables", default="packnet", help="tables whose quick scoreboard is made (packnet)")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu.json"))
    parser.add_argument("--wheels", action="store_true", help="print what must be installed beside torch and Lightning")
    given = parser.parse_args(argv)
    if given.wheels:
        print("\n".join(f"{name}=={version}" for name, version in wheels().items()))
        return 0
    if unknown := set(given.only.split(",")) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("torch") is None:
        print("make gpu needs torch, and this Python has none: install what docs/gpu.md lists.")
        return 2
    if given.device == "cuda" and not has_gpu():
        print("No GPU here (torch sees none), so nothing was run; `python scripts/gpu.py --device cpu` runs the same code.")
        return 0
    end = time.monotonic() + 60 * given.minutes
    report: dict[str, Any] = {"device": given.device} | machine(given.device)
    begun = time.monotonic()
    for part in (part for part in PARTS if part in given.only.split(",")):
        limit = SHARES[part] * (end - time.monotonic())
        started = time.monotonic()
        print(f"{part}: at most {max(limit, 0):.0f} s", flush=True)
        report[part] = {
            "tests": lambda limit: tests(given.device, limit, every=given.all),
            "bench": lambda limit: bench(given.device, limit),
            "tables": lambda limit: tables(given.device, given.tables.split(","), limit, given.output.parent / "gpu"),
        }[part](limit)
        report[part]["seconds"] = round(time.monotonic() - started, 1)
        report["seconds"] = round(time.monotonic() - begun, 1)
        write(given.output, report)  # after each part: what is there stays, whatever the next one does
    for line in told(report):
        print(line)
    print(f"all of it: {given.output}")
    return 1 if any(report.get(part, {}).get("failed") for part in PARTS) else 0


def wheels() -> dict[str, str]:
    """Name -> version here of each package that the parts need and that torch and Lightning do not bring."""
    there = closure(THERE)
    return {name: version for name, version in sorted(closure(NEEDED).items()) if name not in there}


def closure(names: Sequence[str]) -> dict[str, str]:
    """Installed packages and all that they require, by their records; what is not installed is not among them."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            record = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = record.version
        asked = map(Requirement, record.requires or [])
        waiting += [one.name for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def machine(device: str) -> dict[str, Any]:
    """The card by its name, its memory, and the versions that decide what it computes."""
    import torch

    about = {"card": None, "torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        about |= {"card": card.name, "memory_bytes": card.total_memory, "capability": f"{card.major}.{card.minor}"}
        about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return about


def write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(path)


def surroundings() -> dict[str, str]:
    """For the processes of the parts: this code, and kernels of cuBLAS that give the same bits again."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "1"}


def process(words: Sequence[str], limit: float) -> tuple[int | None, str]:
    """(exit status, or None where its time was up; what it printed) of a Python process in the repository. One whose time is up
    is told to end as by Ctrl-C, so that it writes what it has."""
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        out, _ = process.communicate(timeout=max(1.0, limit))
        return process.returncode, out
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        out, _ = process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
    return None, out


# ---- parts


def tests(device: str, limit: float, *, every: bool) -> dict[str, Any]:
    """The tests marked `device`: how many passed, what failed and why, and how far each method's step was from the CPU's."""
    junit = ROOT / "outputs" / f"gpu-tests-{os.getpid()}.xml"
    junit.parent.mkdir(exist_ok=True)
    marks = "device and not slow" + ("" if every else " and not full")
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, "--device", device, f"--junitxml={junit}"]
    words += ["-o", "junit_family=xunit1", *TESTS]  # the family whose cases have properties
    status, out = process(words, limit)
    if not junit.exists():
        return {"failed": {"pytest": "\n".join(out.splitlines()[-15:])}, "complete": False}
    try:
        report = read_junit(junit)
    finally:
        junit.unlink()
    return report | {"tolerances": tolerances(), "complete": status in (0, 1)}  # 2: interrupted


def read_junit(path: Path) -> dict[str, Any]:
    """What pytest's own report says."""
    passed, skipped, failed, deviations = 0, 0, {}, {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        wrong = [*case.iter("failure"), *case.iter("error")]
        if wrong:
            failed[name] = (wrong[0].get("message") or "").strip()[:500]
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
        for one in case.iter("property"):
            if one.get("name") == "deviations":
                deviations[str(case.get("name")).partition("[")[2].rstrip("]")] = ast.literal_eval(one.get("value") or "{}")
    return {"passed": passed, "skipped": skipped, "failed": failed, "deviations": deviations}


def tolerances() -> dict[str, float]:
    """The bounds that the tests state, read from their file."""
    tree = ast.parse((ROOT / TESTS[1]).read_text())
    found = {
        node.targets[0].id.lower(): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant)
    }
    return {name: found[name] for name in ("loss", "gradients", "moved", "bits", "answers")}


def bench(device: str, limit: float) -> dict[str, Any]:
    """Rows of bench_devices.py; nets that the time did not reach are not among them."""
    import bench_devices
    import torch

    torch.set_num_threads(1)
    end = time.monotonic() + limit
    found: dict[str, Any] = {"rows": {}, "clock": "CPU seconds" if device == "cpu" else "wall, the device idle at both ends"}
    try:
        for rows in bench_devices.rows_on(torch.device(device), left=lambda: end - time.monotonic()):
            found["rows"] |= rows
    except Exception as error:  # what was measured before stays, and what went wrong is said
        found["failed"] = {"bench": f"{type(error).__name__}: {error}"}
    bench_devices.show(found["rows"], f"A training step on {device}")
    return found


def tables(device: str, names: Sequence[str], limit: float, output: Path) -> dict[str, Any]:
    """The quick rows of each table on the device, seed 0: name, ours, published, rule, verdict."""
    end, made = time.monotonic() + limit, {}
    for name in names:
        words = ["-m", "maskbench", "table", name, "budget=quick", "seeds=0", "jobs=1", "logger=none"]
        words += [f"trainer={'cpu' if device == 'cpu' else 'gpu'}", f"paths.output={output.resolve()}"]
        status, out = process(words, end - time.monotonic())
        rows = list(read_table(output / "tables" / name)) if status == 0 else []
        made[name] = {"rows": rows} | ({} if rows else {"why_not": "\n".join(out.strip().splitlines()[-3:]) or "no time left"})
    return {"tables": made}


def read_table(folder: Path) -> Iterator[dict[str, str]]:
    """The rows that `maskbench table` wrote as comma-separated values."""
    for path in sorted(folder.glob("quick.csv")):
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def told(report: dict[str, Any]) -> Iterator[str]:
    """What the terminal shows of it."""
    yield f"device: {report['card'] or report['device']}, torch {report['torch']}, {report['seconds']:.0f} s"
    if found := report.get("tests"):
        whole = "" if found["complete"] else ", not all: its time was up"
        yield f"tests: {found.get('passed', 0)} passed, {len(found['failed'])} failed{whole}"
        for name, why in found["failed"].items():
            yield f"  failed: {name}: {' '.join(why.split())[:200]}"
        steps = found.get("deviations", {})
        for what, bound in found.get("tolerances", {}).items():
            worst = max(((row[what], name) for name, row in steps.items()), default=None)
            if worst:
                yield f"  {what}: at most {worst[0]:.1e} ({worst[1]}), tolerance {bound:.0e}"
    for name, why in report.get("bench", {}).get("failed", {}).items():
        yield f"{name} failed: {' '.join(why.split())[:300]}"
    for name, table in report.get("tables", {}).get("tables", {}).items():
        rows = table["rows"]
        verdicts = [row["verdict"] for row in rows if row.get("verdict")]
        yield f"table {name}: " + (
            f"{verdicts.count('holds')} of {len(verdicts)} rows with a rule hold" if rows else f"not made: {table['why_not']}"
        )


if __name__ == "__main__":
    sys.exit(main())
