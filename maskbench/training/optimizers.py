"""One optimiser made of several, for methods whose parts move by different rules; and what an optimiser remembers of a
parameter, for methods that mask or reset it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maskbench.common.errors import UsageError


class ByGroup(torch.optim.Optimizer):
    """Each group of a method's parameters (`Method.groups`) under a recipe of its own; to all others it is one optimiser.

    Args:
        groups: dicts of `name` and `params`, as torch's optimisers take them.
        recipes: name of a group -> what makes its optimiser from parameters; recipes of absent groups are left out.

    Raises:
        UsageError: a group has no recipe.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], *, recipes: Mapping[str, Callable]) -> None:
        groups = list(groups)
        if lacking := [group["name"] for group in groups if group["name"] not in recipes]:
            raise UsageError(
                f"this optimizer has recipes for {', '.join(recipes)}, and the method moves {', '.join(lacking)} too: "
                "choose one that treats all alike, such as optimizer=adam"
            )
        self.parts = [recipes[group["name"]](group["params"]) for group in groups]
        super().__init__([p for part in self.parts for group in part.param_groups for p in group["params"]], {})
        self._share_groups()

    def _share_groups(self) -> None:
        """The groups are those of the parts, so that a rate set here counts there."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step of each part, after one evaluation of the closure, if there is one (Lightning's wrapper has one)."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)
        self._share_groups()


def groups(factory: Callable, method: Any) -> dict[str, list[nn.Parameter]]:
    """A method's movable parameters by group: its own groups, or trunk and head, where the optimiser has recipes for these and
    the method itself makes no difference."""
    own = method.groups()
    recipes = getattr(factory, "keywords", {}).get("recipes") or {}
    return method.head_apart() if list(own) == [""] and {"trunk", "head"} <= recipes.keys() else own


def state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    """What the optimiser remembers of a parameter, by torch's names (`exp_avg`, `momentum_buffer`, `step`, ...), to be changed
    in place; empty before the parameter's first step and for optimisers without memory."""
    return next((part.state[parameter] for part in parts_of(optimizer) if parameter in part.state), {})


def parts_of(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """The optimisers that one is made of: itself, if it is none of several."""
    return optimizer.parts if isinstance(optimizer, ByGroup) else [optimizer]


def moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Iterator[Tensor]:
    """The tensors an optimiser keeps entry by entry of a parameter, each of its shape: running means of gradients and of
    their squares, momentum. `for m in moments(optimizer, w): m[newborn] = 0` forgets the past of chosen weights."""
    for name, value in state_of(optimizer, parameter).items():
        if entrywise(name, value, parameter):
            yield value


def entrywise(name: str, value: object, parameter: nn.Parameter) -> bool:
    """Whether something that an optimiser remembers of a parameter, by its name, belongs to its entries one by one."""
    return isinstance(value, Tensor) and name != "step" and value.shape == parameter.shape


def exchange(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, carried: Callable[[Tensor], Tensor]) -> None:
    """Let the optimiser move `new` where it moved `old`: in the same group, at the same place, with the same count of steps.

    Args:
        carried: what a moment of the old one's shape becomes for the new one.
    """
    for group in optimizer.param_groups:
        group["params"][:] = [new if p is old else p for p in group["params"]]
    for part in parts_of(optimizer):
        if old in part.state:
            state = part.state.pop(old)
            part.state[new] = {n: carried(v) if entrywise(n, v, old) else v for n, v in state.items()}
    new.requires_grad_(old.requires_grad)
    old.requires_grad_(False)
    old.grad = None
