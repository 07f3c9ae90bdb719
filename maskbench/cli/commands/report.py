"""`maskbench report [KEY=VALUE ...]`: one HTML page of all runs, or of those that fit, which needs nothing beside itself."""

import os
from pathlib import Path, PurePath

from maskbench.cli.commands.common import arguments, size
from maskbench.common import collector
from maskbench.common.errors import UsageError
from maskbench.common.files import replace
from maskbench.common.foreign import printable
from maskbench.report.filters import parse_filter


@collector.held_back()
def main(argv: list[str]) -> int:
    parser = arguments("report", "One self-contained HTML page of all runs, or of those that pass the filters.")
    parser.add_argument("filters", nargs="*", metavar="KEY=VALUE", help="method=supsup seed=0,1 optimizer.lr=0.1")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (report.html beside the runs)")
    parser.add_argument("--runs", type=Path, default=Path("outputs"), metavar="FOLDER", help="folder of the runs (paths.output)")
    if (given := parser.read(argv)) is None:
        return 0
    if not given.runs.is_dir():
        raise UsageError(f"there is no folder {given.runs}; --runs FOLDER says where the runs are.")
    from maskbench.report import runs as records
    from maskbench.report.html.page import page
    from maskbench.report.index import Index

    runs = records.read(given.runs, [parse_filter(text) for text in given.filters])
    if not runs:
        raise UsageError(f"no runs in {given.runs}{' that fit' if given.filters else ''}; maskbench results lists what there is.")
    output = given.output or given.runs / "report.html"
    if output.is_dir():
        output /= "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    root = given.runs.name if given.runs.is_absolute() else given.runs.as_posix()
    folder = beside(given.runs, output.parent)
    with Index(given.runs) as index:
        text = page(runs, root, given.filters, index, folder).encode(errors="backslashreplace")
    replace(output, lambda path: path.write_bytes(text))
    print(f"{printable(output)}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {size(len(text))}")
    return 0


def beside(runs: Path, page: Path) -> PurePath | None:
    """The folder of the runs as seen from the page's; None where that would name folders that no command names."""
    seen = PurePath(os.path.relpath(runs.resolve(), page.resolve()))
    return None if ".." in seen.parts and (runs.is_absolute() or page.is_absolute()) else seen
