"""Corruptions of test images, 14 types at 5 levels, in the style of the -C sets (1903.12261; MNIST-C 1906.02337), not those sets.

A type is a function of all images at once, [n, channels, height, width] on the scale 0 to 1, and of its level's
strength; lengths count pixels of an image 28 wide and grow with it. Random types draw from a stream of their name, the
same at every level, so that a level does more of what the level below it does.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from maskbench.common import streams

TALLEST = 65_500  # pixels of a JPEG file
ROWS = 2000  # changed at a time: bounds the memory of intermediate values
Corruption = Callable[[Tensor, float, Generator], Tensor]


def corrupted(x: Tensor, kind: str, level: int) -> Tensor:
    """The images [n, channels, height, width], 0 to 1, under a type at a level of 1 to 5; 8 bits a pixel, as files are.

    The same for everyone: no run's seed has a part in it.
    """
    change, strengths = TYPES[kind]
    draw = streams.generator("corruption", kind)
    parts = [change(part, strengths[level - 1], draw) for part in x.split(ROWS)]
    return torch.cat(parts).clamp_(0, 1).mul_(255).round_().div_(255)


# ---- noise


def gaussian_noise(x: Tensor, deviation: float, draw: Generator) -> Tensor:
    """Noise of this deviation on each value."""
    return x + deviation * torch.randn(x.shape, generator=draw)


def shot_noise(x: Tensor, photons: float, draw: Generator) -> Tensor:
    """So many photons reach a white pixel."""
    return torch.poisson(x * photons, generator=draw) / photons


def impulse_noise(x: Tensor, share: float, draw: Generator) -> Tensor:
    """This share of the pixels turns black or white."""
    hit, white = torch.rand(2, len(x), 1, *x.shape[2:], generator=draw)
    return torch.where(hit < share, (white < 0.5).float(), x)


# ---- blur


def gaussian_blur(x: Tensor, deviation: float, _: Generator) -> Tensor:
    """A Gaussian of this deviation, in pixels of an image 28 wide."""
    deviation = deviation * x.shape[-1] / 28
    across, down = (bell(side, deviation) for side in reversed(x.shape[2:]))
    return down @ x @ across.T


def bell(side: int, deviation: float) -> Tensor:
    """Weights [to, from] of a blur along one side; beyond the edge lies more of the edge."""
    reach = math.ceil(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    sources = (torch.arange(side)[:, None] + torch.arange(-reach, reach + 1)).clamp(0, side - 1)
    return torch.zeros(side, side).scatter_add_(1, sources, (weights / weights.sum()).expand(side, -1))


def motion_blur(x: Tensor, length: float, draw: Generator) -> Tensor:
    """The mean over a straight way of `length` pixels, in a direction of each image's own."""
    angle = torch.rand(len(x), generator=draw) * math.pi
    way = torch.stack([angle.cos(), angle.sin()], 1) * length / 28  # an image is 2 wide: half of it to either side
    steps = torch.linspace(-1, 1, math.ceil(length) + 1).tolist()
    return sum(warped(x, eye(len(x)), step * way) for step in steps) / len(steps)


# ---- light


def brightness(x: Tensor, more: float, _: Generator) -> Tensor:
    """Every value grows by `more`."""
    return x + more


def contrast(x: Tensor, kept: float, _: Generator) -> Tensor:
    """This share of the distance from an image's mean is kept."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + kept * (x - mean)


# ---- form


def rotate(x: Tensor, degrees: float, draw: Generator) -> Tensor:
    """To the left or to the right."""
    angle = math.radians(degrees) * signs(draw, len(x))
    cosine, sine = angle.cos(), angle.sin()
    return warped(x, torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1))


def shear(x: Tensor, slope: float, draw: Generator) -> Tensor:
    """Rows slide by `slope` pixels for each pixel from the middle, to either side."""
    turn = eye(len(x))
    turn[:, 0, 1] = slope * signs(draw, len(x))
    return warped(x, turn)


def scale(x: Tensor, factor: float, draw: Generator) -> Tensor:
    """Larger or smaller by this factor."""
    return warped(x, eye(len(x)) * (factor ** signs(draw, len(x)))[:, None, None])


def translate(x: Tensor, pixels: float, draw: Generator) -> Tensor:
    """This far along both axes, each way or the other."""
    return warped(x, eye(len(x)), signs(draw, 2 * len(x)).view(-1, 2) * 2 * pixels / 28)


def warped(x: Tensor, turn: Tensor, move: Tensor | None = None) -> Tensor:
    """What is seen at `turn` p + `move` for each place p, in a plane where an image reaches from -1 to 1; black outside."""
    move = torch.zeros(len(x), 2) if move is None else move
    grid = F.affine_grid(torch.cat([turn, move[:, :, None]], 2), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def eye(n: int) -> Tensor:
    """Identity matrices, [n, 2, 2]."""
    return torch.eye(2).repeat(n, 1, 1)


def signs(draw: Generator, n: int) -> Tensor:
    """Random signs, [n], -1 or 1."""
    return torch.randint(0, 2, (n,), generator=draw) * 2.0 - 1


# ---- pixels


def pixelate(x: Tensor, share: float, _: Generator) -> Tensor:
    """This share of the pixels along each side is left."""
    few = [max(1, round(share * side)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, few, mode="area"), list(x.shape[2:]), mode="nearest-exact")


def jpeg(x: Tensor, quality: float, _: Generator) -> Tensor:
    """Written as JPEG of this quality, of 100, with full colour, and read back.

    JPEG works on blocks of 8 x 8 pixels, each by itself, so images that fill whole blocks share a file, one below another.
    """
    from PIL import Image

    height, width = x.shape[2:]
    blocks = F.pad((x * 255).round(), (0, -width % 8, 0, -height % 8), mode="replicate").to(torch.uint8)
    parts = []
    for part in blocks.split(TALLEST // blocks.shape[2]):
        file, column = io.BytesIO(), part.movedim(1, -1).flatten(0, 1)
        Image.fromarray(column.squeeze(-1).numpy()).save(file, "JPEG", quality=int(quality), subsampling=0)
        read = torch.from_numpy(np.array(Image.open(file)))
        parts.append(read.view(len(part), *part.shape[2:], -1).movedim(-1, 1))
    return torch.cat(parts)[:, :, :height, :width].float() / 255


def stripe(x: Tensor, width: float, draw: Generator) -> Tensor:
    """A negative of so many columns, at a place of each image's own."""
    wide = x.shape[-1]
    columns = max(1, round(width * wide / 28))
    left = (torch.rand(len(x), 1, generator=draw) * (wide - columns + 1)).floor()
    at = torch.arange(wide)
    inside = ((at >= left) & (at < left + columns))[:, None, None]
    return torch.where(inside, 1 - x, x)


TYPES: dict[str, tuple[Corruption, tuple[float, ...]]] = {  # with the strength at levels 1 to 5
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": (gaussian_blur, (0.6, 0.9, 1.2, 1.6, 2.0)),
    "motion_blur": (motion_blur, (3, 4, 5, 7, 9)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "rotate": (rotate, (12, 24, 36, 48, 60)),
    "shear": (shear, (0.15, 0.3, 0.45, 0.6, 0.8)),
    "scale": (scale, (1.1, 1.2, 1.35, 1.5, 1.75)),
    "translate": (translate, (1, 2, 3, 4, 5)),
    "pixelate": (pixelate, (0.72, 0.57, 0.43, 0.32, 0.22)),
    "jpeg": (jpeg, (50, 30, 20, 12, 7)),
    "stripe": (stripe, (1, 2, 4, 6, 8)),
}
LEVELS = (1, 2, 3, 4, 5)
