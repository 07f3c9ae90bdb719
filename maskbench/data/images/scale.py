"""How the pixel values of images become the inputs of a net."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Normalize = Literal["standard", "unit", "imagenet", "net"]  # net: 0 to 1, which the net scales by its own (backbones/inputs.py)


class Scale(NamedTuple):
    """How pixel values become inputs: (x / 255 - mean) / deviation, each with one value per channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def apply(self, x: Tensor) -> Tensor:
        """[rows, channels, height, width], float32, 0 to 255 -> the same tensor, changed in place."""
        mean, deviation = (torch.tensor(values, device=x.device).view(-1, 1, 1) for values in self)
        return x.div_(255).sub_(mean).div_(deviation)

    def undo(self, x: Tensor) -> Tensor:
        """A new tensor of pixel values, 0 to 255."""
        mean, deviation = (torch.tensor(values, device=x.device).view(-1, 1, 1) for values in self)
        return (x * deviation).add_(mean).mul_(255)

    @property
    def black(self) -> tuple[float, ...]:
        """What a black pixel becomes."""
        return tuple(self.apply(torch.zeros(1, len(self.mean), 1, 1)).flatten().tolist())


IMAGENET = Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # which most published nets in colour were trained with
