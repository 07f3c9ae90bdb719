"""Names of a pruning run's results: `accuracy/<branch>/<density>`, one for each level."""

import pytest

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.prune.lottery import Lottery
from maskbench.tasks.prune import TICKET, report, spelled


def densities(levels: int, **knobs) -> list[float]:
    """Of LeNet-300-100, by its exact counts."""
    method = Lottery(MLP((1, 28, 28), 10, widths=[300, 100]), **knobs)
    left = method.counts({name: method.alive[name] for name in method.sites})
    found = [1.0]
    for _ in range(levels):
        left = method.fewer(left)
        found.append(sum(left.values()) / 266_200)
    return found


def names(found: list[float], branch: str = TICKET) -> list[str]:
    rows = [
        {"level": n, "branch": branch, "accuracy": n / 100, "extra_metrics": {"density": density}, "cpu_seconds": 0.0}
        for n, density in enumerate(found)
    ]
    named = report(rows, []).metrics
    return [name.removeprefix(f"accuracy/{branch}/") for name in named if name.startswith(f"accuracy/{branch}/")]


def test_each_of_43_levels_has_a_name_of_its_own() -> None:
    found = densities(42)
    told = names(found)
    assert len(told) == 43 == len(set(told))
    assert [float(name) for name in told] == pytest.approx(found, rel=5e-3)


def test_names_down_to_one_percent_are_as_before() -> None:
    found = densities(20)
    assert names(found) == [f"{density:.4f}" for density in found]
    assert {"1.0000", "0.5128", "0.2107", "0.0358"} <= set(names(found)), "those that tables name"


@pytest.mark.parametrize("rate", [0.001, 0.0001])
def test_levels_close_together_have_more_decimals(rate: float) -> None:
    told = names(densities(42, rate=rate))
    assert len(told) == 43 and told[0] in ("1.0000", "1.00000")


def test_a_density_is_spelled_by_itself_where_none_is_near() -> None:
    assert spelled(0.10737, [0.10737, 1.0]) == "0.1074"
    assert spelled(8.5e-5, []) == "0.0000850" and spelled(0.0, [1.0]) == "0.0000"
    assert [spelled(x, [0.5, 0.500001, 0.25]) for x in (0.5, 0.500001, 0.25)] == ["0.500000", "0.500001", "0.2500"]


def test_a_branch_may_not_have_the_name_of_the_tickets_own_rows(build) -> None:
    words = ("method=lottery", "data.base=synthetic", "budget.epochs=1", "task.levels=1", "+task.branches={ticket:{mask:random}}")
    with pytest.raises(UsageError, match="task.branches.ticket"):
        build(*words).go()
