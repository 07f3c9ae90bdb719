"""Puts the page together: the template, the tables, the data, style and script, under a policy that lets nothing else in."""

import base64
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path, PurePath
from string import Template
from typing import Any

from maskbench import __version__
from maskbench.report.html import tables
from maskbench.report.html.groups import UNKNOWN, Group, code, group, labels
from maskbench.report.html.payload import encode, payload
from maskbench.report.html.warnings import plural, warnings
from maskbench.report.index import Index
from maskbench.report.runs import Run

PLAIN = 1 << 20  # characters of data that are not packed
SCRIPTS = (
    "dom",
    "plot",
    "lines",
    "rows",
    "heat",
    "cards",
    "masks",
    "tables",
    "filter",
    "rows_of_tables",
    "details",
    "compare",
    "overlaid",
    "main",
)  # in this order
HERE = PurePath()
VENDOR = "vendor"  # libraries as scripts/assets makes them of npm packages: manifest.json has versions and checksums


def page(
    runs: Sequence[Run], root: str, filters: Sequence[str] = (), index: Index | None = None, folder: PurePath | None = HERE
) -> str:
    """The report of these runs (at least one) as HTML that needs nothing beside itself, whatever their number: the data of many
    are packed, and their tables made from them.

    Args:
        root: the folder of the runs, as a command names it.
        filters: what chose the runs, to be said on the page.
        index: what was read of the runs before, opened; the page is the same without it.
        folder: the runs' folder as seen from the page's, for links to them; None for no links.
    """
    groups, twice = group(runs)
    style = asset("page.css")
    of_plots = asset("chart.css").removesuffix("\n")  # what Observable Plot writes into each plot, to the letter
    script = "'use strict';\n(async () => {\n" + "\n".join(asset(f"{name}.js") for name in SCRIPTS) + "\n})();"
    libraries = [asset(f"{VENDOR}/{bundle['file']}") for bundle in manifest()["bundles"]]
    allowed = " ".join(digest(one) for one in (*libraries, script))
    named = labels(groups)
    held, left_out = payload(runs, groups, named, root, index or Index(Path()))
    held["folder"] = None if folder is None else folder.parts
    remarks = [*warnings(runs, groups, twice), *left_out]
    data, packing = packed(encode(held))
    return Template(asset("page.html")).substitute(
        version=__version__,
        title=escape(headline(runs)),
        chosen=escape(f"maskbench report {' '.join(filters)}".strip()),
        policy=escape(f"default-src 'none'; style-src {digest(style)} {digest(of_plots)}; script-src {allowed}; base-uri 'none'"),
        tiles="\n".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>" for k, v in tiles(runs, groups)),
        warnings=f'<ul class="warnings">{"".join(f"<li>{escape(one)}</li>" for one in remarks)}</ul>' if remarks else "",
        groups=tables.of_groups(groups, named) or "<p>No run is finished.</p>",
        runs=tables.of_runs(runs),
        style=style,
        libraries="\n".join(f"<script>{one}</script>" for one in libraries),
        licences=licences(),
        script=script,
        data=data,
        packing=packing,
    )


def packed(text: str) -> tuple[str, str]:
    """(the data, how they are packed): a long text is packed by gzip and spelled in base64, which browsers undo by themselves."""
    if len(text) <= PLAIN:
        return text, ""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode(), "gzip"


def manifest() -> dict[str, Any]:
    """What the libraries are: {bundles: [{file, sha256, ...}], packages: [{name, version, license, ...}], ...}."""
    return json.loads(asset(f"{VENDOR}/manifest.json"))


def licences() -> str:
    """The names and licences of the libraries, as they ask to stand beside their code."""
    about = manifest()
    used = ", ".join(f"{one['name']} {one['version']} ({one['license']})" for one in about["packages"])
    text = asset(f"{VENDOR}/{about['licences']['file']}")
    return f"<p>{escape(used)}</p><pre>{escape(text)}</pre>"


def asset(name: str) -> str:
    return (files("maskbench.report.html") / "assets" / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """The name by which a content policy allows just this style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def headline(runs: Sequence[Run]) -> str:
    methods = list(dict.fromkeys(run.method or UNKNOWN for run in runs))
    return f"{plural(len(runs), 'run')} of {', '.join(methods) if len(methods) <= 3 else plural(len(methods), 'method')}"


def tiles(runs: Sequence[Run], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """The overview: what there is, how often."""
    counted = [
        ("methods", Counter(run.method or UNKNOWN for run in runs)),
        ("data", Counter(run.data or UNKNOWN for run in runs)),
        ("data sources", Counter(run.source or UNKNOWN for run in runs)),
        ("code", Counter(code(run) for run in runs)),
        ("status", Counter(run.status for run in runs)),
        ("beside the code of now", Counter(run.freshness or "not known" for run in runs)),
    ]
    hours = sum((run.about.get("cost") or {}).get("cpu_seconds") or 0 for run in runs) / 3600
    head = [("runs", f"<b>{len(runs)}</b>"), ("groups", f"<b>{len(groups)}</b>"), ("CPU hours", f"<b>{hours:.1f}</b>")]
    return head + [(name, listing(words)) for name, words in counted]


def listing(word_counts: Counter[str], most: int = 6) -> str:
    shown = [
        f"{escape(word)}&nbsp;<small>{count}</small>" for word, count in sorted(word_counts.items(), key=lambda kv: -kv[1])[:most]
    ]
    more = [f"<small>and {len(word_counts) - most} more</small>"] if len(word_counts) > most else []
    return ", ".join(shown + more)
