"""CPU time of a training step that cuts a ranking, as a ratio to the dense step: with windows around the last cut, and without.

python scripts/bench_ranking.py [--rounds 11] [--steps 100] [--output outputs/bench.json]

As bench.py measures, whose loops these are: one process and thread, interleaved, in reversed order every other round, medians
of the ratio within the round; many short rounds, so that what else the machine does falls on all rows alike. numpy's selection
costs several times as much with AVX-512 as without on some machines: where it uses it, all is measured a second time
without, in a process that names it in NPY_DISABLE_CPU_FEATURES. The goal is 1.35 of the dense step for edge_popup.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from bench import config, measure, tell, through_the_loop
from numpy._core import _multiarray_umath as numpy_core

from maskbench import masks
from maskbench.training.method import Method

ROWS = {
    "dense": ["method=finetune", "schedule=constant"],
    "edge_popup": ["method=edge_popup", "schedule=constant"],
    "edge_popup, global": ["method=edge_popup", "schedule=constant", "method.scope=global"],
    "supsup, budgets": ["method=supsup", "backbone.outputs=null", "method.density_scale=16"],
}
DISABLED = "NPY_DISABLE_CPU_FEATURES"


class Full:
    """Every cut by a full selection, as a Cutter would find it: for comparison only."""

    cut = staticmethod(masks.cut)
    cuts = staticmethod(masks.cuts)


def without_windows(method: Method) -> Method:
    method.cutters = dict.fromkeys(method.cutters, Full)
    return method


def wide_instructions() -> list[str]:
    """What numpy calls the AVX-512 instructions that it uses here."""
    has = numpy_core.__cpu_features__
    return [name for name in numpy_core.__cpu_dispatch__ if has.get(name) and (name.startswith("AVX512") or name == "X86_V4")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    wide = wide_instructions()
    where = "with AVX-512" if wide else "without AVX-512"
    runs = {f"{row}, numpy {where}": config(words) for row, words in ROWS.items()}
    dense, *ranked = runs
    stage = runs[dense].stages()[0]
    loops = {name: through_the_loop(run, stage, args.steps) for name, run in runs.items()}
    loops |= {f"{name}, full selections": through_the_loop(config(ROWS[row]), stage, args.steps, without_windows)
              for row, name in zip(list(ROWS)[1:], ranked, strict=True)}  # fmt: skip
    seconds = {name: [s / args.steps for s in values] for name, values in measure(loops, args.rounds).items()}
    title = f"CPU time of a training step ({args.rounds} rounds of {args.steps} steps, numpy {' '.join([where, *wide])})"
    tell(title, seconds, {name: dense for name in loops if name != dense}, args.output)
    if wide:
        subprocess.run([sys.executable, *sys.argv], env=os.environ | {DISABLED: " ".join(wide)}, check=True)
    elif not os.environ.get(DISABLED):
        print("this CPU has no AVX-512 that numpy uses: one table is all there is")


if __name__ == "__main__":
    main()
