"""What a training step costs on one device, in ms and beside a bare loop there: `python scripts/bench.py --device cuda`.

LeNet-300-100 on MNIST's shape, ResNet-18 on CIFAR's and ResNet-50 on ImageNet's, each in fp32 and in bf16, on made-up images that
lie on the device. The bare loop is what one would write by hand: resident tensors, fused Adam, autocast for bf16. On a GPU the
clock is the wall's, read once the device is idle, and kernels are warm by a round that is not counted; on the CPU, which is there
so that the same code can be tried anywhere, it is CPU time, and batches of the large nets are small.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from bench import config, spent, through_the_loop
from rich.console import Console
from rich.table import Table

from maskbench.common import compilers
from maskbench.common.streams import generator
from maskbench.data.stage import Origin, Split, Stage
from maskbench.runs.assemble import Run

COMMON = [
    "data=splitcifar100", "data.base=synthetic_cifar100", "data.stages=2", "data.augment=false", "optimizer=adam",
    "optimizer.lr=1e-3", "optimizer.weight_decay=0", "schedule=constant", "logger=none",
]  # fmt: skip
ROWS = {
    "dense": ["method=finetune"],
    "edge_popup": ["method=edge_popup"],
    "supsup": ["method=supsup", "method.inference=[]"],
    "packnet": ["method=packnet", "method.prune=[0.0]"],
}
COMPILED = {"dense, compiled": ["method=finetune", "loop.compile=true"]}  # on GPUs: compiling for a CPU takes minutes
PRECISIONS = {"fp32": [], "bf16": ["trainer.precision=bf16-mixed"]}


@dataclass(frozen=True)
class Net:
    """A net on the shape of a data set.

    Attributes:
        batch, steps: by the type of device; a round makes so many steps of so many images.
    """

    name: str
    backbone: str
    shape: tuple[int, ...]
    outputs: int
    batch: dict[str, int]
    steps: dict[str, int]


NETS = (
    Net("LeNet-300-100", "lenet_300_100", (1, 28, 28), 10, {"cuda": 128, "cpu": 128}, {"cuda": 1000, "cpu": 50}),
    Net("ResNet-18, CIFAR", "resnet18_cifar", (3, 32, 32), 10, {"cuda": 128, "cpu": 8}, {"cuda": 100, "cpu": 1}),
    Net("ResNet-50, ImageNet", "resnet50", (3, 224, 224), 1000, {"cuda": 64, "cpu": 1}, {"cuda": 40, "cpu": 1}),
)


def made_up(net: Net, rows: int) -> Stage:
    """A stage of random images of the net's shape, the same at each call."""
    drawn = generator("bench", net.name)
    x, y = torch.randn(rows, *net.shape, generator=drawn), torch.randint(net.outputs, (rows,), generator=drawn)
    one = Split(x, y)
    origin = Origin("made up", "synthetic")
    return Stage(
        index=0, total=1, name="made up", train=one, val=one, test=one, classes=tuple(range(net.outputs)), outputs=net.outputs,
        shape=net.shape, origin=origin,
    )  # fmt: skip


def bare(run: Run, stage: Stage, steps: int, device: torch.device, bf16: bool) -> Callable[[], Callable[[], None]]:
    """Prepares the loop one would write by hand on this device."""
    x, y = stage.train.tensors(device)
    size = run.cfg.budget.batch_size

    def prepare() -> Callable[[], None]:
        net = run.method([stage]).net.to(device)
        return lambda: loop(net)

    def loop(net: torch.nn.Module) -> None:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        net.train()
        for step in range(steps):
            index = torch.randperm(len(y), generator=generator("bare", step))[:size].to(device)
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                loss = torch.nn.functional.cross_entropy(net(x.index_select(0, index)), y.index_select(0, index))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return prepare


def clock(device: torch.device) -> float:
    """Seconds: CPU time on the CPU; elsewhere the wall's, once all work is done."""
    if device.type == "cpu":
        return spent()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(loops: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each loop in each round, interleaved and in turned order; on a GPU after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    warm = device.type != "cpu"
    for number in range(rounds + warm):
        for name in list(loops) if number % 2 else list(reversed(loops)):
            go = loops[name]()
            begun = clock(device)
            go()
            if number >= warm:
                seconds[name].append(clock(device) - begun)
    return seconds


def of(net: Net, precision: str, rows: dict[str, list[str]], rounds: int, device: torch.device) -> dict[str, dict[str, object]]:
    """The rows of one net in one precision, by name: ms a step, and as a ratio to the bare loop's."""
    batch, steps = net.batch[device.type], net.steps[device.type]
    words = [f"backbone={net.backbone}", f"budget.batch_size={batch}", "backbone.outputs=null", *PRECISIONS[precision]]
    words += ["trainer=cpu" if device.type == "cpu" else "trainer=gpu"]
    runs = {name: config([*own, *words], COMMON) for name, own in rows.items()}
    for run in runs.values():
        run.cfg.budget.epochs = None  # the steps are said
    stage = made_up(net, 2 * batch)
    loops = {"bare loop": bare(runs["dense"], stage, steps, device, precision == "bf16")}
    loops |= {name: through_the_loop(run, stage, steps, device=device) for name, run in runs.items()}
    seconds = seconds_of(loops, rounds, device)
    base = seconds["bare loop"]
    return {
        f"{net.name}, {precision}, {name}": {
            "milliseconds_per_step": 1e3 * statistics.median(values) / steps,
            "ratio": statistics.median(s / b for s, b in zip(values, base, strict=True)),
            "of": "bare loop",
            "batch": batch,
            "steps": steps,
            "rounds": rounds,
        }
        for name, values in seconds.items()
    }


def rows_on(
    device: torch.device,
    *,
    rounds: int | None = None,
    names: tuple[str, ...] = tuple(net.name for net in NETS),
    left: Callable[[], float] = lambda: 1.0,
) -> Iterator[dict[str, dict[str, object]]]:
    """The rows of the nets that are named, net by net and precision by precision, while there is time `left` (seconds)."""
    rounds, rows = rounds or (1 if device.type == "cpu" else 3), dict(ROWS)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())  # as Lightning calls it: data is brought there once
        if compilers.lacking() is None:
            rows |= COMPILED
    for net in (net for net in NETS if net.name in names):
        for precision in PRECISIONS:
            if left() > 0:
                yield of(net, precision, rows, rounds, device)


def show(rows: dict[str, dict[str, object]], title: str) -> None:
    table = Table(title=title)
    for column in ("row", "batch", "ms / step", "of a bare loop"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for name, row in rows.items():
        table.add_row(name, str(row["batch"]), f"{row['milliseconds_per_step']:.3f}", f"{row['ratio']:.3f}")
    Console().print(table)


def main(device: torch.device, rounds: int | None, output: Path) -> None:
    """Measure, print, and put the rows into the file beside what others wrote there."""
    torch.set_num_threads(1)
    rows = {name: row for some in rows_on(device, rounds=rounds) for name, row in some.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(output.read_text()) if output.exists() else {}
    output.write_text(json.dumps(before | {f"{device.type}: {name}": row for name, row in rows.items()}, indent=1))
    show(rows, f"A training step on {device}")
