"""One net asked for all stages at once, and nets that cannot be: those with running statistics, which belong to one stage.

A method whose settings superpose the masks of several stages says which (`superposes`: a knob that is a list -> its entries that
do, another knob -> {its values that do: the one to take instead, or None}). A backbone says under which of its own settings it
keeps running statistics (`keeps_statistics`; of a knob that is not set, the signature's default counts). Both are literals on
the class, read from its file before anything starts. Imports no torch.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskbench.common import knobs, signatures
from maskbench.common.errors import UsageError

Superposes = Mapping[str, Sequence[str] | Mapping[str, str | None]]
BATCH_NO_STATS = "backbone.norm=batch_no_stats"


def mistake(method: Mapping[str, Any], backbone: Mapping[str, Any]) -> str | None:
    """Why the settings of a method cannot go with those of a backbone, by their files."""
    superposes, keeps = (declared(node, name) for node, name in ((method, "superposes"), (backbone, "keeps_statistics")))
    if superposes is None or keeps is None:
        return None
    if any(setting(backbone, name) != value for name, value in keeps.items()):
        return None
    net = ", ".join(f"backbone.{name}={value}" for name, value in keeps.items()) or f"backbone={backbone.get('name')}"
    return refusal(method, superposes, net, BATCH_NO_STATS if "norm" in keeps else "a backbone without such norms")


def refuse(method: Mapping[str, Any], superposes: Superposes, statistics: Sequence[str]) -> None:
    """For a net that is there, whatever its file says.

    Args:
        method: its settings. superposes: of its class. statistics: names of what the net keeps.

    Raises:
        UsageError: it would ask one net for all stages.
    """
    if statistics and (wrong := refusal(method, superposes, "this net", f"{BATCH_NO_STATS}, where it has that key")):
        raise UsageError(wrong)


def refusal(method: Mapping[str, Any], superposes: Superposes, net: str, instead: str) -> str | None:
    """One sentence when a setting superposes stages in a net that keeps statistics, else None."""
    for name, values in superposes.items():
        given = method.get(name)
        if isinstance(values, Mapping):
            wrong, other = given in values and given, values.get(given)
        else:
            wrong = _list(one for one in given or () if one in values)
            other = _list(one for one in given or () if one not in values)
        if wrong and wrong != "[]":
            return (
                f"method.{name}={wrong} asks one net for all stages at once, and {net} keeps running statistics, which belong to "
                f"the stage trained last: take {instead}{f', or method.{name}={other}' if other else ''}."
            )
    return None


def _list(values: Iterable[str]) -> str:
    return f"[{','.join(values)}]"


def declared(node: Mapping[str, Any], name: str) -> Any:
    """The literal that the class of a part writes under a name, or one that it is made from; None where there is none."""
    for made, _ in signatures.ancestry(str(node.get("_target_", "")))[0]:
        for line in made.body:
            if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == name and line.value:
                return ast.literal_eval(line.value)
    return None


def setting(node: Mapping[str, Any], name: str) -> Any:
    """What a part's settings or its signature's default say of a knob."""
    if name in node:
        return node[name]
    return next((knob.default for knob in knobs.read(str(node["_target_"])) or () if knob.name == name), None)
