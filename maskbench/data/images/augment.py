"""Augmentation of training images, at random for a whole batch at once, from torch's global generator of the CPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskbench.common import devices


@dataclass(frozen=True)
class CropFlip:
    """Each image moves by up to `pad` pixels each way over black, and half of them are mirrored: CIFAR's augmentation.

    `black`: the value of a black pixel in each channel.
    """

    pad: int
    black: tuple[float, ...]

    @property
    def key(self) -> str:
        return f"crop {self.pad} over {self.black!r}, flip"

    def __call__(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] -> the same shape; every draw is of the images alone, not of the device."""
        n, channels, height, width = x.shape
        pad, wide = self.pad, width + 2 * self.pad
        drawn = devices.whole(n)
        down, along = map(devices.own, torch.randint(0, 2 * pad + 1, (2, drawn, 1)))  # corner of each crop in the padded image
        mirrored = devices.own(torch.rand(drawn, 1)) < 0.5
        rows, columns = down + torch.arange(height), along + torch.arange(width)
        columns = torch.where(mirrored, columns.flip(1), columns)
        pixels = (rows[:, :, None] * wide + columns[:, None]).view(n, 1, -1).to(x.device)
        black = torch.tensor(self.black, dtype=x.dtype, device=x.device).view(-1, 1, 1)
        padded = black.expand(n, channels, height + 2 * pad, wide).clone()
        padded[:, :, pad : pad + height, pad : pad + width] = x
        return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(x)
