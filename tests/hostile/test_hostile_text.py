"""Names and texts of a stranger's run reach terminal, page and spreadsheet as text: they steer, mark up and compute nothing."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from maskbench.report.writers import comma_separated
from maskbench.runs.console import Console

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\u202etxt"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def poison(run: Path, text: str) -> None:
    """The text in every word that a record of a run shows."""
    about, result = json.loads((run / "run.json").read_text()), json.loads((run / "result.json").read_text())
    for name in ("key", "cpu", "platform", "branch", "maskbench"):
        about[name] = text
    about["choices"][text] = about["choices"]["method"] = text
    about["config"]["method"]["name"] = about["config"]["data"]["name"] = text
    about["overrides"].append(text)
    about["versions"][text] = text
    about["data"] = {"source": text, "checksums": {text: text}}
    about["attempts"][0]["started"] = text
    for name in ("method", "data", "source", "task", "key", "objective_name"):
        result[name] = text
    result["metrics"] |= {text: 0.5, f"{text}/1": 0.5, f"{text}/2": 0.6}
    result["table"] = [{text: text, "x": 0.5}, {text: f"{text}2", "x": 0.6}]
    result["notes"] = [text]
    result["fingerprints"] = {text: text}
    result["matrices"] = {text: [[0.5, 0.5], [0.5, 0.5]]}
    (run / "run.json").write_text(json.dumps(about))
    (run / "result.json").write_text(json.dumps(result))
    (run / "metrics.csv").write_text(f"h\n{text},train,1,{text},0.5\n{text},train,2,{text},0.4\n", newline="", errors="replace")


def test_no_command_prints_an_escape(foreign: Path, call: Callable) -> None:
    poison(foreign, ESCAPES)
    for words in (["show", foreign], ["results"], ["results", "--csv"], ["results", "--markdown"],
                  ["report"], ["results", "group=method,data"], ["rerun", foreign, "--dry"],
                  ["compare", foreign, foreign, "--csv"]):  # fmt: skip
        _, out, err = call(*words)
        assert not CONTROL.search(out + err), (words, CONTROL.search(out + err))
    assert "\\x1b[2J" in call("show", foreign)[1]


def test_a_folder_name_prints_no_escape(foreign: Path, call: Callable) -> None:
    name = foreign.with_name("s0-\x1b[2J")
    foreign.rename(name)
    (name / "run.json").write_text("{")
    for words in (["results"], ["show", name], ["rerun", name], ["report"]):
        _, out, err = call(*words)
        assert not CONTROL.search(out + err), words


def test_a_folder_name_that_is_no_text(foreign: Path, call: Callable) -> None:
    foreign.rename(foreign.with_name("s0-\udcff"))
    for words in (["results"], ["report"], ["results", "--csv"]):
        assert call(*words)[0] == 0


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><b>", "&lt;i&gt;"])
def test_markup_stays_text_in_the_page(text: str, foreign: Path, survives: Callable) -> None:
    poison(foreign, text)
    page = survives()
    assert text not in page.replace("&amp;lt;i&amp;gt;", "") and page.count("<script") == page.count("</script>")
    assert page.count("<script") < 5


@pytest.mark.parametrize("text", ["[red]", "[/]", "[link=file:///etc]x[/link]", "[bold"])
def test_markup_stays_text_on_the_console(text: str, capsys: pytest.CaptureFixture, foreign: Path, survives: Callable) -> None:
    console = Console(text, live=False)
    console.result({text: 0.5}, [{text: text}], [text], title=text)
    console.close()
    assert capsys.readouterr().out.count(text) >= 4
    poison(foreign, text)
    survives()


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_formula_is_text_in_csv(sign: str, foreign: Path, call: Callable) -> None:
    text = f"{sign}cmd|' /C calc'!A0"
    assert next(csv.reader(io.StringIO(comma_separated([text], []))))[0].startswith("'")
    poison(foreign, text)
    for words in (["results", "--csv"], ["results", "--csv", "--tidy"], ["results", "group=method", "--csv", "mixed=allow"]):
        status, out, _ = call(*words)
        cells = [cell for row in csv.reader(io.StringIO(out)) for cell in row]
        assert status == 0 and any("calc" in cell for cell in cells)
        assert [cell for cell in cells if "calc" in cell and cell[0] in "=+-@\t\r"] == []


def test_numbers_stay_numbers_in_csv() -> None:
    text = comma_separated(["a", "-b"], [[-0.5, "-0.5"], [1e-300, "+1e5"], [None, "-inf"], [True, "-"]])
    assert text == "a,'-b\n-0.5,-0.5\n1e-300,+1e5\n,-inf\nTrue,'-\n"


def test_surrogates_end_no_command(foreign: Path, survives: Callable) -> None:
    poison(foreign, "\ud800")
    survives()
