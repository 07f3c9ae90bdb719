"""One net asked for all stages at once, and nets that are not for it: those with running statistics, which belong to one stage.

A method whose settings superpose the masks of several stages says which (`superposes`: a knob that is a list of rules -> those
that do, another knob -> {its values that do: the one to take instead, or None}). A backbone says under which of its own settings
it keeps running statistics (`keeps_statistics`; of a knob that is not set, the signature's default counts). Both are literals on
the class, read from its file before anything starts. Values are refused. A rule is measured, under the mean of all stages'
statistics, which are those of no net that was trained; where it is the one that counts, a warning says so. Imports no torch.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskbench.common.declared import declared, kept
from maskbench.common.errors import UsageError

Superposes = Mapping[str, Sequence[str] | Mapping[str, str | None]]
BATCH_NO_STATS = "backbone.norm=batch_no_stats"
log = logging.getLogger("maskbench")


def mistake(method: Mapping[str, Any], backbone: Mapping[str, Any]) -> str | None:
    """Why the settings of a method cannot go with those of a backbone, by their files."""
    superposes, net = declared(method, "superposes"), kept(backbone)
    if superposes is None or net is None:
        return None
    return refusal(method, superposes, net, BATCH_NO_STATS if "backbone.norm=" in net else "a backbone without such norms")


def judge(method: Mapping[str, Any], superposes: Superposes, statistics: Sequence[str]) -> None:
    """For a net that is there, whatever its file says; warns where the rule that counts superposes.

    Args:
        method: its settings. superposes: of its class. statistics: names of what the net keeps.

    Raises:
        UsageError: it would ask one net for all stages.
    """
    if not statistics:
        return
    if wrong := refusal(method, superposes, "this net", f"{BATCH_NO_STATS}, where it has that key"):
        raise UsageError(wrong)
    for text in doubts(method, superposes):
        log.warning(text)


def doubts(method: Mapping[str, Any], superposes: Superposes) -> Iterable[str]:
    """What to say where the rule that counts superposes the stages of a net that keeps statistics."""
    for name, values in superposes.items():
        rules = list(method.get(name) or ())
        if not isinstance(values, Mapping) and rules and rules[0] in values:
            others = [rule for rule in rules if rule not in values]
            yield (
                f"method.{name}={_list(rules)}: {rules[0]}, which counts, asks one net for all stages at once, and this net has "
                "running statistics for each stage, whose mean is that of no net: stages will hardly be found. Take "
                f"{BATCH_NO_STATS}, where it has that key, or first a rule that asks each stage's own net"
                f"{f', as method.{name}={_list(others)}' if others else ', as brute_force_H'}."
            )


def refusal(method: Mapping[str, Any], superposes: Superposes, net: str, instead: str) -> str | None:
    """One sentence when a value superposes stages in a net that keeps statistics, else None."""
    for name, values in superposes.items():
        given = method.get(name)
        if isinstance(values, Mapping) and given in values:
            other = values[given]
            return (
                f"method.{name}={given} asks one net for all stages at once, and {net} keeps running statistics, which belong to "
                f"the stage trained last: take {instead}{f', or method.{name}={other}' if other else ''}."
            )
    return None


def _list(values: Iterable[str]) -> str:
    return f"[{','.join(values)}]"
