"""docs/scaling.md: what work costs as it grows, measured: stages, levels, members, pixels, widths, each with its exponent.

    python scripts/scaling.py                         all sections; quarter of an hour of CPU time
    python scripts/scaling.py --only supsup,packnet   some of them; the page keeps what it has of the others
    python scripts/scaling.py --page                  the page anew from outputs/scaling.json

One thread, CPU seconds of this process and its children, made-up images of the right shapes, few steps: what is measured is how
cost grows, not how well anything learns. An exponent is the slope of a least-squares line through the logarithms of a column and
of what grows, over the rows of the table: 0 is constant, 1 linear.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from bench import config, spent
from bench_devices import COMMON, Net, made_up

from maskbench.common.streams import generator
from maskbench.data.images.imagenet import library
from maskbench.data.stage import Stage
from maskbench.report.writers import Sheet, markdown
from maskbench.runs.assemble import Run
from maskbench.runs.build import make
from maskbench.runs.record import History
from maskbench.training import evaluate
from maskbench.training.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "scaling.md", Path("outputs/scaling.json")
STEPS, ROWS = 10, 128  # of a phase, of a batch
REPEATS = 3  # of what is short; the median counts
WORKERS = 2
LENET = Net("LeNet-300-100", "lenet_300_100", (1, 28, 28), 10, {}, {})
Row = dict[str, float]


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes:
        grows: the first column. sizes: its values. measure: the other columns of one of them.
        limits: what ends the growth, in a sentence or two.
    """

    title: str
    grows: str
    sizes: Sequence[int]
    measure: Callable[[int], Row]
    limits: str


# ---- what all share


def prepared(words: Sequence[str], steps: int = STEPS) -> Run:
    run = config([*words, f"budget.batch_size={ROWS}", "backbone.outputs=null"], COMMON)
    run.cfg.budget.epochs, run.cfg.budget.steps = None, steps
    return run


def parts(run: Run, stages: list[Stage]) -> tuple[Any, Any, Journal]:
    """(method, fit, journal) of a run that writes nothing but its own temporary folder."""
    method = run.method(stages)
    journal = Journal(run.folder, method, seed=0, every=1e9, history=History(run.folder / "metrics.csv"))
    return method, run.fit(journal, lambda *row: None, lambda *at: None), journal


def seconds(act: Callable[[], object], repeats: int = REPEATS) -> float:
    """CPU seconds of an act, the median; one call before is not counted."""
    act()
    found = []
    for _ in range(repeats):
        begun = spent()
        act()
        found.append(spent() - begun)
    return sorted(found)[len(found) // 2]


def stage_number(stage: Stage, index: int, total: int) -> Stage:
    return replace(stage, index=index, total=total)


# ---- sections


def supsup(stages: int) -> Row:
    """A stage learnt, and one found, where the bank has the masks of so many (random ones, but for the last)."""
    run = prepared(["method=supsup", "backbone=lenet_300_100"])
    stage = made_up(LENET, 4 * ROWS)
    method, fit, _ = parts(run, [stage])
    method.classes.fill_(stage.outputs)
    drawn = generator("scaling", stages)
    store, known = method.book.store, stages - 1
    store.put("stages", torch.arange(known))
    for name, shape in method.book.shapes.items():
        width = store[f"bits/{name}"].shape[1]
        store.put(f"bits/{name}", torch.randint(256, (known, width), generator=drawn, dtype=torch.uint8))
        store.put(f"count/{name}", torch.full(shape, known // 2, dtype=torch.int32))
    last = stage_number(stage, known, stages)
    begun = spent()
    method.learn(last, fit)
    learnt = spent() - begun
    method.eval()
    x, _ = stage.test.tensors(first=1)
    with torch.no_grad():
        answered = seconds(lambda: method.predict(x, last))
    found = seconds(lambda: method.infer(x[None], "one_shot_H"))
    return {
        f"CPU ms to learn one ({STEPS} steps)": 1e3 * learnt,
        "MB of masks": stages * method.book.bytes() / 1e6,
        "ms to find the stage of an image": 1e3 * found,
        "ms to answer, stage given": 1e3 * answered,
    }


def packnet(stages: int) -> Row:
    """So many stages packed one after another; each gives back nine tenths of its own weights."""
    run = prepared(["method=packnet", "method.prune=[0.9]", "backbone=lenet_300_100"])
    stage = made_up(LENET, 4 * ROWS)
    every = [stage_number(stage, index, stages) for index in range(stages)]
    method, fit, _ = parts(run, every)
    begun = spent()
    for one in every:
        method.learn(one, fit)
    learnt = spent() - begun
    return {
        f"CPU ms a stage ({STEPS} steps, {STEPS // 2} more)": 1e3 * learnt / stages,
        "kB, all stages": method.memory_after(every[-1]) / 1e3,
        "% of the weights left for the last": 100 * 0.9 ** (stages - 1),
    }


def lottery(levels: int) -> Row:
    """A ticket of so many prunings, from the first training to the last evaluation."""
    run = prepared(["method=lottery", f"task.levels={levels}", "backbone=lenet_300_100"])
    stages = [made_up(LENET, 4 * ROWS)]
    method, fit, journal = parts(run, stages)
    begun = spent()
    make(run.cfg.task, method, stages, fit, journal)
    spent_in_all = spent() - begun
    return {
        f"CPU s ({STEPS} steps a level)": spent_in_all,
        "CPU ms a level": 1e3 * spent_in_all / (levels + 1),
        "% of the weights left": 100 * 0.8**levels,
    }


def members(count: int) -> Row:
    """Nets or masks that answer together; small nets train as one batched net."""
    row: Row = {}
    stage = made_up(LENET, 8 * ROWS)
    kinds = {
        "ensemble of 24-12 nets": ["method=deep_ensembles", "method.together=true", "backbone=lenet_300_100",
                                   "backbone.widths=[24,12]"],
        "Masksembles of LeNet-300-100": ["method=masksembles", "backbone=lenet_300_100"],
    }  # fmt: skip
    for name, words in kinds.items():
        run = prepared([*words, f"method.members={count}"])
        method, fit, _ = parts(run, [stage])
        begun = spent()
        method.learn(stage, fit)
        row[f"{name}: CPU ms a step"] = 1e3 * (spent() - begun) / STEPS
        method.eval()
        row[f"{name}: ms to answer {ROWS} images"] = 1e3 * seconds(lambda m=method: evaluate.members(m, stage, stage.test, ROWS))
    return row


def pixels(side: int) -> Row:
    """A dense and an edge-popup step of ResNet-20 on images of so many pixels a side."""
    net, batch, steps = Net("ResNet-20", "resnet20", (3, side, side), 10, {}, {}), 8, 2
    row: Row = {}
    for name, method_words in {"dense": "method=finetune", "edge-popup": "method=edge_popup"}.items():
        run = prepared([method_words, "backbone=resnet20"], steps)
        run.cfg.budget.batch_size = batch
        stage = made_up(net, batch * steps)
        warm, fit, _ = parts(run, [stage])
        warm.learn(stage, fit)
        method, fit, _ = parts(run, [stage])
        begun = spent()
        method.learn(stage, fit)
        row[f"{name}, CPU ms an image"] = 1e3 * (spent() - begun) / (steps * batch)
    return row


def streaming(side: int) -> Row:
    """JPEG files of so many pixels a side, read and cut to 64 pixels by two workers: ours, and torchvision's ImageFolder with the
    same steps in a DataLoader."""
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    images, batch, size, resize = 128, 32, 64, 72
    with tempfile.TemporaryDirectory() as folder:
        drawn = np.random.default_rng(0)
        for part, count in (("train", images), ("val", 8)):
            for number in range(count):
                path = Path(folder) / "set" / part / f"class{number % 2}" / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = drawn.integers(0, 256, (16, 16, 3), dtype=np.uint8)  # smooth, as photographs are
                Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
        read = library("set", size, resize, "unit", WORKERS, Path(folder), 0)
        split = read.part("train", torch.arange(images))

        def ours() -> None:
            assert sum(len(x) for x, _ in split.batches(batch)) == images

        steps = v2.Compose([v2.Resize(resize), v2.CenterCrop(size), v2.PILToTensor()])
        theirs_set = ImageFolder(str(Path(folder) / "set" / "train"), steps)

        def theirs() -> None:
            loader = DataLoader(theirs_set, batch_size=batch, num_workers=WORKERS)
            assert sum(len(x.float() / 255) for x, _ in loader) == images

        found = {"ours": seconds(ours, 1), "ImageFolder": seconds(theirs, 1)}
    return {f"{name}, images a CPU second": images / value for name, value in found.items()}


def width(factor: int) -> Row:
    """LeNet-300-100 with so many times its hidden units: a dense step and an edge-popup step."""
    widths, row = [300 * factor, 100 * factor], {}
    stage = made_up(LENET, 4 * ROWS)
    for name, method_words in {"dense": "method=finetune", "edge-popup": "method=edge_popup"}.items():
        run = prepared([method_words, "backbone=lenet_300_100", f"backbone.widths={widths}"])
        method, fit, _ = parts(run, [stage])
        begun = spent()
        method.learn(stage, fit)
        row[f"{name}, CPU ms a step"] = 1e3 * (spent() - begun) / STEPS
        row.setdefault("weights", sum(p.numel() for p in method.net.parameters()))
    return {"weights": row.pop("weights")} | row


def tickets(candidates: int) -> Row:
    """A target 8-16-16-4 found inside a random net with so many candidates a weight, by subsets of least error."""
    words = ["method=subset_sum", f"method.width={candidates}", "method.objective=min_error", "method.strict=false"]
    run = config([*words, "backbone=mlp"], ["logger=none", "data=ball"])
    stages = run.stages()
    method, fit, journal = parts(run, stages)
    begun = spent()
    outcome = make(run.cfg.task, method, stages, fit, journal)
    return {"CPU s": spent() - begun, "certified error over the unit ball": outcome.metrics["certificate"]}


SECTIONS = {
    "supsup": Section(
        "SupSup: stages (LeNet-300-100, one mask a stage)", "stages", (10, 50, 250, 1000, 2500), supsup,
        "Learning a stage costs the same however many there are, but for copying the bank as a stage is added. Masks take one "
        "bit a weight and stage: memory ends it. Finding a stage unpacks every mask once, whichever image asks.",
    ),
    "packnet": Section(
        "PackNet: stages in one net (LeNet-300-100)", "stages", (2, 10, 25, 50), packnet,
        "Free weights end it: each stage takes its share of what is left. The number of the owner is one byte a weight, so 254 "
        "stages at most; private heads and biases are what grows.",
    ),
    "lottery": Section(
        "Lottery tickets: levels of pruning (LeNet-300-100)", "levels", (2, 5, 10, 20), lottery,
        "Each level is a training, whatever is left of the net: zeros in dense tensors make nothing faster. `method.kernel=auto` "
        "moves the kept values alone where that is cheaper (docs/pruning.md).",
    ),
    "members": Section(
        "Members of an ensemble", "members", (1, 4, 16, 64), members,
        "An ensemble costs a net a member, less where small nets train as one. Masks of units divide the batch in training, so a "
        "step costs the same; an answer asks each member.",
    ),
    "pixels": Section(
        "Pixels: a step of ResNet-20", "pixels a side", (16, 32, 64, 128), pixels,
        "Convolutions, with the area, once it outweighs what a phase costs by itself. A mask costs with the weights and not with "
        "the pixels.",
    ),
    "streaming": Section(
        "Streaming from files: JPEGs to inputs of 64 pixels, two workers", "pixels a side", (64, 128, 256, 512), streaming,
        "Decoding, with the area of the file. The DataLoader and its workers are the same on both sides; starting them is "
        "included, which weighs on small files.",
    ),
    "width": Section(
        "Width: hidden units of LeNet-300-100", "times as wide", (1, 2, 4, 8), width,
        "Products of matrices, with the weights, whose number goes with the square of the width once hidden layers outweigh the "
        "first. Selecting the top scores is linear in them.",
    ),
    "tickets": Section(
        "Strong tickets by subset sums: candidates a weight", "candidates", (10, 20, 30, 40, 50), tickets,
        "Below some 40 candidates judging the net is the larger part, beyond them the search shows. The error falls faster than "
        "any power of their number: the theorem asks for log(1/eps) of them.",
    ),
}  # fmt: skip


STARTS = {
    "Python": "pass",
    "torch": "import torch",
    "torch, and a first step of its Adam": (
        "import torch; p = torch.nn.Parameter(torch.ones(2)); o = torch.optim.Adam([p], fused=True); p.sum().backward(); o.step()"
    ),
    "Lightning (brings torch, torchmetrics, torchvision, scipy.signal, matplotlib)": "import pytorch_lightning",
    "all that a run imports before its first step": (
        "import maskbench.cli.main, maskbench.cli.preflight, maskbench.runs.assemble, maskbench.tasks.uncertainty"
    ),
}


def starts() -> list[dict[str, Any]]:
    """CPU seconds of a process that imports this and no more, and how many modules it then has."""
    found = []
    for name, code in STARTS.items():
        begun = spent()
        words = [sys.executable, "-c", f"{code}\nimport sys; print(len(sys.modules))"]
        out = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        found.append({"imported": name, "CPU s": spent() - begun, "modules": int(out.stdout)})
        print(found[-1], flush=True)
    return found


# ---- the page


def exponent(rows: Sequence[Row], grows: str, column: str) -> float | None:
    """Slope of log(column) over log(what grows), by least squares; None where a value is not above 0."""
    points = [(row[grows], row[column]) for row in rows]
    if len(points) < 2 or any(value <= 0 for pair in points for value in pair):
        return None
    x, y = (np.log([pair[at] for pair in points]) for at in (0, 1))
    return float(np.polyfit(x, y, 1)[0])


def told(value: float) -> str:
    """Three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits):,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"


def sheet(section: Section, rows: Sequence[Row]) -> Sheet:
    columns = [column for column in rows[0] if column != section.grows]
    body = [[f"{int(row[section.grows]):,}", *(told(row[column]) for column in columns)] for row in rows]
    slopes = [exponent(rows, section.grows, column) for column in columns]
    body.append(["exponent", *("" if slope is None else f"{slope:.2f}" for slope in slopes)])
    return Sheet(section.title, [section.grows, *columns], body, notes=[section.limits])


def start_sheet(rows: Sequence[dict[str, Any]]) -> Sheet:
    body = [[row["imported"], told(row["CPU s"]), f"{row['modules']:,}"] for row in rows]
    notes = [
        "Paid once a process: the runs of a sweep in one process share it, and so do forks of one (maskbench table).",
        "torch imports its compiler (torch._dynamo) as the first of its optimisers steps; Lightning imports torchmetrics, and "
        "that torchvision, scipy.signal and matplotlib where they are installed: none of it is ours to take away. Our own import "
        "figures and readers of other runs where they are used; `python -X importtime -m maskbench ...` lists all.",
    ]
    return Sheet("Before the first step", ["a process that imports", "CPU s", "modules"], body, notes=notes)


def page(results: dict[str, Any]) -> str:
    """docs/scaling.md."""
    head = (
        "# What work costs as it grows\n\n"
        "Measured by `python scripts/scaling.py`, which writes this page, on 2 cores that other work shared: CPU seconds of one "
        "thread, so that the others matter little. Made-up images of the right shapes, few steps: how cost grows is measured, "
        "not how well anything learns. An exponent is the slope of a line through the logarithms of a column and of what grows, "
        "over the rows shown: 0 is constant, 1 linear, 2 with the square. Some 20 ms of a phase of training are fixed, which ten "
        "steps share: small rows are dearer by it, and exponents smaller.\n"
    )
    if "starts" in results:
        head += "\n" + markdown(start_sheet(results["starts"]), level=2)
    made = [markdown(sheet(section, results[name]), level=2) for name, section in SECTIONS.items() if name in results]
    return "\n".join([head, *made])


def load() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def measured(section: Section) -> Iterator[Row]:
    for size in section.sizes:
        row = {section.grows: float(size)} | section.measure(size)
        print(f"{section.title}: " + ", ".join(f"{name} {told(value)}" for name, value in row.items()), flush=True)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(("starts", *SECTIONS)), help=f"sections, of starts, {', '.join(SECTIONS)}")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from outputs/scaling.json")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := [name for name in names if name not in ("starts", *SECTIONS)]:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    for name in [] if given.page else names:
        rows = starts() if name == "starts" else list(measured(SECTIONS[name]))
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(load() | {name: rows}, indent=1))  # section by section: an interruption costs one
        PAGE.write_text(page(load()))
    if given.page:
        PAGE.write_text(page(load()))


if __name__ == "__main__":
    main()
