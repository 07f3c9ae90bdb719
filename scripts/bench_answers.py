"""What an answer of four members costs, as a ratio to one forward of the net that they have in common (LeNet-5).

python scripts/bench_answers.py [--rounds 7] [--times 5] [--output outputs/bench.json]

As bench.py measures: one process and thread, interleaved, in reversed order every other round, medians of the ratio within the
round. A step is one answer to 1,000 made-up images of 28 x 28, after two steps of training, draws of weights made once, as in a
run; docs/metrics.md has their multiply-adds.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from bench import config, measure, tell

from maskbench.data.stage import Stage
from maskbench.runs.record import History
from maskbench.training.journal import Journal
from maskbench.training.method import Method

ROWS, M = 1000, 4
COMMON = [
    "data=mnist",
    "data.base=synthetic",
    "data.ood=null",
    "backbone=lenet5",
    "budget.epochs=null",
    "budget.steps=2",
    "logger=none",
]
FORWARD = "one forward, LeNet-5"
METHODS = {
    "mc_dropout": [f"method.passes={M}"],
    "masksembles": [f"method.members={M}"],
    "packed_ensembles": [f"method.members={M}", "method.alpha=2"],
    "batch_ensemble_members": [f"method.members={M}"],
    "swag": [f"method.members={M}"],
    "laplace": [f"method.members={M}"],
    "mimo": [f"method.members={M}"],
    "deep_ensembles": [f"method.members={M}"],
}


def learned(words: list[str]) -> tuple[Method, Stage]:
    """A method that can answer, and its stage."""
    run = config(words, COMMON)
    (stage,) = run.stages()
    method = run.method([stage])
    journal = Journal(run.folder, method, seed=0, every=1e9, history=History(run.folder / "metrics.csv"))
    method.learn(stage, run.fit(journal, lambda *row: None, lambda *at: None))
    return method.eval(), stage


def answering(words: list[str], times: int) -> Callable[[], Callable[[], None]]:
    """Prepares so many answers to the same images."""
    method, stage = learned(words)
    x = torch.cat([inputs for inputs, _ in stage.train.batches(ROWS, first=ROWS)])
    assert len(x) == ROWS

    @torch.no_grad()
    def go() -> None:
        for _ in range(times):
            method.predict(x, stage)

    return lambda: go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    loops = {FORWARD: answering(["method=dense"], args.times)}
    loops |= {
        f"answers of {name}, {M} members": answering([f"method={name}", *words], args.times) for name, words in METHODS.items()
    }
    measured = measure(loops, args.rounds)
    seconds = {name: [s / args.times for s in values] for name, values in measured.items()}
    against = {name: FORWARD for name in loops if name != FORWARD}
    tell(f"CPU time of answers to {ROWS:,} images ({args.rounds} rounds, one thread)", seconds, against, args.output)


if __name__ == "__main__":
    main()
