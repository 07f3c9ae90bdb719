"""`maskbench results`: one row for each run below an output folder, as a table or as CSV."""

import csv
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from maskbench.commands.common import aligned, arguments, runs, state
from maskbench.errors import UsageError
from maskbench.files import read_json

HEAD = ("method", "data", "seed", "key", "status", "objective")
SHOWN = 4  # metric columns of the table; CSV has all


def main(argv: list[str]) -> int:
    parser = arguments("results", "One row for each run.")
    parser.add_argument("filters", nargs="*", metavar="KEY=VALUE", help="method=supsup seed=0,1 optimizer.lr=0.1")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the runs (paths.output)")
    parser.add_argument("--csv", action="store_true", help="CSV with every metric")
    if (given := parser.read(argv)) is None:
        return 0
    if not given.output.is_dir():
        raise UsageError(f"there is no folder {given.output}; --output FOLDER says where the runs are.")
    wanted = [_filter(text) for text in given.filters]
    rows = [row for row in map(_row, runs(given.output)) if all(_value(row, key) in values for key, values in wanted)]
    if given.csv:
        _csv(rows)
    elif rows:
        names = _main_metrics(rows)
        print(aligned([_cells(row, names) for row in rows], [*HEAD, *names]))
    else:
        print(f"no runs in {given.output}{' that fit' if wanted else ''}")
    return 0


def _filter(text: str) -> tuple[str, set[str]]:
    key, equals, values = text.partition("=")
    if not equals:
        raise UsageError(f"'{text}' is no filter; write KEY=VALUE, such as method=supsup.")
    return key, set(values.split(","))


def _row(run: Path) -> dict[str, Any]:
    about, result = read_json(run / "run.json"), read_json(run / "result.json")
    config = about.get("config") or {}
    return {
        "method": result.get("method") or (config.get("method") or {}).get("name"),
        "data": result.get("data") or (config.get("data") or {}).get("name"),
        "seed": about.get("seed", config.get("seed")),
        "key": about.get("key"),
        "status": state(run),
        "objective": result.get("objective"),
        "metrics": {k: v for k, v in (result.get("metrics") or {}).items() if not isinstance(v, dict | list)},
        "config": config,
        "choices": about.get("choices") or {},
        "run": str(run),
    }


def _value(row: dict[str, Any], key: str) -> str:
    """What the run says about `key`: one of the columns, a choice, or a dotted key of its config."""
    if key in HEAD:
        return _plain(row[key])
    if key in row["choices"]:
        return _plain(row["choices"][key])
    node: Any = row["config"]
    for word in key.split("."):
        node = node.get(word) if isinstance(node, dict) else None
    return _plain(node)


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _main_metrics(rows: list[dict[str, Any]]) -> list[str]:
    """The metrics most runs have, in their own order; a family such as accuracy/<density> is left to CSV."""
    order = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    counts = Counter(name for row in rows for name in row["metrics"] if "/" not in name)
    chosen = {name for name, _ in counts.most_common(SHOWN)}
    return [name for name in order if name in chosen]


def _cells(row: dict[str, Any], names: list[str]) -> list[Any]:
    return [*(row[name] for name in HEAD), *(row["metrics"].get(name) for name in names)]


def _csv(rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*HEAD, *names, "run"])
    writer.writerows([*_cells(row, names), row["run"]] for row in rows)
