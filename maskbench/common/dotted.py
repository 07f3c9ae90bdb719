"""What a dotted path of a command line leads to, imported: one rule for all who take one."""

from importlib import import_module
from types import ModuleType
from typing import Any

from maskbench.common.errors import UsageError, first_line


class Unfound(Exception):
    """There is nothing at a path. `cause`: what importing it raised, whatever the user's own module raises."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause

    @property
    def reason(self) -> str:
        """The first line of what the cause says, or its name."""
        return first_line(self.cause)

    def refusal(self, key: str, path: str) -> UsageError:
        """What to say of a path that the value of `key` is."""
        return UsageError(f"{key}={path} cannot be imported: {self.reason}")


def imported(key: str, path: str) -> Any:
    """`find` of a path that the value of `key` is.

    Raises:
        UsageError: it cannot be imported; names the key.
    """
    try:
        return find(path)
    except Unfound as error:
        raise error.refusal(key, path) from error


def find(path: str) -> Any:
    """The module at a path, or what stands in one: `package.module.Class.method`.

    Raises:
        Unfound: a module of it cannot be imported, or does not have it.
    """
    done, *words = path.split(".")
    try:
        found = import_module(done)
        for word in words:
            done = f"{done}.{word}"
            found = _inside(found, word, done)
    except Exception as error:  # whatever the user's own module raises
        raise Unfound(error) from error
    return found


def _inside(place: Any, word: str, path: str) -> Any:
    """What `place` calls `word`; of a package also a module that is not imported yet."""
    try:
        return getattr(place, word)
    except AttributeError as absent:
        if not isinstance(place, ModuleType):
            raise
        try:
            return import_module(path)
        except ModuleNotFoundError as error:
            if error.name == path:  # and nothing that this module itself imports
                raise absent from None
            raise
