"""Errors that are the user's to mend: one sentence, exit status 2, no traceback."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Something the user can put right; the message says what is wrong and how to mend it."""


class Unmet(Exception):
    """What a run was to show and did not: one sentence, exit status 1, no traceback."""


class Alone(Unmet):
    """A process that trained together with this one has ended."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """` Did you mean 'x'?` when one of `choices` is close to `word`, else an empty string; `lr` is close to `optimizer.lr`."""
    whole = {choice: choice for choice in choices}
    ends = {} if "." in word else {choice.rpartition(".")[2]: choice for choice in reversed(whole)}
    near = [names[found] for names in (whole, ends) for found in difflib.get_close_matches(word, names, n=1, cutoff=0.6)]
    return f" Did you mean '{near[0]}'?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
