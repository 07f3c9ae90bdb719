"""Masks of a run counted as they lie on disk, eight weights a byte: no torch, and no mask is ever unpacked as a whole."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maskbench.common import foreign, mask_header
from maskbench.report.html.groups import natural

STAGES = 24  # that are compared with each other; of more, evenly spread ones with the first and the last
WORK = 1 << 28  # bytes of masks that the comparison of a run's stages may read, and of a file
UNITS = 16  # of the first layer that are shown one by one; of more, evenly spread ones
SIDE = 8  # pixels: the smallest square that inputs of a layer are taken to be
ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def counts(path: Path) -> dict[str, Any] | None:
    """What the masks of one run look like in numbers; None where the file is missing, empty or, which is said, not one of ours.

    `stages`, `layers`: names; `sizes`: weights of each layer; `kept` [stage][layer]: ones; `shown`: the stages that are
    compared; `both` [i][j <= i]: ones that shown stages i and j have in common, over the `compared` layers, which all
    stages have; `input`: picture of what each input pixel keeps, where the first layer reads a square image; `units`: of
    single units of that layer, which pixels they keep.
    """
    try:
        masks = read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        foreign.say(f"{path} is left out: {error}")
        return None
    stages = sorted({name.partition("/")[0] for name in masks}, key=natural)
    layers = sorted({name.partition("/")[2] for name in masks}, key=natural)
    if not masks:
        return None
    ones = {name: popcount(bits) for name, (bits, _) in masks.items()}
    shapes = {layer: next(masks[f"{s}/{layer}"][1] for s in stages if f"{s}/{layer}" in masks) for layer in layers}
    shared = [
        layer for layer in layers if all(f"{s}/{layer}" in masks and masks[f"{s}/{layer}"][1] == shapes[layer] for s in stages)
    ]
    shown = chosen(len(stages), sum(math.prod(shapes[layer]) for layer in shared) / 8)
    return {
        "stages": stages,
        "layers": layers,
        "sizes": [math.prod(shapes[layer]) for layer in layers],
        "kept": [[ones.get(f"{stage}/{layer}") for layer in layers] for stage in stages],
        "shown": shown,
        "compared": [layers.index(layer) for layer in shared],
        "both": intersections([[masks[f"{stages[i]}/{layer}"][0] for layer in shared] for i in shown]) if shared else [],
        "input": pixels(masks, stages[-1], shapes),
        "units": units(masks, stages[-1], shapes),
    }


def read(path: Path) -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """`<stage>/<layer>` -> (packed bits, shape of the mask)."""
    from safetensors import SafetensorError, safe_open

    shapes = mask_header.shapes(path, most=WORK)
    try:
        with safe_open(path, "np") as file:
            return {name: (file.get_tensor(name), shape) for name, shape in shapes.items()}
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def chosen(count: int, size: float) -> list[int]:
    """Indices of the stages that are compared: as many as STAGES and WORK allow, `size` bytes each."""
    most = int(min(STAGES, max(2, math.sqrt(2 * WORK / max(size, 1)))))
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def intersections(stages: Sequence[Sequence[np.ndarray]]) -> list[list[int]]:
    """Ones in common of each pair of stages [i][j <= i]; each stage is a list of packed layers."""
    packed = [np.concatenate(layers) for layers in stages]
    rows = np.zeros((len(packed), -(-packed[0].size // 8) * 8), np.uint8)  # whole words: padding is 0
    for row, bits in zip(rows, packed, strict=True):
        row[: bits.size] = bits
    words = rows.view(np.uint64)
    return [[popcount(words[i] & words[j]) for j in range(i + 1)] for i in range(len(words))]


def popcount(bits: np.ndarray) -> int:
    if hasattr(np, "bitwise_count"):  # numpy 2
        return int(np.bitwise_count(bits).sum(dtype=np.int64))
    return int(ONES[bits.view(np.uint8)].sum(dtype=np.int64))


class Inputs(NamedTuple):
    """What a mask keeps of each input of a layer that reads square images.

    Attributes:
        layer: its name. side: of the image in pixels. outputs: of the layer, the most connections that a pixel can have.
        kept: connections of each pixel [side * side].
    """

    layer: str
    side: int
    outputs: int
    kept: np.ndarray


def inputs(masks: dict, stage: str, shapes: dict[str, tuple[int, ...]]) -> Inputs | None:
    """For a net of dense layers that reads square images: how many connections of each pixel a stage's mask keeps.

    The first layer is the one whose inputs are no other layer's outputs.
    """
    dense = {layer: shape for layer, shape in shapes.items() if len(shape) == 2 and f"{stage}/{layer}" in masks}
    if len(dense) < len(shapes):
        return None
    fed = {shape[0] for shape in dense.values()}
    first = [layer for layer, shape in dense.items() if shape[1] not in fed]
    if len(first) != 1:
        return None
    rows, columns = dense[first[0]]
    side = math.isqrt(columns)
    if side * side != columns or side < SIDE or rows * columns > WORK:
        return None
    kept = unpacked(masks, stage, first[0], rows, columns).sum(0)
    return Inputs(first[0], side, rows, kept)


def unpacked(masks: dict, stage: str, layer: str, rows: int, columns: int) -> np.ndarray:
    """A mask as zeros and ones [rows, columns]."""
    return np.unpackbits(masks[f"{stage}/{layer}"][0], count=rows * columns, bitorder="little").reshape(rows, columns)


def pixels(masks: dict, stage: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """`inputs` for a page: `share` is a byte a pixel, 255 at `most`."""
    if (own := inputs(masks, stage, shapes)) is None:
        return None
    most = int(own.kept.max())
    share = np.rint(255 * own.kept / max(most, 1)).astype(np.uint8)
    picture = base64.b64encode(share.tobytes()).decode()
    return {"layer": own.layer, "side": own.side, "outputs": own.outputs, "most": most, "share": picture}


def units(masks: dict, stage: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """Up to UNITS single units of the layer of `inputs`: `of` how many these are (`shown`), `kept` inputs of each, `bits`: their
    rows of the mask, each from a new byte on, the first pixel in the lowest bit."""
    if (own := inputs(masks, stage, shapes)) is None:
        return None
    shown = sorted({round(i) for i in np.linspace(0, own.outputs - 1, min(own.outputs, UNITS))})
    rows = unpacked(masks, stage, own.layer, own.outputs, own.side**2)[shown]
    bits = base64.b64encode(np.packbits(rows, axis=1, bitorder="little").tobytes()).decode()
    return {"layer": own.layer, "side": own.side, "of": own.outputs, "shown": shown, "kept": rows.sum(1).tolist(), "bits": bits}
