"""docs/scaling.md: its exponents are slopes, it has every section, and a section measures what it says (scripts/scaling.py)."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts" / "scaling.py"))


@pytest.mark.parametrize("power", [0.0, 1.0, -0.5, 2.0])
def test_an_exponent_is_the_slope_of_the_logarithms(scaling: dict[str, Any], power: float) -> None:
    rows = [{"n": float(n), "cost": 3 * n**power} for n in (1, 4, 16, 64)]
    assert scaling["exponent"](rows, "n", "cost") == pytest.approx(power, abs=1e-9)
    assert scaling["exponent"](rows[:1], "n", "cost") is None
    assert scaling["exponent"]([*rows, {"n": 100.0, "cost": 0.0}], "n", "cost") is None


@pytest.mark.parametrize("value, words", [(0.0, "0"), (0.01234, "0.0123"), (9.999, "10.00"), (12.34, "12.3"), (1234.5, "1,234")])
def test_numbers_have_three_digits(scaling: dict[str, Any], value: float, words: str) -> None:
    assert scaling["told"](value) == words


def test_the_page_has_every_section_with_what_limits_it(scaling: dict[str, Any]) -> None:
    for section in scaling["SECTIONS"].values():
        assert f"## {section.title}\n" in PAGE and f"- {section.limits}\n" in PAGE
        assert all(f"\n| {size:,} | " in PAGE for size in section.sizes)
    assert PAGE.count("| exponent |") == len(scaling["SECTIONS"]) and "## Before the first step" in PAGE


def test_a_page_is_made_of_what_was_measured(scaling: dict[str, Any]) -> None:
    section = scaling["SECTIONS"]["packnet"]
    rows = [{"stages": n, "CPU ms a stage": 5.0 * n} for n in (2.0, 50.0)]
    text = scaling["page"]({"packnet": rows})
    assert f"## {section.title}" in text and "| 50 | 250 |" in text and "| exponent | 1.00 |" in text
    assert "SupSup" not in text


def test_a_section_measures(scaling: dict[str, Any]) -> None:
    row = scaling["SECTIONS"]["packnet"].measure(2)
    assert row["% of the weights left for the last"] == pytest.approx(90)
    assert row["kB, all stages"] > 1000 and all(value > 0 for value in row.values())
