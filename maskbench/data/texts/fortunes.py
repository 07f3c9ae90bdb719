"""Quotations by subject (sources/texts.py): to learn the subject, or as texts whose similarities are compared.

Texts become tokens, whole numbers [rows, length], by the tokenizer that a net was published with; the rest of a row is
filled by text_nets.FILLING. Every subject has as many rows, drawn by the seed; what tests is drawn first.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskbench.common import text_nets
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Share
from maskbench.data.images.small import balanced, with_rows
from maskbench.data.sources import texts
from maskbench.data.sources.folder import md5
from maskbench.data.sources.small_sets import Pool
from maskbench.data.stage import Origin, Split, Stage

DRAW = 5  # of a set's own draw, beside the seed; those before are of images/small.py


def fortunes(
    *,
    train: Count,
    test: Count,
    val: Share,
    length: Count,
    tokenizer: str,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """One stage with every subject.

    Args:
        train: quotations of each subject that train. test: ... and that test; both are drawn by the seed.
        val: share of the training quotations that validate.
        length: tokens of a text; longer ones are cut.
        tokenizer: a net that a package carries (backbone.arch), or a folder with tokenizer.json.
        source: where files may come from: one source, or `auto`, the folder and then Debian's package.
        root: the data folder.
        seed: of the run.

    Raises:
        UsageError: a subject has too few, or files cannot be had.
    """
    x, y, pool, origin, (trained, tested) = tokens_of(train, test, length, tokenizer, source, root, seed)
    order = np.random.default_rng([seed, DRAW, 1]).permutation(len(trained))
    trained, held = trained[order], round(val * len(trained))
    return [
        Stage(
            index=0, total=1, name="fortunes", train=rows(x, y, trained[held:]), val=rows(x, y, trained[:held]),
            test=rows(x, y, tested), classes=pool.classes, outputs=len(pool.classes), shape=(length,), origin=origin,
        )
    ]  # fmt: skip


def fortunes_samples(
    *,
    train: Count,
    test: Count,
    length: Count,
    tokenizer: str,
    source: Literal["auto", "folder", "package"],
    root: Path,
    seed: int,
) -> list[Stage]:
    """The quotations as the one stage of a net that is given: those that a cut may look at, and those whose similarities are
    compared. Nothing trains.

    Args:
        train: quotations of each subject that may be looked at. test: ... that are compared.
        length, tokenizer, source, root, seed: as of `fortunes`.
    """
    (stage,) = fortunes(train=train, test=test, val=0.0, length=length, tokenizer=tokenizer, source=source, root=root, seed=seed)
    return [replace(stage, val=stage.train, given=True, samples=True, vectors=True)]


def rows(x: Tensor, y: Tensor, numbers: np.ndarray) -> Split:
    where = torch.from_numpy(numbers)
    return Split(x, y[where], where)


def tokens_of(
    train: int, test: int, length: int, tokenizer: str, source: str, root: Path, seed: int
) -> tuple[Tensor, Tensor, Pool, Origin, tuple[np.ndarray, np.ndarray]]:
    """(tokens of all texts, their labels, the texts, where they came from, (rows that train, rows that test))."""
    pool, origin = pool_of(Path(root).expanduser().absolute(), source)
    drawn = balanced(pool, train, test, np.random.default_rng([seed, DRAW]), None)
    x, read = encoded(tuple(pool.x), length, tokenizer)
    origin = with_rows(origin, *drawn)
    told = replace(origin, scale=f"tokens of {Path(tokenizer).name}, {length} a text", checksums=origin.checksums | read)
    return x, torch.from_numpy(pool.y), pool, told, drawn


@lru_cache(maxsize=2)
def pool_of(root: Path, source: str) -> tuple[Pool, Origin]:
    """The texts, read once per process."""
    return texts.find("fortunes", root, source)


@lru_cache(maxsize=2)
def encoded(some: tuple[str, ...], length: int, tokenizer: str) -> tuple[Tensor, dict[str, str]]:
    """(tokens [texts, length], MD5 of the tokenizer) of texts.

    Raises:
        UsageError: there is no such tokenizer, or none of the library that reads it.
    """
    content = text_nets.read(tokenizer, text_nets.TOKENIZER, "data.tokenizer")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UsageError(f"data.tokenizer={tokenizer} needs the library tokenizers: {text_nets.EXTRA}.") from error
    try:
        reader = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises no kind of its own
        raise UsageError(f"data.tokenizer={tokenizer}: its {text_nets.TOKENIZER} is damaged, or none.") from error
    reader.no_padding()
    reader.enable_truncation(length)
    tokens = torch.full((len(some), length), text_nets.FILLING)
    for row, one in zip(tokens, reader.encode_batch(list(some)), strict=True):
        row[: len(one.ids)] = torch.tensor(one.ids)
    return tokens, {text_nets.TOKENIZER: md5(content)}
