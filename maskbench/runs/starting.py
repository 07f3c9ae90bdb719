"""A run whose net starts from weights that are given: they are taken, held to what their recipe knows, and said."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from maskbench.backbones import hf_nets, inputs, pretrained
from maskbench.backbones.per_stage import PrivateHeads
from maskbench.common import given
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.runs import fitting
from maskbench.runs.nets import UNIT
from maskbench.training.method import Method

log = logging.getLogger("maskbench")


def take(cfg: DictConfig, net: nn.Module, shape: tuple[int, ...], outputs: int, source: Callable) -> None:
    """Let the net start from the weights that `backbone.init` names.

    Args:
        shape, outputs: of the data. source: the tensors of a finished run, by its folder and a stage's index or name (or None).

    Raises:
        UsageError: they are of no use; of another net's, with the backbone that would fit.
    """
    backbone = OmegaConf.to_container(cfg.backbone, resolve=True)
    if wrong := given.start_mistake(backbone):
        raise UsageError(wrong)
    init, file, recipe = backbone["init"], given.path(backbone), given.recipe(backbone)
    key, head = f"backbone.init={init}", backbone.get("init_head") or "auto"
    about: dict[str, Any] = {"source": init, "sha256": given.of_file(file), "bytes": file.stat().st_size}
    if given.kind(init) == given.RUN:
        tensors, told = source(file.parent, backbone.get("init_stage"))
        about |= told
    else:
        tensors = pretrained.read(file, key)
    if recipe is not None:
        tensors = {recipe.own_name(name): value for name, value in tensors.items()}
        about["recipe"] = recipe.name
        if recipe.images:
            about |= {"mean": list(recipe.mean), "std": list(recipe.deviation), "size": backbone.get("init_size")}
    try:
        pretrained.fill(net, tensors, about, head=head, key=key)
    except pretrained.Misfit as error:
        keys = fitting.words(cfg, shape, outputs, error.tensors)
        raise UsageError(f"{error}{f'; {keys} would fit' if keys else ''}.") from None
    if recipe is not None and not recipe.images:
        hf_nets.self_test(net, recipe)
    elif recipe is not None:
        inputs.self_test(net, recipe, pretrained.head_of(net, tensors))
        if cfg.data.get("normalize") not in UNIT:
            log.warning(
                "data.normalize=%s: %s was trained on pixels scaled by its own constants, data.normalize=net",
                cfg.data.normalize, recipe.name,
            )  # fmt: skip


def tell_head(cfg: DictConfig, method: Method, stages: list[Stage]) -> None:
    """Say what became of the given net's head, in one line.

    Raises:
        UsageError: it was to be loaded, and each stage has one of its own; or it is to answer the first, and is not there.
    """
    net = method.net
    loaded, own = net.given["head"].startswith("loaded"), has_heads(method)
    if stages[0].given and not method.keeps_given_stage:
        raise UsageError(
            f"method={cfg.method.name} would answer the first stage by a mask that nothing has trained: packnet, piggyback, "
            "heads, separate and finetune leave a stage that the net came trained on to the net."
        )
    if stages[0].given and not loaded and not stages[0].vectors:
        raise UsageError(
            f"the first stage is answered by the head of backbone.init={cfg.backbone.init}, and that is {net.given['head']}."
        )
    if own and not stages[0].given:
        if cfg.backbone.get("init_head") == "load":
            raise UsageError(
                f"backbone.init_head=load: method={cfg.method.name} draws a head for each stage; leave init_head out."
            )
        net.given["head"] = "fresh: each stage has one of its own"
    log.info("%s: %d tensors; head %s", cfg.backbone.init, net.given["mapped"], net.given["head"])


def has_heads(method: Method) -> bool:
    """Whether each stage has a head of its own."""
    return any(isinstance(module, PrivateHeads) and module.parts and module.always for module in method.modules())


def first_given(cfg: DictConfig, stages: list[Stage]) -> list[Stage]:
    """The stages, the first marked where `method.first=given` says that the net comes trained on it.

    Raises:
        UsageError: no net is given, or there is one stage only.
    """
    if cfg.method.get("first") == "given":
        stages = [replace(stages[0], given=True), *stages[1:]]
    if stages[0].given and not given.gives(cfg.backbone.get("init")):
        raise UsageError(
            f"the first stage of data={cfg.data.name} is what a given net was trained on: add backbone.init=imagenet, run:FOLDER "
            "or file:PATH."
        )
    return stages
