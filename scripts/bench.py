"""What a training step costs through the real loop: dense as a ratio to a bare PyTorch loop on the same tensors, every mask
mechanism as a ratio to the dense step.

python scripts/bench.py [--rounds 7] [--steps 1000] [--output outputs/bench.json]
python scripts/bench.py --device cuda    LeNet, ResNet-18 and ResNet-50 on one device (bench_devices.py)

All rows and the bare loop run in one process on one thread, interleaved, in reversed order every other round; a row's
figure is the median over rounds of the ratio within the round. CPU time, so that a busy machine matters little.
LeNet-300-100, batch 128, fused Adam for every row: what differs is the mask. One row is Packed-Ensembles of LeNet-5, as a ratio
to a single LeNet-5; another an outer step of second-order MAML on 25 sine waves, as a ratio to the same written by hand, task
after task.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call

from maskbench.cli import schema
from maskbench.common import identity
from maskbench.common.streams import generator
from maskbench.data.stage import Stage, batches
from maskbench.masks import unpack
from maskbench.methods.prune.edge_popup import EdgePopup
from maskbench.runs.assemble import Run
from maskbench.runs.record import History
from maskbench.training.journal import Journal
from maskbench.training.method import Method, Progress

COMMON = ["data=permutedmnist", "data.stages=2", "optimizer=adam", "optimizer.lr=1e-3", "optimizer.weight_decay=0", "logger=none"]
APART = "five nets one after another"
BOTH = "exssnet, masks and weights"
ROWS = {
    "dense": ["method=finetune"],
    "dense, block = 1": ["method=finetune", "loop.block=1"],
    "supsup": ["method=supsup", "backbone.outputs=null"],
    "packnet": ["method=packnet", "method.prune=[0.0]"],
    "wsn": ["method=wsn"],
    "exssnet, masks": ["method=exssnet", "method.weights_share=0"],
    BOTH: ["method=exssnet"],
    "edge_popup": ["method=edge_popup", "schedule=constant"],
    "masksembles": ["method=masksembles", "backbone=lenet_300_100"],
    "mc_dropout": ["method=mc_dropout", "backbone=lenet_300_100"],
    "deep_ensembles, together": ["method=deep_ensembles", "backbone.widths=[24,12]", "method.together=true"],
    APART: ["method=deep_ensembles", "backbone.widths=[24,12]", "method.together=false"],
}
IN_ONE = {  # an ensemble in one net beside a single one
    "LeNet-5, dense": ["method=finetune", "backbone=lenet5"],
    "packed_ensembles, LeNet-5": ["method=packed_ensembles", "backbone=lenet5", "method.members=4", "method.alpha=2"],
}
MAML = ["method=maml", "data=sinusoid", "backbone=sinusoid_mlp", "optimizer=adam", "method.rate=0.01"]
HOOKED = "dense with all hooks, weight gradients every 20 steps"
BY_HAND = "autograd loop over tasks"
CPU = torch.device("cpu")
STARTED, HYDRA = "maskbench --cfg job (a process)", "python that only imports hydra"


class SortedSubnet(torch.autograd.Function):
    """The published selection, from its description: sort, write zeros and ones by rank, gradient as it came."""

    @staticmethod
    def forward(ctx, magnitudes: Tensor, keep: float) -> Tensor:
        mask = magnitudes.clone()
        order = magnitudes.flatten().sort().indices
        drop = int((1 - keep) * magnitudes.numel())
        mask.view(-1)[order[:drop]] = 0
        mask.view(-1)[order[drop:]] = 1
        return mask

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class FullSort(Method):
    """edge-popup with the published selection, over the scores and the frozen weights of ours: for comparison only."""

    def __init__(self, ours: EdgePopup) -> None:
        super().__init__(ours.net)
        self.ours = ours

    def trainable_parameters(self) -> Iterator[torch.nn.Parameter]:
        return self.ours.trainable_parameters()

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return {name: w * self.subnet(name) for name, w in self.ours.w.items()}

    def subnet(self, name: str) -> Tensor:
        return SortedSubnet.apply(self.ours.score(name).abs(), self.ours.keep)


class Hooked(Method):
    """Plain training whose hooks do nothing: what calling them costs, and catching the gradient of the weights now and then."""

    def __init__(self, plain: Method) -> None:
        super().__init__(plain.net)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return dict(self.net.named_parameters())

    def before_step(self, progress: Progress) -> None:
        pass

    def wants_weight_gradients(self, progress: Progress) -> bool:
        return progress.step % 20 == 0

    def after_backward(self, progress: Progress) -> None:
        pass

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        pass


def assert_equal_masks(ours: EdgePopup) -> None:
    """The drawn scores give the same masks by our selection, by a stable full sort and by the published one."""
    published, drawn = FullSort(ours), ours.masks_of({name: ours.score(name) for name in ours.w})
    for name, mask in drawn.items():
        rank = ours.score(name).detach().abs().flatten()
        stable = torch.ones_like(rank, dtype=torch.bool)
        stable[rank.sort(stable=True).indices[: rank.numel() - int(mask.sum())]] = False
        assert torch.equal(mask.flatten(), stable), f"{name}: not the mask of a stable sort"
        differing = (published.subnet(name).bool() != mask).flatten()
        # of scores that are equal at the cut, an unstable sort drops any
        assert len(rank[differing].unique()) <= 1, f"{name}: not the published mask"


def config(words: list[str], common: list[str] = COMMON) -> Run:
    schema.register()
    identity.register()
    with initialize_config_dir(str(identity.conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*common, *words])
    return Run(cfg, Path(tempfile.mkdtemp()))


def through_the_loop(
    run: Run,
    stage: Stage,
    steps: int,
    twist: Callable[[Method], Method] = lambda method: method,
    after: Sequence[Stage] = (),
    device: torch.device = CPU,
) -> Callable[[], Callable[[], None]]:
    """Prepares one stage learnt as a run does it: Trainer, blocks, and all that a method does around training.

    `twist` may put another method in the config's place; `after`: stages learnt before, in a step each. `device`: that of the
    run's trainer.
    """

    def prepare() -> Callable[[], None]:
        method = twist(run.method([stage]))
        journal = Journal(run.folder, method, seed=0, every=1e9, history=History(run.folder / "metrics.csv"))
        for earlier in after:
            run.cfg.budget.steps = 1
            method.learn(earlier, run.fit(journal, lambda *row: None, lambda *at: None))
        run.cfg.budget.steps = steps
        fit = run.fit(journal, lambda *row: None, lambda *at: None)
        fit.feed(stage.train, device)
        return lambda: method.learn(stage, fit)

    return prepare


def bare(run: Run, stage: Stage, steps: int) -> Callable[[], Callable[[], None]]:
    """Prepares the loop one would write by hand: index batches of resident tensors, fused Adam, nothing else."""
    x, y = stage.train.tensors()
    size = run.cfg.budget.batch_size

    def prepare() -> Callable[[], None]:
        net = run.method([stage]).net
        return lambda: loop(net)

    def loop(net: torch.nn.Module) -> None:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        net.train()
        walk = batches(len(y), size, range(steps), lambda epoch: torch.randperm(len(y), generator=generator("bare", epoch)))
        for index in walk:
            loss = torch.nn.functional.cross_entropy(net(x.index_select(0, index)), y.index_select(0, index))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return prepare


def finding_the_stage(run: Run, stage: Stage, masks: int, times: int) -> tuple[Callable, Callable]:
    """(One-Shot inference over so many masks from one image, its reference): the reference is one forward and one backward of
    the dense net, and reading every mask from its bits."""
    method = run.method([stage])
    method.classes.fill_(stage.outputs)
    for number in range(masks):
        method.book.write(number, {name: torch.rand_like(w) < 0.5 for name, w in method.w.items()})
    x, y = stage.test.tensors(first=1)
    net = run.method([stage]).net
    method.eval()

    def infer() -> None:
        for _ in range(times):
            method.infer(x[None], "one_shot_H")

    def reference() -> None:
        for _ in range(times):
            torch.nn.functional.cross_entropy(net(x), y).backward()
            for start in range(0, masks, 32):
                for name, shape in method.book.shapes.items():
                    bits = method.book.store[f"bits/{name}"][start : start + 32]
                    unpack(bits, shape).float()

    return lambda: infer, lambda: reference


def task_by_task(run: Run, stage: Stage, steps: int) -> Callable[[], Callable[[], None]]:
    """Prepares second-order MAML as one would write it by hand: autograd, one task after another, one inner step."""
    feed, size = stage.train.feed(), run.cfg.budget.batch_size

    def prepare() -> Callable[[], None]:
        net = run.method([stage]).net
        return lambda: loop(net)

    def task(net: torch.nn.Module, x: Tensor, support_y: Tensor, y: Tensor) -> Tensor:
        weights, shots = dict(net.named_parameters()), len(support_y)
        support = torch.nn.functional.mse_loss(functional_call(net, weights, (x[:shots],)), support_y)
        slopes = torch.autograd.grad(support, list(weights.values()), create_graph=True)
        fast = {name: w - run.cfg.method.rate * slope for (name, w), slope in zip(weights.items(), slopes, strict=True)}
        return torch.nn.functional.mse_loss(functional_call(net, fast, (x[shots:],)), y)

    def loop(net: torch.nn.Module) -> None:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        for step in range(steps):
            (x, support_y), y = feed.take(torch.arange(step * size, (step + 1) * size))
            loss = torch.stack([task(net, *rows) for rows in zip(x, support_y, y, strict=True)]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return prepare


def measure(loops: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each loop in each round, after one warm-up round; preparing is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        order = list(loops) if number % 2 else list(reversed(loops))
        for name in order:
            go = loops[name]()
            begun = spent()
            go()
            if number:
                seconds[name].append(spent() - begun)
    return seconds


def spent() -> float:
    """CPU seconds of this process and of those it waited for."""
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited.ru_utime + waited.ru_stime


def process(*words: str) -> Callable[[], Callable[[], None]]:
    """A Python process with these words behind `python`."""

    def run() -> None:
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)

    return lambda: run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    parser.add_argument("--device", type=torch.device, help="cuda or cpu: what one device makes of small and large nets")
    args = parser.parse_args()
    if args.device is not None:
        import bench_devices  # which imports this module

        return bench_devices.main(args.device, args.rounds, args.output)
    args.rounds = args.rounds or 7
    torch.set_num_threads(1)
    runs = {name: config(words) for name, words in ROWS.items()}
    stage = runs["dense"].stages()[0]
    loops = {"bare": bare(runs["dense"], stage, args.steps)}
    loops |= {name: through_the_loop(run, stage, args.steps) for name, run in runs.items()}
    loops[HOOKED] = through_the_loop(config(ROWS["dense"]), stage, args.steps, Hooked)
    few = max(1, args.steps // 10)  # of what is ten times as slow
    slow = config(ROWS["edge_popup"])
    loops["edge_popup, full sort"] = through_the_loop(slow, stage, few, FullSort)
    assert_equal_masks(runs["edge_popup"].method([stage]))
    loops |= {name: through_the_loop(config(words), stage, few) for name, words in IN_ONE.items()}
    times = dict.fromkeys(loops, args.steps) | {"edge_popup, full sort": few, BOTH: 2 * args.steps} | dict.fromkeys(IN_ONE, few)
    against = {name: "bare" if name.startswith("dense") else "dense" for name in loops if name not in ("bare", APART, *IN_ONE)}
    against["packed_ensembles, LeNet-5"] = "LeNet-5, dense"
    against["deep_ensembles, together"] = APART
    against[HOOKED] = "dense"
    infer, reference = finding_the_stage(runs["supsup"], stage, 250, 10)
    loops |= {"supsup, finding the stage (250 masks)": infer, "dense pass and mask reads": reference}
    times |= {"supsup, finding the stage (250 masks)": 10, "dense pass and mask reads": 10}
    against |= {"supsup, finding the stage (250 masks)": "dense pass and mask reads"}
    maml = config(MAML, ["logger=none"])
    waves = maml.stages()[0]
    loops |= {"maml, 25 tasks": through_the_loop(maml, waves, args.steps), BY_HAND: task_by_task(maml, waves, few)}
    times |= {"maml, 25 tasks": args.steps, BY_HAND: few}
    against |= {"maml, 25 tasks": BY_HAND}
    loops |= {STARTED: process("-m", "maskbench", "--cfg", "job"), HYDRA: process("-c", "import hydra.main")}
    times |= {STARTED: 1, HYDRA: 1}
    against |= {STARTED: HYDRA}
    seconds = {name: [s / times[name] for s in values] for name, values in measure(loops, args.rounds).items()}
    title = f"CPU time of a training step or a process ({args.rounds} rounds of {args.steps} steps, one thread)"
    tell(title, seconds, against, args.output)


def tell(title: str, seconds: dict[str, list[float]], against: dict[str, str], output: Path) -> None:
    """Print each row's ratio to the row it is held against, and put them into the file beside what others wrote there.

    `seconds`: of a step of each row in each round.
    """
    ratios = {name: [s / o for s, o in zip(seconds[name], seconds[other], strict=True)] for name, other in against.items()}
    report = {
        name: {
            "ratio": statistics.median(values),
            "of": against[name] if " " in against[name] else f"{against[name]} loop",
            "min": min(values),
            "max": max(values),
            "milliseconds_per_step": 1e3 * statistics.median(seconds[name]),
        }
        for name, values in ratios.items()
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(output.read_text()) if output.exists() else {}
    output.write_text(json.dumps(before | report, indent=1))
    table = Table(title=title)
    for column in ("row", "ratio", "of", "min", "max", "ms / step"):
        table.add_column(column, justify="left" if column in ("row", "of") else "right")
    for name in [name for name in seconds if name.startswith("bare")]:
        table.add_row(name, "", "", "", "", f"{1e3 * statistics.median(seconds[name]):.3f}")
    for name, row in report.items():
        numbers = {k: f"{row[k]:.3f}" for k in ("ratio", "min", "max", "milliseconds_per_step")}
        table.add_row(name, numbers["ratio"], row["of"], *list(numbers.values())[1:])
    Console().print(table)


if __name__ == "__main__":
    main()
