"""Whether a result is of the code that is here now: fresh, stale (other code made it) or mixed (several did). Imports no torch.

A record from before the code of runs was recorded module by module is neither fresh nor stale; several commits make it mixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from maskbench.common import closure
from maskbench.common.closure import Code
from maskbench.common.shared import alike, once

FRESH, STALE, MIXED, UNKNOWN = "fresh", "stale", "mixed", ""
NAMED = 4  # modules that a sentence lists


@dataclass(frozen=True)
class Freshness:
    """word: one of the four above. changed: modules whose code is not what the record says. since: which run that was."""

    word: str
    changed: Sequence[str] = ()
    since: str = ""

    @property
    def old(self) -> bool:
        return self.word in (STALE, MIXED)

    def __str__(self) -> str:
        """Why it is not fresh, such as `maskbench.methods.dense changed since 2026-01-01T12:00:00+00:00 (commit c0ffeec0ff)`."""
        if self.word == MIXED and not self.changed:
            return f"several versions of the code made the run of {self.since}"
        return f"{listed(self.changed)} changed since {self.since}"


def judge(about: Mapping[str, Any], present: Code | None = None) -> Freshness:
    """What a run.json says of its code, beside the code of the same config now (`present`, if that is known already)."""
    several = len(made_by(about)) > 1
    recorded = modules(about)
    if recorded is None:
        return Freshness(MIXED if several else UNKNOWN, (), since(about))
    if present is None:
        named = once(_named_in, alike(about.get("config") or {}))
        changed, hidden = once(_beside, about["code"], named)
        present = _now(named) if hidden else None
    else:
        changed, hidden = _compared(recorded, present)
    if hidden:  # the user's modules lie where the run was started: what only they import cannot be seen from here either
        changed = [name for name in changed if name in recorded and name in present.modules]
    if several:
        return Freshness(MIXED, changed, since(about))
    return Freshness(STALE if changed else UNKNOWN if hidden else FRESH, changed, since(about))


def _named_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*(once(_named, config.get(part)) for part in closure.PARTS))))


def _named(part: Any) -> frozenset[str]:
    return frozenset(closure.names(part))


def _beside(code: Mapping[str, Any], named: tuple[str, ...]) -> tuple[list[str], bool]:
    """A record's code beside that of these names now."""
    return _compared(code["modules"], _now(named))


def _compared(recorded: Mapping[str, str], present: Code) -> tuple[list[str], bool]:
    """(modules that differ, whether the record names some of the user's that cannot be read from here)."""
    hidden = any(not name.startswith("maskbench.") and not closure.readable(name) for name in recorded)
    return closure.changed(recorded, present.modules), hidden


@cache
def _now(names: tuple[str, ...]) -> Code:
    return closure.reached((*closure.START, *names))


def modules(about: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Module -> hash of the code of a record's last attempt; None for a record that does not say."""
    code = about.get("code")
    recorded = code.get("modules") if isinstance(code, Mapping) else None
    return recorded if isinstance(recorded, Mapping) and recorded else None


def made_by(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The codes of the attempts behind what is there: from the last that began anew."""
    attempts = about.get("attempts") or []
    begun = max((number for number, attempt in enumerate(attempts) if attempt.get("resumed") is False), default=0)
    return tuple(dict.fromkeys(attempt["code"] for attempt in attempts[begun:] if attempt.get("code")))


def since(about: Mapping[str, Any]) -> str:
    """When the last attempt of a record began, and from which commit."""
    attempts = about.get("attempts") or [{}]
    commit = about.get("commit")
    return f"{attempts[-1].get('started', 'an unknown time')}{f' (commit {commit[:10]})' if commit else ''}"


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
