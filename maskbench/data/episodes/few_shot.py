"""Few-shot image classification: glyph28, data sets in the layouts of their distributors, and made-up images.

Training, validation and test episodes are drawn from classes of their own: no class of one is in another.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.knobs import Count, Within
from maskbench.data.episodes import bank as banks
from maskbench.data.episodes import cifar_fs, few_shot_folders, glyph28, omniglot
from maskbench.data.episodes.bank import Bank, ImageEpisodes
from maskbench.data.episodes.few_shot_folders import LAYOUTS
from maskbench.data.episodes.stages import ENDLESS, EpisodeStage
from maskbench.data.stage import Origin

SPLITS = ("train", "val", "test")
Banks = dict[str, Bank]  # by split


def few_shot(
    *,
    base: str,
    size: Count,
    ways: Annotated[int, Within(least=2)],
    shots: Count,
    queries: Count | None,
    test_queries: Count | None,
    test_shots: Sequence[Count],
    cross: Sequence[str],
    rotations: bool,
    val: Count,
    test: Annotated[int, Within(least=2)],
    source: Literal["auto", "folder", "package", "sample"],
    root: Path,
    seed: int,
    alphabets: Sequence[str] | None = None,
) -> list[EpisodeStage]:
    """One stage of N-way, K-shot episodes.

    Args:
        base: the data set: glyph28, synthetic, or one of few_shot_folders.py.
        size: pixels of an image's side.
        ways: N, classes of an episode.
        shots: K, support images of each class.
        queries: query images of each class in training; None: as many as shots.
        test_queries: query images of each class in validation and testing; None: as many as shots.
        test_shots: further test lists of other shots.
        cross: further test lists of other data sets.
        rotations: whether quarter turns of the training classes are classes too.
        val: validation episodes.
        test: test episodes.
        source: where files may come from: one source, or `auto`, each in turn.
        root: the data folder.
        seed: of the run, draws all episodes.
        alphabets: of Omniglot, those that are used, which makes it a part: the last quarter of them tests, the eighth before
            it validates (omniglot.py); None: the whole set.

    Raises:
        UsageError: no such data set, classes or images are too few, or image shapes differ.
    """
    own, origin = load(base, size, Path(root), source, None if alphabets is None else tuple(alphabets))
    queries = shots if queries is None else queries

    def episodes(split: str, count: int, k: int, q: int | None, of: Bank, domain: str) -> ImageEpisodes:
        q = k if q is None else q
        name = (seed, "episodes", domain, split, ways, k, q)
        return ImageEpisodes(bank=of.with_at_least(k + q), count=count, ways=ways, shots=k, queries=q, stream=name)

    train_bank = own["train"].rotated() if rotations else own["train"]
    train = episodes("train", ENDLESS, shots, queries, train_bank, base)
    further = {f"{k}shot": episodes("test", test, k, test_queries, own["test"], base) for k in test_shots}
    checksums = {base: origin.checksums[base]}
    for other in cross:
        theirs, where = load(other, size, Path(root), source)
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
            val=episodes("val", val, shots, test_queries, own["val"], base),
            test=episodes("test", test, shots, test_queries, own["test"], base),
            further=further,
            classes=train.bank.names,
            outputs=ways,
            shape=tuple(train_bank.images.shape[1:]),
            origin=Origin(base, origin.source, checksums, "unit", origin.facts),
            ways=ways,
            shots=shots,
            queries=queries,
        )
    ]


@lru_cache(maxsize=4)
def load(base: str, size: int, root: Path, source: str, alphabets: tuple[str, ...] | None = None) -> tuple[Banks, Origin]:
    """The images of `base` by split, loaded once per process; nobody writes into them."""
    root = root.expanduser()
    if base not in MADE and base not in LAYOUTS:
        choices = [*MADE, *LAYOUTS]
        raise UsageError(f"no few-shot data '{base}'.{did_you_mean(base, choices)} Choices: {', '.join(choices)}")
    if base in MADE and alphabets is not None:
        raise UsageError(f"data.alphabets is for data=omniglot, and {base} has none: leave it null.")
    facts: dict[str, Any] = {}
    if base in MADE:
        own, where = MADE[base](base, size, root, source)
    else:
        own, where, facts = from_folder(base, size, root, source, alphabets)
    return own, Origin(base, where, {base: "-".join(own[split].md5 for split in SPLITS)}, facts=facts)


def glyphs(base: str, size: int, root: Path, source: str) -> tuple[Banks, str]:
    """Images of glyph28 by split, and where its fonts came from."""
    if size != 28:
        raise UsageError(f"glyph28 has 28 pixels a side: data.size={size} must be 28")
    images, where, _ = glyph28.load(root, source)
    return {split: banks.bank(classes) for split, classes in images.items()}, where


def made_up(base: str, size: int, root: Path, source: str) -> tuple[Banks, str]:
    """Synthetic images by split."""
    return banks.synthetic(size), "synthetic"


def from_folder(
    base: str, size: int, root: Path, source: str, alphabets: tuple[str, ...] | None
) -> tuple[Banks, str, dict[str, Any]]:
    """Images by split out of the data folder, where they came from, and what else there is to say of them.

    Raises:
        UsageError: another source, or the folder is not complete.
    """
    if source not in ("auto", "folder"):
        raise UsageError(f"{base} comes from the data folder only: take data.source=auto or folder")
    where, facts = "folder", {}
    if alphabets is not None:
        classes, by_split = few_shot_folders.part(base, size, root, alphabets)
        where, facts = f"folder, {len(alphabets)} of {omniglot.ALPHABETS} alphabets", {"alphabets": by_split}
    elif base in OTHERWISE and not few_shot_folders.found(base, root):
        classes, origin = OTHERWISE[base](size, root, source)
        where, facts = origin.source, {"made_of": origin.name}
    else:
        classes = few_shot_folders.read(base, size, root)
    return {split: banks.bank(own) for split, own in classes.items()}, where, facts


MADE: dict[str, Callable[[str, int, Path, str], tuple[Banks, str]]] = {"glyph28": glyphs, "synthetic": made_up}
OTHERWISE = {"cifar_fs": cifar_fs.made}  # what a set is made of where its own folder is not there
