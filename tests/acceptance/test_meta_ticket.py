"""Meta-ticket: meta_ticket.md section 7. The order of the methods on glyph28 is not held to anything."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tickets(runs):
    return runs("experiment=meta_ticket/glyph28")


def test_a_random_net_with_a_learnt_mask_beats_pixels(tickets, pixels) -> None:
    assert tickets.mean("accuracy/3") >= pixels(1) + 0.08


def test_it_comes_close_to_maml(tickets, runs) -> None:
    """Equal outer steps, data, episodes and initial net."""
    assert tickets.mean("accuracy/3") >= runs("experiment=maml/glyph28").mean("accuracy/3") - 0.04


def test_the_density_is_an_outcome(tickets) -> None:
    for result in tickets:
        numbers = result["metrics"]
        assert 0.4 <= numbers["density"] <= 0.8
        layers = [value for name, value in numbers.items() if name.startswith("density/")]
        assert len(layers) == 4 and all(0.4 <= value <= 0.8 for value in layers)


def test_it_is_at_chance_before_adaptation(tickets) -> None:
    for result in tickets:
        assert abs(result["metrics"]["accuracy/0"] - 0.2) <= 2 * result["metrics"]["accuracy/0_ci95"]
