"""Are the numbers of this checkout those of an earlier commit? Short runs of each, compared byte for byte.

    python scripts/same_bits.py 149c893

Compared are the metrics of result.json (but for seconds), masks.safetensors and weights.safetensors; metrics that the earlier
commit did not have are counted. Exit status 1 where any differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SHORT = ["budget.epochs=null", "budget.batch_size=64", "logger=none", "loop.progress=false"]
RUNS = {
    "supsup": ["method=supsup", "data=splitmnist", "budget.steps=60"],
    "supsup_budgets": ["method=supsup", "data=splitmnist", "data.stages=2", "method.density_scale=16", "budget.steps=60"],
    "edge_popup": ["method=edge_popup", "data=mnist", "budget.steps=60"],
    "edge_popup_global": ["method=edge_popup", "data=mnist", "method.scope=global", "method.keep=0.1", "budget.steps=60"],
    "lottery": ["method=lottery", "data=mnist", "budget.steps=60", "task.levels=3"],
    "masksembles": ["method=masksembles", "data=mnist", "budget.steps=60"],
    "maml": ["method=maml", "budget.steps=60"],
    "subset_sum": ["method=subset_sum", "budget.steps=60"],
}
FILES = ("masks.safetensors", "weights.safetensors")


def unpacked(commit: str, folder: Path) -> Path:
    """The files of a commit, in `folder`."""
    archive = folder / "files.tar"
    subprocess.run(["git", "-C", str(HERE), "archive", "-o", str(archive), commit], check=True)
    with tarfile.open(archive) as files:
        files.extractall(folder / "checkout", filter="data")
    return folder / "checkout"


def run(checkout: Path, words: list[str], output: Path) -> Path:
    """The run directory of one command, run by the code in `checkout`."""
    env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "maskbench", *words, *SHORT, f"paths.output={output}"]
    subprocess.run(command, cwd=checkout, env=env, check=True, stdout=subprocess.DEVNULL)
    (result,) = output.glob("*/*/result.json")
    return result.parent


def differences(one: Path, other: Path) -> list[str]:
    """What two run directories do not have in common: names of metrics and of files."""
    metrics = [json.loads((folder / "result.json").read_text())["metrics"] for folder in (one, other)]
    names = sorted(name for name in metrics[0].keys() | metrics[1].keys() if "seconds" not in name)
    unequal = [name for name in names if metrics[0].get(name) != metrics[1].get(name)]
    contents = {
        name: [(folder / name).read_bytes() if (folder / name).exists() else None for folder in (one, other)] for name in FILES
    }
    return unequal + [name for name, (first, second) in contents.items() if first != second]


def new(one: Path, other: Path) -> set[str]:
    """Names of metrics that the second of two run directories has and the first has not: no difference between commits."""
    before, now = (json.loads((folder / "result.json").read_text())["metrics"] for folder in (one, other))
    return now.keys() - before.keys()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="the commit to compare with")
    parser.add_argument("runs", nargs="*", default=list(RUNS), help=f"of {', '.join(RUNS)}; all by default")
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "-C", str(HERE), "rev-parse", "--short", args.commit], check=True, capture_output=True, text=True
    )
    worst = 0
    with tempfile.TemporaryDirectory(prefix="maskbench-") as temporary:
        before = unpacked(args.commit, Path(temporary))
        for name in args.runs:
            folders = [run(code, RUNS[name], Path(temporary) / name / str(i)) for i, code in enumerate((before, HERE))]
            added = new(*folders)
            unequal = [name for name in differences(*folders) if name not in added]
            more = f", with {len(added)} metrics more" if added else ""
            keys = "same key" if folders[0].name == folders[1].name else f"keys {folders[0].name} and {folders[1].name}"
            print(
                f"{name}: {'differs in ' + ', '.join(unequal) if unequal else 'equal to'} {commit.stdout.strip()}{more}; {keys}",
                flush=True,
            )
            worst = max(worst, bool(unequal))
    return worst


if __name__ == "__main__":
    sys.exit(main())
