"""Keys of `method` that the program itself reads, whatever method is chosen: where its masks stand, what its first stage is, and
what the heads of its stages start from. Imports no torch.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from maskbench.common import knobs
from maskbench.common.knobs import Knob, Layers

OWN = {
    "sites": Knob(
        "sites",
        Literal["auto", "all"] | Layers | None,
        None,
        "which weights masks may stand on: `auto` (null: auto), all matrices but depthwise convolutions and, in nets that have "
        "such, the first convolution; `all`; or those of the layers that are listed, and of all layers inside them",
    ),
    "first": Knob(
        "first",
        Literal["given"] | None,
        None,
        "of a stream whose first stage is the problem that the given net was trained on: `given`, nothing is trained on it and "
        "its head is the net's own; null: what the data say",
    ),
    "head_start": Knob(
        "head_start",
        Literal["probe", "random"] | None,
        None,
        "what a stage's own head starts from: `random`, a draw (null: random); `probe`, 100 steps of AdamW on all of the stage's "
        "training rows, through the net as it stands",
    ),
}


def mistakes(method: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of these keys."""
    yield from filter(None, (knobs.mistake(f"method.{name}", method.get(name), knob.kind) for name, knob in OWN.items()))
