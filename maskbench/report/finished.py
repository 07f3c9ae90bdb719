"""The record of a finished run, as figures read it. Imports no torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench.common.checksums import check, read_result
from maskbench.common.files import read_json


@dataclass(frozen=True)
class Finished:
    """What a figure is drawn from: a run's result.json, curves.json and the config in its run.json."""

    folder: Path
    result: dict[str, Any]
    curves: list[dict[str, Any]]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The last two parts of its directory, which hold method, data, seed and key."""
        return "/".join(self.folder.absolute().parts[-2:])


def read(folder: Path, result: dict[str, Any] | None = None) -> Finished:
    """The record in `folder`; `result` stands in for a result.json that is not written yet.

    Raises:
        FileNotFoundError: there is no result.
        Unusable: a file of the run cannot be read, or is not what the run wrote.
    """
    if result is None:
        result = read_result(folder)
        check(folder, "curves.json", "masks.safetensors")
    if not result:
        raise FileNotFoundError(folder / "result.json")
    config = read_json(folder / "run.json").get("config") or {}
    curves = folder / "curves.json"
    return Finished(folder, result, json.loads(curves.read_text()) if curves.exists() else [], config)
