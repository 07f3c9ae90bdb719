"""The record of a finished run, as figures read it. Imports no torch."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from maskbench.common import foreign
from maskbench.common.asked import blocks
from maskbench.common.checksums import check
from maskbench.common.errors import UsageError
from maskbench.report import sound


@dataclass(frozen=True)
class Finished:
    """What a figure is drawn from: a run's result.json, curves.json and the config in its run.json."""

    folder: Path
    result: dict[str, Any]
    curves: list[dict[str, Any]]
    config: dict[str, Any]

    @cached_property
    def blocks(self) -> list[dict[str, Any]]:
        """The config as `asked.question` has it, in parts."""
        return blocks(self.config)

    @property
    def name(self) -> str:
        """The last two parts of its directory, which hold method, data, seed and key."""
        return "/".join(self.folder.absolute().parts[-2:])


def read(folder: Path, result: dict[str, Any] | None = None) -> Finished:
    """The record in `folder`; `result` stands in for a result.json that is not written yet.

    Raises:
        FileNotFoundError: there is no result.
        UsageError: a file of the record is not such as a run writes it, or not what this run wrote.
    """
    fault = ""
    if result is None:
        result, fault = sound.read(folder / "result.json", sound.RESULT)
        if result and not fault:
            check(folder, "run.json", "result.json", "curves.json", "masks.safetensors")
    about, wrong = sound.read(folder / "run.json", sound.ABOUT)
    if fault := fault or wrong:
        raise UsageError(f"{foreign.printable(folder)} cannot be drawn: {foreign.printable(fault)}.")
    if not result:
        raise FileNotFoundError(folder / "result.json")
    return Finished(folder, result, sound.rows(folder / "curves.json"), about.get("config") or {})
