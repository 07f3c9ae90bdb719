"""What the page works out for itself, beside what the package and scipy say: paired tests, the filter by any key, curves and
matrices of several groups, pictures of units, links and commands."""

import base64
import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from maskbench.cli.commands.report import beside
from maskbench.report import runs as records
from maskbench.report import statistics
from maskbench.report.html import mask_file
from maskbench.report.html.page import asset, page

pytestmark = pytest.mark.full


def opened(tab: Any, root: Path, file: Path) -> Any:
    file.write_text(page(records.read(root), "outputs"), encoding="utf-8")
    tab.open(file)
    tab.draw_all()
    return tab


def cells(tab: Any, where: str) -> list[list[str]]:
    rows = f"[...document.querySelectorAll('{where} tbody tr')]"
    return tab.run(f"{rows}.map((row) => [...row.cells].map((cell) => cell.textContent))")


# ---- paired tests


def script(tab: Any, expression: str) -> Any:
    """An expression of compare.js, which needs nothing of the page up to its first drawing."""
    pure = asset("compare.js").partition("const configOf")[0]
    return tab.run(f"(() => {{ const finite = Number.isFinite; {pure}; return {expression}; }})()")


def test_its_tests_are_those_of_scipy_and_of_maskbench_compare(tab: Any) -> None:
    draw = np.random.default_rng(0)
    for n in (2, 3, 4, 5, 6, 11, 30):
        a, b = draw.normal(0.6, 1, n), draw.normal(0, 1, n)
        found = script(tab, f"paired({json.dumps([*zip(a.tolist(), b.tolist(), strict=True)])}, true)")
        expected = statistics.paired(a.tolist(), b.tolist(), less=True)
        assert found["mean"] == pytest.approx(expected.difference.mean)
        assert found["half"] == pytest.approx(expected.difference.high - expected.difference.mean, rel=1e-6)
        assert (found["wins"], found["losses"], found["n"]) == (expected.wins, expected.losses, n)
        assert found["sign"] == pytest.approx(expected.sign_p)
        assert found["t"] == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-6)


def test_equal_differences_have_no_test_by_their_deviation(tab: Any) -> None:
    found = script(tab, "paired([[0.3, 0.1], [0.5, 0.3], [0.4, 0.2]], false)")
    assert (found["t"], found["half"], found["wins"], found["sign"]) == (None, 0, 3, 0.25)
    single = script(tab, "paired([[1, 1]], false)")
    assert (single["half"], single["t"], single["sign"], single["wins"]) == (None, None, None, 0)


def test_any_two_groups_are_paired_by_the_seeds_both_have(write: Callable, tab: Any, tmp_path: Path) -> None:
    values = {"a": {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.9}, "b": {1: 0.5, 2: 0.4, 3: 0.6, 7: 0.1}}
    for method, seeds in values.items():
        for seed, value in seeds.items():
            config = {"optimizer": {"lr": 0.1 if method == "a" else 0.2}}
            write(tmp_path / "outputs", method, seed, {"accuracy": value, "nll": 1 - value, method: 1.0}, config=config)
    opened(tab, tmp_path / "outputs", tmp_path / "page.html")
    by_metric = {row[0]: row[1:] for row in cells(tab, "#compare")}
    assert set(by_metric) == {"accuracy", "nll (lower is better)"}, "metrics that only one has are not compared"
    mean = statistics.paired([0.6, 0.7, 0.9], [0.5, 0.4, 0.6]).difference
    a, b, difference, t, sign, better, pairs = by_metric["accuracy"]
    assert (a, b, pairs, better) == ("0.7333", "0.5000", "3", "3 of 3")
    assert difference == f"{mean.mean:.4f} ±{mean.high - mean.mean:.4f}" and float(sign) == 0.25
    assert float(t) == pytest.approx(stats.ttest_rel([0.6, 0.7, 0.9], [0.5, 0.4, 0.6]).pvalue, abs=1e-4)
    assert by_metric["nll (lower is better)"][5] == "3 of 3", "the lower one is the better one"
    told = tab.run("document.querySelector('#compare .body').textContent")
    assert "seeds both have: 1, 2, 3." in told and "Beware" not in told
    tab.click("#compare button", "Swap A and B")
    assert cells(tab, "#compare")[0][1:3] == ["0.5000", "0.7333"]
    tab.run("document.querySelector('#compare details').open = true")
    tab.wait("document.querySelectorAll('#compare details tbody tr').length >= 2")
    assert ["optimizer.lr", "0.2", "0.1"] in cells(tab, "#compare details")


def test_groups_that_do_not_belong_together_are_said_so(write: Callable, tab: Any, tmp_path: Path) -> None:
    write(tmp_path / "outputs", "a", 0, {"accuracy": 0.5})
    write(tmp_path / "outputs", "a", 1, {"accuracy": 0.5}, data="other", config={"budget": {"epochs": 9, "batch_size": 128}})
    opened(tab, tmp_path / "outputs", tmp_path / "page.html")
    told = tab.run("document.querySelector('#compare .body').textContent")
    assert "no seed is in both" in told and "task, data or the source of the data differ" in told and "budgets differ" in told


# ---- the filter


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("optimizer.lr=0.1", 60),  # all but the pruning runs, and those of this rate
        ("lr=0.1 method=lottery", 10),
        ("lr<0.2 method=lottery", 20),
        ("lr>=0.3 method=lottery", 20),
        ("lr!=0.1,0.2 method=lottery", 30),
        ("epochs=3", 100),  # which all share
        ("epochs=30", 0),  # not by how it begins
        ("seed=0,3 data=mnist", 20),
        ("ece<=0.001", 2),
        ("average_accuracy>0.9", 25),
        ("keep=4 packnet", 5),
        ("no.such.key=1", 0),
    ],
)
def test_the_filter_takes_any_key(tab: Any, report: Path, words: str, count: int) -> None:
    tab.open(report)
    tab.enter("#words", words, "input")
    told = tab.run("document.getElementById('count').textContent")
    assert told == ("100 runs" if count == 100 else f"{count} of 100 runs")


def test_a_key_and_a_value_are_chosen_from_lists(tab: Any, report: Path) -> None:
    tab.open(report)
    tab.enter("#words", "lottery", "input")
    tab.run("document.getElementById('any-key').focus()")
    keys = tab.run("[...document.getElementById('any-key').options].map((one) => one.value)")
    assert {"optimizer.lr", "method.keep", "seed", "accuracy", "wall_seconds"} <= {*keys} and "budget.epochs" not in keys
    tab.enter("#any-key", "optimizer.lr", "change")
    values = tab.run("[...document.getElementById('any-value').options].map((one) => one.value)")
    assert values == ["", "0.0", "0.1", "0.2", "0.3", "0.4"]
    tab.enter("#any-value", "0.3", "change")
    assert tab.run("document.getElementById('words').value") == "lottery optimizer.lr=0.3"
    assert tab.run("document.getElementById('count').textContent") == "10 of 100 runs"
    tab.enter("#any-value", "0.4", "change")
    assert tab.run("document.getElementById('words').value") == "lottery optimizer.lr=0.4", "another value takes its place"


def test_fresh_and_stale_runs_are_told_and_chosen(write: Callable, tab: Any, tmp_path: Path) -> None:
    old = {"code": {"closure": "0" * 10, "modules": {"maskbench.training.loop": "0" * 64}}}
    write(tmp_path / "outputs", "a", 0, {"accuracy": 0.5}, about=old)
    write(tmp_path / "outputs", "b", 0, {"accuracy": 0.5})
    opened(tab, tmp_path / "outputs", tmp_path / "page.html")
    assert "stale 1" in tab.run("document.querySelector('.tiles').textContent.replace(/\\u00a0/g, ' ')")
    assert "stale" in tab.run("document.querySelector('#results tr[data-group=\"0\"]').textContent")
    tab.enter("#words", "freshness=stale", "input")
    assert tab.run("document.getElementById('count').textContent") == "1 of 2 runs"
    tab.click("#all-runs button.open", "a-toy/s0-k1")
    assert "code that computed it has changed since" in tab.run("document.getElementById('details').textContent")


# ---- curves, matrices, masks


def test_curves_of_all_groups_lie_in_one_plot_and_follow_the_filter(tab: Any, report: Path) -> None:
    tab.open(report)
    tab.draw_all()
    plot = '#training svg[aria-label^="loss of all groups"]'
    names = tab.run("[...document.getElementById('overlaid').options].map((one) => one.textContent)")
    assert names[0] == "loss, digits 0 (5 groups)" and len(names) == 8 + 8 + 8 + 1, "eight parts of three boards, one of the last"
    assert tab.wait(f"document.querySelectorAll('{plot} .line path').length") == 5
    tab.enter("#words", "keep<2", "input")
    assert tab.run(f"document.querySelectorAll('{plot} .line path').length") == 2


def test_a_matrix_is_built_up_by_a_slider_and_played(tab: Any, report: Path) -> None:
    tab.open(report)
    tab.draw_all()
    count = "document.querySelectorAll('#matrices .cells rect').length"
    assert tab.wait(count) == 10 * 11 / 2
    tab.run("document.querySelector('#matrices input[type=range]').focus()")
    for _ in range(7):
        tab.press("ArrowLeft", 37)
    tab.wait(f"{count} === 6")
    expected = sum(0.98 - 0.01 * (2 - j) + 0.002 for j in range(3)) / 3
    assert tab.run("document.querySelector('#matrices output').textContent") == (
        f"after learning stage 3: mean of the 3 seen {expected:.4f}"
    )
    tab.click("#matrices .step button", "Play")
    assert tab.run("document.querySelector('#matrices .step button').textContent") == "Pause"
    tab.wait(f"{count} === {10 * 11 / 2}", seconds=60)
    tab.wait("document.querySelector('#matrices .step button').textContent === 'Play'", seconds=60)


def test_units_are_pictures_of_the_pixels_they_keep(write: Callable, tab: Any, tmp_path: Path) -> None:
    kept = torch.rand(40, 784, generator=torch.Generator().manual_seed(0)) < 0.1
    drawn = {"0/hidden.weight": kept, "0/head.weight": torch.ones(10, 40, dtype=torch.bool)}
    run = write(tmp_path / "outputs", "any", 0, {"accuracy": 0.5}, drawn=drawn)
    told = mask_file.counts(run / "masks.safetensors")["units"]
    bits = np.frombuffer(base64.b64decode(told["bits"]), np.uint8).reshape(mask_file.UNITS, 98)
    assert (told["side"], told["of"], told["shown"][0], told["shown"][-1]) == (28, 40, 0, 39)
    unpacked = np.unpackbits(bits, axis=1, bitorder="little")
    assert np.array_equal(unpacked, kept.numpy()[told["shown"]]) and told["kept"] == unpacked.sum(1).tolist()
    opened(tab, tmp_path / "outputs", tmp_path / "page.html")
    assert tab.wait("document.querySelectorAll('#masks .unit').length") == mask_file.UNITS
    paths = tab.run("[...document.querySelectorAll('#masks .unit path')].map((one) => one.getAttribute('d'))")
    for place, unit in enumerate(told["shown"]):
        pixels = {(int(p) % 28, int(p) // 28) for p in np.flatnonzero(kept[unit].numpy())}
        drawn_pixels = {tuple(map(int, part.partition("h")[0].split(","))) for part in paths[place].split("M")[1:]}
        assert drawn_pixels == pixels


# ---- links and commands


def test_a_run_links_to_its_folder_and_its_command_is_copied(tab: Any, hundred: Path) -> None:
    file = hundred / "page of all.html"
    file.write_text(page(records.read(hundred), "outputs"), encoding="utf-8")
    tab.open(file)
    tab.click("#all-runs button.open", "lottery-mnist/s2-l3")
    link = tab.run("document.querySelector('#details a').href")
    assert link == (hundred / "lottery-mnist" / "s2-l3").resolve().as_uri() + "/"
    tab.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    command = "python -m maskbench rerun outputs/lottery-mnist/s2-l3"
    tab.run(f"""document.querySelector('#details button.copy[aria-label="Copy: {command}"]').click()""")
    told = f"""document.querySelector('#details button.copy[aria-label="Copy: {command}"]').nextSibling.textContent"""
    assert tab.wait(told) in ("copied", "selected")
    got = tab.run(f"{told} === 'copied' ? navigator.clipboard.readText() : String(getSelection())")
    assert got == command
    file.unlink()


def test_a_link_names_no_folder_that_no_command_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert beside(Path("outputs"), Path("outputs")) == PurePath(".")
    assert beside(Path("outputs"), Path("pages")) == PurePath("../outputs")
    assert beside(tmp_path / "outputs", tmp_path) == PurePath("outputs")
    assert beside(tmp_path / "outputs", tmp_path / "pages") is None
