"""Numbers from predictions and accuracy matrices, against definitions written out by hand; undefined is None."""

import numpy as np
import pytest
import torch

from maskbench import metrics

R = [
    [0.9, None, None],
    [0.7, 0.8, None],
    [0.8, 0.6, 0.5],
]


def test_continual_numbers_by_hand() -> None:
    assert metrics.average_accuracy(R) == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    assert metrics.forgetting(R) == pytest.approx(((0.9 - 0.8) + (0.8 - 0.6)) / 2)
    assert metrics.backward_transfer(R) == pytest.approx(((0.8 - 0.9) + (0.6 - 0.8)) / 2)


def test_forgetting_is_from_the_best_it_ever_was_and_transfer_from_when_it_was_learnt() -> None:
    rising = [[0.5, None, None], [0.9, 0.7, None], [0.6, 0.8, 0.9]]
    assert metrics.forgetting(rising) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.8)) / 2)
    assert metrics.backward_transfer(rising) == pytest.approx(((0.6 - 0.5) + (0.8 - 0.7)) / 2)
    full = [[0.9, 0.95], [0.8, 0.7]]  # stage 1 was answered better before it was learnt
    assert metrics.forgetting([*full, [0.8, 0.7, 0.9]]) == pytest.approx(((0.9 - 0.8) + (0.95 - 0.7)) / 2)


def test_nothing_forgotten_is_exactly_zero() -> None:
    flat = [[0.91, None], [0.91, 0.83]]
    assert metrics.forgetting(flat) == 0.0 and metrics.backward_transfer(flat) == 0.0


def test_one_stage_has_no_forgetting() -> None:
    assert metrics.average_accuracy([[0.9]]) == 0.9
    assert metrics.forgetting([[0.9]]) is None and metrics.backward_transfer([[0.9]]) is None


def test_what_is_not_known_is_left_out() -> None:
    final = [[0.9, None, None], [None, 0.8, None], [0.8, 0.6, 0.5]]  # task.matrix=final
    assert metrics.forgetting(final) == pytest.approx(((0.9 - 0.8) + (0.8 - 0.6)) / 2)
    holes = [[0.9, None, None], [None, None, None], [0.8, 0.6, None]]
    assert metrics.average_accuracy(holes) == pytest.approx(0.7)
    assert metrics.forgetting(holes) == pytest.approx(0.1)
    assert metrics.backward_transfer(holes) == pytest.approx(-0.1)
    assert metrics.average_accuracy([[None]]) is None


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("members", [1, 4])
def test_calibration_against_plain_numpy(bins: int, members: int) -> None:
    torch.manual_seed(0)
    n, classes = 500, 7
    p = (3 * torch.randn(members, n, classes)).softmax(-1)
    y = torch.where(torch.rand(n) < 0.6, p.mean(0).argmax(-1), torch.randint(classes, (n,)))
    found = metrics.calibration(p, y, bins)

    mean, truth = p.double().numpy().mean(0), y.numpy()
    top, right = mean.max(1), mean.argmax(1) == truth
    own = mean[np.arange(n), truth]
    ece = 0.0
    for low in np.arange(bins) / bins:
        inside = (top > low) & (top <= low + 1 / bins)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["nll"] == pytest.approx(-np.log(own).mean(), rel=1e-6)
    assert found["brier"] == pytest.approx(((mean - np.eye(classes)[truth]) ** 2).sum(1).mean(), rel=1e-6)
    assert found["ece"] == pytest.approx(ece, abs=1e-5)


def test_calibration_at_its_ends() -> None:
    sure = torch.eye(3)[None]  # three examples, each certain of its class
    right, wrong = torch.arange(3), torch.tensor([1, 2, 0])
    assert metrics.calibration(sure, right, 15) == {"accuracy": 1.0, "nll": 0.0, "brier": 0.0, "ece": 0.0}
    bad = metrics.calibration(sure, wrong, 15)
    assert bad["accuracy"] == 0.0 and bad["brier"] == 2.0 and bad["ece"] == 1.0
    assert np.isfinite(bad["nll"]) and bad["nll"] > 100
