"""Functions chosen by name from the command line: one of ours, or any importable one by its dotted path."""

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType

from maskbench.common import dotted
from maskbench.common.errors import UsageError, did_you_mean


def named(key: str, name: str, choices: ModuleType | Mapping[str, Callable]) -> Callable:
    """The function called `name`: a public one defined in the module `choices`, or `package.module.function`.

    Raises:
        UsageError: there is none (the message names `key`, the choices and a near miss), or it takes other arguments than
            the choices do.
    """
    if isinstance(choices, ModuleType):
        choices = functions(choices)
    if name in choices:
        return choices[name]
    try:
        function = dotted.find(name if "." in name else "")
    except dotted.Unfound as error:
        if not isinstance(error.cause, ValueError | ImportError | AttributeError):  # the user's module is there, and fails
            raise error.refusal(key, name) from error
        hint = did_you_mean(name, choices)
        raise UsageError(f"no {key} '{name}'.{hint} Choices: {', '.join(choices)}, or a dotted path") from None
    model = next(iter(choices.values()))
    if not takes(function, len(inspect.signature(model).parameters)):
        raise UsageError(f"{key}={name} must be a function that is called as {model.__name__}{inspect.signature(model)} is")
    return function


def takes(function: object, count: int) -> bool:
    """Whether it can be called with so many arguments; where that cannot be told, calling it will tell."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:  # also: nothing that can be called
        return False
    except ValueError:
        pass
    return True


def functions(module: ModuleType) -> dict[str, Callable]:
    """The public functions that a module defines itself, by name."""
    own = vars(module).items()
    return {n: f for n, f in own if isinstance(f, FunctionType) and f.__module__ == module.__name__ and n[0] != "_"}
