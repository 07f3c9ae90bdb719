"""Kill runs at random: `scripts/kill.py N SEED` kills runs of all methods N times with kill -9, then lets each end.

A method's small run (fuzz_lines.py) is done once undisturbed and once killed at random moments, each time taken up by the
same command. Compared are metrics.csv, masks.safetensors, weights.safetensors and the metrics of result.json (but for
seconds). Exit status 1 where any differs, or where a command does not end with status 0.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fuzz_lines
from same_bits import differences

from maskbench.cli import main as program
from maskbench.cli import parts
from maskbench.common import identity

KILLS = 4  # of one run, at most
LONGER = ("budget.steps=40", "loop.block=4", "loop.log_every=5", "loop.threads=1")


def words(method: str, rng: random.Random) -> list[str]:
    """A small run of a method on the first data that its first task has here, saving at every block or now and then."""
    about = parts.methods([identity.conf_dir()])[method]
    task = about["tasks"][0]
    data = fuzz_lines.DATA[task][0]
    kept = [word for word in fuzz_lines.ALWAYS if not word.startswith("budget.steps")]
    kept += [*LONGER, f"loop.checkpoint_seconds={rng.choice((0, 0.2))}"]
    kept += ["method.every=5"] if "every" in about else []  # a mask that moves does so in few steps, too
    return [f"method={method}", f"task={task}", f"data={data}", *fuzz_lines.SMALL[data], *kept]


def child(line: list[str], folder: str, log: str) -> None:
    with open(log, "a") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        os.chdir(folder)
        sys.exit(program.main(line))


def one(line: list[str], folder: Path, output: str, kill_after: float | None = None) -> int:
    """The exit status of a command, killed after so many seconds if it has not ended by itself."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=child, args=([*line, f"paths.output={output}"], str(folder), str(folder / f"{output}.log")))
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def trial(method: str, rng: random.Random, folder: Path, kills: int) -> tuple[int, list[str]]:
    """How often the run was killed, and what was wrong in the end."""
    line = words(method, rng)
    start = time.monotonic()
    if one(line, folder, "calm"):
        return 0, [f"status, undisturbed\n{(folder / 'calm.log').read_text()}"]
    whole, killed = time.monotonic() - start, 0
    while killed < kills:
        status = one(line, folder, "killed", rng.uniform(0, whole))
        if status != -signal.SIGKILL:
            break
        killed += 1
    if status := one(line, folder, "killed"):
        return killed, [f"status {status} after {killed} kills\n{(folder / 'killed.log').read_text()}"]
    runs = [result.parent for name in ("calm", "killed") for result in (folder / name).glob("*/*/result.json")]
    wrong = differences(*runs)
    if runs[0].joinpath("metrics.csv").read_bytes() != runs[1].joinpath("metrics.csv").read_bytes():
        wrong.append("metrics.csv")
    attempts = json.loads((runs[1] / "run.json").read_text())["attempts"]
    return killed, wrong + ([] if attempts[-1]["status"] == "finished" else ["attempts"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, metavar="N")
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    multiprocessing.set_forkserver_preload(["maskbench.cli.main", "maskbench.runs.assemble"])
    rng, left, wrong = random.Random(arguments.seed), arguments.count, 0
    methods = list(parts.methods([identity.conf_dir()]))
    with tempfile.TemporaryDirectory() as place:
        for number in range(10 * len(methods)):
            if left <= 0:
                break
            if number % len(methods) == 0:
                rng.shuffle(methods)
            method, folder = methods[number % len(methods)], Path(place, str(number))
            folder.mkdir()
            killed, differing = trial(method, rng, folder, min(KILLS, left))
            left -= killed
            wrong += bool(differing)
            print(f"{method}: {killed} kills: {'; '.join(differing) or 'every byte the same'}", flush=True)
    print(f"{arguments.count - left} kills, {wrong} runs differ")
    return int(wrong > 0 or left > 0)


if __name__ == "__main__":
    sys.exit(main())
