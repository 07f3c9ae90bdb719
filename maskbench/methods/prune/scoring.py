"""What criteria rank weights by beyond their values: gradients, GraSP's Hg, SynFlow's flow, the norms of inputs (Wanda).

Functions of a net, of weights that stand in it by name, and of a batch; `Scores` hands them to criteria when asked, and
`draw` makes the masks. The net answers in evaluation mode, and is left as it was.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.masks import criteria, scopes

TEMPERATURE = 200  # logits are divided by it (GraSP)
CURVED = "tanh sigmoid gelu silu mish softplus hardswish hardtanh relu6 softmax log_softmax".split()  # not linear above 0
Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


# ---- the batch


def class_batch(stage: Stage, per_class: int, device: torch.device | str = "cpu") -> Batch:
    """`per_class` training images of each class, drawn at random: (inputs, targets), class after class.

    Raises:
        UsageError: targets are no classes, or a class has too few images.
    """
    if stage.regression:
        raise UsageError("method.criterion draws images by their class, and targets here are numbers: take data of classes")
    y = torch.as_tensor(stage.train.y)
    rows = []
    for label in range(stage.outputs):
        members = (y == label).nonzero().squeeze(1)
        if len(members) < per_class:
            raise UsageError(
                f"method.per_class={per_class}: of class {label} there are {len(members)} training images; take as many or fewer"
            )
        rows.append(members[torch.randperm(len(members))[:per_class]])
    return take(stage, torch.cat(rows), device)


def some_rows(stage: Stage, count: int, device: torch.device | str = "cpu") -> Batch:
    """`count` training examples drawn at random (all, where there are fewer): (inputs, targets)."""
    return take(stage, torch.randperm(len(stage.train))[:count], device)


def take(stage: Stage, rows: Tensor, device: torch.device | str = "cpu") -> Batch:
    """The training examples of these row numbers."""
    feed = stage.train.feed(device)
    return feed.take(*next(iter(feed.loader([[rows]]))))


# ---- what is made of it


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """In evaluation mode: norms take their running statistics, dropout rests; each module's own mode afterwards."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def gradients(net: nn.Module, weights: Mapping[str, Tensor], batch: Batch, loss: Loss) -> dict[str, Tensor]:
    """The gradient of the mean loss with respect to `weights`, which stand in the net by name."""
    with torch.enable_grad(), evaluating(net):
        w = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
        x, y = batch
        value = loss(functional_call(net, w, (x,)), y)
        return dict(zip(w, torch.autograd.grad(value, list(w.values())), strict=True))


def curvature(net: nn.Module, weights: Mapping[str, Tensor], batch: Batch, loss: Loss) -> dict[str, Tensor]:
    """Hg, the Hessian of the mean loss times its gradient, with outputs divided by `TEMPERATURE` (GraSP).

    z = g0 . g, where g0 is the gradient as a number and g as a function of the weights; Hg = dz/dw.
    """
    with torch.enable_grad(), evaluating(net):
        w = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
        x, y = batch
        value = loss(functional_call(net, w, (x,)) / TEMPERATURE, y)
        g = torch.autograd.grad(value, list(w.values()), create_graph=True)
        z = sum((one.detach() * one).sum() for one in g)
        return dict(zip(w, torch.autograd.grad(z, list(w.values())), strict=True))


def flow(net: nn.Module, weights: Mapping[str, Tensor], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """dR/d|w| by name, float64: R is the sum of the outputs to an input of ones [1, *shape], where every parameter and
    statistic of the net stands at its magnitude (SynFlow). `weights` stand in for the net's own: masked, as they are now.

    Raises:
        UsageError: R is not finite.
    """
    with torch.enable_grad(), evaluating(net):
        own = dict(net.named_parameters()) | dict(net.named_buffers())
        tensors = {n: t.detach().double().abs() if t.is_floating_point() else t for n, t in (own | dict(weights)).items()}
        w = {name: tensors[name].requires_grad_() for name in weights}
        device = next(iter(w.values())).device
        total = functional_call(net, tensors, (torch.ones(1, *shape, dtype=torch.float64, device=device),)).sum()
        if not total.isfinite():
            raise UsageError(
                f"SynFlow's sum of outputs is {total.item():g} in this net: start it from smaller weights (backbone.init), or "
                "take another criterion, such as snip"
            )
        return dict(zip(w, torch.autograd.grad(total, list(w.values())), strict=True))


def curved(net: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """Names of activations on an input's way through the net that are not linear above 0, where SynFlow does not say what
    flows: its warning."""
    device = next(net.parameters()).device
    with torch.no_grad(), evaluating(net), _Named() as seen:
        net(torch.ones(1, *shape, device=device))
    return [name for name in CURVED if name in seen.names]


class _Named(TorchFunctionMode):
    """Notes the names of torch's functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def input_norms(net: nn.Module, weights: Mapping[str, Tensor], x: Tensor, name: str) -> Tensor:
    """The l2 norm of each input of the layer whose weight is `name`, over a batch (of a convolution over its places, too):
    [1, inputs, 1, ...], to be multiplied with the weight.

    Raises:
        UsageError: the layer's inputs cannot be told: it is neither Linear nor Conv, or a convolution in groups.
    """
    layer, weight = net.get_submodule(name.rpartition(".")[0]), net.get_parameter(name)
    linear = isinstance(layer, nn.Linear)
    if not linear and (not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) or layer.groups > 1):
        raise UsageError(
            f"method.criterion=wanda: {name.rpartition('.')[0]} is neither Linear nor a convolution without groups: name it in "
            "method.dense, or take another criterion"
        )
    sums: list[Tensor] = []
    axis = -1 if linear else 1 - weight.ndim  # where inputs stand; the batch may be left out

    def add(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs = args[0].detach().movedim(axis, 0).flatten(1)
        sums.append(inputs.square().sum(1))

    hook = layer.register_forward_pre_hook(add)
    try:
        with torch.no_grad(), evaluating(net):
            functional_call(net, dict(weights), (x,))
    finally:
        hook.remove()
    if not sums:
        raise UsageError(f"method.criterion=wanda: {name.rpartition('.')[0]} is not called: name it in method.dense")
    return sum(sums).sqrt().reshape(1, -1, *[1] * (weight.ndim - 2))


# ---- handed to criteria


class Scores:
    """What criteria see of one net at one pruning, each part made once, when it is asked.

    Args:
        net: the net. init, final: its masked weights before and after training, by name; tensors of other names stand in the
            net where the criteria's parts are made. alive: the present masks, bool.
        batch: makes (inputs, targets). loss: (outputs, targets) -> scalar. shape: of one input.
        at: where gradient, curvature and flow are taken; None: at `init`.
        under: whether gradient and curvature are those of the masked net; of the dense one otherwise.
    """

    def __init__(
        self,
        net: nn.Module,
        init: Mapping[str, Tensor],
        final: Mapping[str, Tensor],
        alive: Mapping[str, Tensor],
        *,
        batch: Callable[[], Batch],
        loss: Loss,
        shape: tuple[int, ...],
        at: Mapping[str, Tensor] | None = None,
        under: bool = False,
    ) -> None:
        self.net, self.init, self.final, self.alive, self.at = net, init, final, alive, init if at is None else at
        self.make_batch, self.loss, self.shape, self.under = batch, loss, shape, under

    @cached_property
    def batch(self) -> Batch:
        return self.make_batch()

    @cached_property
    def gradient(self) -> dict[str, Tensor]:
        return gradients(self.net, self.values, self.batch, self.loss)

    @cached_property
    def curvature(self) -> dict[str, Tensor]:
        return curvature(self.net, self.values, self.batch, self.loss)

    @cached_property
    def flow(self) -> dict[str, Tensor]:
        tensors = masked(self.at, self.alive)
        return flow(self.net, {name: tensors[name] for name in tensors if tensors[name].is_floating_point()}, self.shape)

    @property
    def values(self) -> Mapping[str, Tensor]:
        sites = {name: self.at[name] for name in self.alive}
        return masked(sites, self.alive) if self.under else sites

    def inputs(self, name: str, kept: Mapping[str, Tensor]) -> Tensor:
        """Of one layer, under the masks `kept`."""
        return input_norms(self.net, masked(self.final, kept), self.batch[0], name)

    def weights(self, name: str, keep: int, kept: Mapping[str, Tensor]) -> criteria.Weights:
        """What a criterion sees of one layer, of which `keep` will stay; `kept`: masks as far as they are drawn."""
        more = {
            "curvature": lambda: self.curvature[name],
            "flow": lambda: self.flow[name],
            "inputs": partial(self.inputs, name, kept),
        }
        return criteria.Weights(self.init[name], self.final[name], self.alive[name], keep, lambda: self.gradient[name], more)


def masked(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """w * m where there is a mask, w elsewhere."""
    return {name: w * masks[name] if name in masks else w for name, w in weights.items()}


def draw(
    criterion: Callable[[criteria.Weights], Tensor],
    scores: Scores,
    scope: str,
    counts: Mapping[str, int],
    follow: scopes.Follow | None = None,
) -> dict[str, Tensor]:
    """The masks, bool, of what is alive and stays: exact counts (masks/scopes.py).

    A criterion that asks for a layer's inputs sees them as the masks of the layers before leave them, layer by layer (Wanda);
    where one ranking spans several layers, as they are.
    """
    kept, values = dict(scores.alive), {}
    for name, alive in scores.alive.items():
        weights = scores.weights(name, counts.get(name, 0), dict(kept))
        values[name] = criterion(weights)
        if "inputs" in vars(weights) and scope != "global" and not scopes.by_unit(scope):
            kept |= scopes.best({name: values.pop(name)}, {name: alive}, scope, counts)
    return kept | scopes.best(values, {name: scores.alive[name] for name in values}, scope, counts, follow) if values else kept


def shares(keep: float, rounds: int) -> list[float]:
    """The share kept after each of so many rounds of scoring and cutting: keep^(k / rounds), at last `keep` itself."""
    return [keep ** (k / rounds) for k in range(1, rounds)] + [keep]
