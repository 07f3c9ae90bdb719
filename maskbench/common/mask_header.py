"""The head of a masks.safetensors, judged before any of its bits are read: what it declares must fit the file's own length.

Both readers of masks use it (masks/packing.py with torch, report/html/mask_file.py without).
"""

import json
import math
import os
import stat
import struct
from pathlib import Path
from typing import Any

from maskbench.common import foreign

HEAD = 16 * foreign.MB  # bytes
AXES = 8  # of a mask
GRID = 100_000  # (stage, layer) pairs, which tables list; more only where there are masks for a tenth of them


def shapes(path: Path, most: int | None = None) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each mask in the file, all of which its bytes can hold.

    Args:
        most: bytes of the file; None: any length.

    Raises:
        ValueError: it is no mask file of ours; says why.
        OSError: it cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if most is not None and status.st_size > most:
        raise ValueError(f"it is longer than {most // foreign.MB} MB")
    with open(path, "rb") as file:
        head, length = _head(file, status.st_size)
    metadata = head.pop("__metadata__", None)
    about = metadata.get("masks") if isinstance(metadata, dict) else None
    declared = _mapping(about).get("shapes") if isinstance(about, str) else None
    if not isinstance(declared, dict) or declared.keys() != head.keys():
        raise ValueError("its head lists no shapes, or other ones than it has masks")
    _apart(head, length)
    made = {name: _shape(name, declared[name], entry) for name, entry in head.items()}
    stages, layers = ({name.partition("/")[part] for name in made} for part in (0, 2))
    if len(stages) * len(layers) > max(GRID, 10 * len(made)):
        raise ValueError(f"it names {len(stages)} stages and {len(layers)} layers for {len(made)} masks")
    return made


def _head(file: Any, size: int) -> tuple[dict[str, Any], int]:
    """The mapping at the start of the file, and how many bytes follow it."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if length > min(size - 8, HEAD):
        raise ValueError("its head is longer than the file, or than any of ours")
    return _mapping(file.read(length)), size - 8 - length


def _mapping(data: bytes | str) -> dict[str, Any]:
    try:
        value = json.loads(data, object_pairs_hook=_once)
        return foreign.plain(value) if isinstance(value, dict) else {}
    except RecursionError:
        raise ValueError("its head is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(made := dict(pairs)) < len(pairs):
        raise ValueError("its head has a name twice")
    return made


def _apart(head: dict[str, Any], length: int) -> None:
    """Refuse masks that share bytes, leave some out or reach beyond the end."""
    offsets = [entry.get("data_offsets") if isinstance(entry, dict) else None for entry in head.values()]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair) for pair in offsets):
        raise ValueError("a mask has no place in it")
    at = 0
    for start, end in sorted(offsets):
        if start != at or end < start:
            raise ValueError("masks lie in each other or leave a gap")
        at = end
    if at != length:
        raise ValueError(f"it has {length} bytes of masks and declares {at}")


def _shape(name: str, shape: Any, entry: dict[str, Any]) -> tuple[int, ...]:
    start, end = entry["data_offsets"]
    if entry.get("dtype") != "U8" or entry.get("shape") != [end - start]:
        raise ValueError(f"'{foreign.printable(name)}' is no row of bytes")
    if not isinstance(shape, list) or len(shape) > AXES or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"'{foreign.printable(name)}' has no shape")
    if -(-math.prod(shape) // 8) != end - start:
        raise ValueError(f"'{foreign.printable(name)}' declares {math.prod(shape)} weights for {end - start} bytes")
    return tuple(shape)
