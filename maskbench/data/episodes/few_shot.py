"""Few-shot image classification: glyph28, data sets in the layouts of their distributors, and made-up images.

Training, validation and test episodes are drawn from classes of their own: no class of one is in another.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.data.episodes import bank as banks
from maskbench.data.episodes import glyph28
from maskbench.data.episodes.bank import Bank, ImageEpisodes
from maskbench.data.episodes.few_shot_folders import LAYOUTS, read
from maskbench.data.episodes.stages import ENDLESS, EpisodeStage
from maskbench.data.images.whole_sets import whole_number
from maskbench.data.stage import Origin

SPLITS = ("train", "val", "test")
Banks = dict[str, Bank]  # by split


def few_shot(*, base: str, size: int, ways: int, shots: int, queries: int | None, test_queries: int | None,
             test_shots: list[int], cross: list[str], rotations: bool, val: int, test: int, source: str, root: Path,
             seed: int) -> list[EpisodeStage]:  # fmt: skip
    """One stage of episodes of `ways` classes with `shots` images each.

    `queries` per class train, `test_queries` are tested (None: as many as shots). `rotations` adds the quarter turns of
    the training classes as classes. `test_shots` are further test lists of other shots, `cross` such of other data sets.
    """
    ways, shots = whole_number("data.ways", ways, least=2), whole_number("data.shots", shots, least=1)
    own, origin = found(base, size, Path(root), source)
    queries = shots if queries is None else whole_number("data.queries", queries, least=1)

    def episodes(split: str, count: int, k: int, asked: int | None, of: Bank, domain: str) -> ImageEpisodes:
        asked = k if asked is None else whole_number("data.test_queries", asked, least=1)
        name = (seed, "episodes", domain, split, ways, k, asked)
        return ImageEpisodes(bank=of.with_at_least(k + asked), count=count, ways=ways, shots=k, queries=asked, stream=name)

    train_bank = own["train"].rotated() if rotations else own["train"]
    train = episodes("train", ENDLESS, shots, queries, train_bank, base)
    test = whole_number("data.test", test, least=2)
    further = {f"{k}shot": episodes("test", test, k, test_queries, own["test"], base) for k in test_shots}
    checksums = {base: origin.checksums[base]}
    for other in cross:
        theirs, where = found(other, size, Path(root), source)
        further[other] = episodes("test", test, shots, test_queries, theirs["test"], other)
        checksums |= where.checksums
        if theirs["test"].images.shape[1:] != train_bank.images.shape[1:]:
            raise UsageError(f"data.cross={other} has other image shapes than {base}, so one net cannot answer both")
    return [
        EpisodeStage(
            index=0,
            total=1,
            name=base,
            train=train,
            val=episodes("val", whole_number("data.val", val, least=1), shots, test_queries, own["val"], base),
            test=episodes("test", test, shots, test_queries, own["test"], base),
            further=further,
            classes=train.bank.names,
            outputs=ways,
            shape=tuple(train_bank.images.shape[1:]),
            origin=Origin(base, origin.source, checksums, "unit"),
            ways=ways,
            shots=shots,
            queries=queries,
        )
    ]


@lru_cache(maxsize=4)
def found(base: str, size: int, root: Path, source: str) -> tuple[Banks, Origin]:
    """The images of `base` by split, loaded once per process; nobody writes into them."""
    made = MADE.get(base) or (base in LAYOUTS and from_folder)
    if not made:
        choices = [*MADE, *LAYOUTS]
        raise UsageError(f"no few-shot data '{base}'.{did_you_mean(str(base), choices)} Choices: {', '.join(choices)}")
    own, where = made(base, size, root.expanduser(), source)
    return own, Origin(base, where, {base: "-".join(own[split].md5 for split in SPLITS)})


def glyphs(base: str, size: int, root: Path, source: str) -> tuple[Banks, str]:
    if size != 28:
        raise UsageError(f"glyph28 has 28 pixels a side: data.size={size} must be 28")
    drawn, where, _ = glyph28.load(root, source)
    return {split: banks.bank(classes) for split, classes in drawn.items()}, where


def made_up(base: str, size: int, root: Path, source: str) -> tuple[Banks, str]:
    return banks.synthetic(size), "synthetic"


def from_folder(base: str, size: int, root: Path, source: str) -> tuple[Banks, str]:
    if source not in ("auto", "folder"):
        raise UsageError(f"{base} comes from the data folder only: take data.source=auto or folder")
    return {split: banks.bank(classes) for split, classes in read(base, size, root).items()}, "folder"


MADE: dict[str, Callable[[str, int, Path, str], tuple[Banks, str]]] = {"glyph28": glyphs, "synthetic": made_up}
