"""Which backbone a file of weights is of, for a refusal that says how to mend it: nets are made without content and compared."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from maskbench.backbones import pretrained
from maskbench.common import given, identity, knobs
from maskbench.runs.nets import make_net

LEFT = {"init"}  # knobs that change no tensor's name or shape


def words(cfg: DictConfig, shape: tuple[int, ...], outputs: int, tensors: Mapping[str, Tensor]) -> str:
    """The keys that choose a net with exactly these tensors before its head; "" where none of ours is found."""
    for text, backbone in candidates(OmegaConf.to_container(cfg.backbone, resolve=True)):
        try:
            with torch.device("meta"):
                net = make_net(OmegaConf.create({"backbone": backbone}).backbone, shape, outputs)
            if pretrained.match(net, tensors).exact:
                return text
        except Exception:  # it is for other inputs, or needs keys that its file does not set
            continue
    return ""


def candidates(chosen: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(keys, settings) of nets: the chosen one with one word of it changed, then every other, then those with one changed."""
    yield from changed("", chosen)
    files = sorted((identity.conf_dir() / "backbone").glob("*.yaml"))
    others = [OmegaConf.to_container(OmegaConf.load(file)) for file in files]
    others = [node for node in others if node.get("name") != chosen.get("name")]
    yield from ((f"backbone={node['name']}", node) for node in others)
    yield from itertools.chain.from_iterable(changed(f"backbone={node['name']} ", node) for node in others)


def changed(before: str, node: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings with another of the words that one knob takes."""
    node = given.drawn(node)
    for knob in knobs.read(str(node.get("_target_"))) or ():
        if knob.name not in LEFT and get_origin(knob.kind) is Literal:
            for value in get_args(knob.kind):
                if value != node.get(knob.name, knob.default):
                    yield f"{before}backbone.{knob.name}={value}", {**node, knob.name: value}
