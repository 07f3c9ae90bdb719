"""`maskbench paired BASELINE`: all methods on the same draws, each one's differences to a baseline seed by seed."""

import sys
from pathlib import Path

from maskbench.cli.commands.common import aligned, arguments, forms, sorted_words, text, typeset
from maskbench.common.errors import UsageError
from maskbench.report import runs as records
from maskbench.report.filters import refuse_unknown

ABOUT = """Every method of a setting: its mean, and its differences to BASELINE over the seeds both have: mean, standard
error, wins (better under the same seed), two-sided sign test.

Further words: filters (data=pendulum data.n_target=20), metrics=NAME (default: target_rmse or target_accuracy, whichever
the runs have), settings=KEY,... (default: data,data.n_target: pairs are made within equal values of these), rows=KEY+...
(default: method; rows=method+method.calibrate.lam tells strengths apart), mixed=allow."""
SETTINGS = ["data", "data.n_target"]


def main(argv: list[str]) -> int:
    parser = arguments("paired", ABOUT)
    parser.add_argument("baseline", metavar="BASELINE", help="the name of its row, such as transfer_finetune")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="filters, metrics=, settings=, rows=, mixed=")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the runs (paths.output)")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="draw it against the last of the settings: FILE.png, FILE.svg"
    )
    forms(parser)
    if (given := parser.read(argv)) is None:
        return 0
    from maskbench.report import paired
    from maskbench.report.direction import lower
    from maskbench.report.writers import Sheet, comma_separated

    options, filters = sorted_words(given.words, ("metrics", "settings", "rows", "mixed"))
    finished = [run for run in records.read(given.output, filters) if run.status == "finished"]
    likely = (m for m in ("target_rmse", "target_accuracy") if any(m in r.metrics for r in finished))
    metric = ",".join(options.get("metrics", [])) or next(likely, "")
    if not metric:
        raise UsageError("no finished run here has target_rmse or target_accuracy; name another number with metrics=NAME.")
    finished = [run for run in finished if metric in run.metrics]
    settings, name = options.get("settings", SETTINGS), ",".join(options.get("rows", ["method"]))
    refuse_unknown(finished, [*options.get("settings", []), *name.split("+")])
    rows = paired.table(finished, metric, given.baseline, settings=settings, name=name, mixed="mixed" in options)
    if given.figure:
        draw(rows, metric, settings[-1] if settings else "", given.baseline, given.figure)
    names, lines = paired.head(metric, settings), [paired.cells(row) for row in rows]
    sheet = Sheet(f"{metric}, paired with {given.baseline}", names, [[text(v) for v in line] for line in lines])
    if given.csv:
        sys.stdout.write(comma_separated(names, lines))
    elif not typeset(sheet, given):
        print(f"{metric}, paired with {given.baseline}; {'less' if lower(metric) else 'more'} is better")
        print(aligned(lines, names))
    return 0


def draw(rows: list, metric: str, key: str, baseline: str, file: Path) -> None:
    from maskbench.report import paired_figure, style

    if not key:
        raise UsageError("--figure needs a setting to draw against: settings=data.n_target.")
    title = f"{metric}, mean over seeds\n{sum(row.n for row in rows)} runs; right: paired, with standard errors"
    style.save({file.stem: paired_figure.draw(rows, metric, key, baseline, title)}, file.parent, title.replace("\n", "; "))
