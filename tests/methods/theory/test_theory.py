"""The constructive methods end to end: targets of every kind, refusals, kill and resume, figures; and masks over neurons."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.cli import main as program
from maskbench.common.errors import UsageError
from maskbench.methods.theory import certify, neurons
from maskbench.methods.theory.strong_tickets import StrongTickets
from maskbench.methods.theory.targets import Target
from maskbench.report import figures
from maskbench.tasks import theory

pytestmark = pytest.mark.full  # whole runs: make test-full

SMALL = ("method=subset_sum", "task.starts=8", "task.ascent=20", "task.samples=500", "backbone.widths=[6]")
IMAGES = (
    "data=mnist",
    "data.base=synthetic",
    "data.normalize=unit",
    "data.val=100",
    "budget.epochs=null",
    "budget.steps=150",
    "optimizer.lr=0.02",
)


@pytest.mark.parametrize("method", ["method=subset_sum", "method=malach", "method=malach method.pick=two_coordinate"])
@pytest.mark.parametrize("storage", ["dense", "block"])
def test_a_run_is_certified_within_what_was_asked_and_attained_below_that(build: Callable, method: str, storage: str) -> None:
    eps = 1.5 if "two_coordinate" in method else 0.3
    bench = build(*SMALL, *method.split(), f"method.eps_net={eps}", f"method.storage={storage}").go()
    metrics = bench.metrics
    assert 0 < metrics["attained"] <= metrics["certificate"] <= eps
    assert metrics["attained"] == max(metrics["attained/sampling"], metrics["attained/ascent"])
    assert metrics["data_sup"] <= metrics["certificate"]
    assert metrics["kept"] == sum(int(mask.sum()) for mask in bench.method.masks().values())
    assert metrics["kept_per_candidate"] < 1 and metrics["kept_per_drawn"] < metrics["kept_per_candidate"]
    assert metrics["kept"] == round(metrics["kept_per_target_weight"] * (8 * 6 + 6 * 4))
    assert metrics["drawn_per_target_weight"] * 72 == metrics["width"] * (8 * 14 + 6 * 10)
    assert metrics["accuracy"] is None, "points of the ball have no labels"


def test_random_weights_stay_as_drawn_and_the_mask_follows_from_seed_and_target(build: Callable) -> None:
    one = build(*SMALL, folder="a").go().method
    other = build(*SMALL, folder="b").go().method
    assert all(torch.equal(mask, other.masks()[name]) for name, mask in one.masks().items())
    drawn = one.construction.plan.draw(one.construction.goals(), 0, int(one.book["width"]), one.construction.root)
    stored = one.net.get_buffer("layers.0.weight")
    assert torch.equal(stored.view(-1, 8, 8).diagonal(dim1=1, dim2=2), drawn.u), "no weight of the random net was touched"
    assert list(one.trainable_parameters()) == []


def test_the_net_answers_in_double_as_its_matrices_say(build: Callable) -> None:
    bench = build(*SMALL).go()
    judge = bench.method.construction.judge(bench.stages[0])
    x = certify.sphere(50, 8, False, torch.Generator().manual_seed(0))
    assert torch.allclose(judge.difference(x), judge.real_difference(x), atol=1e-12)
    straight = torch.cat([judge.ticket.target.net(x.float())]) / judge.scale
    assert torch.allclose(judge.target(x.float()), straight, atol=1e-5)


def test_too_narrow_is_refused_with_a_width_that_does(build: Callable) -> None:
    with pytest.raises(UsageError, match="method.width=8 is too narrow for method.eps_net=0.2") as refusal:
        build(*SMALL, "method.width=8", "method.eps_net=0.2").go()
    width = str(refusal.value).split("; method.width=")[1].split(" ")[0]
    metrics = build(*SMALL, f"method.width={width}", "method.eps_net=0.2", folder="mended").go().metrics
    assert metrics["certificate"] <= 0.2
    measured = build(*SMALL, "method.width=8", "method.eps_net=0.2", "method.strict=false", folder="loose").go().metrics
    assert measured["certificate"] > 0.2 and measured["attained"] <= measured["certificate"]


def test_one_side_suffices_for_inputs_that_are_not_negative(build: Callable) -> None:
    both = build(*SMALL, "method.width=24", "method.strict=false", folder="a").go()
    half = build(*SMALL, "method.width=24", "method.strict=false", "data.domain=nonnegative", folder="b").go()
    assert half.metrics["kept"] < both.metrics["kept"] and not half.method.construction.both[0]
    assert half.metrics["attained"] <= half.metrics["certificate"]
    with pytest.raises(UsageError, match="inputs go down to"):
        build(*SMALL, "method.inputs=nonnegative", folder="c").go()


# ---- targets


@pytest.mark.full
def test_a_target_trained_first_is_what_training_alone_gives(build: Callable) -> None:
    words = ("method=subset_sum", *IMAGES, "backbone.widths=[12]", "method.width=40", "method.strict=false", "task.ascent=5")
    bench = build(*words, "method.target=trained").go()
    metrics = bench.metrics
    assert metrics["target_accuracy"] > 0.4 and abs(metrics["accuracy_gap"]) <= 0.02 and metrics["agreement"] > 0.95
    x, y = bench.stages[0].test.tensors()
    with torch.no_grad():
        assert metrics["target_accuracy"] == (bench.method.target.net(x).argmax(1) == y).double().mean().item()
    drawn = build(*words, folder="random").go()
    assert drawn.metrics["target_accuracy"] < metrics["target_accuracy"], "an untrained target knows nothing"


def test_interrupted_while_its_target_trains_and_while_it_prunes(build: Callable, relay: Callable, same: Callable) -> None:
    words = (*SMALL, *IMAGES, "budget.steps=20", "method.target=trained", "method.width=20", "method.strict=false")
    calm = build(*words, folder="calm").go()
    assert calm.journal.tally["steps"] == 20
    often = ("loop.block=5", "loop.checkpoint_seconds=0")
    same(calm, relay(*words, *often, folder="resumed", halts=[2, 3, 4, 2]))


def test_a_target_from_the_run_directory_of_dense(cli: Callable, tmp_path: Path, monkeypatch, capsys) -> None:
    shape = ["backbone=mlp", "backbone.widths=[6]", *IMAGES, "logger=none"]
    done = cli("method=dense", *shape)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("outputs/dense-mnist/*")
    words = ["method=subset_sum", *shape, f"method.target={run}", "method.eps_net=0.1"]
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("outputs/subset_sum-mnist/*")
    metrics, dense = (json.loads((folder / "result.json").read_text())["metrics"] for folder in (made, run))
    assert metrics["target_accuracy"] == pytest.approx(dense["accuracy"], abs=1e-9)
    assert abs(metrics["accuracy_gap"]) <= 0.02
    drawn = masks.load(made / "masks.safetensors")
    assert {name: mask.dtype for name, mask in drawn.items()} == {f"0/layers.{i}.weight": torch.bool for i in range(4)}

    monkeypatch.chdir(tmp_path)
    for wrong, named in {
        (*words, "backbone.widths=[5]"): "backbone.widths=[6]",
        (*words, "data.normalize=standard"): "data.normalize=unit",
        (*words[:-2], "method.target=nowhere"): "method.target=nowhere",
    }.items():
        assert program.main(list(wrong)) == 2
        message = capsys.readouterr().err
        assert named in message and "Traceback" not in message


def test_a_tolerance_that_no_width_can_make_up_for_is_refused_before_a_search(build: Callable) -> None:
    with pytest.raises(UsageError, match="method.eps_weight=1 is more than method.eps_net=0.1"):
        build("method=subset_sum", "data=ball", "method.eps_weight=1").go()


def test_only_chains_without_biases_are_targets() -> None:
    with pytest.raises(UsageError, match="backbone.bias=false"):
        Target(MLP((4,), 2, widths=[3]), "random")

    class Other(MLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + x[:, :2]

    with pytest.raises(UsageError, match="fully connected"):
        Target(Other((4,), 2, widths=[3], bias=False), "random")
    assert Target(MLP((4,), 2, widths=[], bias=False), "random").shapes == [(2, 4)], "one layer is a net too"


@pytest.mark.parametrize(
    "knobs",
    [{"width": 0}, {"width": 2.5}, {"eps_net": 0}, {"eps_weight": -1.0}, {"objective": "least"}, {"solver": "guess"},
     {"solver": "greedy"}, {"pick": "best"}, {"inputs": "cube"}, {"storage": "sparse"}, {"distribution": "gauss"}, {"strict": 1}],
)  # fmt: skip
def test_wrong_knobs_are_refused(knobs: dict) -> None:
    with pytest.raises(UsageError, match=f"method.{next(iter(knobs))}="):
        StrongTickets(MLP((4,), 2, widths=[3], bias=False), **knobs)


def test_one_neuron_and_one_layer(build: Callable) -> None:
    for outputs in (1, 3):
        words = ("method=malach", "backbone.widths=[]", f"data.outputs={outputs}", "method.eps_net=0.2", "task.ascent=10")
        metrics = build(*words, folder=str(outputs)).go().metrics
        assert metrics["attained"] <= metrics["certificate"] <= 0.2
        assert metrics["kept"] <= 2 * 2 * 8 * outputs, "a pair for each weight and side"


def test_the_least_error_is_below_that_of_the_smallest_subsets_and_these_keep_less(build: Callable) -> None:
    words = (*SMALL, "method.width=36", "method.strict=false")
    size, error = (build(*words, f"method.objective={o}", folder=o).go().metrics for o in ("min_size", "min_error"))
    assert error["weight_error/max"] <= size["weight_error/max"] and error["weight_error/q50"] < size["weight_error/q50"]
    assert size["kept"] < error["kept"]
    assert size["weights_over_tolerance"] == error["weights_over_tolerance"], "both reach what can be reached"


def test_the_faithful_code(build: Callable) -> None:
    words = ("method=subset_sum", *IMAGES, "backbone.widths=[6]", "method.faithful_code=true", "method.width=16")
    bench = build(*words, "method.eps_weight=0.01", "method.strict=false", "method.target=trained", "task.ascent=5").go()
    metrics = bench.metrics
    assert metrics["weights_over_tolerance"] < 0.05 and metrics["certificate"] == metrics["certificate_original"]
    assert {name: tuple(mask.shape) for name, mask in bench.method.masks().items()} == {
        "0/layers.0.weight": (6, 784, 16), "0/layers.1.weight": (10, 6, 16)
    }  # fmt: skip


# ---- scaling


def test_widths_over_errors_and_sizes_and_their_figures(build: Callable, tmp_path: Path) -> None:
    asked = "{shape: [4, 6, 2], errors: {product: [1, 0.5, 0.25], subset_sum: [1, 0.25, 0.06]}, sizes: [4, 8], "
    asked += "size_errors: {product: 0.5}, replicates: 3}"
    bench = build(*SMALL, f"task.scaling={asked}").go()
    metrics, points = bench.metrics, bench.outcome.curves
    assert len(points) == 3 * (3 + 3 + 2) and all(p["certificate"] <= p["eps"] for p in points)
    low, high = (metrics[f"width_exponent_in_inverse_eps/{name}"] for name in ("subset_sum", "product"))
    assert low < 0.5 < high and metrics["width_exponent_in_size/product"] is not None
    result = {"method": "subset_sum", "data": "ball", "task": "theory", "seed": 0, "source": "synthetic", "key": "k"}
    (tmp_path / "curves.json").write_text(json.dumps(points))
    made = figures.draw([figures.read(tmp_path, result | {"metrics": metrics, "matrices": {}, "table": []})])
    assert set(made) == {"width_errors", "width_sizes", "width_per_bit"}
    (panel,) = made["width_errors"].axes
    line = next(one for one in panel.get_lines() if one.get_label().startswith("product, exponent"))
    cells = [p for p in points if (p["construction"], p["kind"]) == ("product", "errors")]
    own = {eps: [p["width"] for p in cells if p["eps"] == eps] for eps in (1, 0.5, 0.25)}
    mean = [np.exp(np.mean(np.log(widths))) for widths in own.values()]
    assert np.allclose(line.get_xdata(), [1, 2, 4]) and np.allclose(line.get_ydata(), mean)
    assert all(p["sufficient"] > p["width"] for p in points), "what is proved to do is wider than what did"
    older = [{"bound" if name == "typical" else name: value for name, value in p.items()} for p in points]
    (tmp_path / "curves.json").write_text(json.dumps(older))  # as runs were recorded before it had its name
    again = figures.draw([figures.read(tmp_path, result | {"metrics": metrics, "matrices": {}, "table": []})])
    formulas = [[one.get_ydata().tolist() for one in f["width_errors"].axes[0].get_lines()] for f in (made, again)]
    assert formulas[0] == formulas[1]


def test_scaling_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UsageError, match="Did you mean 'errors'"):
        theory.planned({"error": {}})
    with pytest.raises(UsageError, match="no construction 'subset'"):
        theory.planned({"errors": {"subset": [1]}})
    assert theory.planned(None) == {}


def test_only_constructions_do_this_task(build: Callable) -> None:
    with pytest.raises(UsageError, match="needs a method with construction"):
        build("method=dense", "task=theory", "data=ball", "backbone=mlp", "budget.steps=1", "budget.epochs=null").go()


# ---- neurons


def test_greedy_neurons_are_a_local_optimum_that_brute_force_confirms() -> None:
    source = torch.Generator().manual_seed(0)
    phi = torch.randn(60, 8, dtype=torch.float64, generator=source).relu()
    v, y = (torch.randn(n, 1, dtype=torch.float64, generator=source) for n in (8, 60))
    q = neurons.quadratic(phi, v, y)
    kept = neurons.greedy(q).double()

    def error(m: torch.Tensor) -> float:
        return (y - q.scalar(m) * (phi * m) @ v).square().sum().item()

    assert error(kept) == pytest.approx((y.square().sum() - q.gain(kept)).item()), "the quadratic is the squared error"
    for k in range(8):
        flipped = kept.clone()
        flipped[k] = 1 - flipped[k]
        if flipped.any():
            assert error(flipped) >= error(kept) - 1e-9
    every = masks.unpack(torch.arange(1, 256, dtype=torch.uint8)[:, None], (8,)).double()
    assert min(error(m) for m in every) <= error(kept) <= y.square().sum()


def test_neuron_masks_are_no_better_than_random_features_and_far_worse_than_weight_masks(build: Callable) -> None:
    metrics = build("method=malach_neuron", "data.rows=2000", "method.neurons=600", "task.samples=500").go().metrics
    assert metrics["certificate"] is None
    assert metrics["relative_error/ridge"] < min(metrics["relative_error/greedy"], metrics["relative_error/rounding"])
    assert metrics["relative_error/weight_mask"] < 0.1 * metrics["relative_error/greedy"]
    assert metrics["kept"] == metrics["neurons_kept"] * 11
