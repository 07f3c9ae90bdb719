"""A loaded method's net says that it is not the net that answers, where somebody asks it as if it were."""

import sys
import warnings
from typing import Any

import torch
from torch import nn

from maskbench.data.stage import Stage
from maskbench.training.method import Method

NOT_IT = (
    "method.net of {} is not the net that answers: its weights stand before their masks; "
    "maskbench.load(RUN).plain_net() is the net that does"
)
OUTSIDE = {1: 4, 2: 3}  # arguments of a hook -> frames from its warning to whoever called the net, or asked for its state dict


class Loud:
    """A hook of a net: warns where the net is called with its own weights, or its state dict is asked for by itself, and the
    method computes with others. The method's own calls, which put tensors in their place, pass in silence; so do copies."""

    def __init__(self, method: Method, stages: list[Stage]) -> None:
        self.method, self.stages, self.at_work = method, stages, False
        self.own = dict(method.net.named_parameters())

    def __call__(self, net: nn.Module, *asked: Any) -> None:
        """asked: (inputs) before a forward pass; (prefix, keep_vars) before a state dict."""
        if self.at_work or (self.within(net) if len(asked) == 1 else bool(asked[0]) or self.ours(sys._getframe(2))):
            return
        if self.differs():
            warnings.warn(NOT_IT.format(type(self.method).__name__), stacklevel=OUTSIDE[len(asked)])

    def within(self, net: nn.Module) -> bool:
        """Whether other tensors stand in for the net's own."""
        now = dict(net.named_parameters())
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

    def __reduce__(self) -> str:
        return "quiet"


def quiet(*_: Any) -> None:
    """What a copy of the net has in the place of the hook."""


def speak_up(method: Method, stages: list[Stage]) -> None:
    """Give a loaded method's net the hooks, where its stages have inputs of their own (episodes have none)."""
    if all(hasattr(stage.test, "tensors") for stage in stages):
        loud = Loud(method, stages)
        method.net.register_forward_pre_hook(loud)
        method.net.register_state_dict_pre_hook(loud)
