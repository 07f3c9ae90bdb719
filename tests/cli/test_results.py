"""`maskbench results` and `maskbench compare` on records written by hand: filters, groups, pivots, forms, refusals."""

import csv
import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import scipy.stats

from maskbench.cli import main as cli

ACCURACY = {"supsup": [0.90, 0.92, 0.91, 0.95], "packnet": [0.88, 0.93, 0.90, 0.90]}


def call(words: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    status = cli.main(words)
    told = capsys.readouterr()
    return status, told.out, told.err


def record(method: str, seed: int, accuracy: float, data: str = "toy", lr: float = 0.1, **more: object) -> Path:
    run = Path("outputs") / f"{method}-{data}" / f"s{seed}-{method[:2]}{lr}"
    run.mkdir(parents=True, exist_ok=True)
    config = {"seed": seed, "method": {"name": method}, "data": {"name": data}, "optimizer": {"lr": lr}, "budget": {"steps": 9}}
    about = {"status": "finished", "seed": seed, "key": f"{method[:2]}{lr}", "config": config, "commit": "c0ffee" * 7}
    metrics = {"accuracy": accuracy, "accuracy/a": accuracy / 2, "forgetting": None, "steps": 5}
    result = {"status": "finished", "objective": accuracy, "objective_name": "accuracy", "metrics": metrics, "source": "npm"}
    (run / "run.json").write_text(json.dumps(about | {"dirty": False} | more))
    (run / "result.json").write_text(json.dumps(result | {"method": method, "data": data, "task": "prune"} | more))
    return run


@pytest.fixture
def four() -> None:
    for method, accuracies in ACCURACY.items():
        for seed, accuracy in enumerate(accuracies):
            record(method, seed, accuracy)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# ---- results


@pytest.mark.parametrize("metric", ["accuracy", "objective"])
def test_the_interval_of_a_share_does_not_go_beyond_it(metric: str, capsys) -> None:
    for seed, accuracy in enumerate((0.97, 0.999, 1.0)):
        record("supsup", seed, accuracy)
    (row,) = table(call(["results", "group=method", f"metrics={metric}", "--csv"], capsys)[1])
    assert 0.9 < float(row[f"{metric} low"]) < float(row[metric]) < float(row[f"{metric} high"]) <= 1


def test_groups_give_mean_and_interval(four, capsys) -> None:
    status, out, _ = call(["results", "group=method", "metrics=accuracy", "--csv"], capsys)
    rows = {row["method"]: row for row in table(out)}
    low, high = scipy.stats.t.interval(0.95, 3, 0.92, scipy.stats.sem(ACCURACY["supsup"]))
    assert status == 0 and list(rows) == ["packnet", "supsup"] and rows["supsup"]["n"] == "4"
    assert float(rows["supsup"]["accuracy"]) == pytest.approx(0.92)
    assert float(rows["supsup"]["accuracy low"]) == pytest.approx(low)
    assert float(rows["supsup"]["accuracy high"]) == pytest.approx(high)
    assert high < 1, "Student's t stays among the shares"
    text = call(["results", "group=method", "metrics=accuracy"], capsys)[1]
    assert f"0.9200 [{low:.4f}, {high:.4f}]" in text


def test_patterns_columns_and_the_tidy_frame(four, capsys) -> None:
    rows = table(call(["results", "--csv", "seed=0", "metrics=accuracy*", "columns=optimizer.lr,source"], capsys)[1])
    assert list(rows[0]) == [
        "method", "data", "seed", "key", "status", "objective", "optimizer.lr", "source", "accuracy", "accuracy/a", "run",
    ]  # fmt: skip
    assert len(rows) == 2 and rows[0]["optimizer.lr"] == "0.1" and rows[0]["source"] == "npm"
    tidy = table(call(["results", "--csv", "--tidy", "method=supsup", "seed=1"], capsys)[1])
    assert {row["metric"]: row["value"] for row in tidy} == {
        "accuracy": "0.92",
        "accuracy/a": "0.46",
        "forgetting": "",
        "steps": "5",
    }
    assert {row["code"] for row in tidy} == {"c0ffeec0ff"} and tidy[0]["run"] == "outputs/supsup-toy/s1-su0.1"
    status, _, err = call(["results", "metrics=acuracy"], capsys)
    assert status == 2 and "metrics=acuracy: no run here has such a metric" in err


def test_a_pivot_puts_values_side_by_side(capsys) -> None:
    for lr in (0.1, 0.01, 10.0):
        record("supsup", 0, 0.5 + lr / 100, lr=lr)
    record("packnet", 0, 0.25, lr=0.01)
    words = ["results", "group=method", "pivot=optimizer.lr", "metrics=accuracy"]
    out = call(words, capsys)[1].splitlines()
    assert out[0].split() == ["method", "optimizer.lr=0.01", "optimizer.lr=0.1", "optimizer.lr=10.0"], "numbers in their order"
    assert out[1].split() == ["packnet", "0.2500", "-", "-"] and out[2].split() == ["supsup", "0.5001", "0.5010", "0.6000"]
    rows = table(call([*words, "--csv"], capsys)[1])
    assert rows[0]["optimizer.lr=0.1"] == "" and rows[1]["optimizer.lr=10.0 n"] == "1"
    assert call(["results", "pivot=method", "metrics=accuracy,steps"], capsys)[0] == 2


def test_interquartile_means_over_data_sets(capsys) -> None:
    values = {"toy": [0.1, 0.2, 0.3], "game": [0.6, 0.7, 0.8]}
    for data, numbers in values.items():
        for seed, value in enumerate(numbers):
            record("supsup", seed, value, data=data)
    rows = table(call(["results", "group=method", "strata=data", "metrics=accuracy", "--csv"], capsys)[1])
    assert float(rows[0]["accuracy iqm"]) == pytest.approx(scipy.stats.trim_mean(sum(values.values(), []), 0.25))
    assert float(rows[0]["accuracy iqm_low"]) < 0.45 < float(rows[0]["accuracy iqm_high"])


@pytest.mark.parametrize("change", [{"source": "sample"}, {"commit": "decade" * 7}, {"dirty": True}], ids=str)
def test_a_mixed_group_is_refused_with_the_reason(change: dict, four, capsys) -> None:
    record("supsup", 2, 0.91, **change)
    status, out, _ = call(["results", "group=method", "metrics=accuracy"], capsys)
    lines = out.splitlines()
    assert status == 0 and lines[2].split()[-1] == "refused" and lines[3].startswith("supsup: refused, it would mix ")
    assert "0.9" in lines[1], "the other group stands"
    assert "refused" not in call(["results", "group=method", "metrics=accuracy", "mixed=allow"], capsys)[1]


def test_a_group_says_what_it_averages_over(capsys) -> None:
    record("supsup", 0, 0.5)
    record("supsup", 0, 0.7, lr=0.2)
    assert "supsup: averages over optimizer.lr" in call(["results", "group=method", "metrics=accuracy"], capsys)[1]
    assert "averages" not in call(["results", "group=method,optimizer.lr", "metrics=accuracy"], capsys)[1]


def test_markdown_and_latex(four, capsys) -> None:
    out = call(["results", "group=method", "metrics=accuracy", "--markdown"], capsys)[1].splitlines()
    assert out[0] == "| method | n | accuracy |" and out[1] == "| --- | ---: | --- |"
    text = call(["results", "method=supsup", "--latex"], capsys)[1]
    assert r"\toprule" in text and "supsup & toy & 0 & su0.1 & finished" in text and text.count(r"\\") == 5


def test_parquet_holds_the_frame_or_says_what_it_needs(four, capsys, monkeypatch) -> None:
    if importlib.util.find_spec("pandas") and importlib.util.find_spec("pyarrow"):
        import pandas

        assert call(["results", "--parquet", "all.parquet", "--tidy"], capsys)[0] == 0
        frame = pandas.read_parquet("all.parquet")
        assert len(frame) == 32 and frame[frame.metric == "accuracy"].groupby("method").value.mean()["supsup"] == pytest.approx(
            0.92
        )
    monkeypatch.setitem(sys.modules, "pandas", None)
    status, _, err = call(["results", "--parquet", "other.parquet"], capsys)
    assert status == 2 and "pip install 'maskbench[frames]'" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("command", [["results"], ["compare", "method=supsup", "method=packnet"], ["report"]])
def test_a_filter_on_a_key_of_no_run_is_refused(command: list[str], four, capsys) -> None:
    status, _, err = call([*command, "optimiser.lr=0.1"], capsys)
    assert status == 2 and "no run here has 'optimiser.lr'. Did you mean 'optimizer.lr'?" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("word", ["group", "pivot", "columns", "metrics"])
def test_unknown_names_make_no_empty_columns(word: str, four, capsys) -> None:
    status, out, err = call(["results", f"{word}=acuracy"], capsys)
    assert status == 2 and not out and "Did you mean 'accuracy'?" in err and len(err.splitlines()) == 1


def test_an_empty_csv_still_has_a_head(capsys) -> None:
    Path("outputs").mkdir()
    assert call(["results", "--csv"], capsys)[1] == "method,data,seed,key,status,objective,run\n"


# ---- compare


def test_two_methods_are_paired_by_seed(four, capsys) -> None:
    status, out, _ = call(["compare", "method=supsup", "method=packnet", "--csv"], capsys)
    (row,) = table(out)
    test = scipy.stats.ttest_rel(ACCURACY["supsup"], ACCURACY["packnet"])
    low, high = test.confidence_interval(0.95)
    assert status == 0 and row["metric"] == "accuracy" and row["pairs"] == "4"
    assert float(row["A - B"]) == pytest.approx(0.0175)
    assert (float(row["low"]), float(row["high"])) == (pytest.approx(low), pytest.approx(high))
    assert float(row["d_z"]) == pytest.approx(test.statistic / 2)
    assert [row[name] for name in ("wins", "ties", "losses")] == ["3", "0", "1"] and float(row["sign p"]) == 0.625
    assert float(row["A iqm"]) == pytest.approx(scipy.stats.trim_mean(ACCURACY["supsup"], 0.25))


def test_the_lower_error_wins(capsys) -> None:
    for method, errors in {"supsup": [0.1, 0.2, 0.5], "packnet": [0.3, 0.3, 0.3]}.items():
        for seed, error in enumerate(errors):
            numbers = {"objective_name": "negative_rmse", "metrics": {"negative_rmse": -error, "rmse": error, "ece/shift": error}}
            record(method, seed, -error, **numbers)
    out = call(["compare", "method=supsup", "method=packnet", "metrics=*rmse,ece/*", "--csv"], capsys)[1]
    assert {row["metric"]: (row["wins"], row["losses"]) for row in table(out)} == dict.fromkeys(
        ("negative_rmse", "rmse", "ece/shift"), ("2", "1")
    )


def test_every_pair_is_shown_and_what_the_sides_differ_in(four, capsys) -> None:
    shutil.rmtree("outputs/packnet-toy/s3-pa0.1")
    out = call(["compare", "method=supsup", "outputs/packnet-toy", "metrics=accuracy,steps"], capsys)[1]
    lines = [line.split() for line in out.splitlines()]
    assert ["accuracy", "1", "0.9200", "0.9300", "-0.0100"] in lines
    assert "Left out: seed 3, which only A has." in out and "A and B have the same config" in out
    record("supsup", 0, 0.6, lr=0.2)
    out = call(["compare", "method=supsup optimizer.lr=0.1", "method=supsup optimizer.lr=0.2"], capsys)[1]
    assert "A and B differ in optimizer.lr (0.1 and 0.2)." in out


def test_what_cannot_be_paired_is_refused(four, capsys) -> None:
    record("supsup", 0, 0.6, lr=0.2)
    record("lottery", 9, 0.6)
    for words, sentence in {
        ("method=supsup", "method=packnet"): "several with seed 0: they differ in optimizer.lr",
        ("method=lottery", "method=packnet"): "A has seeds 9 and B 0, 1, 2, 3: none is shared",
        ("method=dense", "method=packnet"): "no finished run is method=dense",
        ("method=lottery", "method=lottery", "metrics=forgetting"): "share no defined number of forgetting",
    }.items():
        status, _, err = call(["compare", *words], capsys)
        assert status == 2 and sentence in err and len(err.splitlines()) == 1


def test_sides_of_different_sources_or_commits_are_refused(four, capsys) -> None:
    for seed, accuracy in enumerate(ACCURACY["packnet"]):
        record("packnet", seed, accuracy, source="sample")
    words = ["compare", "method=supsup", "method=packnet"]
    status, _, err = call(words, capsys)
    assert status == 2 and "would mix data sources npm and sample; mixed=allow insists" in err
    status, out, _ = call([*words, "mixed=allow"], capsys)
    assert status == 0 and "mixed=allow: data sources npm and sample." in out
