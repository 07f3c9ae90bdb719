"""Which hooks of a method the training loop must call, and how the gradient of its effective weights is caught."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.training.method import Method, Progress

NAMES = ("before_step", "wants_weight_gradients", "after_backward", "after_step")


class Hooks:
    """The hooks that a method overrides, looked up once for a phase; one that it does not is None."""

    before_step: Callable[[Progress], None] | None
    wants_weight_gradients: Callable[[Progress], bool] | None
    after_backward: Callable[[Progress], None] | None
    after_step: Callable[[Progress, torch.optim.Optimizer], None] | None

    def __init__(self, method: Method) -> None:
        for name in NAMES:
            overridden = getattr(type(method), name) is not getattr(Method, name)
            setattr(self, name, torch.no_grad()(getattr(method, name)) if overridden else None)
        self.any = any(getattr(self, name) for name in NAMES)


class WeightGradients:
    """The gradient of a loss with respect to the tensors that stand in for the backbone's parameters.

    They are caught on their way back to whatever those tensors were made of, so the bits of training stay.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.names = {name for name, _ in method.net.named_parameters()}  # no buffers: a norm's statistics have no gradient
        self.tensors: dict[str, Tensor] = {}  # the latest that stood in, by name
        self.sums: dict[str, Tensor] = {}

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The method's loss, with its effective weights watched until the next backward pass is through."""
        effective_weights = self.method.effective_weights
        self.tensors = {}

        def watched(x: Tensor, stage: Stage) -> dict[str, Tensor]:
            return {name: self.watch(name, tensor) for name, tensor in effective_weights(x, stage).items()}

        self.method.effective_weights = watched
        try:
            return self.method.loss(batch, stage)
        finally:
            del self.method.effective_weights  # the class's own is in its place again
            self.sums = {}  # gradients that the loss itself took on its way (of inputs, of an inner loop) do not count

    def watch(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self.names or not torch.is_grad_enabled():
            return tensor
        standing_in = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
        standing_in.register_hook(partial(self.add, name))
        self.tensors[name] = tensor
        return standing_in

    def add(self, name: str, gradient: Tensor) -> None:
        gradient = gradient.detach()
        self.sums[name] = self.sums[name] + gradient if name in self.sums else gradient.clone()

    def taken(self, averaged: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """After the backward pass: by name, 0 where the loss did not depend on a tensor; nothing is kept here."""
        sums, tensors, self.sums, self.tensors = self.sums, self.tensors, {}, {}
        return {
            name: averaged(sums[name] if name in sums else torch.zeros_like(tensor).detach()) for name, tensor in tensors.items()
        }
