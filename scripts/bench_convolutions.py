"""CPU time of a training step of Conv-2 and ResNet-20 on 32x32 images: the dense loop beside a bare one, mechanisms beside dense.

    python scripts/bench_convolutions.py [--nets Conv-2,ResNet-20] [--rounds 5] [--steps 6] [--output outputs/bench.json]

As bench.py measures, whose loops these are: one process and thread, interleaved, in reversed order every other round, medians
of the ratio within the round. The goal for dense is 1.05 of the bare loop;
few steps a round count the fixed cost of a phase, some 20 ms, to them.
"""

import argparse
from pathlib import Path

import torch
from bench import bare, config, measure, tell, through_the_loop

COMMON = [
    "data=splitcifar100", "data.base=synthetic_cifar100", "data.stages=2", "data.augment=false", "optimizer=adam",
    "optimizer.lr=1e-3", "optimizer.weight_decay=0", "schedule=constant", "logger=none",
]  # fmt: skip
NETS = {
    "Conv-2": ["backbone=conv2", "budget.batch_size=60"],
    "ResNet-20": ["backbone=resnet20", "budget.batch_size=128"],
}
ROWS = {
    "dense": ["method=finetune"],
    "dense, augmented": ["method=finetune", "data.augment=true"],
    "dense, channels last": ["method=finetune", "trainer.memory_format=channels_last"],
    "edge_popup": ["method=edge_popup"],
    "supsup": ["method=supsup", "method.inference=[]", "backbone.outputs=null"],
    "packnet": ["method=packnet", "method.prune=[0.0]"],
    "masksembles": ["method=masksembles"],
    "mc_dropout": ["method=mc_dropout"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=lambda text: text.split(","), default=list(NETS), help=f"of {', '.join(NETS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for net in args.nets:
        runs = {f"{net}, {row}": config([*words, *NETS[net]], COMMON) for row, words in ROWS.items()}
        dense = f"{net}, dense"
        loops = {f"bare {net}": bare(runs[dense], runs[dense].stages()[0], args.steps)}
        loops |= {name: through_the_loop(run, run.stages()[0], args.steps) for name, run in runs.items()}
        against = {name: f"bare {net}" if name == dense else dense for name in runs}
        seconds = {name: [s / args.steps for s in values] for name, values in measure(loops, args.rounds).items()}
        tell(f"CPU time of a step ({args.rounds} rounds of {args.steps} steps, one thread)", seconds, against, args.output)


if __name__ == "__main__":
    main()
