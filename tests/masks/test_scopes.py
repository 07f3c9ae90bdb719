"""Where the ones may lie: exact counts under every scope, nested masks, patterns, whole units, ties."""

from math import ceil, prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskbench.common import knobs
from maskbench.common.errors import UsageError
from maskbench.masks import kept_count, scopes

LENET = {"hidden.0.weight": (300, 784), "hidden.1.weight": (100, 300), "head.weight": (10, 100)}
CONV = {"conv.weight": (6, 4, 3, 3), "deep.weight": (8, 6, 3, 3), "hidden.weight": (12, 32), "head.weight": (4, 12)}
SCOPES = ["layer", "global", "row", "unit", "unit_l1", "2:4"]
SEEDS = st.integers(0, 2**31)


def ones(shapes: dict) -> dict[str, Tensor]:
    return {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}


def drawn(shapes: dict, seed: int, levels: int = 0) -> dict[str, Tensor]:
    """Normal scores; with `levels` few different ones, so that many tie."""
    g = torch.Generator().manual_seed(seed)
    scores = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    return {name: (s * levels).round() if levels else s for name, s in scores.items()}


def test_a_scope_is_a_word_or_a_pattern() -> None:
    for scope in (*SCOPES, "1:4", "4:4"):
        assert knobs.mistake("method.scope", scope, scopes.Scope) is None
    for wrong in ("5:4", "0:4", "2:x", "2:", "layers", 124):
        assert "N:M such as 2:4" in knobs.mistake("method.scope", wrong, scopes.Scope)
    assert "Did you mean 'layer'" in knobs.mistake("method.scope", "layers", scopes.Scope)


# ---- counts


def test_counts_of_lenet_300_100() -> None:
    count = lambda scope, keep: list(scopes.counts(LENET, scope, keep).values())  # noqa: E731
    assert count("global", 0.05) == [13_310]
    assert count("layer", 0.05) == [9_051, 3_340, 919]
    assert list(scopes.counts(LENET, "layer", 0.05, "uniform").values()) == [11_760, 1_500, 50]
    assert count("2:4", 0.5) == [117_600, 15_000, 500]
    assert count("1:4", 0.25) == [58_800, 7_500, 250]
    assert count("row", 0.2) == [157 * 300, 60 * 100, 20 * 10]  # Wanda's floor(784 * .8) = 627 go
    assert count("unit", 0.2) == count("unit_l1", 0.2) == [60, 20, 10]  # the output layer keeps its units
    assert count("unit", 0.001) == [1, 1, 10]


def test_units_keep_what_section_7_says() -> None:
    for keep, weights in ((0.5, 125_600), (0.2, 48_440), (0.1, 23_920)):
        kept = scopes.best(drawn(LENET, 0), ones(LENET), "unit", scopes.counts(LENET, "unit", keep))
        assert sum(int(m.sum()) for m in kept.values()) == weights


def test_what_a_scope_cannot_keep_is_refused() -> None:
    with pytest.raises(UsageError, match=r"method.keep=1e-05 leaves 3 of 266201 weights, fewer than the 4 .* take 1.51e-05"):
        scopes.counts(LENET | {"more.weight": (1, 1)}, "layer", 1e-5)
    with pytest.raises(UsageError, match=r"method.keep=0.2 contradicts method.scope=2:4, which keeps 0.5: leave method.keep out"):
        scopes.counts(LENET, "2:4", 0.2)
    with pytest.raises(UsageError, match=r"method.scope=2:4 .*\(conv has 1, deep has 6\): .* method.dense=\[conv,deep\]"):
        scopes.counts(CONV | {"conv.weight": (6, 1, 3, 3)}, "2:4", 0.5)


def test_what_stays_under_a_pattern_is_the_pattern() -> None:
    assert scopes.share("2:4", None, 0.05) == 0.5 and scopes.share("2:4", 0.5, 0.05) == 0.5
    assert scopes.share("1:3", 1 / 3, 0.05) == 1 / 3
    assert scopes.share("row", None, 0.05) == 0.05 and scopes.share("row", 0.2, 0.05) == 0.2
    with pytest.raises(UsageError, match="contradicts"):
        scopes.share("1:4", 0.5, 0.05)


# ---- the masks


@given(SEEDS, st.sampled_from(SCOPES), st.sampled_from([0.9, 0.5, 0.3, 0.1]), st.sampled_from([0, 2]))
def test_counts_are_exact_and_what_stays_ranks_above_what_goes(seed: int, scope: str, keep: float, levels: int) -> None:
    shapes = CONV | {"deep.weight": (8, 8, 3, 3), "conv.weight": (8, 4, 3, 3)}
    keep = scopes.share(scope, None if ":" in scope else keep, 0.5)
    scores, alive = drawn(shapes, seed, levels), ones(shapes)
    counts = scopes.counts(shapes, scope, keep)
    torch.manual_seed(seed)
    kept = scopes.best(scores, alive, scope, counts)
    assert scopes.living(kept, scope) == counts
    if scope == "global":
        assert sum(int(m.sum()) for m in kept.values()) == kept_count(keep, sum(map(prod, shapes.values())))
        assert ordered(torch.cat([s.flatten() for s in scores.values()]), torch.cat([m.flatten() for m in kept.values()]))
    for name, shape in shapes.items():
        mask, score = kept[name], scores[name]
        if scope == "row":
            assert (mask.flatten(1).sum(1) == ceil(round(keep * prod(shape[1:]), 9))).all()
            assert all(map(ordered, score.flatten(1), mask.flatten(1)))
        if scope == "2:4":
            groups = mask.movedim(1, -1).reshape(-1, 4)
            assert (groups.sum(1) == 2).all() and int(mask.sum()) == prod(shape) // 2
            assert all(map(ordered, score.movedim(1, -1).reshape(-1, 4), groups))
        if scope == "layer":
            assert ordered(score.flatten(), mask.flatten())


def ordered(score: Tensor, mask: Tensor) -> bool:
    """Whether all that stays ranks at least as high as all that goes."""
    return bool(mask.all() or not mask.any() or score[mask].min() >= score[~mask].max())


@given(SEEDS, st.sampled_from(["layer", "global", "row", "unit", "unit_l1"]))
def test_masks_are_nested_and_nothing_dead_comes_back(seed: int, scope: str) -> None:
    torch.manual_seed(seed)
    alive = ones(CONV)
    for level, keep in enumerate((0.7, 0.4, 0.2)):
        kept = scopes.best(drawn(CONV, seed + level), alive, scope, counts := scopes.counts(CONV, scope, keep))
        assert scopes.living(kept, scope) == counts
        assert all(bool((kept[name] <= alive[name]).all()) for name in CONV)
        alive = kept


def test_a_pattern_nests_in_a_wider_one() -> None:
    shapes = {"a": (5, 8, 3), "b": (4, 16)}
    wide = scopes.best(drawn(shapes, 0), ones(shapes), "3:4", {})
    kept = scopes.best(drawn(shapes, 1), wide, "1:4", {})
    assert all(bool((kept[name] <= wide[name]).all()) for name in shapes)
    with pytest.raises(ValueError, match="cannot keep 2 of 1 weights of a row"):
        scopes.best(drawn(shapes, 0), kept, "2:4", {})


def test_ties_of_a_pattern_go_to_the_lower_index_and_of_a_row_by_lot() -> None:
    shapes = {"a": (3, 8, 2)}
    scores = {"a": torch.zeros(3, 8, 2)}
    kept = scopes.best(scores, ones(shapes), "2:4", {})["a"]
    assert torch.equal(kept, torch.tensor([1, 1, 0, 0, 1, 1, 0, 0]).bool()[None, :, None].expand(3, 8, 2))
    lots = [scopes.best(scores, ones(shapes), "row", {"a": 24})["a"] for _ in range(2)]
    assert not torch.equal(*lots)
    torch.manual_seed(0)
    first = scopes.best(scores, ones(shapes), "row", {"a": 24})["a"]
    torch.manual_seed(0)
    assert torch.equal(first, scopes.best(scores, ones(shapes), "row", {"a": 24})["a"])


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_dead_stays_dead_even_below_minus_infinity(scope: str) -> None:
    """Living weights may score -inf: they still rank above the dead."""
    shapes = {"a": (6, 8), "b": (4, 6 if scope[:4] == "unit" else 8)}
    alive = ones(shapes)
    alive["a"][:, 2::4] = False
    scores = {name: torch.full(shape, -torch.inf) for name, shape in shapes.items()}
    counts = {"": 40} if scope == "global" else {"a": 3, "b": 4} if scope[:4] == "unit" else {"a": 30, "b": 16}
    kept = scopes.best(scores, alive, scope, counts)
    assert scopes.living(kept, scope) == (counts if scope != "2:4" else {"a": 24, "b": 16})
    assert not kept["a"][:, 2::4].any()


@pytest.mark.parametrize("scope", SCOPES)
def test_nan_is_refused(scope: str) -> None:
    scores = drawn(LENET, 0)
    scores["head.weight"][3, 3] = torch.nan
    keep = scopes.share(scope, None, 0.1)
    with pytest.raises(FloatingPointError, match="NaN"):
        scopes.best(scores, ones(LENET), scope, scopes.counts(LENET, scope, keep))


# ---- units


def test_a_unit_goes_with_its_row_and_the_column_out_of_it() -> None:
    scores = drawn(CONV, 3)
    kept = scopes.best(scores, ones(CONV), "unit", scopes.counts(CONV, "unit", 0.5))
    rows = {name: scopes.units_of(m) for name, m in kept.items()}
    assert [int(r.sum()) for r in rows.values()] == [3, 4, 6, 4]
    assert torch.equal(
        kept["deep.weight"], (rows["deep.weight"][:, None] & rows["conv.weight"])[..., None, None].expand(8, 6, 3, 3)
    )
    places = rows["deep.weight"].repeat_interleave(4)  # 32 inputs are 8 channels with 4 places each
    assert torch.equal(kept["hidden.weight"], rows["hidden.weight"][:, None] & places)
    assert torch.equal(kept["head.weight"], rows["hidden.weight"].expand(4, 12))


@pytest.mark.parametrize(("scope", "order"), [("unit", 2), ("unit_l1", 1)])
def test_units_rank_by_the_norm_of_their_scores(scope: str, order: int) -> None:
    scores = {name: s.abs() for name, s in drawn(CONV, 5).items()}
    for sign in (1, -1):  # the control, -|w|, keeps the smallest
        kept = scopes.best({n: sign * s for n, s in scores.items()}, ones(CONV), scope, scopes.counts(CONV, scope, 0.5))
        for name in list(CONV)[:3]:
            norms = sign * scores[name].double().flatten(1).norm(order, dim=1)
            assert ordered(norms, scopes.units_of(kept[name]))


def test_layers_that_do_not_follow_each_other_are_named() -> None:
    shapes = {"a": (5, 8), "b": (4, 7)}
    with pytest.raises(ValueError, match="b does not follow a"):
        scopes.best(drawn(shapes, 0), ones(shapes), "unit", {"a": 2, "b": 4})
    kept = scopes.best(drawn(shapes, 0), ones(shapes), "unit", {"a": 2, "b": 4}, {"a": [], "b": []})
    assert int(kept["b"].sum()) == 28
