"""CPU time of a training step of LeNet-300-100 under a fixed or moving mask, as a ratio to the dense step.

    python scripts/bench_sparse.py [--keeps 0.1,0.05,0.01] [--rounds 9] [--steps 400] [--runs 3] [--output outputs/bench.json]

As bench.py measures, whose loops these are, at the batch of 60 that the lottery's settings have. Masked rows multiply weights
by their mask; csr rows train the kept values alone in every layer, auto rows in those where it pays. rigl is held against
static training by the same kernel. Nets side by side train as one block-diagonal net, each on batches and masks of its own, in
a loop as one would write it by hand; their time is that of one net. Sweeps are the program itself on five seeds, so many times as
`--runs` says: the CPU seconds of training in the records of the runs, side by side and alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench import bare, config, measure, tell, through_the_loop
from torch import nn
from torch.nn.functional import cross_entropy

from maskbench.backbones.mlp import MLP
from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.masks.kernels import BlockDiagonal, Pattern, SparseWeight
from maskbench.runs.assemble import Run
from maskbench.training.stand_in import call

COMMON = ["data=mnist", "data.normalize=unit", "optimizer=lottery", "budget.batch_size=60", "logger=none"]
DENSE, STATIC, RIGL = "dense, batch 60", "auto, keep 0.05", "rigl, keep 0.05"
NETS, WIDTHS = 5, (300, 100)
SWEPT = 1000  # steps of each run of a sweep
KERNELS = {"masked": "dense", "csr": "csr", "auto": "auto"}


def static(keep: float, kernel: str) -> list[str]:
    return ["method=static_sparse", f"method.keep={keep}", f"method.kernel={kernel}"]


def side_by_side(run: Run, stage: Stage, steps: int) -> Callable[[], Callable[[], None]]:
    """Prepares nets of other seeds as one: a wide net whose weights are the block-diagonal ones of theirs."""
    x, y = stage.train.tensors()
    x, size = x.flatten(1), run.cfg.budget.batch_size

    def prepare() -> Callable[[], None]:
        methods = []
        for seed in range(NETS):
            run.cfg.seed = seed
            methods.append(run.method([stage]))
        with torch.device("meta"):
            wide = MLP((NETS * x.shape[1],), NETS * stage.outputs, widths=[NETS * width for width in WIDTHS], init="torch")
        blocks, moved = {}, {}
        for name in methods[0].sparse.sites:
            patterns = [Pattern.of(method.sparse[name]) for method in methods]
            blocks[name] = BlockDiagonal(patterns)
            values = [pattern.gather(method.net.get_parameter(name)) for pattern, method in zip(patterns, methods, strict=True)]
            moved[name] = nn.Parameter(blocks[name].join(values).detach())
        for name in (name for name, _ in wide.named_parameters() if name not in blocks):
            moved[name] = nn.Parameter(torch.cat([method.net.get_parameter(name) for method in methods]).detach())
        return lambda: loop(wide, blocks, moved)

    def loop(wide: nn.Module, blocks: dict[str, BlockDiagonal], moved: dict[str, nn.Parameter]) -> None:
        optimizer = torch.optim.Adam(moved.values(), lr=1.2e-3, fused=True)
        orders = [torch.randint(len(y), (steps * size,), generator=generator("side", net)) for net in range(NETS)]
        for rows in torch.stack(orders, 1).view(steps, size * NETS):  # of each example of a batch one for every net
            weights = {name: SparseWeight(moved[name], block.pattern) for name, block in blocks.items()}
            outputs = call(wide, moved | weights, x.index_select(0, rows).view(size, -1))
            loss = NETS * cross_entropy(outputs.reshape(size * NETS, -1), y.index_select(0, rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return prepare


def sweep(words: list[str], together: bool) -> float:
    """CPU seconds of a training step in a sweep of so many seeds, by the records of its runs."""
    with tempfile.TemporaryDirectory() as output:
        seeds, budget = ",".join(map(str, range(NETS))), [f"budget.steps={SWEPT}", "task.branches={}"]
        own = [f"seed={seeds}", f"paths.output={output}", f"loop.side_by_side={'true' if together else 'false'}"]
        words = [sys.executable, "-m", "maskbench", "-m", *COMMON, *words, *budget, *own]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done = [json.loads(path.read_text()) for path in Path(output).glob("*/s*/result.json")]
        about = [json.loads(path.read_text()) for path in Path(output).glob("*/s*/run.json")]
    if len(done) != NETS or any(("side_by_side" in record) != together for record in about):
        raise RuntimeError(f"{len(done)} of {NETS} runs, or not trained as they were to be")
    return sum(result["metrics"]["train_cpu_seconds_per_stage"] for result in done) / (NETS * SWEPT)


def sweeps(keeps: list[float], times: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """(seconds of a step in each round, what each row is held against), of sweeps through the program."""
    dense = f"sweep of {NETS} seeds, dense"
    rows = {dense: (["method=dense", "backbone=lenet_300_100", "task=prune"], False)}
    for keep in keeps:
        rows[f"sweep of {NETS} seeds, csr, keep {keep}"] = (static(keep, "csr"), False)
        rows[f"sweep of {NETS} seeds, side by side, keep {keep}"] = (static(keep, "csr"), True)
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(times):
        for name, (words, together) in list(rows.items())[:: 1 if number % 2 else -1]:
            seconds[name].append(sweep(words, together))
    return seconds, dict.fromkeys([name for name in rows if name != dense], dense)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keeps", type=lambda text: [float(keep) for keep in text.split(",")], default=[0.1, 0.05, 0.01])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
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
    together = {f"{NETS} nets side by side, keep {keep}": runs[f"csr, keep {keep}"] for keep in args.keeps}
    loops |= {name: side_by_side(run, stage, args.steps) for name, run in together.items()}
    times = {name: args.steps * (NETS if name in together else 1) for name in loops}
    against = dict.fromkeys([*runs, *together], DENSE) | {DENSE: "bare, batch 60", RIGL: STATIC}
    seconds = {name: [s / times[name] for s in values] for name, values in measure(loops, args.rounds).items()}
    swept, of = sweeps(args.keeps, args.runs)
    title = f"CPU time of a step ({args.rounds} rounds of {args.steps} steps, one thread)"
    tell(title, seconds | swept, against | of, args.output)


if __name__ == "__main__":
    main()
