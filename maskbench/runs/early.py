"""What is judged once torch is there and before any data are read: whether the code that a config names can be imported and
called, whether the net has the layers that are named, whether a file of weights is one, and whether the method can be made.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from maskbench.backbones import pretrained
from maskbench.common import given, knobs
from maskbench.common.dotted import imported
from maskbench.common.errors import UsageError
from maskbench.common.knobs import FunctionIn, LayerName
from maskbench.common.named import takes
from maskbench.common.streams import seeded
from maskbench.data.sources.sets import SETS, SYNTHETIC
from maskbench.masks.sites import require_layers
from maskbench.runs.nets import make_method, make_net
from maskbench.tasks.fulfilment import require

PARTS = ("backbone", "method", "task", "data", "optimizer", "schedule", "loss", "logger")
SMALL = ((8,), (1, 28, 28), (3, 32, 32))  # of one input, where a net is made with all its weights
OUTPUTS = (10, 2, 100)  # of such a net, for want of the data's own
SHAPES = ((1, 28, 28), (3, 32, 32), (3, 96, 96), (3, 224, 224), (8,), (2, 8))  # of one input, for want of the data's own


def judge(cfg: DictConfig) -> None:
    """Hold a config to what can be known before any data are read.

    Raises:
        UsageError: a target or a function cannot be imported, or is called in another way; the method lacks what its task
            asks; the backbone has no layer of a name; the file of its weights is damaged or no such file; or the method refuses
            its knobs, or the net.
    """
    parts = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in PARTS if cfg.get(name)}  # no loss: the data's own
    for name, node in parts.items():
        imported(f"{name}._target_", node["_target_"])
    require(parts["task"], parts["method"]["_target_"])
    for key, text, rule in ruled(parts["method"], FunctionIn):
        if text not in rule.names() and not takes(imported(key, text), 1):
            raise UsageError(f"{key}={text} must be a function of one argument.")
    for key, text, _ in ruled(parts["method"], LayerName):
        require_layer(cfg, key, text)
    if file := given.path(parts["backbone"]):
        pretrained.read(file, f"backbone.init={parts['backbone']['init']}")
    require_method(cfg)


def ruled(method: Mapping[str, Any], kind: type) -> Iterator[tuple[str, str, Any]]:
    """(key, text, rule) of each text among the method's knobs for which a rule of this kind holds."""
    for knob in knobs.read(method["_target_"]) or ():
        if knob.name in method:
            yield from ((f"method.{knob.name}", text, rule) for text, rule in knobs.ruled(method[knob.name], knob.kind, kind))


def require_layer(cfg: DictConfig, key: str, name: str) -> None:
    """Hold the name of a layer to the backbone's layers.

    Raises:
        UsageError: no net that the backbone makes for inputs of usual shapes has a module of that name.
    """
    first = None
    for net in sketches(cfg):
        if name in dict(net.named_modules()):
            return
        first = first or net
    if first is not None:
        require_layers(first, [name], key)


def sketches(cfg: DictConfig) -> Iterator[nn.Module]:
    """The config's net for inputs of some usual shapes, on torch's meta device, where tensors have no content: the names of
    layers do not hang on what the data turn out to be. None of a net that cannot be made so."""
    for shape in SHAPES:
        try:
            with seeded(cfg.seed, "sketch"), torch.device("meta"):
                net = make_net(cfg.backbone, shape, cfg.backbone.get("outputs") or 10, cfg.data.get("normalize"))
        except Exception:  # it needs other inputs, or tensors with content: it is made again once the data are there
            continue
        yield net


def require_method(cfg: DictConfig) -> None:
    """Make the method as the run will, over a net for inputs and outputs such as the data may have, and let go of it.

    What depends on the data stands back: of data whose shape is not known the method has to refuse every net in the same words.
    What cannot be made for another reason is left to the run, which says why.

    Raises:
        UsageError: the method's own.
    """
    known, told, refused = shape_of(cfg), cfg.backbone.get("outputs"), []
    for shape, outputs in product([known] if known else SMALL, [told] if told else OUTPUTS):
        try:
            with seeded(cfg.seed, "sketch"):
                net = make_net(cfg.backbone, shape, outputs, cfg.data.get("normalize"))
        except Exception:  # as in `sketches`
            continue
        try:
            with seeded(cfg.seed, "sketch"):
                make_method(cfg.method, net)
            return
        except UsageError as error:
            refused.append(str(error))
        except Exception:
            return
    if refused and (known or len(set(refused)) == 1):
        raise UsageError(refused[0])


def shape_of(cfg: DictConfig) -> tuple[int, ...] | None:
    """The shape of one input, where the data's `base` is a set that this package knows."""
    base = cfg.data.get("base")
    spec = SETS.get(base)
    shape = spec.shape if spec else SYNTHETIC[base][1] if base in SYNTHETIC else None
    return (1, *shape) if shape and len(shape) == 2 else shape
