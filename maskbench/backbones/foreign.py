"""A net of the user's own: any torch module from inputs [batch, ...] to outputs [batch, classes] or [members, batch, classes]."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from maskbench.backbones.initial import initialise
from maskbench.common import dotted
from maskbench.common.errors import UsageError

HANDED = {
    "shape": ("shape", "input_shape"),
    "outputs": ("outputs", "num_classes", "classes"),
}  # to a function that has such arguments


def build(shape: tuple[int, ...], outputs: int, *, build: str | None = None, init: Literal["torch"] = "torch") -> nn.Module:
    """The module that a function or class of the user's own makes, plain and by its own names.

    Args:
        shape, outputs: of one input of the data, and its number of classes; handed on as `shape` or `input_shape`, and as
            `outputs`, `num_classes` or `classes`, where the function has arguments of these names.
        build: the function's dotted name, `module.function`; it is imported, as the user's own code is.
        init: as its layers drew their weights.

    Raises:
        UsageError: it cannot be imported or called, makes no module, or one that does not take such inputs, or whose answers are
            neither [batch, outputs] nor [members, batch, outputs].
    """
    if not build:
        raise UsageError("backbone=foreign needs the function that makes your net: backbone.build=mymodule.function")
    made = called(build, shape, outputs)
    if not isinstance(made, nn.Module):
        raise UsageError(f"backbone.build={build} made a {type(made).__name__}, where a torch.nn.Module is asked for.")
    initialise(made, init)
    fits(made, build, shape, outputs)
    return made


def called(name: str, shape: tuple[int, ...], outputs: int) -> Any:
    """What the function of that name returns.

    Raises:
        UsageError: it cannot be imported or called.
    """
    function = imported(name)
    try:
        takes = inspect.signature(function).parameters
        values = {"shape": shape, "outputs": outputs}
        words = {word: values[what] for what, names in HANDED.items() for word in names if word in takes}
        return function(**words)
    except Exception as error:  # whatever the user's own function raises
        raise UsageError(f"backbone.build={name} failed: {told(error)}") from error


def imported(name: str) -> Callable:
    """The function or class of a dotted name.

    Raises:
        UsageError: there is none.
    """
    if "." not in name or not all(word.isidentifier() for word in name.split(".")):
        raise UsageError(f"backbone.build={name} must be the dotted name of a function, such as mymodule.build.")
    found = dotted.imported("backbone.build", name)
    if not callable(found):
        raise UsageError(f"backbone.build={name} is no function and no class.")
    return found


@torch.no_grad()
def fits(net: nn.Module, name: str, shape: tuple[int, ...], outputs: int) -> None:
    """See what the net answers to two inputs of zeros.

    Raises:
        UsageError: nothing, or what is no answer to data of that kind.
    """
    try:
        answer = net.eval()(torch.zeros(2, *shape))
    except Exception as error:  # whatever a net makes of inputs that it was not written for
        raise UsageError(
            f"backbone.build={name}: its net does not take the data's inputs of {list(shape)}: {told(error)}"
        ) from error
    finally:
        net.train()
    if not isinstance(answer, torch.Tensor):
        raise UsageError(f"backbone.build={name}: its net answers with a {type(answer).__name__}, where one tensor is asked for.")
    if answer.ndim not in (2, 3) or tuple(answer.shape[-2:]) != (2, outputs):
        raise UsageError(
            f"backbone.build={name}: its net answers two inputs with {list(answer.shape)}; of data with {outputs} classes "
            f"[2, {outputs}] is asked for, or [members, 2, {outputs}]."
        )


def told(error: Exception) -> str:
    """An error by its name and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
