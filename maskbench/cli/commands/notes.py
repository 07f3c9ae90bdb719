"""What a preset says of itself (schema.Experiment) as lines of text. Imports no torch."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

UNITS = {"days": 1440, "hours": 60, "minutes": 1, "seconds": 0}  # in minutes; what is shorter than one is told in seconds
NOTHING_ADDED = "here"  # the variant of a preset that is its command alone


def lines(note: Mapping[str, Any]) -> Iterator[str]:
    """All of it: what it is, where it is from, what to expect, how long it takes, how it differs, what to run."""
    yield str(note.get("about") or "")
    if note.get("paper"):
        papers = note["paper"] if isinstance(note["paper"], list) else [note["paper"]]
        yield f"paper: arXiv {' and '.join(papers)}{_after(', ', note.get('place'))}"
    elif note.get("place"):
        yield f"paper: {note['place']}"
    yield from variants("published", note.get("published"))
    yield from outlook(note)
    yield from (f"differs from the paper: {one}" for one in note.get("differs") or [])
    yield from (f"command: {one}" for one in note.get("commands") or [])


def outlook(note: Mapping[str, Any]) -> Iterator[str]:
    """What to expect, how long it takes, and why it was not run here if it was not."""
    yield from variants("expect", note.get("expect"))
    machine = note.get("machine") or "one core"
    yield from variants("takes", _each(note.get("minutes"), lambda minutes: f"{duration(minutes)} on {machine}"))
    if note.get("run_here") is False:
        yield f"not run here: {note.get('reason')}"


def variants(title: str, told: Any) -> Iterator[str]:
    """One line, or one for each variant with the words that make it."""
    if isinstance(told, Mapping):
        for words, value in told.items():
            yield f"{title}: {value}" if words == NOTHING_ADDED else f"{title}, {words}: {value}"
    elif told is not None:
        yield f"{title}: {told}"


def duration(minutes: float | list[float]) -> str:
    """`12 seconds`, `1.5 minutes`, `15 to 40 minutes`, `10 hours`."""
    least, most = minutes if isinstance(minutes, list) else (minutes, minutes)
    unit, size = next((unit, size) for unit, size in UNITS.items() if most >= size)
    ends = list(dict.fromkeys(f"{value / size if size else 60 * value:.2g}" for value in (least, most)))
    return f"{' to '.join(ends)} {unit if ends != ['1'] else unit[:-1]}"


def _each(told: Any, say: Callable[[Any], str]) -> Any:
    if isinstance(told, Mapping):
        return {words: say(value) for words, value in told.items()}
    return None if told is None else say(told)


def _after(text: str, told: str | None) -> str:
    return f"{text}{told}" if told else ""


def comment(content: str) -> str:
    """The first comment that is not Hydra's package header: its first line, and of further ones what ends its sentence."""
    block: list[str] = []
    for line in content.splitlines():
        text = line[1:].strip() if line.startswith("#") else ""
        if text.startswith("@package"):
            continue
        if block and (not text or block[-1].endswith(".")):
            break
        if text:
            end = re.search(r"\.(?=\s|$)", text) if block else None
            block.append(text[: end.end()] if end else text)
    return " ".join(block)
