"""`maskbench doctor` says of everything that is missing, in one line each, how it is had."""

import tomllib
from pathlib import Path

import pytest

from maskbench.cli import main as cli
from maskbench.cli.commands import doctor

DEVELOPERS = {"dev", "docs"}


def told(capsys: pytest.CaptureFixture) -> dict[str, str]:
    """The lines of the listing by their first word."""
    cli.main(["doctor"])
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}


def test_what_is_missing_has_its_command_on_the_same_line(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda package: "missing" if package in ("numpy", "onnx", "wandb") else "1.0")
    lines = told(capsys)
    assert lines["numpy"].endswith("missing: pip install numpy") and "a run does without" in lines["wandb"]
    assert lines["onnx"].split(maxsplit=1)[1] == (
        "missing onnx: pip install 'maskbench[onnx]'  for maskbench export --format onnx"
    )
    assert lines["ray"].split(maxsplit=1)[1].startswith("here ")


def test_every_extra_of_users_is_there_with_packages_that_it_names() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    extras = {name: " ".join(wanted) for name, wanted in project["optional-dependencies"].items() if name not in DEVELOPERS}
    assert extras.keys() == doctor.EXTRAS.keys()
    for name, (packages, used) in doctor.EXTRAS.items():
        assert used and all(package in extras[name] for package in packages)


@pytest.mark.parametrize("word", ["--dryy", "--dryy=1"])
def test_an_option_that_is_none_is_refused_with_the_nearest(word: str, capsys) -> None:
    assert cli.main(["table", "supsup", word]) == 2
    assert capsys.readouterr().err.strip() == (
        f"maskbench: table: no option {word}. Did you mean '--dry'? maskbench table --help has all of them."
    )
