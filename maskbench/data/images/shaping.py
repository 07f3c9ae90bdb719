"""Images of several sets brought to one shape, and the mean and deviation of their pixels."""

import numpy as np
import torch
from torch import Tensor

from maskbench.data.images.scale import Scale


def shaped(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 images [rows, height, width] or [rows, channels, height, width] -> [rows, *shape]: resized, grey repeated."""
    channels, height, width = shape
    x = x[:, None] if x.ndim == 3 else x
    if x.shape[2:] != (height, width):
        from PIL import Image

        def resized(plane: np.ndarray) -> np.ndarray:
            return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))

        planes = x.reshape(-1, *x.shape[2:])
        x = np.stack([resized(plane) for plane in planes]).reshape(*x.shape[:2], height, width)
    return np.repeat(x, channels, 1) if x.shape[1] < channels else x


def measured(x: Tensor) -> Scale:
    """Mean and deviation of each channel of uint8 images [rows, channels, height, width], on the scale 0 to 1.

    From whole numbers, so that every machine has the same bits.
    """
    counts = torch.stack([x[:, channel].flatten().bincount(minlength=256) for channel in range(x.shape[1])]).double()
    values = torch.arange(256).double() / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    deviation = ((counts * values.square()).sum(1) / counts.sum(1) - mean.square()).sqrt()
    return Scale(tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in deviation.tolist()))
