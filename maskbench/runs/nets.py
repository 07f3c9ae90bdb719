"""From a config to its net and to the method over it."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from maskbench.backbones import inputs, norm
from maskbench.common import every_method, given
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.masks.sites import choose
from maskbench.runs.build import make

UNIT = ("net", "unit")  # values of data.normalize that leave pixels from 0 to 1, which a net with a recipe scales itself


def make_net(backbone: DictConfig, shape: tuple[int, ...], outputs: int, normalize: str | None = None) -> Any:
    """The net of a config's backbone, its weights drawn by a rule; those that are given are not in it yet.

    Args:
        shape: of one input of the data. normalize: what `data.normalize` is.

    Raises:
        UsageError: as of `make`; or its recipe takes no inputs of that shape.
    """
    settings = OmegaConf.to_container(backbone, resolve=True)
    recipe, size = given.recipe(settings), settings.get("init_size")
    images = recipe is not None and recipe.images
    if images:
        shape = inputs.shape_for(recipe, shape, size)
    node = OmegaConf.create({"backbone": given.drawn(settings)}).backbone
    net = make(node, shape=shape, outputs=outputs)
    if given.still(settings):
        norm.hold_still(net)
    if images:
        inputs.adapt(net, recipe, size, scaled=normalize in UNIT)
    return net


def hold_to(net: Any, stage: Stage) -> None:
    """Hold a net to data of text, whose inputs are tokens.

    Raises:
        UsageError: it reads none.
    """
    x = getattr(stage.train, "x", None)
    if isinstance(x, Tensor) and not x.is_floating_point() and not getattr(net, "reads_tokens", False):
        raise UsageError(f"{type(net).__name__} reads no texts, which come as tokens: take backbone=hf.")


def make_method(method: DictConfig, net: Any) -> Any:
    """The method of a config over a net.

    Raises:
        UsageError: as of `make`; or `method.sites` names weights for a method that masks none.
    """
    settings = OmegaConf.to_container(method, resolve=True)
    choose(net, settings.get("sites"))
    own = {name: value for name, value in settings.items() if name not in every_method.OWN}
    made = make(OmegaConf.create({"method": own}).method, net=net)
    parameters = dict(net.named_parameters())
    if net.sites is not None and not any(name in parameters for name in made.masked_weights()):
        raise UsageError(f"method.sites is about masks on weights, and method={settings.get('name')} has none: leave it out.")
    return made
