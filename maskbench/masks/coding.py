"""Bytes of a set of masks: at one bit a weight, by Huffman's code, and at their entropy; and that code, encoded and decoded.

Masks of several stages over the same weights are coded together, up to GROUP at a time (WSN, Kang et al. 2022, codes seven): a
weight's symbol is its bits in these stages, and masks that agree have few symbols that occur often. One mask alone has two
symbols of one bit each, where Huffman's code saves nothing, and g masks together never take less than 1/g of their bits.
"""

import heapq
import math
import struct
from collections.abc import Mapping
from itertools import count as numbers
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GROUP = 8  # masks that share a code at most, so that a symbol is a byte
CHUNK = 1 << 20  # bits that are decoded at a time: decoding takes some 50 bytes a bit


class MaskBytes(NamedTuple):
    """What a set of masks takes, in bytes.

    Attributes:
        packed: one bit a weight, each mask of a layer in whole bytes.
        huffman: by Huffman's code of each layer and group of stages, its tables included: the length of what `encode` gives.
        entropy: what an arithmetic coder comes close to, which may spend less than a bit on a symbol; without tables.
    """

    packed: int
    huffman: int
    entropy: int


def mask_bytes(bits: Mapping[str, Tensor], weights: Mapping[str, int]) -> MaskBytes:
    """Of masks packed as a bank has them: by layer, bits [stages, bytes], and how many weights the layer has.

    Whole groups are counted from the last stage, since later masks tend to agree more.
    """
    total = MaskBytes(0, 0, 0)
    for name, rows in bits.items():
        rest = len(rows) % GROUP
        for group in filter(len, (rows[:rest], *rows[rest:].split(GROUP))):
            frequencies = np.bincount(symbols(group.cpu().numpy(), weights[name]), minlength=2 ** len(group))
            sizes = (group.numel(), huffman_bytes(frequencies, len(group)), entropy_bytes(frequencies))
            total = MaskBytes(*(a + b for a, b in zip(total, sizes, strict=True)))
    return total


def symbols(rows: np.ndarray, n: int) -> np.ndarray:
    """The symbol of each of n weights, uint8: its bits in the masks `rows` [masks, bytes], the first one lowest."""
    together = np.unpackbits(rows, axis=1, count=n, bitorder="little")
    return np.packbits(together, axis=0, bitorder="little")[0]


def huffman_bytes(frequencies: np.ndarray, stages: int) -> int:
    """Bytes of the code of so many masks, by how often each symbol occurs."""
    lengths = code_lengths(frequencies)
    bits = sum(int(frequencies[symbol]) * length for symbol, length in lengths.items())
    return -(-bits // 8) + 2 + len(lengths) * (-(-stages // 8) + 1)


def entropy_bytes(frequencies: np.ndarray) -> int:
    """sum f log2(n / f) over the symbols that occur, in whole bytes."""
    f = frequencies[frequencies > 0].astype(float)
    return math.ceil(float((f * np.log2(f.sum() / f)).sum()) / 8)


def code_lengths(frequencies: np.ndarray) -> dict[int, int]:
    """Bits of the code word of each symbol that occurs: Huffman's, and one bit where only one symbol occurs."""
    occur = np.flatnonzero(frequencies).tolist()
    if len(occur) == 1:
        return {occur[0]: 1}
    order = numbers()  # of equal frequencies the older one goes first
    trees = [(int(frequencies[symbol]), next(order), [symbol]) for symbol in occur]
    lengths = dict.fromkeys(occur, 0)
    heapq.heapify(trees)
    while len(trees) > 1:
        (f, _, left), (g, _, right) = heapq.heappop(trees), heapq.heappop(trees)
        for symbol in (*left, *right):
            lengths[symbol] += 1
        heapq.heappush(trees, (f + g, next(order), left + right))
    return lengths


# ---- the code itself


def encode(masks: Tensor) -> bytes:
    """Up to GROUP masks over the same weights, bool [masks, ...], as bytes.

    Two bytes say how many symbols occur; of each follow the symbol and the length of its code word, a byte each, ordered by
    length and symbol, from which the canonical code words follow; then the weights' code words, in whole bytes.

    Raises:
        ValueError: more than GROUP masks, or none.
    """
    if not 1 <= len(masks) <= GROUP:
        raise ValueError(f"1 to {GROUP} masks share a code, not {len(masks)}")
    of_weights = np.packbits(masks.detach().cpu().flatten(1).numpy(), axis=0, bitorder="little")[0]
    table = sorted(code_lengths(np.bincount(of_weights, minlength=256)).items(), key=lambda entry: entry[::-1])
    words = np.zeros(256, np.uint64), np.zeros(256, np.uint8)
    for (symbol, length), word in zip(table, canonical([length for _, length in table]), strict=True):
        words[0][symbol], words[1][symbol] = word, length
    head = struct.pack("<H", len(table)) + bytes(value for entry in table for value in entry)
    return head + _joined(words[0][of_weights], words[1][of_weights]).tobytes()


def decode(code: bytes, masks: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """The masks that `encode` got, bool [masks, *shape].

    Raises:
        ValueError: these bytes are no code of so many masks of that shape.
    """
    (occur,) = struct.unpack_from("<H", code.ljust(2, b"\0"))
    table = np.frombuffer(code[2 : 2 + 2 * occur], np.uint8)
    lengths = table[1::2].tolist()
    if table.size != 2 * occur or not _complete(lengths):
        raise ValueError("these bytes are no code of masks: their table is damaged")
    bits = np.unpackbits(np.frombuffer(code[2 + 2 * occur :], np.uint8))
    found = table[::2][_entries(bits, lengths, math.prod(shape))]
    of_masks = np.unpackbits(found[None], axis=0, bitorder="little")
    if of_masks[masks:].any():
        raise ValueError(f"these bytes are a code of more than {masks} masks")
    return torch.from_numpy(of_masks[:masks].view(bool)).reshape(masks, *shape)


def canonical(lengths: list[int]) -> list[int]:
    """The canonical code words of these lengths, which ascend: each is the last one plus one, longer where it is."""
    words, word = [], 0
    for before, length in zip([0, *lengths], lengths, strict=False):
        word = (word + 1 if words else 0) << (length - before)
        words.append(word)
    return words


def _complete(lengths: list[int]) -> bool:
    """Whether code words of these lengths exist: they ascend, and none begins another; a single one has one bit."""
    if not lengths:
        return True
    ascend = lengths == sorted(lengths) and 1 <= lengths[0] and lengths[-1] < 64
    return ascend and (lengths == [1] or sum(2 ** (lengths[-1] - length) for length in lengths) == 2 ** lengths[-1])


def _joined(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Code words one behind the other, highest bit first, as bytes."""
    ends = lengths.cumsum(dtype=np.int64)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for place in range(int(lengths.max(initial=0))):  # from the last bit of every word to its first
        longer = lengths > place
        bits[ends[longer] - 1 - place] = words[longer] >> np.uint64(place) & np.uint64(1)
    return np.packbits(bits)


def _entries(bits: np.ndarray, lengths: list[int], n: int) -> np.ndarray:
    """Which entry of the table each of n code words is, by the lengths of all entries' words."""
    longest = max(lengths, default=0)
    starts = np.array([word << (longest - length) for word, length in zip(canonical(lengths), lengths, strict=True)], np.uint64)
    padded, found, at = np.concatenate([bits, np.zeros(longest, np.uint8)]), [], 0
    for begin in range(0, len(bits), CHUNK):
        here = min(CHUNK, len(bits) - begin)
        window = np.zeros(here, np.uint64)  # the bits from each place on, as a number
        for place in range(longest):
            window = window << np.uint64(1) | padded[begin + place : begin + place + here]
        entries = np.searchsorted(starts, window, side="right") - 1
        steps, chain = np.array(lengths)[entries].tolist(), []
        while at < begin + here and n > len(chain):
            chain.append(at - begin)
            at += steps[at - begin]
        found.append(entries[chain])
        n -= len(chain)
    if n or at > len(bits) or len(bits) - at >= 8 or bits[at:].any():
        raise ValueError("these bytes are no code of masks: they end too early or too late")
    return np.concatenate(found) if found else np.zeros(0, np.int64)
