"""Which of a net's parameters and units a method masks, trains and freezes, stage by stage, with counts and multiplications."""

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from maskbench.backbones.gate import gates_of
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.masks.sites import patterns, weights
from maskbench.training.method import Method

Rows = list[dict[str, Any]]


def coverage(method: Method, stages: list[Stage]) -> Rows:
    """One row a parameter of the backbone and one a gate that is masked, then the total: `masked`, `trained` (the stages that
    move it, or its stand-in), `weights` (None: a gate has units), and `macs`, multiplications of one input with it (None: in
    no layer of torch.nn). Of an ensemble they are of one net.

    The method lives through all stages with a fit that trains nothing.

    Raises:
        UsageError: the method does not learn stage by stage, or its net is made as it learns.
    """
    shape, net, masked = stages[0].shape, method.net, set(method.masked_weights())
    try:
        macs = multiplications(net, torch.zeros(2, *shape))
    except (IndexError, RuntimeError) as error:
        raise UsageError(
            f"--coverage: the net of {type(method).__name__} takes no inputs before it has learnt ({error})"
        ) from None
    moved: dict[str, set[int]] = {name: set() for name, _ in net.named_parameters()}

    def fit(of: Method, stage: Stage, **phase: Any) -> None:
        for name in moving(of, stage, torch.zeros(2, *shape)) & moved.keys():
            moved[name].add(stage.index)

    for stage in stages:
        try:
            method.learn(stage, fit)
        except AttributeError as error:
            raise UsageError(f"--coverage: {type(method).__name__} asks more of training than its phases ({error})") from None
    rows: Rows = []
    for name, p in net.named_parameters():
        when = spoken(sorted(moved[name]), len(stages))
        rows.append({"parameter": name, "shape": str(list(p.shape)), "masked": name in masked, "trained": when,
                     "weights": p.numel(), "macs": macs.get(id(p))})  # fmt: skip
    gates = {name: gate for name, gate in gates_of(net, inlets=True).items() if name in masked}
    for name, gate in gates.items():
        rows.append({"parameter": name, "shape": str(list(gate.shape)), "masked": True, "trained": spoken([], len(stages)),
                     "weights": None, "macs": None})  # fmt: skip
    share = sum(row["weights"] or 0 for row in rows if row["masked"]) / sum(row["weights"] or 0 for row in rows)
    said = f"{share:.1%}" if not gates else f"{share:.1%}, {sum(prod(gate.shape) for gate in gates.values())} units"
    total = {name: sum(row[name] or 0 for row in rows) for name in ("weights", "macs")}
    return [*rows, {"parameter": "all", "shape": "", "masked": said, "trained": ""} | total]


def moving(method: Method, stage: Stage, x: Tensor) -> set[str]:
    """Names of the backbone's parameters that training moves now, themselves or what stands in for them unmasked."""
    free = {id(p) for p in method.trainable_parameters()}
    for p in method.parameters():
        p.requires_grad_(id(p) in free)
    method.train()
    with torch.enable_grad():
        stands_in = method.effective_weights(x, stage)
    masked = method.masked_weights()
    names = {name for name, tensor in stands_in.items() if tensor.requires_grad and name not in masked}
    return names | {name for name, p in method.net.named_parameters() if id(p) in free}


def spoken(stages: list[int], total: int) -> str:
    """The stages (indices from 0) that train something, of `total`, in words."""
    if len(stages) == total:
        return "always"
    return f"stages {', '.join(str(stage + 1) for stage in stages)}, then frozen" if stages else "frozen"


@torch.no_grad()
def multiplications(net: nn.Module, x: Tensor) -> dict[int, int]:
    """Multiplications of one input with each matrix weight in torch's layers, by the weight's id: its size times the places
    at which it is applied (of a convolution's output, of a sequence), over `len(x)`."""
    counts: dict[int, int] = {}

    def count(layer: nn.Module, inputs: tuple, output: Any) -> None:
        for weight, places in applied(layer, inputs, output):
            counts[id(weight)] = counts.get(id(weight), 0) + weight.numel() * places // len(x)

    hooks = [module.register_forward_hook(count) for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()  # in evaluation torch's attention layers take a way past their parts
    net(x)
    net.load_state_dict(state)
    for hook in hooks:
        hook.remove()
    return counts


def applied(layer: nn.Module, inputs: tuple, output: Any) -> Iterator[tuple[Tensor, int]]:
    """(weight, at how many places it was applied, over the whole batch) of a layer's matrix weights."""
    if not patterns(layer):
        return
    if isinstance(layer, nn.modules.conv._ConvNd):
        grid = inputs[0] if layer.transposed else output
        yield layer.weight, len(grid) * prod(grid.shape[2:])
        return
    places = inputs[0].numel() // inputs[0].shape[-1]  # rows, times of a sequence
    for _, weight in weights(layer):
        yield weight, places
    if isinstance(layer, nn.MultiheadAttention):
        yield layer.out_proj.weight, places
