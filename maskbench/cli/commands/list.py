"""`maskbench list [GROUP [NAME]]`: what can be chosen, with the first comment of each file; of one choice its settings.

Presets have keys in the place of that comment; `maskbench list experiment` adds what to expect of each and how long it takes.
`maskbench list published [FILE]` prints the published values (conf/published), which no run chooses: tables refer to them.
"""

from collections.abc import Iterator
from pathlib import Path

from maskbench.cli.commands import notes
from maskbench.cli.commands.common import aligned, arguments
from maskbench.common import identity, yamls
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.report import published, spec

PUBLISHED = "published"


def main(argv: list[str]) -> int:
    from maskbench.cli import command_line

    parser = arguments("list", "What can be chosen: GROUP=CHOICE on the command line; `list published`: values of the papers.")
    parser.add_argument("group", nargs="?", help="one group: method, data, ...; or published")
    parser.add_argument("name", nargs="?", help="one choice of it: its settings, with defaults and meaning")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder with further groups and choices")
    if (given := parser.read(argv)) is None:
        return 0
    folders = [identity.conf_dir(), *([given.config_dir] if given.config_dir else [])]
    if not folders[-1].is_dir():
        raise UsageError(f"--config-dir: there is no folder {folders[-1]}.")
    groups = command_line.groups(folders)
    if given.group == PUBLISHED:
        print("\n".join(values(folders, given.name)))
        return 0
    if given.group and given.group not in groups:
        raise UsageError(f"no group '{given.group}'.{did_you_mean(given.group, groups)} Groups: {', '.join(groups)}.")
    if given.name:
        from maskbench.cli.commands import settings

        settings.show(given.group, given.name, folders)
        return 0
    for group in [given.group] if given.group else groups:
        print(group)
        if group == given.group == "experiment":
            presets(command_line.choices(folders, group))
            continue
        print(aligned([row(group, *choice) for choice in command_line.choices(folders, group).items()], indent="  "))
        print()
    return 0


def values(folders: list[Path], file: str | None) -> Iterator[str]:
    """The published values, of one file or all: each with its setting, its place, and the rows of tables it stands beside."""
    records = published.load(folders)
    files = dict.fromkeys(name.partition("/")[0] for name in records)
    if file and file not in files:
        raise UsageError(f"no file of published values '{file}'.{did_you_mean(file, files)} Files: {', '.join(files)}.")
    beside = spec.beside(folders, records)
    for name, record in records.items():
        if file in (None, name.partition("/")[0]):
            yield f"{name}: {record.text}" + (f" ({record.origin})" if record.origin else "")
            yield f"  {record.words}; {record.place}; read: {record.read}"
            yield f"  setting: {published.setting(record)}"
            yield f"  beside: {', '.join(beside.get(name, ())) or 'no row: nothing here runs it'}"


def row(group: str, name: str, path: Path) -> list[str]:
    """Name and description; of a method also the tasks it can do."""
    content = path.read_text()
    if group == "experiment" and (note := note_of(content)):
        return [name, note.get("about", "")]
    if group != "method":
        return [name, notes.comment(content)]
    method = (yamls.parse(content) or {}).get("method", {})
    return [name, ", ".join(method.get("tasks") or ["any task"]), notes.comment(content) or method.get("about", "")]


def presets(files: dict[str, Path]) -> None:
    for name, path in files.items():
        content = path.read_text()
        note = note_of(content)
        print(f"  {name}: {note.get('about') or notes.comment(content)}")
        print("".join(f"    {line}\n" for line in notes.outlook(note)))


def note_of(content: str) -> dict:
    """What a preset says of itself; nothing where it has no such keys."""
    return (yamls.parse(content) or {}).get("experiment") or {}
