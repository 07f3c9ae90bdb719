"""The diagonal of a net's Fisher information: the mean over images of the squared gradient of log p(label | image).

The gradient of each image alone is needed: squaring that of a batch gives something else, and far less. Layers of the usual
kinds have it in closed form from what a backward pass of the whole batch gives them; a net with others is differentiated
image by image (vmap).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from maskbench.backbones.batch_statistics import uses_batches
from maskbench.common.errors import UsageError
from maskbench.training.stand_in import call

ROWS, SINGLE, BATCH = 100, 10, 128  # images at a time in closed form; one by one; whose gradients are averaged before the square
Kind = Literal["exact", "empirical", "sample"]
Labels = list[tuple[Tensor, Tensor]]  # (labels [rows], how much each counts [rows])


def diagonal(net: nn.Module, x: Tensor, y: Tensor, outputs: tuple[int, ...], kind: Kind) -> dict[str, Tensor]:
    """By parameter: the mean over images x [n, ...] of the squared gradient of log p(label | image), p over `outputs` alone.

    The net answers in the mode it is in, which has to be that of evaluation.

    Args:
        y: the true labels [n], each one of `outputs`.
        kind: the labels: `exact`, all of `outputs` by their probability; `empirical`, y; `sample`, one drawn by p.
    """
    weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    columns = torch.tensor(outputs, device=x.device)
    place = torch.zeros(int(columns.max()) + 1, dtype=torch.long, device=x.device)
    place[columns] = torch.arange(len(columns), device=x.device)
    closed = closed_form(net)
    total = {name: torch.zeros_like(w, requires_grad=False) for name, w in weights.items()}
    for some, targets in zip(x.split(ROWS if closed else SINGLE), y.split(ROWS if closed else SINGLE), strict=True):
        add = add_by_layer if closed else add_one_by_one
        add(total, net, weights, some, columns, lambda p, targets=targets: labels(p, place[targets], kind))
    return {name: value / len(x) for name, value in total.items()}


def labels(p: Tensor, y: Tensor, kind: Kind) -> Labels:
    """The labels whose gradients count, as places among p [rows, classes]."""
    if kind == "exact":
        return [(torch.full_like(y, label), p[:, label]) for label in range(p.shape[1])]
    if kind == "sample":  # on the CPU, whose draws are the same whatever the device
        y = torch.multinomial(p.cpu(), 1).squeeze(1).to(y.device)
    return [(y, torch.ones_like(p[:, 0]))]


def of_batches(net: nn.Module, x: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The sum over weights of the squared gradient of a batch's mean loss, averaged over batches of BATCH images: for comparison.

    loss: (outputs, row numbers) -> scalar.
    """
    weights = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    sums = []
    for rows in torch.arange(len(x), device=x.device).split(BATCH):
        with torch.enable_grad():
            value = loss(call(net, weights, x[rows]), rows)
            found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
        sums.append(sum(g.square().sum() for g in found if g is not None))
    return torch.stack(sums).mean()


def require_single_images(net: nn.Module) -> None:
    """Hold a net to what a gradient of one image asks.

    Raises:
        UsageError: an answer depends on the other images of its batch.
    """
    if uses_batches(net):
        raise UsageError(
            "the Fisher information is of single images, and this backbone standardises each by those beside it: take another "
            "backbone.norm, such as batch"
        )


# ---- layer by layer


def linear(layer: nn.Linear, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(own name, sum over rows of squared gradients) from inputs [rows, ..., in] and output gradients [rows, ..., out]."""
    if x.ndim == 2:
        yield "weight", delta.square().T @ x.square()
    else:
        yield "weight", (delta.flatten(1, -2).mT @ x.flatten(1, -2)).square().sum(0)
    yield "bias", delta.flatten(1, -2).sum(1).square().sum(0) if x.ndim > 2 else delta.square().sum(0)


def convolution(layer: nn.Conv2d, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
    """As `linear`, of maps [rows, channels, height, width]."""
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # [rows, in * kernel, places]
    own = delta.flatten(2)
    yield "weight", (own @ patches.mT).square().sum(0).view_as(layer.weight)
    yield "bias", own.sum(2).square().sum(0)


def batch_norm(layer: nn.Module, x: Tensor, delta: Tensor) -> Iterator[tuple[str, Tensor]]:
    """As `linear`, of [rows, units, ...] standardised by running statistics."""
    plain = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    yield "weight", (plain * delta).flatten(2).sum(2).square().sum(0) if x.ndim > 2 else (plain * delta).square().sum(0)
    yield "bias", delta.flatten(2).sum(2).square().sum(0) if x.ndim > 2 else delta.square().sum(0)


def form(layer: nn.Module) -> Callable[..., Iterator[tuple[str, Tensor]]] | None:
    """The closed form of a layer's squared gradients, if it is of a kind that has one here."""
    if type(layer) is nn.Linear:
        return linear
    if type(layer) is nn.Conv2d and layer.groups == 1 and not isinstance(layer.padding, str) and layer.padding_mode == "zeros":
        return convolution
    return batch_norm if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.track_running_stats else None


def closed_form(net: nn.Module) -> bool:
    """Whether every parameter is one layer's alone, and that layer has a closed form."""
    owners = [module for module in net.modules() for _ in module.parameters(recurse=False)]
    return len(owners) == len({id(p) for p in net.parameters()}) and all(map(form, owners))


def add_by_layer(
    total: Mapping[str, Tensor],
    net: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    columns: Tensor,
    chosen: Callable[[Tensor], Labels],
) -> None:
    """Add the squared gradients of all rows, by one backward pass a label."""
    names = {module: name for name, module in net.named_modules() if [*module.parameters(recurse=False)]}
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []  # (layer, its inputs, its outputs)
    hooks = [m.register_forward_hook(lambda m, given, out: calls.append((m, given[0].detach(), out))) for m in names]
    try:
        with torch.enable_grad():
            log_p = call(net, weights, x)[:, columns].log_softmax(1)
    finally:
        for hook in hooks:
            hook.remove()
    if len({module for module, _, _ in calls}) < len(calls):
        return add_one_by_one(total, net, weights, x, columns, chosen)  # a layer that is passed twice has a gradient of both
    for label, counts in chosen(log_p.detach().exp()):
        score = (log_p.gather(1, label[:, None]).squeeze(1) * counts.sqrt()).sum()
        deltas = torch.autograd.grad(score, [out for _, _, out in calls], retain_graph=True)
        for (module, given, _), delta in zip(calls, deltas, strict=True):
            for part, value in form(module)(module, given, delta):
                if (name := f"{names[module]}.{part}") in total:
                    total[name].add_(value)


def add_one_by_one(
    total: Mapping[str, Tensor],
    net: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    columns: Tensor,
    chosen: Callable[[Tensor], Labels],
) -> None:
    """Add the squared gradients of all rows, each differentiated by itself."""

    def score(w: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return functional_call(net, w, (image[None],))[0, columns].log_softmax(0).gather(0, label[None])[0]

    plain: dict[str, Any] = {name: w.detach() for name, w in weights.items()}
    with torch.no_grad():
        p = call(net, plain, x)[:, columns].softmax(1)
    for label, counts in chosen(p):
        for name, g in vmap(grad(score), (None, 0, 0))(plain, x, label).items():
            total[name].add_(torch.tensordot(counts, g.square(), 1))
