"""What metrics are called on the axes, with their units; which of them lead, which are none.

Tasks and methods name their metrics in words joined by `_`, so that units follow from the words.
"""

import re
from collections.abc import Iterable

LEADING = (  # of all tasks, in the order in which a reader looks for them
    "average_accuracy", "target_accuracy", "target_rmse", "accuracy", "rmse", "log_likelihood", "nll", "forgetting",
    "source_forgetting", "mse", "ece", "density", "certificate", "attained",
)  # fmt: skip
SETTINGS = {  # first words of what methods record of how they were set up: shown in details, not as results
    "seed", "members", "nets", "passes", "drop", "tau", "scale", "mask_keep", "width_factor", "trained_together", "chosen",
    "n_target", "target_weights",
}  # fmt: skip
NEGATIVE = "negative_"  # of the name of an objective: sweeps maximise, so errors are turned round
UNITS = {
    "accuracy": "fraction",
    "ece": "fraction",
    "kept": "fraction",
    "below": "fraction",
    "density": "fraction of weights",
    "forgetting": "score lost",
    "nll": "nats",
    "likelihood": "nats",
    "rmse": "units of the target",
    "mse": "squared units of the target",
    "bytes": "bytes",
    "macs": "multiply-adds an example",
    "cost": "dense trainings",
    "seconds": "s",
}
SHORT = {"ece", "nll", "rmse", "mse", "auroc", "aupr", "cpu", "lr"}


def label(name: str) -> str:
    """`memory_bytes_shared` as `memory shared (bytes)`."""
    words = re.split(r"[_ ]", name)
    unit = next((UNITS[word] for word in re.split(r"\W|_", name) if word in UNITS), None)
    spoken_words = ("time" if word == "seconds" else word.upper() if word in SHORT else word for word in words if word != "bytes")
    spoken = " ".join(spoken_words)
    return f"{spoken} ({unit})" if unit else spoken


def setting(name: str) -> bool:
    return name.split("/")[0] in SETTINGS


def weight(name: str) -> int:
    """The place of a name, or of what it begins with, in LEADING."""
    return next((place for place, lead in enumerate(LEADING) if name.startswith(lead)), len(LEADING))


def in_order(goals: Iterable[str], known: Iterable[str]) -> list[str]:
    """`known`, what sweeps optimise first, then LEADING, then the others; an error stands for its negative."""
    known = list(known)
    plain = {name.removeprefix(NEGATIVE) if name.removeprefix(NEGATIVE) in known else name: None for name in known}
    turned = [goal if goal in plain else goal.removeprefix(NEGATIVE) for goal in goals]
    return [name for name in dict.fromkeys([*turned, *LEADING, *plain]) if name in plain]
