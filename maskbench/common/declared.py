"""What classes say of themselves as literals, read from their files before anything starts. Imports no torch."""

import ast
from collections.abc import Mapping
from typing import Any

from maskbench.common import knobs, signatures


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


def kept(backbone: Mapping[str, Any]) -> str | None:
    """By which of its settings a backbone keeps running statistics; None where it does not, or its file says nothing."""
    keeps = declared(backbone, "keeps_statistics")
    if keeps is None or any(setting(backbone, name) != value for name, value in keeps.items()):
        return None
    return ", ".join(f"backbone.{name}={value}" for name, value in keeps.items()) or f"backbone={backbone.get('name')}"
