"""Figures of few-shot runs show what the record holds."""

from pathlib import Path

from maskbench.report import figures, figures_meta
from maskbench.report.finished import Finished


def entry(name: str, *, measure: str = "accuracy", shift: float = 0.0, apart: float = 0.05) -> dict:
    own = {"steps": [0, 1, 2, 3], "mean": [0.2 + shift, 0.5, 0.6, 0.62], "ci95": [0.01] * 4}
    some = {"steps": [0, 3], "mean": [0.2 + shift - apart, 0.62 - apart], "ci95": [0.01] * 2}
    return {"episodes": name, measure: own, f"{measure}_inductive": some}


def run(seed: int, *entries: dict) -> Finished:
    result = {"method": "maml", "data": "glyph28", "seed": seed, "source": "debian", "key": "abc", "metrics": {}, "matrices": {}}
    return Finished(Path(f"outputs/maml-glyph28/s{seed}-abc"), result, list(entries), {})


def test_one_line_for_each_list_and_way_of_answering() -> None:
    drawn = figures.draw([run(0, entry("test"), entry("cub"))])["inner_steps"]
    (panel,) = drawn.axes
    assert [line.get_label() for line in panel.get_lines()] == ["test", "test, inductive", "cub", "cub, inductive"]
    assert list(panel.get_lines()[0].get_ydata()) == [20.0, 50.0, 60.0, 62.0]
    assert len(panel.collections) == 4, "the intervals over episodes"


def test_inductive_lines_only_where_they_differ_and_bands_over_seeds() -> None:
    runs = [run(seed, entry("test", measure="mse", shift=seed / 10, apart=0.0)) for seed in (0, 1)]
    (panel,) = figures.draw(runs)["inner_steps"].axes
    assert [line.get_label() for line in panel.get_lines()] == ["test"]
    assert panel.get_lines()[0].get_ydata()[0] == 0.25 and len(panel.collections) == 1
    assert "squared error" in panel.get_ylabel()


def test_other_records_have_no_such_figure() -> None:
    assert figures_meta.draw([run(0)], "") == {}
    assert figures_meta.draw([run(0, {"branch": "ticket", "level": 0})], "") == {}
