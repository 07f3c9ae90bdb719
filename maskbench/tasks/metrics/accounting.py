"""What a mask saves, from masks and shapes alone: multiplications, parameters, and the cost of training.

Multiply-accumulates (MACs) an example: of a matrix inputs * outputs, of a convolution outputs * (inputs / groups) * kernel *
places of its output; of a masked layer, the weights that it keeps times the places each is used at. FLOPs are twice that.
Biases, norms and activations are not counted, and neither are clocks: a speed-up is theoretical. After "What is the state of
neural network pruning?" (arXiv 2003.03033), whose code counts non-zero values and pads all convolutions alike.
"""

from collections.abc import Mapping
from math import prod


def savings(
    shapes: Mapping[str, tuple[int, ...]], parameters: int, places: Mapping[str, int] | None, kept: Mapping[str, int]
) -> dict[str, float | None]:
    """What masks save, by the names of the record; None where it is undefined.

    `macs_dense` and `macs_sparse` an example; `speedup_theoretical`, the one over the other; `compression`, all parameters
    over those that stay, biases and norms among both; `compression_weights`, masked weights over those that the masks keep.

    Args:
        shapes: of all matrix weights. parameters: how many the net has, biases and norms included.
        places: how often an example uses each (masks/places.py). kept: how many weights each mask keeps; weights without a
            mask all stay.
    """
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    total, ones = sum(sizes[name] for name in kept), sum(kept.values())
    numbers: dict[str, float | None] = dict.fromkeys(("macs_dense", "macs_sparse", "speedup_theoretical"))
    if places is not None:
        dense = sum(size * places[name] for name, size in sizes.items())
        sparse = sum(kept.get(name, size) * places[name] for name, size in sizes.items())
        numbers = {"macs_dense": dense, "macs_sparse": sparse, "speedup_theoretical": ratio(dense, sparse)}
    return numbers | {
        "compression": ratio(parameters, parameters - total + ones),
        "compression_weights": ratio(total, ones) if kept else 1.0,
    }


def ratio(whole: float, part: float) -> float | None:
    return whole / part if part else None


def step_cost(share: float, fixed: bool) -> float:
    """What a training step under masks costs, in dense steps: forward, gradients of activations and of weights, a third each.

    Args:
        share: MACs under the masks over those of the dense net.
        fixed: whether the masks stay while weights train; else scores do, whose gradient is dense.
    """
    return share if fixed else (2 * share + 1) / 3
