"""Paired tables: differences under one seed, wins by what is better, and no pairs of what does not belong together."""

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from maskbench.cli import main as cli
from maskbench.common.errors import UsageError
from maskbench.report import figures, filters, paired, paired_figure, runs
from maskbench.report.direction import lower

BASE = [3.0, 5.0, 4.0, 6.0, 2.0]


def write(output: Path, method: str, seed: int, n: int = 20, lam: float = 0.0, **metrics: float | None) -> Path:
    run = output / f"{method}-toy" / f"s{seed}-k{n}{lam}"
    run.mkdir(parents=True)
    config = {"data": {"name": "toy", "n_target": n}, "method": {"name": method, "lam": lam}}
    about = {"status": "finished", "seed": seed, "key": f"k{n}{lam}", "config": config, "attempts": [{"code": "c"}]}
    (run / "run.json").write_text(json.dumps(about))
    result = {"status": "finished", "objective": 0.0, "metrics": metrics, "method": method, "data": "toy", "seed": seed}
    result |= {"source": "generated", "key": about["key"], "table": [], "notes": [], "matrices": {}}
    (run / "result.json").write_text(json.dumps(result))
    return run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Five seeds of a baseline and of two methods, one of which lacks a seed; and another setting."""
    for seed, value in enumerate(BASE):
        write(tmp_path, "base", seed, target_rmse=value)
        write(tmp_path, "good", seed, target_rmse=value - 1 - 0.1 * seed)
        if seed:
            write(tmp_path, "mixed", seed, target_rmse=value + (-1) ** seed)
        write(tmp_path, "base", seed, n=100, target_rmse=value / 2)
        write(tmp_path, "good", seed, n=100, target_rmse=value / 2 + 1)
    return tmp_path


def table(output: Path, **how):
    return paired.table(runs.read(output), "target_rmse", "base", **{"settings": ["data.n_target"]} | how)


def test_differences_are_taken_under_one_seed(output: Path) -> None:
    rows = {(*row.setting, row.method): row for row in table(output)}
    good = rows["20", "good"]
    assert (good.n, good.mean) == (5, pytest.approx(sum(BASE) / 5 - 1.2))
    assert good.paired.difference.mean == pytest.approx(-1.2)
    assert good.error == pytest.approx(0.1 * (2.5**0.5) / 5**0.5)
    assert good.wins == 5 and good.paired.sign_p == pytest.approx(binomtest(5, 5).pvalue)
    mixed = rows["20", "mixed"]
    assert (mixed.n, mixed.paired.difference.n, mixed.wins) == (4, 4, 2)
    assert mixed.paired.difference.mean == pytest.approx(0) and mixed.paired.sign_p == 1.0
    assert rows["20", "base"].paired is None


def test_settings_are_apart_and_the_best_comes_first(output: Path) -> None:
    found = [(*row.setting, row.method) for row in table(output)]
    assert found == [("20", "good"), ("20", "base"), ("20", "mixed"), ("100", "base"), ("100", "good")]
    with pytest.raises(UsageError, match="several with seed 0"):
        table(output, settings=[])


@pytest.mark.parametrize(
    "metric, less",
    [("target_rmse", True), ("source_rmse/train", True), ("negative_target_rmse", False), ("target_accuracy", False),
     ("source_forgetting", True), ("target_rollout_mse", True), ("target_energy_error", True), ("density", False),
     ("ece_temperature", True), ("member_nll", True), ("brier/shifted", True), ("fpr95", True), ("aurc", True), ("auroc", False),
     ("log_likelihood", False), ("ks_error", True), ("e_aurc", True), ("auarc", False), ("conformal_size_90/lac", True)],
)  # fmt: skip
def test_what_is_better(metric: str, less: bool) -> None:
    assert lower(metric) == less


def test_rows_may_be_told_apart_by_any_key(output: Path) -> None:
    for seed, value in enumerate(BASE):
        write(output, "good", seed, lam=0.5, target_rmse=value)
    found = paired.table(
        runs.read(output, [filters.parse_filter("data.n_target=20")]), "target_rmse", "base 0.0", name="method+method.lam"
    )  # fmt: skip
    assert {row.method for row in found} == {"base 0.0", "good 0.0", "good 0.5", "mixed 0.0"}


def test_no_baseline_is_told(output: Path) -> None:
    with pytest.raises(UsageError, match="no finished run of other to compare with; there are base, good, mixed"):
        paired.table(runs.read(output), "target_rmse", "other", settings=["data.n_target"])


def test_undefined_numbers_are_left_out(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, "base", seed, target_rmse=1.0, source_rmse_after=2.0)
        write(tmp_path, "other", seed, target_rmse=1.0, source_rmse_after=None)
    found = paired.table(runs.read(tmp_path), "source_rmse_after", "base")
    assert [row.method for row in found] == ["base"]


@pytest.mark.parametrize("form", [[], ["--csv"], ["--markdown"], ["--latex"]])
def test_the_command(form: list[str], output: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["paired", "base", "data.n_target=20", "--output", str(output), *form]) == 0
    told = capsys.readouterr().out
    assert "-1.2" in told and "good" in told and "100" not in told.split("good")[1]


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path, "base", 0, loss=1.0)
    assert cli.main(["paired", "base", "--output", str(tmp_path)]) == 2
    assert "name another number with metrics=NAME" in capsys.readouterr().err


# ---- figures


def test_a_figure_of_a_sweep_shows_the_tables_numbers(output: Path) -> None:
    rows = table(output)
    left, right = paired_figure.draw(rows, "target_rmse", "data.n_target", "base", "title").axes
    wanted = {row.method: [r.mean for r in rows if r.method == row.method] for row in rows}
    assert {line.get_label(): sorted(line.get_ydata()) for line in left.lines} == {m: sorted(v) for m, v in wanted.items()}
    drawn = [c for c in right.containers if c.get_label() == "good"]
    assert drawn[0].lines[0].get_ydata().tolist() == pytest.approx([-1.2, 1.0])


def test_the_command_draws(output: Path, tmp_path: Path) -> None:
    words = ["paired", "base", "settings=data.n_target", "--output", str(output), "--figure", str(tmp_path / "sizes.png")]
    assert cli.main(words) == 0
    assert (tmp_path / "sizes.png").exists() and (tmp_path / "sizes.svg").exists()


def test_one_size_is_no_axis(output: Path) -> None:
    rows = [row for row in table(output) if row.setting == ("20",)]
    with pytest.raises(UsageError, match="one value only"):
        paired_figure.draw(rows, "target_rmse", "data.n_target", "base", "title")


def finished(tmp_path: Path, seed: int, kind: str, curve: bool = True):
    metrics = {f"target_{kind}": 0.5, f"source_{kind}": 0.9, f"source_{kind}_after": None, f"source_{kind}_unloaded": 0.9}
    run = write(tmp_path, kind, seed, **metrics)
    looks = [{"step": s, "val_loss": 1 / s, "val_accuracy": 0.5, "test_loss": 2 / s} for s in (10, 20)]
    if curve:
        (run / "curves.json").write_text(json.dumps([{"stage": "source", "curve": []}, {"stage": "target", "curve": looks}]))
    return figures.read(run)


@pytest.mark.parametrize("kind", ["accuracy", "rmse"])
def test_figures_are_drawn_from_what_there_is(kind: str, tmp_path: Path) -> None:
    drawn = figures.draw([finished(tmp_path, seed, kind) for seed in (0, 1)])
    assert set(drawn) == {"transfer", "target_curve"}
    (panel,) = drawn["transfer"].axes
    heights = [bar.get_height() for bar in panel.patches]
    scale = 100 if kind == "accuracy" else 1
    assert heights == pytest.approx([0.9 * scale, 0.5 * scale, 0.9 * scale])
    assert len(drawn["target_curve"].axes) == (2 if kind == "accuracy" else 1)


def test_no_looks_no_curve(tmp_path: Path) -> None:
    assert set(figures.draw([finished(tmp_path, 0, "rmse", curve=False)])) == {"transfer"}
