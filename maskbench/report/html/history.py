"""Training curves out of metrics.csv: averaged over the seeds of a group and thinned to what a plot can show."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskbench.common import checksums, foreign
from maskbench.common.files import content
from maskbench.common.foreign import NAME
from maskbench.report.html.groups import Group
from maskbench.report.index import Index

METRICS, PARTS, POINTS = 6, 8, 40  # per group: metrics, parts of the run, points of a curve
FEWEST = 10  # points of a curve, however many groups there are
ALL = 1 << 16  # points of the whole page
GROUPS = 400  # that have curves; of more, evenly spread ones
FILE = 512 * foreign.MB  # the longest metrics.csv that is read
LATEST = 10**15  # a step

Curves = dict[str, dict[str, dict[int, float]]]  # metric -> part -> step -> value


def curves(groups: Sequence[Group], index: Index) -> list[dict[str, Any]]:
    """For each group: metric -> {of: parts there are, lines: those drawn}, each {part, of: points there are, x, y, lo, hi}
    (lo, hi: least and largest seed, where there are several). A metric beyond METRICS, or of single points, has no lines."""
    drawn = set(spread(list(range(len(groups))), GROUPS))
    allowed = 1 << max(0, (ALL // max(1, len(drawn))).bit_length() - 1)  # steps of two: another group changes nothing at most
    return [kept(group, allowed, index) if place in drawn else {} for place, group in enumerate(groups)]


def kept(group: Group, allowed: int, index: Index) -> dict[str, dict[str, Any]]:
    """`group_curves`, which is not worked out again while no file of its runs has changed."""
    said: list[dict[str, dict[str, Any]]] = []

    def anew() -> dict[str, dict[str, Any]] | None:
        histories = [run.read("metrics.csv", read) for run in group.runs]
        said.append(made := group_curves([one or {} for one in histories], allowed))
        return None if None in histories else made

    found = index.value([run.folder for run in group.runs], f"curves {allowed}", ("metrics.csv", checksums.NAME), anew)
    return said[0] if said else found


def group_curves(histories: Sequence[Curves], allowed: int) -> dict[str, dict[str, Any]]:
    """The curves of one group, of whose runs these are the histories; `allowed`: points of all its curves together."""
    if not histories:
        return {}
    shared = [metric for metric in histories[0] if all(metric in one for one in histories)]
    shared.sort(key=lambda metric: "/" in metric)  # a layer's after the net's
    made = {}
    for place, metric in enumerate(shared):
        known = [part for part in histories[0][metric] if all(part in one[metric] for one in histories)]
        parts = spread(known, PARTS) if place < METRICS else []
        points = min(POINTS, max(FEWEST, allowed // (len(parts) * min(METRICS, len(shared))))) if parts else 0
        lines = [line(part, [one[metric][part] for one in histories], points) for part in parts]
        made[metric] = {"of": len(known), "lines": [made_line for made_line in lines if len(made_line["x"]) > 1]}
    return made


def line(part: str, seeds: Sequence[dict[int, float]], points: int) -> dict[str, Any]:
    """One curve at the steps all seeds have."""
    shared = [step for step in seeds[0] if all(step in one for one in seeds)]
    steps = spread(shared, points)
    values = [[one[step] for one in seeds] for step in steps]
    made: dict[str, Any] = {"part": part, "of": len(shared), "x": steps, "y": [sum(v) / len(v) for v in values]}
    return made | ({"lo": [min(v) for v in values], "hi": [max(v) for v in values]} if len(seeds) > 1 else {})


def read(path: Path) -> Curves:
    """The file's curves, parts in order of appearance; what is no row of one is passed over. Phases get a name of their
    own only where there are several.

    Raises:
        Unusable: the file cannot be read.
    """
    made: Curves = {}
    phases: dict[str, None] = {}
    lines = (content(path, FILE) or b"").decode(errors="replace").splitlines()[1:]
    rows = [row.rsplit(",", 4) for row in lines if len(row) < NAME]  # the name of a part may hold commas
    for row in rows:
        if len(row) == 5:
            phases[row[1]] = None
    for row in rows:
        try:
            name, phase, step, metric, value = row
            part = f"{name}, {phase}" if len(phases) > 1 else name
            if abs(int(step)) <= LATEST:
                made.setdefault(metric, {}).setdefault(part, {})[int(step)] = float(value)
        except ValueError:
            continue
    return made


def spread(items: list, most: int) -> list:
    """At most `most` of the items, first and last among them, as evenly as whole numbers allow."""
    if len(items) <= most:
        return items
    return [items[i] for i in sorted({round(i * (len(items) - 1) / (most - 1)) for i in range(most)})]
