"""`maskbench list [GROUP [NAME]]`: what can be chosen, with the first comment of each file; of one choice its settings."""

from pathlib import Path

import yaml

from maskbench.cli.commands.common import aligned, arguments
from maskbench.common import identity
from maskbench.common.errors import UsageError, did_you_mean


def main(argv: list[str]) -> int:
    from maskbench.cli import command_line

    parser = arguments("list", "What can be chosen: GROUP=CHOICE on the command line.")
    parser.add_argument("group", nargs="?", help="one group: method, data, ...")
    parser.add_argument("name", nargs="?", help="one choice of it: its settings, with defaults and meaning")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder with further groups and choices")
    if (given := parser.read(argv)) is None:
        return 0
    folders = [identity.conf_dir(), *([given.config_dir] if given.config_dir else [])]
    if not folders[-1].is_dir():
        raise UsageError(f"--config-dir: there is no folder {folders[-1]}.")
    groups = command_line.groups(folders)
    if given.group and given.group not in groups:
        raise UsageError(f"no group '{given.group}'.{did_you_mean(given.group, groups)} Groups: {', '.join(groups)}.")
    if given.name:
        from maskbench.cli.commands import settings

        settings.show(given.group, given.name, folders, comment)
        return 0
    for group in [given.group] if given.group else groups:
        print(group)
        print(aligned([row(group, *choice) for choice in command_line.choices(folders, group).items()], indent="  "))
        print()
    return 0


def row(group: str, name: str, path: Path) -> list[str]:
    """Name and description; of a method also the tasks it can do."""
    content = path.read_text()
    if group != "method":
        return [name, comment(content)]
    method = (yaml.safe_load(content) or {}).get("method", {})
    return [name, ", ".join(method.get("tasks") or ["any task"]), comment(content) or method.get("about", "")]


def comment(content: str) -> str:
    """The first comment line that is not Hydra's package header."""
    lines = (line[1:].strip() for line in content.splitlines() if line.startswith("#"))
    return next((line for line in lines if line and not line.startswith("@package")), "")
