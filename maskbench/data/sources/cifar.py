"""CIFAR-10 and CIFAR-100 out of the files torchvision unpacks: pickles, read so that nothing in them is run."""

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

# what the files may call: how numpy spells an array in a pickle
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Plain(pickle.Unpickler):
    """An unpickler of containers, numbers, strings and arrays; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of images") from None


def images(files: dict[str, bytes], parts: Sequence[str], labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 3, 32, 32] and labels [n], uint8, of the named files, one after another; `labels` is their key.

    Raises:
        pickle.UnpicklingError: a file holds more than data.
    """
    batches = [Plain(io.BytesIO(files[part]), encoding="latin1").load() for part in parts]
    x = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return x, np.concatenate([np.array(batch[labels], np.uint8) for batch in batches])
