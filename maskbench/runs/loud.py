"""A loaded method's net says that it is not the net that answers, where somebody asks it as if it were."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskbench.data.stage import Stage
from maskbench.training.method import Method

NOT_IT = (
    "method.net of {} is not the net that answers: its weights stand before their masks; "
    "maskbench.load(RUN).plain_net() is the net that does"
)


class Loud:
    """A hook of a net: warns where the net is called with its own weights, or its state dict is asked for by itself, and the
    method computes with others. The method's own calls, which put tensors in their place, pass in silence; so do copies."""

    def __init__(self, method: Method, stages: list[Stage]) -> None:
        self.method, self.stages, self.at_work = method, stages, False
        self.own = tensors_of(method.net)

    def __call__(self, net: nn.Module, *asked: Any) -> None:
        """asked: (inputs) before a forward pass; (prefix, keep_vars) before a state dict."""
        frame, level = sys._getframe(1), 2
        while frame.f_globals.get("__name__") == nn.Module.__module__:  # up to whoever asks
            frame, level = frame.f_back, level + 1
        if self.at_work or (self.within(net) if len(asked) == 1 else bool(asked[0]) or self.ours(frame)):
            return
        if self.differs():
            warnings.warn(NOT_IT.format(type(self.method).__name__), stacklevel=level)

    def within(self, net: nn.Module) -> bool:
        """Whether other tensors stand in for the net's own."""
        now = tensors_of(net)
        return any(now.get(name) is not value for name, value in self.own.items())

    def ours(self, frame: Any) -> bool:
        """Whether the method's own code, or this package's, asks."""
        name = frame.f_globals.get("__name__", "")
        return name.startswith("maskbench.") or name == type(self.method).__module__

    @torch.no_grad()
    def differs(self) -> bool:
        """Whether the method answers a stage with other tensors than the net's own."""
        self.at_work = True
        try:
            for stage in filter(self.method.has_learned, self.stages):
                x, _ = stage.test.tensors(first=1)
                tensors = self.method.effective_weights(x, stage)
                if any(name not in self.own or not torch.equal(value, self.own[name]) for name, value in tensors.items()):
                    return True
            return False
        finally:
            self.at_work = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return quiet

    def __reduce__(self) -> tuple:
        return silent, ()


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those of gates too, which no state dict has."""
    return dict(net.named_parameters()) | dict(net.named_buffers())


def silent() -> Callable:
    """What a copy of the net, or one read from a pickle, has in the place of the hook."""
    return quiet


def quiet(*_: Any) -> None:
    """Says nothing."""


def speak_up(method: Method, stages: list[Stage]) -> None:
    """Give a loaded method's net the hooks, where its stages have inputs of their own (episodes are none)."""
    if all(isinstance(stage.test.tensors(first=1)[0], Tensor) for stage in stages):
        loud = Loud(method, stages)
        method.net.register_forward_pre_hook(loud)
        method.net.register_state_dict_pre_hook(loud)
