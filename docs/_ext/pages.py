"""What the manual says of methods, choices, keys and commands is made from their files, so that it is said in one place.

Writes docs/generated before Sphinx looks for its pages: README.md and CONTRIBUTING.md with their links turned, a page a method
(its docstring, its knobs, its file, the presets that run it, the figures it is in), a page a group of the config with all knobs,
the keys of config.yaml, and the help of every command. Imports no torch.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import io
import os
import re
import shlex
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml

from maskbench.cli import command_line, main, parts, schema
from maskbench.cli.commands import notes, settings
from maskbench.common import knobs, signatures, yamls

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
CONF = ROOT / "conf"
OUT = DOCS / "generated"
GROUPS = {
    "task": "Tasks",
    "data": "Data sets",
    "backbone": "Backbones",
    "optimizer": "Optimisers",
    "schedule": "Schedules",
    "loss": "Losses",
    "trainer": "Trainers",
    "logger": "Loggers",
}
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\[[^\]]*\])\(([^)\s]+)\)")
WHERE = re.compile(r"^ {4}(?:python -m )?maskbench (.+)$", re.MULTILINE)


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry: pages are written as a build begins."""
    write()
    app.connect("source-read", plain_folders)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", tidy, priority=100)  # before napoleon reads it
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write(out: Path = OUT) -> None:
    """All generated pages; a file whose text stays keeps its time, and what no page is any more goes."""
    pages = {
        "overview.md": linked((ROOT / "README.md").read_text()),
        "adding.md": linked((ROOT / "CONTRIBUTING.md").read_text()),
        "config.md": config_page(),
        "commands.md": commands_page(),
        "methods/index.md": methods_page(),
    }
    pages |= {f"methods/{name}.md": method_page(name, path) for name, path in choices("method").items()}
    pages |= {f"{group}.md": group_page(group, title) for group, title in GROUPS.items()}
    for name, text in pages.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in out.rglob("*.md"):
        if path.relative_to(out).as_posix() not in pages:
            path.unlink()


def choices(group: str) -> dict[str, Path]:
    """Name -> file of what can be chosen of a group."""
    return command_line.choices([CONF], group)


# ---- pages that are other files


def linked(text: str) -> str:
    """A page of the repository's root, seen from docs/generated: links into docs go there, others become what they name."""

    def turn(match: re.Match) -> str:
        words, place = match.groups()
        if place.startswith(("http", "#")):
            return match[0]
        path, _, mark = place.partition("#")
        if path == "CONTRIBUTING.md":
            return f"{words}(adding.md)"
        if path.startswith("docs/"):
            return f"{words}(../{path.removeprefix('docs/')}{'#' + mark if mark else ''})"
        return f"`{words[1:-1]}`"

    return outside_code(text, lambda part: LINK.sub(turn, part))


def plain_folders(app: Any, name: str, source: list[str]) -> None:
    """A link to a folder of the repository, which the manual has no page for, becomes its name."""
    here = (DOCS / name).parent

    def turn(match: re.Match) -> str:
        place = match[2]
        folder = not place.startswith(("http", "#")) and (here / place).is_dir()
        return f"`{match[1][1:-1]}`" if folder else match[0]

    source[0] = outside_code(source[0], lambda part: LINK.sub(turn, part))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with `change` made of all that is in no fenced block."""
    made, at = [], 0
    for fence in FENCE.finditer(text):
        made += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*made, change(text[at:])])


# ---- methods


def methods_page() -> str:
    """Methods by what they are for, a line each."""
    files = choices("method")
    nodes = {name: parts.own(files, name, "method") for name in files}
    by_task: dict[str, list[str]] = {}
    for name, node in nodes.items():
        by_task.setdefault((node.get("tasks") or ["any task"])[0], []).append(name)
    lines = ["# Methods", "", "By their first task; `maskbench list method NAME` prints the knobs of one in a terminal.", ""]
    for task, names in sorted(by_task.items()):
        lines += [f"## {task}", "", "| method | |", "|---|---|"]
        lines += [f"| [{name}]({name}.md) | {cell(nodes[name].get('about') or '')} |" for name in names] + [""]
    lines += ["```{toctree}", ":hidden:", "", *files, "```", ""]
    return "\n".join(lines)


def method_page(name: str, path: Path) -> str:
    """All there is to say of one method."""
    text = path.read_text()
    node = parts.own(choices("method"), name, "method")
    module, doc = docstrings(node["_target_"])
    lines = [f"# {name}", "", prose(node.get("about") or notes.comment(text)), "", *module, "", *doc, ""]
    lines += ["## What it is made by", "", *(f"- {prose(line)}" for line in settings.facts(node)), ""]
    lines += ["## Knobs", "", *knob_table("method", node, text), ""]
    lines += ["## Its file", "", f"`conf/method/{name}.yaml`: what `method={name}` alone chooses.", ""]
    lines += [*code(text, "yaml"), ""]
    lines += list(preset_lines(name)) + list(figure_lines(name))
    return "\n".join(lines)


def docstrings(target: str) -> tuple[list[str], list[str]]:
    """Paragraphs of the module that defines a method, and of its class up to its arguments, which the table of knobs has."""
    made, tree = signatures._definition(*signatures._place(target))
    module = paragraphs((ast.get_docstring(tree) if tree else "") or "")
    doc = paragraphs((ast.get_docstring(made) if made else "") or "")
    return module, [line for line in doc if line not in module]


def paragraphs(doc: str) -> list[str]:
    """A docstring's text before its sections (Args, Raises, ...)."""
    text = re.split(r"^(?:Args|Raises|Attributes|Returns|Yields):", doc, maxsplit=1, flags=re.MULTILINE)[0]
    return [line for part in text.strip().split("\n\n") if part.strip() for line in (prose(part), "")]


def preset_lines(method: str) -> Iterator[str]:
    """The presets that run a method: what each is, the paper's numbers, what to expect and how long it takes."""
    found = [(name, note) for name, chosen, note in presets() if chosen == method]
    if not found:
        return
    yield from ("## Presets", "")
    for name, note in found:
        first, *rest = notes.lines(note)
        yield from (f"### {name}", "", prose(first), "", *code(f"python -m maskbench experiment={name}"), "")
        yield from (*(f"- {prose(line)}" for line in rest), "")


@functools.cache
def presets() -> list[tuple[str, str | None, dict[str, Any]]]:
    """(name, method, what it says of itself) of each preset."""
    made = []
    for name, path in choices("experiment").items():
        content = yamls.parse(path.read_text()) or {}
        defaults = [one for one in content.get("defaults") or [] if isinstance(one, dict)]
        chosen = [one["override /method"] for one in defaults if "override /method" in one]
        if note := content.get("experiment"):
            made.append((name, chosen[0] if chosen else None, note))
    return made


def figure_lines(method: str) -> Iterator[str]:
    """The gallery's figures whose commands run the method, with these commands."""
    of_preset = {name: chosen for name, chosen, _ in presets()}
    entries = list(gallery(of_preset, method))
    if not entries:
        return
    yield from ("## Figures", "")
    for alt, picture, commands in entries:
        yield from (f"![{alt}](../../{picture})", "", *code("\n".join(commands)), "")


def gallery(of_preset: dict[str, str | None], method: str) -> Iterator[tuple[str, str, list[str]]]:
    """(alternative text, picture, commands) of the entries of docs/gallery.md in which a run of the method is drawn."""
    text = (DOCS / "gallery.md").read_text()
    marks = list(re.finditer(r"^!\[([^\]]*)\]\(([^)]+)\)$", text, re.MULTILINE))
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        block = text[mark.end() : after.start() if after else len(text)].partition("\n## ")[0]
        lines = WHERE.findall(block)
        words = [word for line in lines for word in shlex.split(line)]
        chosen = {one for word in words if word.startswith("method=") for one in word[7:].split(",")}
        chosen |= {of_preset.get(one) for word in words if word.startswith("experiment=") for one in word[11:].split(",")}
        if method in chosen:
            yield mark[1], mark[2], re.findall(r"^ {4}(\S.*)$", block, re.MULTILINE)


# ---- groups and keys


def group_page(group: str, title: str) -> str:
    """Each choice of a group with its knobs."""
    lines = [f"# {title}", "", f"What `{group}=` takes; `maskbench list {group} NAME` prints one.", ""]
    files = choices(group)
    for name, path in files.items():
        text, node = path.read_text(), parts.own(files, name, group)
        lines += [f"## {name}", "", prose(node.get("about") or notes.comment(text)), ""]
        lines += [f"- {prose(fact)}" for fact in settings.facts(node)] + [""]
        lines += [*knob_table(group, node, text), ""]
    return "\n".join(lines)


def knob_table(group: str, node: dict[str, Any], text: str) -> list[str]:
    """Key, default, what it takes and what it means, as `maskbench list` prints them."""
    entries = list(settings.settings(group, node, text))
    if not entries:
        return ["It has no keys."]
    rows = []
    for key, default, taken, meaning in entries:
        meaning = elsewhere(node.get("_target_", ""), key.rpartition(".")[2], meaning)
        rows.append(f"| `{key}` | {literal(default)} | {cell(taken)} | {cell(meaning)} |")
    plus = ["", "A key with a plus sign stands in no file: it is set as it is written here, with the plus."]
    return ["| key | default | takes | |", "|---|---|---|---|", *rows, *(plus if any(e[0][0] == "+" for e in entries) else [])]


def elsewhere(target: str, name: str, meaning: str) -> str:
    """What a knob means, where its own docstring sends the reader to a class of the same file ("as of SET")."""
    if not (sent := re.fullmatch(r"as of (\w+)", meaning)):
        return meaning
    target = f"{target.rpartition('.')[0]}.{sent[1]}"
    there = next((knob.meaning for knob in knobs.read(target) or () if knob.name == name), "")
    return elsewhere(target, name, there) or meaning


def config_page() -> str:
    """The keys of conf/config.yaml: type and range from the schema, meaning from the comment beside it."""
    text = (CONF / "config.yaml").read_text()
    lines = ["# Keys of every run", "", "Of conf/config.yaml; those of a method, a data set, ... have pages of their own.", ""]
    lines += ["| key | default | takes | |", "|---|---|---|---|"]
    for key, value, meaning in commented(text):
        lines.append(f"| `{key}` | {literal(value)} | {cell(kind(key))} | {cell(meaning)} |")
    return "\n".join([*lines, ""])


def commented(text: str) -> Iterator[tuple[str, str, str]]:
    """(dotted key, default, comment with the lines that continue it) of a yaml file's scalars, without defaults and hydra."""
    rows = text.splitlines()

    def walk(node: yaml.MappingNode, above: str) -> Iterator[tuple[str, str, str]]:
        for key, value in node.value:
            name = f"{above}{key.value}"
            if name in ("defaults", "hydra"):
                continue
            if isinstance(value, yaml.MappingNode):
                yield from walk(value, f"{name}.")
            else:
                yield name, value.value, remark(rows, key.start_mark.line)

    yield from walk(yaml.compose(text), "")


def remark(rows: Sequence[str], at: int) -> str:
    """The comment behind a line and the lines below it that hold nothing else."""
    words = [rows[at].partition(" # ")[2]]
    for row in rows[at + 1 :]:
        if not row.startswith("  ") or not row.lstrip().startswith("#"):
            break
        words.append(row.lstrip(" #"))
    return " ".join(words).strip()


def kind(key: str) -> str:
    """What a key takes: its range where it has one, else its type."""
    section, _, name = key.rpartition(".")
    if key in schema.RANGES:
        return schema.RANGES[key][1]
    if name in settings.SHARED.get(section, ()):
        return settings.taken(settings.SHARED[section][name])
    if section == "trainer":
        return next((settings.taken(knob) for knob in knobs.read(parts.TRAINER) or () if knob.name == name), "")
    hints = typing.get_type_hints(schema.Config)
    if section and not is_dataclass(hints.get(section)):
        return ""
    hint = typing.get_type_hints(hints[section] if section else schema.Config).get(name)
    return knobs.words(hint).removesuffix("anything").removesuffix(", or ") if hint and not is_dataclass(hint) else ""


def commands_page() -> str:
    """The help of every command, as `--help` prints it at 100 columns."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "100"
    lines = ["# Commands", "", "Beside runs themselves (`maskbench KEY=VALUE ...`); exit status 0: done, 1: a run failed,"]
    lines += ["2: what was asked cannot be, 130: interrupted.", ""]
    try:
        for name, about in main.COMMANDS.items():
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                importlib.import_module(f"maskbench.cli.commands.{name}").main(["--help"])
            lines += [f"## {name}", "", prose(about[0].upper() + about[1:]) + ".", "", *code(said.getvalue().rstrip()), ""]
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return "\n".join(lines)


# ---- text


def code(text: str, language: str = "text") -> list[str]:
    return [f"```{language}", *text.splitlines(), "```"]


def prose(text: str) -> str:
    """Text of ours as Markdown: what Markdown would read as emphasis or a tag stays what it is; code stays code."""
    pieces = re.split(r"(`[^`\n]*`)", text)
    return "".join(p if p[:1] == "`" and len(p) > 1 else re.sub(r"([*_<\[\]$|\\])", r"\\\1", p) for p in pieces)


def cell(text: str) -> str:
    """The same on one line of a table."""
    return prose(" ".join(str(text).split())).replace("`|`", "`\\|`")


def literal(text: str) -> str:
    shown = " ".join(text.split()).replace("|", "\\|")
    return f"`{shown}`" if shown else ""


# ---- docstrings for autodoc


def tidy(app: Any, what: str, name: str, made: Any, options: Any, lines: list[str]) -> None:
    """The house's docstrings as reStructuredText reads them: several arguments on a line become a line each, and signs that have
    a meaning there, and none here, are escaped."""
    text = "\n".join(lines)
    if (section := re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))+)", text, re.MULTILINE)) and (names := arguments(made)):
        said = signatures.meanings(inspect.cleandoc(section[1]), names)
        block = "".join(f"    {key}: {said[key]}.\n" for key in names if key in said)
        text = f"{text[: section.start()]}Args:\n{block}\n{text[section.end() :]}" if block else text
    pieces = re.split(r"(`[^`\n]*`)", text)
    lines[:] = "".join(p if p[:1] == "`" and len(p) > 1 else re.sub(r"([*|])|(?<=\w)_(?=\W|$)", escape, p) for p in pieces).split(
        "\n"
    )


def escape(match: re.Match) -> str:
    return f"\\{match[0]}"


def arguments(made: Any) -> list[str]:
    with contextlib.suppress(TypeError, ValueError):
        return [name for name in inspect.signature(made).parameters if name != "self"]
    return []
