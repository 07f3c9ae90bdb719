"""What the page's script draws from: runs, groups, plots, curves and masks as JSON, equal runs giving equal bytes."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskbench.common import checksums
from maskbench.common.identity import question
from maskbench.report.direction import lower
from maskbench.report.html import mask_file
from maskbench.report.html import names as vocabulary
from maskbench.report.html.boards import boards, half
from maskbench.report.html.groups import Group, command, common, metrics, own, show
from maskbench.report.html.history import GROUPS, curves, spread
from maskbench.report.html.matrices import matrices
from maskbench.report.index import Index
from maskbench.report.runs import Run

DIGITS = 6  # significant digits of a number in plots; the records have all

MASKED = "masks.safetensors"
MASKS = 300  # runs whose masks are counted
PICTURES = 1 << 17  # characters of pictures of single units
COST = ("wall_seconds", "cpu_seconds", "peak_memory_bytes")


class Table:
    """Values that many runs share, held once: `of(value)` is the place of an equal one in `rows`."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.places: dict[str, int] = {}

    def of(self, value: Any) -> int:
        place = self.places.setdefault(json.dumps(value, sort_keys=True, default=str), len(self.rows))
        if place == len(self.rows):
            self.rows.append(value)
        return place


def payload(
    runs: Sequence[Run], groups: Sequence[Group], labels: Sequence[str], root: str, index: Index
) -> tuple[dict[str, Any], list[str]]:
    """(the data, what it leaves out in words). `root`: the folder of the runs as a command names it."""
    names, shared = Table(), Table()
    place = {run.folder: i for i, run in enumerate(runs)}
    member = {run.folder: i for i, group in enumerate(groups) for run in group.runs}
    masks, left_out = counted(runs, groups, index)
    made = {
        "root": root,
        "runs": [run_entry(run, member.get(run.folder), masks.get(run.folder), names, shared) for run in runs],
        "groups": group_entries(groups, labels, place, names, shared, index),
        "boards": boards(groups, index),
    }
    measured = dict.fromkeys([*names.rows, *COST, *(metric for group in made["groups"] for metric in group["curves"])])
    if (drawn := sum(bool(group["curves"]) for group in made["groups"])) == GROUPS < len(groups):
        left_out.append(f"Training curves are here of {drawn} groups, evenly spread; of fewer runs (KEY=VALUE) all are.")
    return made | {
        "labels": {name: label for name in measured if (label := vocabulary.label(name)) != name},
        "names": names.rows,
        "lower": [name for name in names.rows if lower(name)],
        "shared": shared.rows,
    }, left_out


def counted(runs: Sequence[Run], groups: Sequence[Group], index: Index) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """(what the masks of runs look like, by their folders; what is left out, in words): of each group's first seed where there
    are more than MASKS runs, and of evenly spread groups where there are more than that."""
    having = [run for run in runs if os.path.lexists(run.folder / MASKED)]
    chosen, left_out = runs, []
    if len(having) > MASKS:
        first = {group.first.folder for group in groups}
        chosen = spread([run for run in having if run.folder in first], MASKS)
        left_out = [f"Masks are here of {len(chosen)} of {len(having)} runs, evenly spread; of fewer runs (KEY=VALUE) all are."]
    found = {run.folder: one for run in chosen if (one := masks_of(run, index))}
    pictured = [folder for folder, one in found.items() if one["units"]]
    length = max((len(found[folder]["units"]["bits"]) for folder in pictured), default=1)
    if len(pictured) > (most := max(2, PICTURES // length)):
        left_out.append(f"Pictures of single units are here of {most} of {len(pictured)} runs, evenly spread; of fewer all are.")
        for folder in {*pictured} - {*spread(pictured, most)}:
            found[folder] = found[folder] | {"units": None}
    return found, left_out


def masks_of(run: Run, index: Index) -> dict[str, Any] | None:
    """The counts of a run's masks; None, which is said, where the file is not what the run wrote or none of ours."""
    return index.value([run.folder], "masks", (MASKED, checksums.NAME), lambda: counts(run))


def counts(run: Run) -> dict[str, Any] | None:
    return mask_file.counts(run.folder / MASKED) if run.sound(MASKED) else None


def run_entry(run: Run, group: int | None, masks: dict[str, Any] | None, names: Table, shared: Table) -> dict[str, Any]:
    """All that the page shows of one run; `group` is the place of the group it belongs to. What is empty is left out."""
    about = run.about
    attempts = [attempt for attempt in about.get("attempts") or [] if isinstance(attempt, dict)]
    rows = [row for row in run.result.get("table") or [] if isinstance(row, dict)]
    head = list(dict.fromkeys(name for row in rows for name in row))
    made = {
        "dir": run.name,
        "group": group,
        "method": run.method,
        "data": run.data,
        "task": run.task,
        "source": run.source,
        "seed": run.seed,
        "key": run.key,
        "status": run.status,
        "preset": run.choices.get("experiment"),
        "objective": [run.result.get("objective_name"), run.objective],
        "metrics": [[names.of(name), value] for name, value in metrics(run).items()],
        "notes": [str(note) for note in run.result.get("notes") or []],
        "table": [head, [[row.get(name) for name in head] for row in rows]] if rows else None,
        "code": list(run.codes),
        "freshness": run.freshness or None,
        "commit": about.get("commit"),
        "branch": about.get("branch"),
        "dirty": about.get("dirty"),
        "command": command(run),
        "attempts": len(attempts),
        "started": attempts[0].get("started") if attempts else None,
        "cost": [(about.get("cost") or {}).get(name) for name in COST],
        "machine": shared.of([run.machine, about.get("platform"), about.get("python"), about.get("maskbench")]),
        "versions": shared.of({k: v for k, v in (about.get("versions") or {}).items() if v}),
        "files": shared.of(dict(run.checksums)),
        "knobs": shared.of({k: v for k, v in question(run.config).items() if isinstance(v, int | float)}),
        "masks": masks,
    }
    return {k: v for k, v in made.items() if v is not None and v != []}


def group_entries(
    groups: Sequence[Group], labels: Sequence[str], place: dict[Path, int], names: Table, shared: Table, index: Index
) -> list[dict[str, Any]]:
    """What the page shows of each group; `place` finds a run's entry by its directory."""
    kinds = [(group.board, group.first.method) for group in groups]
    configs = [question(group.first.config) for group in groups]
    agreed = {k: common([q for kind, q in zip(kinds, configs, strict=True) if kind == k]) for k in dict.fromkeys(kinds)}
    tables = list(dict.fromkeys(group.board for group in groups))
    return [
        {
            "label": label,
            "board": tables.index(group.board),
            "runs": [place[run.folder] for run in group.runs],
            "metrics": [
                [names.of(name), None if mean is None else [mean.mean, half(mean), mean.n]]
                for name, mean in group.metrics.items()
            ],
            "own": {k: show(v) for k, v in own(q, agreed[kind]).items()},
            "common": shared.of({k: show(v) for k, v in agreed[kind].items()}),
            "rivals": kinds.count(kind),
            "budget": group.first.budget,
            "curves": group_curves,
            "matrices": matrices(group),
        }
        for group, label, q, kind, group_curves in zip(groups, labels, configs, kinds, curves(groups, index), strict=True)
    ]


def encode(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or start another."""
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":  # only ever inside strings
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def plain(value: Any) -> Any:
    """Floats with DIGITS significant digits; what is no number as a word, since JSON has none for it."""
    kind = type(value)
    if kind is float:
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    if kind in (int, str, bool) or value is None:
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, int | str) else plain(float(value)) if isinstance(value, float) else str(value)
