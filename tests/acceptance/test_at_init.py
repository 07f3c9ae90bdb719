"""Pruning at initialisation on MNIST: what masks leave of LeNet-300-100, which needs no training, and a run with its controls."""

from collections.abc import Callable

import pytest

from maskbench.masks.connectivity import Connectivity, connectivity
from maskbench.methods.prune.at_init import AtInit

pytestmark = pytest.mark.slow
SHARES = {  # section 3 of the specification: weights on a path, of those that stay
    "snip": {0.01: (0.80, 0.95), 0.005: (0.60, 0.85), 0.002: (0.25, 0.60)},
    "grasp": {0.01: (0.50, 0.75), 0.005: (0.22, 0.48)},
    "magnitude_init": {0.01: (0.75, 0.95), 0.005: (0.33, 0.55), 0.002: (0.0, 0.15)},
    "synflow": {0.01: (0.99, 1.0), 0.002: (0.97, 1.0), 0.001: (0.97, 1.0)},
}


def still(*_: object, **__: object) -> None:
    """A training of no steps."""


@pytest.fixture
def drawn(compose: Callable, data_root) -> Callable[..., tuple[AtInit, object]]:
    from maskbench.runs.assemble import Run

    def draw(method: str, keep: float, *words: str) -> tuple[AtInit, object]:
        cfg = compose(f"method={method}", f"method.keep={keep}", *words)
        run = Run(cfg, data_root)
        (stage,) = run.stages()
        made = run.method([stage])
        made.learn(stage, still)
        return made, stage

    return draw


def found(made: AtInit, stage) -> Connectivity:
    return connectivity(made.net, made.sparse.kept(), stage.shape)


@pytest.mark.parametrize(("method", "keep"), [(method, keep) for method in SHARES for keep in SHARES[method]])
def test_shares_on_a_path(drawn: Callable, method: str, keep: float) -> None:
    made, stage = drawn(method, keep)
    least, most = SHARES[method][keep]
    share = found(made, stage).effective_density * 266_200 / sum(made.sparse.counts().values())
    assert least <= share <= most


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_collapses_and_what_never_does(drawn: Callable, seed: int) -> None:
    words = (f"seed={seed}",)
    assert not found(*drawn("synflow", 0.001, *words)).collapsed
    assert found(*drawn("synflow", 0.05, "method.rounds=1", *words)).empty == ["hidden.0"]
    assert found(*drawn("grasp", 0.001, *words)).empty == ["hidden.0"]
    assert found(*drawn("random_sparse", 0.01, *words)).connected < 10
    made, stage = drawn("snip", 0.01, *words)
    assert found(made.branch(stage, mask="invert"), stage).connected <= 2


def test_snip_spends_nothing_on_pixels_that_are_always_black(drawn: Callable) -> None:
    made, stage = drawn("snip", 0.05)
    assert 350 <= found(made, stage).live["inputs"] <= 390  # 368 in the specification


def test_snip_beats_its_shuffle_on_mnist(runs: Callable) -> None:
    done = runs("method=snip")
    assert done.mean("accuracy") >= 0.9466  # the specification's 95.16 less half a point
    assert min(done.values("difference/shuffled/0.0500")) > 0
    assert abs(sum(done.values("difference/redrawn/0.0500")) / 3) < 0.01
