"""Whether run.json and result.json are such as a run writes: the types of all that tables, figures and pages read of them.

Records travel; what another program or a stranger wrote into one must cost that run, and no report. Imports no torch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maskbench.common import foreign
from maskbench.common.closure import DOTTED
from maskbench.common.files import Damaged, Unusable, content

Test = Callable[[Any], bool]
LARGEST = 1e100  # of a number in a table: its square can still be added up


def text(value: Any) -> bool:
    return isinstance(value, str)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def finite(value: Any) -> bool:
    return foreign.finite(value) and abs(value) <= LARGEST


def number(value: Any) -> bool:
    """Also NaN and the infinities, as what diverged has them."""
    return finite(value) or isinstance(value, float) and not foreign.finite(value)


def scalar(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def cell(value: Any) -> bool:
    return text(value) or flag(value) or number(value)


def anything(value: Any) -> bool:
    return True


def optional(test: Test) -> Test:
    return lambda value: value is None or test(value)


def items(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def mapping(test: Test = anything, **tests: Test) -> Test:
    """A mapping whose values named in `tests` are null or pass theirs; all others pass `test`."""

    def judge(value: Any) -> bool:
        return isinstance(value, Mapping) and all(part is None or tests.get(name, test)(part) for name, part in value.items())

    return judge


def hashes(value: Any) -> bool:
    """Module -> hash of its code."""
    return mapping(text)(value) and all(DOTTED.fullmatch(f"_.{name}") for name in value)


def setting(value: Any) -> bool:
    return scalar(value) or items(anything)(value) or mapping()(value)


PART = mapping(name=text)
CODE = mapping(closure=text, modules=hashes)
COST = mapping(finite)
ABOUT = {
    **dict.fromkeys(("status", "key", "cpu", "commit", "branch", "maskbench", "python", "platform"), text),
    **dict.fromkeys(("seed", "threads", "cores", "memory_bytes"), whole),
    "dirty": flag,
    "choices": mapping(lambda value: scalar(value) or items(scalar)(value)),
    "overrides": items(text),
    "argv": items(text),
    "versions": mapping(text),
    "machine": mapping(scalar),
    "git": mapping(commit=text, dirty=flag),
    "config": mapping(
        setting,
        seed=whole,
        **dict.fromkeys(("method", "data", "task", "backbone", "optimizer", "schedule"), PART),
        budget=mapping(scalar),
        trainer=mapping(accelerator=scalar, precision=scalar, memory_format=scalar),
        paths=mapping(scalar),
        tags=lambda value: scalar(value) or items(scalar)(value),
        notes=scalar,
        debug=mapping(scalar),
    ),
    "code": CODE,
    "attempts": items(mapping(started=text, ended=text, status=text, code=text, resumed=flag, cost=COST)),
    "cost": COST,
    "data": mapping(source=text, checksums=mapping(text), fingerprints=items(text)),
}
RESULT = {
    **dict.fromkeys(("status", "objective_name", "method", "data", "source", "task", "key"), text),
    "seed": whole,
    "objective": number,
    "metrics": mapping(lambda value: number(value) or not scalar(value)),  # one that is no number is passed over
    "table": items(mapping(cell)),
    "matrices": mapping(),
    "fingerprints": mapping(),
    "marks": mapping(),
    "notes": items(text),
}


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a curves.json; none where there is no such file.

    Raises:
        Unusable: it cannot be read, or is no list of rows.
    """
    if (data := content(path)) is None:
        return []
    try:
        made = foreign.plain(foreign.parse(data))
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from None
    if not isinstance(made, list) or not all(isinstance(row, dict) for row in made):
        raise Damaged(f"{path} is damaged: it is no list of rows")
    return made


def read(path: Path, tests: Mapping[str, Test]) -> tuple[dict[str, Any], str]:
    """The record in a file, and what is wrong with it: one of the two is empty. A file that is not there is an empty record."""
    try:
        if (data := content(path)) is None:
            return {}, "" if not path.is_symlink() else f"{path.name} leads nowhere"
        value = foreign.plain(foreign.parse(data))
    except Unusable as error:
        return {}, str(error).removeprefix(f"{path.parent}/")
    except ValueError as error:
        return {}, f"{path.name} cannot be read ({error})"
    if not isinstance(value, dict):
        return {}, f"{path.name} holds no mapping"
    for name, test in tests.items():
        if value.get(name) is not None and not test(value[name]):
            return {}, f"{path.name}: '{name}' is not what a run writes there"
    return value, ""
