"""What a net with a recipe asks of its inputs, done as they enter it: grey images are repeated to three channels, images are
resized, pixels from 0 to 1 become (x - mean) / deviation. And the self-test, one made image whose logits are known.

It belongs to the net, not to the data set: the same images are right for one net and wrong for another.
"""

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.backbones.norm import need_images
from maskbench.common.errors import UsageError
from maskbench.common.recipes import STEP, Recipe

log = logging.getLogger("maskbench")
COLOURS = 3
SMALL = 64  # pixels below which nets of ImageNet see little
RAMP = 64  # pixels a side of the made image
CLOSE = 1e-3  # of its logits


def shape_for(recipe: Recipe, shape: Sequence[int], size: int | None) -> tuple[int, int, int]:
    """The shape that a net of this recipe is made for, where one input of the data has `shape`.

    Args:
        size: pixels a side to which images are resized; None: they stay as they are.

    Raises:
        UsageError: the net takes no images of that size, or of these channels.
    """
    need_images(tuple(shape), least=1)
    sides = (size, size) if size else tuple(shape[1:])
    if shape[0] not in (1, COLOURS):
        raise UsageError(f"backbone.init=imagenet is of nets for grey images or images in colour, not of {shape[0]} channels")
    if recipe.size and sides != (recipe.size, recipe.size):
        raise UsageError(
            f"{recipe.name} takes images of {recipe.size} x {recipe.size}, not {sides[0]} x {sides[1]}: "
            f"backbone.init_size={recipe.size} resizes them."
        )
    if not recipe.size and any(side % STEP or side < STEP for side in sides):
        raise UsageError(
            f"{recipe.name} takes images whose sides are multiples of {STEP}, not {sides[0]} x {sides[1]}: backbone.init_size=64 "
            "resizes them."
        )
    if min(sides) < SMALL:
        log.warning("backbone.init=imagenet: of images below %d x %d its net sees little; backbone.init_size=64", SMALL, SMALL)
    return (COLOURS, *sides)


class Pixels(nn.Module):
    """[batch, channels, height, width] of pixels from 0 to 1 -> what a net of a recipe takes, [batch, 3, ...].

    Args:
        size: pixels a side; None: as they come. scaled: whether to subtract the mean and divide by the deviation.
    """

    def __init__(self, recipe: Recipe, size: int | None, scaled: bool) -> None:
        super().__init__()
        self.size, self.scaled, self.on = size, scaled, True
        for name in ("mean", "deviation"):
            self.register_buffer(name, torch.tensor(getattr(recipe, name)).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        if x.shape[-3] == 1:
            x = x.expand(*x.shape[:-3], COLOURS, *x.shape[-2:])
        return (x - self.mean) / self.deviation if self.scaled else x

    def before(self, net: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (self(inputs[0]),) if self.on else inputs


def adapt(net: nn.Module, recipe: Recipe, size: int | None, scaled: bool) -> None:
    """Let a net take images as data sets have them, from 0 to 1."""
    net.pixels = Pixels(recipe, size, scaled)
    net.register_forward_pre_hook(net.pixels.before)  # a method of a module, which a copy of the net has as one of its own


def ramp(recipe: Recipe) -> Tensor:
    """The made image, [1, 3, 64, 64]: pixel i of all is i / 12287."""
    count = COLOURS * RAMP * RAMP
    return Pixels(recipe, None, True)((torch.arange(count) / (count - 1)).view(1, COLOURS, RAMP, RAMP))


@torch.no_grad()
def self_test(net: nn.Module, recipe: Recipe, head: dict[str, Tensor]) -> None:
    """Hold an adapted net that has taken a recipe's weights to the logits that its recipe knows.

    Args:
        head: the file's own output layer, by the net's names.

    Raises:
        UsageError: it computes something else: an equal fit of names and shapes does not tell two architectures apart.
    """
    if recipe.logits is None:
        return
    known, top = recipe.logits
    net.pixels.on, training = False, net.training
    got = torch.func.functional_call(net.eval(), head, (ramp(recipe),))[0]
    net.train(training).pixels.on = True
    if got.argmax() != top or (got[: len(known)] - torch.tensor(known)).abs().max() > CLOSE:
        shown = ", ".join(f"{value:.4f}" for value in got[: len(known)])
        raise UsageError(
            f"backbone.init=imagenet: the weights loaded, but the net computes something else than {recipe.name} (logits of the "
            f"test image begin {shown}, not {', '.join(map(str, known))}): take the backbone that the recipe is for."
        )
