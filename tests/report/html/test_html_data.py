"""What the page is made of, without a browser: groups, means, plots, what is said in warning, and equal bytes."""

import base64
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench import masks
from maskbench.cli import main as program
from maskbench.report import index, sound
from maskbench.report import runs as records
from maskbench.report.html import boards, groups, history, mask_file, names, payload, tables
from maskbench.report.html.page import asset, manifest, page
from maskbench.report.index import Index

NOTHING = Index(Path())  # not opened: it knows nothing


def embedded(text: str) -> dict[str, Any]:
    """The data inside a page."""
    packing, data = re.search(r'id="data" data-packing="(.*?)">(.*?)</script>', text, re.DOTALL).groups()
    return json.loads(gzip.decompress(base64.b64decode(data)) if packing else data)


def grouped(root: Path) -> list[groups.Group]:
    return groups.group(records.read(root))[0]


# ---- groups


def test_seeds_of_one_question_are_averaged_with_students_interval(write: Callable, tmp_path: Path) -> None:
    for seed, value in enumerate((0.8, 0.9, 1.0)):
        write(tmp_path, "supsup", seed, {"accuracy": value, "undefined": None, "some": 1.0 if seed else None})
    (group,) = grouped(tmp_path)
    mean = group.metrics["accuracy"]
    assert (mean.n, mean.mean) == (3, pytest.approx(0.9))
    assert boards.half(mean) == pytest.approx(4.302653 * 0.1 / 3**0.5)
    assert group.metrics["undefined"] is None and group.metrics["some"].n == 2


def test_what_a_sweep_optimises_leads_its_table_whatever_it_is_called(write: Callable, tmp_path: Path) -> None:
    numbers = {"accuracy/1": 0.4, "accuracy/3": 0.5, "density": 0.6}
    write(tmp_path, "maml", 0, numbers, objective_name="accuracy/3", objective=0.5)
    assert tables.leading(grouped(tmp_path)) == ["accuracy/3", "density"]


def test_curves_of_uncertainty_runs_are_lines(write: Callable, tmp_path: Path) -> None:
    """Averaged over seeds; several rows at one place (types of corruption at a level) are averaged first."""
    for seed in range(2):
        folder = write(tmp_path, "masksembles", seed, {"accuracy": 0.9})
        rows = [{"kind": "members", "members": m, "nll": 1 / m + seed, "accuracy": None} for m in (1, 2, 4)]
        rows += [{"kind": "confidence", "data": d, "threshold": t, "accuracy": t, "kept": 1.0} for d in "ab" for t in (0.0, 0.5)]
        rows += [
            {"kind": "shifted", "type": w, "level": n, "accuracy": a / n} for w, a in (("x", 0.4), ("y", 0.8)) for n in (1, 2)
        ]
        (folder / "curves.json").write_text(json.dumps(rows))
    (board,) = boards.boards(grouped(tmp_path), NOTHING)
    found = {plot["title"].partition(" against")[0]: plot for plot in board["plots"] if plot["kind"] == "lines"}
    assert found["members: nll"]["series"][0]["x"] == [1, 2, 4] and found["members: nll"]["series"][0]["y"] == [1.5, 1.0, 0.75]
    assert "members: accuracy" not in found
    assert [line["name"] for line in found["confidence: accuracy"]["series"]] == ["a", "b"]
    assert found["shifted: accuracy"]["series"][0]["y"] == pytest.approx([0.6, 0.3])
    assert sound.rows(tmp_path / "nowhere.json") == []


@pytest.mark.parametrize(
    "other",
    [
        {"key": "k2"},
        {"about": {"commit": "f" * 40}},
        {"about": {"dirty": True}},
        {"about": {"data": {"source": "sample", "checksums": {"train": "beef"}}}},
        {"data": "other"},
        {"task": "prune"},
    ],
    ids=["config", "commit", "changes", "source", "data", "task"],
)
def test_what_differs_in_more_than_the_seed_is_never_averaged(write: Callable, tmp_path: Path, other: dict) -> None:
    write(tmp_path, "supsup", 0, {"accuracy": 0.5})
    write(tmp_path, "supsup", 1, {"accuracy": 0.7}, **other)
    assert [len(group.runs) for group in grouped(tmp_path)] == [1, 1]


def test_equal_files_from_two_places_are_one_data_set(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "supsup", 0, {"accuracy": 0.5})
    write(
        tmp_path,
        "supsup",
        1,
        {"accuracy": 0.7},
        about={"data": {"source": "torchvision", "checksums": {"train": "0123456789abcdef"}}},
    )
    (group,) = grouped(tmp_path)
    assert len(group.runs) == 2 and group.source == "npm, torchvision"


def test_data_drawn_by_seed_is_one_data_set(write: Callable, tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, "any", seed, {"mse": 0.5}, about={"data": {"source": "generated", "checksums": {"x": f"{seed}"}}})
    assert [len(group.runs) for group in grouped(tmp_path)] == [2]


def test_groups_are_named_by_what_tells_them_apart(write: Callable, tmp_path: Path) -> None:
    for i, (lr, decay) in enumerate([(0.1, 0.0), (0.2, 0.0), (0.3, 0.0)]):
        config = {"optimizer": {"lr": lr, "decay": decay}, "backbone": {"widths": [300 + i]}}
        write(tmp_path, "supsup", 0, {"accuracy": 0.5}, key=f"k{i}", config=config)
    write(tmp_path, "packnet", 0, {"accuracy": 0.5})
    found = groups.labels(grouped(tmp_path))
    assert sorted(found) == ["packnet", "supsup lr=0.1", "supsup lr=0.2", "supsup lr=0.3"]


def test_versions_of_the_code_have_names_of_their_own(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "supsup", 0, {"accuracy": 0.5})
    write(tmp_path, "supsup", 1, {"accuracy": 0.5}, about={"commit": "f" * 40})
    assert groups.labels(grouped(tmp_path)) == ["supsup @c0ffeec0ff", "supsup @ffffffffff"]


# ---- plots follow from the records


def plots(root: Path) -> dict[str, dict[str, Any]]:
    return {plot["title"]: plot for board in boards.boards(grouped(root), NOTHING) for plot in board["plots"]}


def test_metrics_that_end_in_a_density_are_lines_over_what_remains(write: Callable, tmp_path: Path) -> None:
    for seed in (0, 1):
        metrics = {"accuracy": 0.9, "density": 0.64} | {f"accuracy/ticket/{d:.4f}": d + seed for d in (1.0, 0.8, 0.64)}
        write(tmp_path, "any", seed, metrics | {"accuracy/reinit/0.6400": 0.1, "accuracy/reinit/0.8000": 0.2}, task="prune")
    plot = plots(tmp_path)["accuracy against weights remaining"]
    ticket, reinit = plot["series"]
    assert plot["down"] and (ticket["name"], reinit["name"]) == ("ticket", "reinit")
    assert ticket["x"] == [1.0, 0.8, 0.64] and ticket["y"] == pytest.approx([1.5, 1.3, 1.14]) and ticket["n"] == [2, 2, 2]


@pytest.mark.parametrize("names", [("0.000164", "0.000132"), ("0.0002", "0.0001")])  # as they are now; as they were
def test_the_last_of_many_levels_is_a_density_too(write: Callable, tmp_path: Path, names: tuple[str, str]) -> None:
    metrics = {"accuracy": 0.9, "density": 0.00013148} | {f"accuracy/reinit/{name}": 0.1 for name in names}
    write(tmp_path, "any", 0, metrics, task="prune")
    assert plots(tmp_path)["accuracy against weights remaining"]["series"][0]["x"] == sorted(map(float, names), reverse=True)


def test_levels_of_seeds_whose_densities_differ_go_together_by_rank(write: Callable, tmp_path: Path) -> None:
    for seed in (0, 1):
        densities = (1.0, 0.5 + 0.1 * seed)
        metrics = {"accuracy": 0.9, "density": densities[-1]} | {f"accuracy/ticket/{d:.4f}": 0.4 + 0.2 * seed for d in densities}
        write(tmp_path, "any", seed, metrics, task="prune")
    (line,) = plots(tmp_path)["accuracy against weights remaining"]["series"]
    assert line["x"] == pytest.approx([1.0, 0.55]) and line["y"] == pytest.approx([0.5, 0.5])


def test_a_single_seed_keeps_the_interval_its_record_gives(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "any", 0, {"mse": 0.1, "mse/1": 0.3, "mse/1_ci95": 0.05, "mse/10": 0.1, "mse/10_ci95": 0.02}, task="meta")
    (line,) = plots(tmp_path)["mse against inner steps"]["series"]
    assert dict(zip(line["x"], line["h"], strict=True)) == pytest.approx({10.0: 0.02, 1.0: 0.05})
    assert not any("ci95" in title for title in plots(tmp_path))


def test_metrics_that_end_in_a_word_are_rows(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "any", 0, {"accuracy": 0.9, "auroc/noise": 0.8, "auroc/letters": 0.7}, task="uncertainty")
    plot = plots(tmp_path)["auroc, by kind"]
    assert plot["rows"] == ["noise", "letters"] and plot["series"][0]["y"] == [0.8, 0.7]


def test_accuracy_over_stages_needs_every_earlier_stage_tested(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "whole", 0, {"average_accuracy": 0.9}, matrices={"accuracy": [[0.9, None], [0.7, 0.8]]})
    write(
        tmp_path,
        "ends",
        0,
        {"average_accuracy": 0.9},
        matrices={"accuracy": [[0.9, None, None], [None, 0.8, None], [0.7, 0.7, 0.7]]},
    )
    found = grouped(tmp_path)
    (ends, whole) = plots(tmp_path)["Average accuracy over the stages learnt"]["series"]
    assert found[whole["group"]].first.method == "whole" and whole["y"] == pytest.approx([0.9, 0.75])
    assert ends["x"] == [1, 3], "only where the average is defined"


def test_a_table_is_drawn_over_the_names_of_its_rows_with_the_widths_beside_its_columns(write: Callable, tmp_path: Path) -> None:
    table = [{"stage": "a", "accuracy": 0.5, "accuracy +-": 0.1}, {"stage": "b", "accuracy": 0.6, "accuracy +-": 0.2}]
    write(tmp_path, "any", 0, {"average": 0.9}, table=table)
    plot = plots(tmp_path)["accuracy, by stage"]
    assert plot["ticks"] == ["a", "b"] and plot["series"][0]["h"] == pytest.approx([0.1, 0.2])
    assert "accuracy +-, by stage" not in plots(tmp_path)


def test_rows_of_one_name_are_no_line(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "any", 0, {"average": 0.9}, table=[{"split": "test", "accuracy": 0.5}, {"split": "test", "accuracy": 0.6}])
    assert list(plots(tmp_path)) == ["average, every group"]


def test_what_diverged_is_shown_and_not_drawn(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "any", 0, {"accuracy": float("nan"), "accuracy/1": 0.5, "accuracy/2": float("inf"), "accuracy/3": 0.6})
    (line,) = plots(tmp_path)["accuracy against number in the metric's name"]["series"]
    assert line["x"] == [3.0, 1.0]
    text = page(records.read(tmp_path), "outputs")
    assert ">nan" in text and dict(embedded(text)["runs"][0]["metrics"])[0] == "nan"


def test_a_board_leads_with_what_a_reader_looks_for_and_the_best_group(write: Callable, tmp_path: Path) -> None:
    """A regression that maximises its negative error shows the error; what is equal everywhere, and settings, are no plots."""
    for key, rmse in (("k1", 0.4), ("k2", 0.2)):
        metrics = {"brier": rmse, "negative_rmse": -rmse, "members": 5 * rmse, "nll": 1 - rmse, "rmse": rmse, "density": 0.5}
        metrics |= {f"chosen/drop/{fold}": 0.1 for fold in range(3)} | {"tau/a": 1.0, "tau/b": 2.0}
        config = {"method": {"knob": key}}
        write(tmp_path, "any", 0, metrics, key=key, config=config, objective_name="negative_rmse", objective=-rmse)
    found = plots(tmp_path)
    assert list(found) == ["rmse, every group", "nll, every group"]
    assert [line["y"] for line in found["rmse, every group"]["series"]] == [[0.2], [0.4]]
    assert found["rmse, every group"]["xlabel"] == "RMSE (units of the target), lower is better"
    assert tables.leading(grouped(tmp_path)) == ["rmse", "nll", "density", "brier"]
    assert "; 4 of 11 metrics, a group&#x27;s details have all" in page(records.read(tmp_path), "outputs")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("memory_bytes_shared", "memory shared (bytes)"),
        ("wall_seconds", "wall time (s)"),
        ("nll_temperature", "NLL temperature (nats)"),
        ("accuracy, stage inferred", "accuracy, stage inferred (fraction)"),
        ("free", "free"),
    ],
)
def test_axes_tell_units(name: str, told: str) -> None:
    assert names.label(name) == told


# ---- curves


def test_metrics_of_which_no_curve_is_drawn_are_named(write: Callable, tmp_path: Path) -> None:
    folder = write(tmp_path, "any", 0, {"accuracy": 0.9})
    rows = [f"a,train,{step},m{i},0.5" for i in range(history.METRICS + 1) for step in (1, 2)] + ["a,train,1,once,0.5"]
    (folder / "metrics.csv").write_text("\n".join(["stage,phase,step,metric,value", *rows]) + "\n")
    (found,) = history.curves(grouped(tmp_path), NOTHING)
    assert [name for name, told in found.items() if not told["lines"]] == [f"m{history.METRICS}", "once"]


def test_numbers_of_layers_stand_behind_those_of_the_net() -> None:
    names = ["loss", *(f"density/hidden.{i}" for i in range(history.METRICS)), "val_accuracy"]
    found = history.group_curves([{name: {"level 0": {1: 0.5, 2: 0.4}} for name in names}], 1000)
    assert list(found)[:2] == ["loss", "val_accuracy"] and found["val_accuracy"]["lines"]


def test_curves_are_thinned_with_their_ends_and_averaged(write: Callable, tmp_path: Path) -> None:
    for seed in (0, 1):
        write(
            tmp_path,
            "any",
            seed,
            {"accuracy": 0.9},
            history={f"level {i}": [float(seed + j) for j in range(500)] for i in range(30)},
        )
    (found,) = history.curves(grouped(tmp_path), NOTHING)
    lines = found["loss"]["lines"]
    assert found["loss"]["of"] == 30, "the page says of how many it shows some"
    assert [line["part"] for line in lines][0::7] == ["level 0", "level 29"] and len(lines) == history.PARTS
    for line in lines:
        assert (len(line["x"]), line["of"]) == (history.POINTS, 500) and (line["x"][0], line["x"][-1]) == (50, 25000)
        assert (line["lo"][-1], line["y"][-1], line["hi"][-1]) == (499.0, 499.5, 500.0)


def test_a_stage_may_be_called_anything(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("stage,phase,step,metric,value\na, b,train,1,loss,0.5\nbroken\na, b,train,2,loss,nan\n")
    curves = history.read(tmp_path / "metrics.csv")
    assert curves["loss"]["a, b"][1] == 0.5 and list(curves["loss"]["a, b"]) == [1, 2]
    assert history.read(tmp_path / "none.csv") == {}


# ---- what is said in warning


def test_mixing_is_said(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "supsup", 0, {"accuracy": 0.5})
    write(tmp_path, "supsup", 1, {"accuracy": 0.5}, about={"commit": "f" * 40, "dirty": True, "cpu": "Zuse 4"})
    write(tmp_path, "packnet", 0, {"accuracy": 0.5}, config={"budget": {"steps": 7}})
    write(tmp_path, "dense", 0, {"accuracy": 0.5}, about={"data": {"source": "sample", "checksums": {"train": "beef"}}})
    write(tmp_path, "failing", 0, {}, status="failed")
    text = page(records.read(tmp_path), "outputs")
    for sentence in (
        "toy is not the same data in all runs",
        "different training budgets (steps=7, epochs=3 batch_size=128)",
        "2 versions of the code",
        "1 run came from a working tree with uncommitted changes",
        "4 of 4 groups have one seed only",
        "1 run not finished: failing-toy/s0-k1 (failed)",
    ):
        assert sentence in text, sentence


def test_runs_that_belong_together_raise_no_warning(write: Callable, tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, "supsup", seed, {"accuracy": 0.5})
    assert "warnings" not in page(records.read(tmp_path), "outputs").partition("<body>")[2].partition("<script")[0]


# ---- the page as a file


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["</script>", "<!--", "]]>"]), st.lists
        ),
    )
)
def test_embedded_data_comes_back_as_it_was_and_cannot_leave_its_element(value: dict) -> None:
    text = payload.encode(value)
    assert json.loads(text) == value and not set("<>&") & set(text)


@pytest.mark.full
def test_equal_runs_give_equal_bytes_wherever_they_lie(hundred: Path, tmp_path: Path) -> None:
    shutil.copytree(hundred, tmp_path / "elsewhere" / "outputs")
    first, second = (page(records.read(root), "outputs") for root in (hundred, tmp_path / "elsewhere" / "outputs"))
    assert first == second
    assert str(hundred) not in first and str(hundred.parent) not in first, "no path of this machine"


def test_the_page_needs_nothing_beside_itself(hundred: Path) -> None:
    text = page(records.read(hundred), "outputs")
    outside = text.partition(' id="data" ')[0] + text.partition(' id="data" ')[2].partition("</script>")[2]
    for bundle in manifest()["bundles"]:  # of which test_html_vendor.py says the same
        outside = outside.replace(asset(f"vendor/{bundle['file']}"), "")
    licences = re.search(r"<details id=.licences.*?</details>", outside, re.DOTALL).group()
    assert all(f"{one['name']} {one['version']}" in licences for one in manifest()["packages"]) and "Permission" in licences
    outside = outside.replace(licences, "")
    assert set(re.findall(r"https?://[^'\"` ]+", outside)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\(", outside)


def test_the_command_writes_the_page_and_filters(hundred: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "a" / "page.html"
    assert program.main(["report", "method=lottery", "seed=0,1", "--runs", str(hundred), "--output", str(file)]) == 0
    assert "20 runs" in capsys.readouterr().out
    assert {run["method"] for run in embedded(file.read_text())["runs"]} == {"lottery"}
    assert program.main(["report", "method=none", "--runs", str(hundred)]) == 2
    assert program.main(["report", "--runs", str(tmp_path / "none")]) == 2
    assert "--runs" in capsys.readouterr().err and not (hundred / "report.html").exists()


@pytest.mark.full
def test_a_report_imports_neither_torch_nor_matplotlib(hundred: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from maskbench.cli.commands import report;"
        f"report.main(['--runs', {str(hundred)!r}, '--output', {str(tmp_path / 'page.html')!r}]);"
        "print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[-2:] == ["False", "False"]


def test_runs_that_only_began_make_a_page_too(write: Callable, tmp_path: Path) -> None:
    write(tmp_path, "supsup", 0, {}, status="interrupted")
    text = page(records.read(tmp_path), "outputs")
    assert "No run is finished." in text and embedded(text)["groups"] == []


@pytest.mark.full
def test_real_runs(cli: Callable, tmp_path: Path) -> None:
    small = ["data.base=synthetic", "logger=none", "budget.epochs=null"]
    assert cli("method=supsup", "data=splitmnist", *small, "budget.steps=3", "task.trials=10").returncode == 0
    assert cli("method=lottery", *small, "budget.steps=3", "task.levels=2").returncode == 0
    assert cli("report").returncode == 0
    data = embedded((tmp_path / "outputs" / "report.html").read_text())
    assert {run["method"]: len(run["masks"]["stages"]) for run in data["runs"]} == {"supsup": 5, "lottery": 3}
    titles = {plot["title"] for board in data["boards"] for plot in board["plots"]}
    assert {"accuracy against weights remaining", "Average accuracy over the stages learnt"} <= titles
    assert all("paths." not in run["command"] for run in data["runs"])


# ---- many runs


def test_tables_and_data_of_many_runs_are_made_in_the_browser_of_the_same_data(
    hundred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = records.read(hundred)
    whole = page(runs, "outputs")
    monkeypatch.setattr(tables, "WRITTEN", 3)
    monkeypatch.setattr("maskbench.report.html.page.PLAIN", 100)
    small = page(runs, "outputs")
    assert embedded(small) == embedded(whole)
    libraries = sum(len(asset(f"vendor/{bundle['file']}")) for bundle in manifest()["bundles"])  # in both alike
    assert len(small) - libraries < (len(whole) - libraries) / 3
    assert whole.count("<tr data-run=") == 100 and "<tr data-run=" not in small and "<tr data-group=" not in small
    heads = [re.findall(r"<thead>.*?</thead>", text) for text in (whole, small)]
    assert heads[0] == heads[1] and re.findall('data-task="(.*?)"', small) == ["continual", "prune", "uncertainty", ""]


def test_a_page_is_the_same_by_an_index_and_after_a_change(
    write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(index, "clock", lambda: 1e12)
    output = tmp_path / "outputs"
    drawn = {"0/a": torch.ones(3, 4, dtype=torch.bool)}
    for seed in (0, 1):
        folder = write(output, "any", seed, {"accuracy": 0.5}, drawn=drawn, history={"a": [1.0, 0.5, float("nan")]})
        (folder / "curves.json").write_text(json.dumps([{"kind": "members", "members": n, "nll": 1 / n} for n in (1, 2, 3)]))

    def made() -> str:
        with Index(output) as known:
            return page(records.read(output), "outputs", index=known)

    def plainly() -> str:
        return page([records.load(folder) for folder in records.folders(output)], "outputs")

    assert made() == plainly() == made()
    read = []
    monkeypatch.setattr(mask_file, "counts", lambda path, count=mask_file.counts: read.append(path) or count(path))
    monkeypatch.setattr(history, "read", lambda path, read_file=history.read: read.append(path) or read_file(path))
    assert made() and read == [], "nothing is read again"
    os.utime(folder / "metrics.csv", (0, 0))
    made()
    assert {path.name for path in read} == {"metrics.csv"}
    (folder / "metrics.csv").write_text("stage,phase,step,metric,value\na,train,50,loss,7.0\na,train,100,loss,8.0\n")
    masks.save(folder / "masks.safetensors", {"0/a": torch.zeros(3, 4, dtype=torch.bool)})
    assert made() == plainly() and embedded(made())["runs"][1]["masks"]["kept"] == [[0]]


def test_what_many_runs_leave_no_room_for_is_said(write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("k1", "k2", "k3"):
        for seed in (0, 1):
            config = {"method": {"knob": key}}
            drawn = {"0/a": torch.ones(3, 4, dtype=torch.bool)}
            write(tmp_path, "any", seed, {"accuracy": 0.5}, key=key, config=config, drawn=drawn, history={"a": [1.0, 0.5]})
    whole = embedded(page(records.read(tmp_path), "outputs"))
    assert all("masks" in run for run in whole["runs"]) and all(group["curves"] for group in whole["groups"])
    monkeypatch.setattr(payload, "MASKS", 2)
    monkeypatch.setattr(payload, "GROUPS", 2)
    monkeypatch.setattr(history, "GROUPS", 2)
    text = page(records.read(tmp_path), "outputs")
    some = embedded(text)
    assert [run["dir"] for run in some["runs"] if "masks" in run] == ["any-toy/s0-k1", "any-toy/s0-k3"]
    assert [bool(group["curves"]) for group in some["groups"]] == [True, False, True]
    assert "Masks are here of 2 of 6 runs" in text and "Training curves are here of 2 groups" in text
