"""CPU time of a training step of LeNet-300-100 under a fixed or moving mask, as a ratio to the dense step.

    python scripts/bench_sparse.py [--keeps 0.1,0.05,0.01] [--rounds 9] [--steps 400] [--output outputs/bench.json]

As bench.py measures, whose loops these are, at the batch of 60 that the lottery's settings have. Masked rows multiply weights
by their mask; csr rows train the kept values alone in every layer, auto rows in those where it pays. rigl is held against
static training by the same kernel.
"""

import argparse
from pathlib import Path

import torch
from bench import bare, config, measure, tell, through_the_loop

COMMON = ["data=mnist", "data.normalize=unit", "optimizer=lottery", "budget.batch_size=60", "logger=none"]
DENSE, STATIC, RIGL = "dense, batch 60", "auto, keep 0.05", "rigl, keep 0.05"
KERNELS = {"masked": "dense", "csr": "csr", "auto": "auto"}


def static(keep: float, kernel: str) -> list[str]:
    return ["method=static_sparse", f"method.keep={keep}", f"method.kernel={kernel}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keeps", type=lambda text: [float(keep) for keep in text.split(",")], default=[0.1, 0.05, 0.01])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = {DENSE: ["method=dense", "backbone=lenet_300_100"]}
    rows |= {f"{name}, keep {keep}": static(keep, kernel) for keep in args.keeps for name, kernel in KERNELS.items()}
    rows |= {STATIC: static(0.05, "auto"), RIGL: ["method=rigl", "method.keep=0.05", "method.kernel=auto"]}
    runs = {name: config(words, COMMON) for name, words in rows.items()}
    stage = runs[DENSE].stages()[0]
    loops = {"bare, batch 60": bare(runs[DENSE], stage, args.steps)}
    loops |= {name: through_the_loop(run, stage, args.steps) for name, run in runs.items()}
    against = dict.fromkeys(runs, DENSE) | {DENSE: "bare, batch 60", RIGL: STATIC}
    seconds = {name: [s / args.steps for s in values] for name, values in measure(loops, args.rounds).items()}
    tell(f"CPU time of a step ({args.rounds} rounds of {args.steps} steps, one thread)", seconds, against, args.output)


if __name__ == "__main__":
    main()
