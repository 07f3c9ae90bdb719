"""Pruned random nets: pruning_theory.md section 6, rows T1 to T8, and what the constructions promise end to end.

T1 to T3, T8 and the pointwise part of T7 need no run and are tests/test_subset_sums.py; here they have the specification's
numbers of targets and several draws.
"""

import json
import math
import os
import subprocess
import sys
from statistics import geometric_mean

import numpy as np
import pytest
import torch

from maskbench.methods.theory import construct, scaling, subset_sums

pytestmark = pytest.mark.slow

FIVE = tuple(range(5))


def uniform(seed: int, *size: int) -> torch.Tensor:
    return torch.rand(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_t1_a_bit_a_candidate(seed):
    sizes, medians = range(8, 21, 2), []
    for n in sizes:
        values, goal = 2 * uniform(seed, 2000, n) - 1, uniform(seed + 10, 2000, 1) - 0.5
        medians.append(subset_sums.meet_in_the_middle(values, goal).error.median().item())
    assert -1.05 <= np.polyfit(sizes, np.log2(medians), 1)[0] <= -0.85
    assert all(1 <= m / construct.typical_error(n, 1 / 12) <= 2.5 for n, m in zip(sizes, medians, strict=True))


@pytest.mark.parametrize(("name", "expected", "slack"), [("two_coordinate", -0.5, 0.05), ("product", -1.0, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_t2_single_picks(name, expected, slack, seed):
    """As in a net: one neuron for each of 500 inputs of its own, both layers' entries uniform; errors as the pick counts them."""
    sizes, medians = (100, 316, 1000, 3162, 10000), []
    goal = 2 * uniform(seed, 1, 500) - 1
    for n in sizes:
        pairs = construct.draw((1, 500), n, "uniform", seed, n)
        kept = construct.choose(goal, pairs, False, construct.PICKS[name], 0.0)[:, 0]  # [N, inputs]
        assert (kept.sum(0) == 1).all()
        u, v = ((x.double() * kept).sum(0) for x in (pairs.u, pairs.v[:, 0]))
        far = (
            torch.maximum((u - goal[0].abs()).abs(), (v - goal[0].sign()).abs()) if name == "two_coordinate" else u * v - goal[0]
        )
        medians.append(far.abs().median().item())
    assert np.polyfit(np.log(sizes), np.log(medians), 1)[0] == pytest.approx(expected, abs=slack)


def test_t3_success_within_a_hundredth():
    shares = []
    for seed in range(3):
        values, goal = uniform(seed, 4000, 14) * (2 * uniform(seed + 10, 4000, 14) - 1), uniform(seed + 20, 4000, 1) - 0.5
        shares.append((subset_sums.meet_in_the_middle(values, goal).error <= 0.01).double().mean().item())
    assert all(share == pytest.approx(0.990, abs=0.005) for share in shares)


@pytest.mark.parametrize("words", ["random_subset_sum", "random_product", "random_product method.pick=two_coordinate"])
def test_t4_attained_is_below_the_certificate_in_every_run(runs, words):
    for result in runs(*f"experiment=theory/{words}".split(), seeds=FIVE):
        found = result["metrics"]
        assert found["attained/sampling"] <= found["attained"] <= found["certificate"]
        assert found["data_sup"] <= found["certificate"]


def test_t5_mnist_784_32_10(runs):
    """Certificates vary tenfold between draws, since one unlucky weight decides (section 6): their geometric mean counts."""
    found = runs("experiment=theory/mnist_32", seeds=FIVE)
    for result in found:
        one = result["metrics"]
        assert one["agreement"] >= 0.999 and one["data_sup"] <= 1e-3
        assert one["attained"] <= one["certificate"]
        assert one["build_cpu_seconds"] + one["verify_cpu_seconds"] <= 30
        assert one["target_accuracy"] >= 0.96
    assert geometric_mean(found.values("certificate")) <= 0.01


def test_t6_pensia_experiment_1(runs):
    """What is kept depends on how even the range of the target's weights is: of the whole net, trained as the authors' was."""
    found = runs("experiment=theory/pensia_subsets", seeds=FIVE[:3])
    for result in found:
        small_errors(result)
        assert abs(result["metrics"]["accuracy_gap"]) <= 0.0005 + 1e-9
    assert 9.5 <= found.mean("kept_per_target_weight") <= 10.5 and min(found.values("agreement")) >= 0.999


SPECIFIED = (  # the target that section 5 has its numbers from; the authors' own has smaller weights
    "data.normalize=unit", "data.val=5000", "optimizer.weight_decay=3e-4", "schedule=constant", "budget.batch_size=128"
)  # fmt: skip


def test_t6_the_smallest_subsets(runs):
    """An error of up to .01 in every weight changes 2 answers of 1,000, so that one seed's accuracy moves by its luck (0 to
    .12 points on ten seeds): their mean is held to .05 points."""
    found = runs("experiment=theory/pensia_subsets", "method.objective=min_size", *SPECIFIED, seeds=range(10))
    for result in found:
        small_errors(result)
        assert result["metrics"]["agreement"] >= 0.997
    assert abs(found.mean("accuracy_gap")) <= 0.0005 and found.mean("kept_per_target_weight") <= 1


def test_smallest_subsets_cost_the_authors_target_more(runs):
    """Its weights are smaller, so .01 is more beside them: .03 to .30 points over ten seeds, .19 in the mean."""
    found = runs("experiment=theory/pensia_subsets", "method.objective=min_size", seeds=FIVE[:3])
    for result in found:
        small_errors(result)
    assert found.mean("kept_per_target_weight") <= 1 and 0 < found.mean("accuracy_gap") <= 0.004


def small_errors(result):
    one = result["metrics"]
    assert one["weights_over_tolerance_count"] == 0 or any("off by more than eps_weight" in n for n in result["notes"])
    assert one["weight_error/q99"] <= 0.01
    assert one["build_cpu_seconds"] + one["verify_cpu_seconds"] <= 300


@pytest.mark.parametrize("width", [28, 32, 40])
def test_t7_certificates_in_order(width):
    rules = {"subset_sum": construct.subsets(), **construct.PICKS}
    mean = {}
    for name, rule in rules.items():
        targets = [scaling.random_target([8, 16, 16, 4], seed) for seed in FIVE]
        mean[name] = geometric_mean([scaling.build(w, rule, width, seed).certificate for seed, w in enumerate(targets)])
    assert mean["subset_sum"] < mean["product"] < mean["two_coordinate"]


def test_t8_exact_solvers():
    values, goal = 2 * uniform(0, 500, 12) - 1, uniform(1, 500, 1) - 0.5
    found, best = subset_sums.meet_in_the_middle(values, goal), subset_sums.brute_force(values, goal)
    assert torch.allclose(found.error, best.error, rtol=0, atol=1e-15)
    values, goal = 2 * uniform(2, 20, 14) - 1, uniform(3, 20, 1) - 0.5
    found, program = subset_sums.meet_in_the_middle(values, goal), subset_sums.milp(values, goal)
    assert (program.error >= found.error - 1e-12).all() and torch.allclose(program.error, found.error, rtol=0.01, atol=1e-5)


# ---- what the issue asks for


def test_a_classifier_784_64_10_by_pruning_alone(runs):
    """Certified within eps, so measured within eps; the target's accuracy to 0.2 points; minutes; edge-popup beside it."""
    ours, popup = runs("experiment=theory/mnist_64"), runs("experiment=theory/mnist_64_edge_popup")
    for result, rival in zip(ours, popup, strict=True):
        found = result["metrics"]
        assert found["attained"] <= found["certificate"] <= found["eps_net"] == 0.01
        assert abs(found["accuracy_gap"]) <= 0.002 and found["agreement"] >= 0.999
        assert found["build_cpu_seconds"] + found["verify_cpu_seconds"] <= 600
        assert found["accuracy"] > rival["metrics"]["accuracy"]


def test_the_scaling_separates_the_constructions(runs):
    """95 % intervals over five replicates: polynomial, polynomial with another power, logarithmic."""
    (result,) = runs("experiment=theory/scaling", seeds=(0,))
    found, name = result["metrics"], "width_exponent_in_inverse_eps/{}_ci95_{}"
    low, high = ({n: found[name.format(n, end)] for n in ("subset_sum", "product", "two_coordinate")} for end in ("low", "high"))
    assert high["subset_sum"] < low["product"] and high["product"] < low["two_coordinate"]
    assert all(math.isfinite(value) and value > 0 for value in low.values())


def test_too_narrow_is_loud(tmp_path):
    words = ["method=subset_sum", "method.width=12", "logger=none", f"paths.output={tmp_path}"]
    done = subprocess.run([sys.executable, "-m", "maskbench", *words], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and "too narrow" in done.stderr and "Traceback" not in done.stderr
    width = done.stderr.split("; method.width=")[1].split(" ")[0]
    done = subprocess.run(
        [sys.executable, "-m", "maskbench", words[0], f"method.width={width}", *words[2:]], capture_output=True, text=True
    )
    (result,) = tmp_path.glob("*/*/result.json")
    assert done.returncode == 0 and json.loads(result.read_text())["metrics"]["certificate"] <= 0.1


def test_neuron_masks_are_far_worse_than_weight_masks(runs):
    for result in runs("experiment=theory/neuron_masks"):
        found = result["metrics"]
        assert found["relative_error/ridge"] < found["relative_error/greedy"] < found["relative_error/rounding"]
        assert found["relative_error/weight_mask"] < 0.01 * found["relative_error/ridge"]
