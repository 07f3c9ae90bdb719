"""MAML and its first-order form: meta_ticket.md section 7, the rows of MAML."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def waves(runs):
    return runs("experiment=maml/sinusoid")


@pytest.fixture(scope="module")
def letters(runs):
    return runs("experiment=maml/glyph28")


@pytest.mark.parametrize(("steps", "most"), [(1, 0.55), (5, 0.25), (10, 0.18)])
def test_sine_waves_from_ten_points(waves, steps: int, most: float) -> None:
    assert waves.mean(f"mse/{steps}") <= most


def test_without_adaptation_no_wave_is_known(waves) -> None:
    assert waves.mean("mse/0") == pytest.approx(2.92, abs=0.35)


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_more_points_tell_more(waves, steps: int) -> None:
    assert waves.mean(f"mse/{steps}/5shot") > waves.mean(f"mse/{steps}") > waves.mean(f"mse/{steps}/20shot")


@pytest.fixture(scope="module")
def first_order(runs):
    return runs("experiment=maml/sinusoid", "method=fomaml")


@pytest.mark.xfail(
    reason="the specification's 0.52 is one seed; seeds 0, 1, 2 give 0.62, 0.91, 0.69, and a second implementation by hand gives "
    "0.50 to 0.82 (mean of eight 0.62), against 0.47 with second derivatives"
)
def test_first_order_comes_close_after_one_step(waves, first_order) -> None:
    assert first_order.mean("mse/1") == pytest.approx(waves.mean("mse/1"), abs=0.15)


@pytest.mark.parametrize("steps", [5, 10])
def test_first_order_comes_close_after_more_steps(waves, first_order, steps: int) -> None:
    assert first_order.mean(f"mse/{steps}") == pytest.approx(waves.mean(f"mse/{steps}"), abs=0.15)


def test_letters_are_at_chance_before_adaptation(letters) -> None:
    """A label that leaked would show here."""
    for result in letters:
        numbers = result["metrics"]
        assert abs(numbers["accuracy/0"] - 0.2) <= 2 * numbers["accuracy/0_ci95"]
        assert abs(numbers["accuracy_inductive/0"] - 0.2) <= 2 * numbers["accuracy_inductive/0_ci95"]


def test_letters_beat_pixels(letters, pixels) -> None:
    assert {result["source"] for result in letters} <= {"debian", "folder"}, "the Noto fonts, not the stand-in"
    assert letters.mean("accuracy/3") >= pixels(1) + 0.08


def test_nearest_pixels(pixels) -> None:
    """The control that says how hard the data is: 51.1 and 73.2 % where it was measured first."""
    assert pixels(1) == pytest.approx(0.511, abs=0.015)
    assert pixels(5) == pytest.approx(0.732, abs=0.015)
