"""Methods with members on one sheet show the records' numbers; the images members differ about stand beside their answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskbench.report import figures_members, style
from maskbench.report.finished import Finished


def run(method: str, seed: int = 0, *, accuracy: float = 0.5, disputed: int = 0) -> Finished:
    """A classifier of three classes; bin 1 of its reliability holds 10 answers a seed, bin 0 none."""
    curves: list[dict[str, Any]] = [
        {"kind": "reliability", "bin": 0, "confidence": None, "accuracy": None, "count": 0},
        {"kind": "reliability", "bin": 1, "confidence": 0.8, "accuracy": accuracy, "count": 10 + 20 * seed},
    ]
    curves += [{"kind": "risk", "coverage": place / 4, "risk": 0.1 * place * (1 + seed)} for place in range(1, 5)]
    curves += [{"kind": "conformal", "level": level, "score": score, "sizes": [1, 8 + seed, 1 - seed, 0],
                "coverage_by_class": [0.9, None, 0.8]} for level in (90, 95) for score in ("lac", "aps")]  # fmt: skip
    curves += [{"kind": "entropy", "data": data, "counts": [8, 1, 1], "top": 3.0} for data in ("toy", "other")]
    image = {"kind": "disputed", "pixels": [[0, 255], [10, 20]], "information": 0.25, "label": 2, "index": 7}
    curves += [image | {"members": [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]}] * disputed
    result = {"metrics": {}, "seed": seed, "method": method, "key": method}
    return Finished(Path("run"), result, curves, {"method": {"name": method}})


def compared(*groups: list[Finished]) -> dict[str, Any]:
    with style.styled():
        return figures_members.compare(groups, "title")


TWO = ([run("dense")], [run("swag", accuracy=0.4), run("swag", 1, accuracy=0.8)])


def test_a_sheet_of_each_kind() -> None:
    assert list(compared(*TWO)) == ["reliabilities", "risks", "set_sizes", "unknown_entropies"]


def test_runs_without_such_rows_have_no_sheets() -> None:
    bare = Finished(Path("run"), {"metrics": {}, "seed": 0, "method": "m", "key": "k"}, [], {"method": {"name": "m"}})
    assert compared([bare], TWO[0]) == {}
    assert figures_members.draw([bare], "title") == {}


def test_reliability_is_of_the_inputs_of_all_seeds_together() -> None:
    figure = compared(*TWO)["reliabilities"]
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    swag = figure.axes[titles.index("swag")]
    line = swag.get_lines()[-1]
    np.testing.assert_allclose(line.get_ydata()[1], 100 * (10 * 0.4 + 30 * 0.8) / 40)
    n, share, z = 40, 0.7, 1.96
    low, high = swag.collections[0].get_segments()[-1][:, 1] / 100
    for end in (low, high):  # where the share is z standard errors of the end away
        assert abs(share - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, rel=1e-6)
    assert [bar.get_height() for panel in figure.axes for bar in panel.patches if bar.get_height() > 20] == [40]


@pytest.mark.parametrize("many", [2, 4, 5])
def test_names_with_settings_stand_above_their_own_panel(many: int) -> None:
    """The last panel's would be cut at the edge of the figure, the others' would run into the next one."""
    groups = [[run("masksembles_ensemble")] for _ in range(many)]
    for number, (one,) in enumerate(groups):
        one.config["method"] |= {"alpha": 2.0 + number}
        one.result["key"] = f"k{number}"
    figure = compared(*groups)["reliabilities"]
    figure.draw_without_rendering()
    titles = [panel._left_title for panel in figure.axes if panel.get_title(loc="left")]
    assert [title.get_text().split()[-1] for title in titles] == [f"alpha={2.0 + number}" for number in range(many)]
    boxes = [title.get_window_extent() for title in titles]
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert all(not a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))


def test_risk_is_drawn_against_coverage() -> None:
    (panel,) = compared(*TWO)["risks"].axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    np.testing.assert_allclose(lines["dense"].get_xdata(), [25, 50, 75, 100])
    np.testing.assert_allclose(lines["swag"].get_ydata(), [15, 30, 45, 60])


def test_sizes_of_sets_by_method() -> None:
    left, right = compared(*TWO)["set_sizes"].axes
    heights = [round(bar.get_height(), 6) for bar in left.containers[1]]
    assert heights == [10.0, 85.0, 5.0], "means over seeds, sizes that no set has left out"
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), [90, np.nan, 80])


def test_entropies_of_all_data_by_method() -> None:
    panels = compared(*TWO)["unknown_entropies"].axes
    assert [panel.get_title(loc="left") for panel in panels] == ["toy", "other"]
    assert [line.get_label() for line in panels[0].get_lines()] == ["dense", "swag"]
    np.testing.assert_allclose(panels[1].get_lines()[0].get_ydata(), [80, 10, 10])


@pytest.mark.parametrize("many", [2, 3, 5, 9])
def test_every_method_has_its_panel_whatever_their_number(many: int) -> None:
    groups = [[run(f"method_{number}")] for number in range(many)]
    titles = [panel.get_title(loc="left") for panel in compared(*groups)["reliabilities"].axes]
    assert [title for title in titles if title] == [f"method_{number}" for number in range(many)]


def test_an_image_beside_what_its_members_say() -> None:
    with style.styled():
        figure = figures_members.draw([run("swag", disputed=5)], "title")["disputed"]
    image, answers = figure.axes[:2]
    assert len(figure.axes) == 10
    assert image.get_images()[0].get_array().tolist() == [[0, 255], [10, 20]]
    assert answers.get_images()[0].get_array().tolist() == [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]
    (frame,) = answers.patches
    assert frame.get_x() == 1.5 and frame.get_width() == 1
