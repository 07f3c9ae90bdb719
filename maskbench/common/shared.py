"""A mapping that many records hold in common, and what follows from it worked out once. Imports nothing."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

Made = TypeVar("Made")


class Shared(dict):
    """A mapping that nobody changes; equal to a dict of the same content. It remembers what `once` has made of it."""

    __slots__ = ("made",)

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.made: dict[tuple[Hashable, ...], Any] = {}


class Like(dict):
    """A mapping that differs from a Shared one in a few keys alone, and is a dict otherwise. `shared`: that one."""

    __slots__ = ("shared",)

    def __init__(self, shared: Shared, own: Mapping[str, Any]) -> None:
        super().__init__(shared)
        self.update(own)
        self.shared = shared


def alike(value: Any) -> Any:
    """What stands for a mapping where the keys do not matter in which it is its own: the Shared one it is like, or itself."""
    return value.shared if type(value) is Like else value


def once(function: Callable[..., Made], value: Any, *more: Hashable) -> Made:
    """`function(value, *more)`; of a Shared only the first call works it out. The answer must not be changed either."""
    if type(value) is not Shared:
        return function(value, *more)
    key = (function, *more)
    if key not in value.made:
        value.made[key] = function(value, *more)
    return value.made[key]
