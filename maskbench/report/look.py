"""How figures are asked to look: style, printed width, formats, intervals, words of one's own. Imports no matplotlib.

A `Look` holds for all that is drawn inside `look.used()`; without one, figures are those a run leaves: PNG and SVG, each as
wide as its content takes, several seeds as a mean and their range.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from maskbench.common.errors import UsageError, did_you_mean

FORMATS = ("pdf", "svg", "png")
INTERVALS = {  # how a legend calls the band around a mean
    "t": "mean and 95 % interval of {} seeds",
    "minmax": "mean and min-max range of {} seeds",
    "sd": "mean and standard deviation of {} seeds",
}
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72}
NARROWEST, WIDEST = 1.5, 40.0  # inches that a figure may be wide
BELOW = 0.8  # of its height a panel keeps that comes to stand below others
PANEL = 2.1  # inches below which panels beside each other come to stand below each other
FIXED = 0.5  # inches of a figure's height that do not grow with its panels: title and legend


@dataclass(frozen=True)
class Style:
    """Sizes that go together.

    Attributes:
        points: of most text at the printed width; `small` of ticks and legends. least: no text is smaller.
        scale: lines, signs and lengths, as multiples of those on paper. column, text: inches that these widths mean.
        interval: what the band around a mean is, unless that is said.
    """

    name: str
    points: float
    small: float
    least: float
    scale: float
    column: float
    text: float
    interval: str


SCREEN = Style("screen", 7.5, 7.0, 0.0, 1.0, 3.5, 7.0, "minmax")
PAPER = Style("paper", 8.0, 7.0, 6.0, 1.0, 3.5, 7.0, "t")
TALK = Style("talk", 14.0, 12.0, 10.0, 12 / 7, 6.0, 12.0, "t")  # column: half of a slide, text: a slide of 13.33 inches
STYLES = {style.name: style for style in (PAPER, TALK, SCREEN)}


@dataclass(frozen=True)
class Look:
    """How figures are to look. `width` in inches, None: each figure's own; `labels`: what stands for a config key or a name."""

    style: Style = SCREEN
    width: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    title: bool = True
    interval: str = SCREEN.interval
    formats: Sequence[str] = ("png", "svg")

    @classmethod
    def read(
        cls,
        *,
        style: str = SCREEN.name,
        width: str | None = None,
        labels: Sequence[str] = (),
        title: bool = True,
        interval: str | None = None,
        formats: str = "png,svg",
    ) -> "Look":
        """The look that words of a command line ask for.

        Raises:
            UsageError: one of them is wrong; the message names it and what there is to choose.
        """
        own = STYLES[choice("--style", style, STYLES)]
        return cls(
            style=own,
            width=None if width is None else inches(width, own),
            labels=dict(map(pair, labels)),
            title=title,
            interval=own.interval if interval is None else choice("--interval", interval, INTERVALS),
            formats=tuple(dict.fromkeys(choice("--format", one, FORMATS) for one in formats.split(","))),
        )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, this is how figures look."""
        before = _LOOK.set(self)
        try:
            yield
        finally:
            _LOOK.reset(before)

    @property
    def natural(self) -> bool:
        """Whether figures keep the layout they were made for."""
        return self.style is SCREEN and self.width is None

    def label(self, name: str) -> str:
        """What stands for a config key or for a name of a method, branch or data set."""
        return self.labels.get(name, name)

    def points(self, size: float) -> float:
        """A size of text that was chosen for the screen, in points of this style."""
        return max(self.style.least, size * self.style.scale)

    def inches(self, native: float) -> float:
        """How wide a figure is that would be `native` inches wide."""
        return self.style.scale * native if self.width is None else self.width

    def across(self, panels: int, native: float, least: float = PANEL) -> int:
        """How many of so many panels have room beside each other in a figure that would be `native` inches wide."""
        least = min(least, native / panels) * self.style.scale
        return max(1, min(panels, int(self.inches(native) / least + 1e-9)))

    def height(self, native: tuple[float, float], panels: int, across: int, rows: int = 1) -> float:
        """Inches of height, of a figure that would be `native` (width, height) inches with a row of so many panels, and now
        has `across` of them in each of `rows` rows."""
        width, height = native
        ratio = self.inches(width) / across / (self.style.scale * width / panels)
        factor = min(1.25, max(0.75, ratio**0.5)) * (BELOW if rows > 1 else 1)
        return (
            height * self.style.scale
            if (ratio, rows) == (1, 1)
            else self.style.scale * ((height - FIXED) * factor * rows + FIXED)
        )

    def known(self, names: Iterable[str]) -> None:
        """Refuse labels of what is not there.

        Raises:
            UsageError: a label is of none of `names`.
        """
        names = set(names)
        for name in self.labels:
            if name not in names:
                near = did_you_mean(name, sorted(names))
                raise UsageError(f"--labels {name}=...: the runs have no key, method, data set or branch '{name}'.{near}")


AS_RUNS_LEAVE_THEM = Look()
_LOOK: ContextVar[Look] = ContextVar("look")


def current() -> Look:
    """The look that is used now."""
    return _LOOK.get(AS_RUNS_LEAVE_THEM)


# ---- words of the command line


def choice(option: str, word: str, choices: Iterable[str]) -> str:
    if word not in choices:
        raise UsageError(f"{option} {word or chr(39) * 2} is none of {', '.join(choices)}.{did_you_mean(word, choices)}")
    return word


def inches(text: str, style: Style) -> float:
    """A width in inches."""
    if text in ("column", "text"):
        return getattr(style, text)
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(in|cm|mm|pt)", text)
    if not found:
        raise UsageError(f"--width {text or chr(39) * 2} is none of column, text, or a length such as 9cm, 3.25in or 240pt.")
    width = float(found[1]) * INCHES[found[2]]
    if not NARROWEST <= width <= WIDEST:
        raise UsageError(f"--width {text} is not between {NARROWEST:g}in and {WIDEST:g}in.")
    return width


def pair(text: str) -> tuple[str, str]:
    """NAME=TEXT."""
    name, equals, label = text.partition("=")
    if not (equals and name.strip() and label.strip()):
        raise UsageError(f'--labels {text or chr(39) * 2} is not KEY=TEXT, such as method.scale="mask scale".')
    return name.strip(), label.strip()
