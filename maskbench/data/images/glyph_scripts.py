"""One writing system, then another with few instances of each letter: 20 images of each letter, from glyph28.

Latin to Greek is near, Devanagari to Bengali too; any two scripts of glyph28 make a pair.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.knobs import Count
from maskbench.common.streams import generator
from maskbench.data.episodes import glyph28
from maskbench.data.stage import Origin, Split, Stage

Classes = dict[str, np.ndarray]  # letter -> uint8 [instances, 28, 28]


def glyph_scripts(
    *,
    base: Literal["glyph28", "synthetic"],
    source_script: str,
    target_script: str,
    n_target: Count | None,
    val: Count,
    test: Count,
    source: Literal["auto", "folder", "package", "sample"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """The two stages, seen on the source's scale (mean and deviation of its training pixels).

    Args:
        base: glyph28, or synthetic: made-up letters A and B for smoke tests.
        source_script, target_script: two scripts of glyph28, such as LATIN and GREEK.
        n_target: training instances of each target letter; None: all.
        val: instances of each letter that validate.
        test: instances of each letter that test; the others train.
        source: where the fonts may come from: one source, or `auto`, each in turn.
        root: the data folder.
        seed: of the run, draws which instances train.

    Raises:
        UsageError: no such script, or too few instances or source letters.
    """
    classes, where, md5 = made_up() if base == "synthetic" else everything(root, source)
    scripts = (source_script, target_script) if base != "synthetic" else ("A", "B")
    first, second = (
        letters_of(key, name, classes) for key, name in zip(("source_script", "target_script"), scripts, strict=True)
    )
    if len(second) > len(first):
        raise UsageError(f"{target_script} has {len(second)} letters and {source_script} {len(first)}: give the source as many.")
    held = val + test
    instances = min(len(images) for images in (first | second).values())
    trains = instances - held if n_target is None else n_target
    if not 0 < trains <= instances - held:
        raise UsageError(
            f"data.n_target={n_target}: of {instances} instances {held} are held out, take {instances - held} or fewer."
        )
    counts = (instances - held, trains)
    parts = [divided(own, count, val, test, generator(seed, "letters", role)) for own, count, role in
             zip((first, second), counts, ("source", "target"), strict=True)]  # fmt: skip
    pixels = parts[0]["train"][0]
    mean, deviation = pixels.mean(), pixels.std()
    return [
        Stage(
            index=index,
            total=2,
            name=script,
            **{part: Split((x - mean) / deviation, y) for part, (x, y) in split.items()},
            classes=tuple(own),
            outputs=len(first),
            shape=(1, 28, 28),
            origin=Origin("glyph scripts", where, {"glyph28": md5}, f"{mean:.6f} {deviation:.6f}"),
        )
        for index, (script, own, split) in enumerate(zip(scripts, (first, second), parts, strict=True))
    ]


def everything(root: Path, source: str) -> tuple[Classes, str, str]:
    """(letters of all scripts, where the fonts came from, MD5 of the images) of glyph28."""
    splits, where, md5 = glyph28.load(root, source)
    return {name: images for own in splits.values() for name, images in own.items()}, where, md5


def letters_of(key: str, script: str, classes: Classes) -> Classes:
    """The letters of a script.

    Raises:
        UsageError: there are none.
    """
    letters = {name: images for name, images in classes.items() if name.partition(":")[0] == script}
    if not letters:
        known = sorted({name.partition(":")[0] for name in classes})
        hint = did_you_mean(script.upper(), known)
        raise UsageError(f"data.{key}={script} is no script here.{hint} Scripts: {', '.join(known)}.")
    return letters


def divided(classes: Classes, count: int, val: int, test: int, draw: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs [rows, 1, 28, 28] from 0 to 1 and labels of each split: instances in a random order, letter by letter; what
    tests comes first, so that a smaller `count` is part of a larger one."""
    places = {"test": slice(0, test), "val": slice(test, test + val), "train": slice(test + val, test + val + count)}
    rows: dict[str, list[Tensor]] = {part: [] for part in places}
    for images in classes.values():
        order = torch.randperm(len(images), generator=draw)
        for part, place in places.items():
            rows[part].append(torch.from_numpy(images[order[place].numpy()]).float()[:, None] / 255)

    def joined(some: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        y = torch.arange(len(some)).repeat_interleave(torch.tensor([len(x) for x in some]))
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))  # so that first rows are a fair sample
        return torch.cat(list(some))[order], y[order]

    return {part: joined(some) for part, some in rows.items()}


def made_up() -> tuple[Classes, str, str]:
    """Two scripts of six and five letters, each 12 noisy copies of a random pattern."""
    draw = np.random.RandomState(7)  # its stream is frozen across versions of numpy

    def letter() -> np.ndarray:
        pattern = np.kron(draw.randint(0, 2, (7, 7)), np.ones((4, 4))) * 200
        return np.clip(pattern + 30 * draw.randn(12, 28, 28), 0, 255).astype(np.uint8)

    return {f"{s}:{i:04X}": letter() for s, n in (("A", 6), ("B", 5)) for i in range(n)}, "synthetic", "made up"
