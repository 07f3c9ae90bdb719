"""MC-dropout: live at prediction and off nowhere else, the decay that tau sets, folds that do not feel each other, the grid."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench.backbones.conv import LeNet5
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.gate import Gate
from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.common.errors import UsageError
from maskbench.data import gaussian
from maskbench.data.stage import Origin, Split, Stage
from maskbench.methods.uncertainty.mc_dropout import MCDropout

FOLDS, FEATURES = 3, 5


def table(folds: int = FOLDS, rows: int = 40) -> Stage:
    """A regression stage of hand: targets are a noisy sum of the features."""
    g = torch.Generator().manual_seed(0)
    shape = (rows, FEATURES) if folds == 1 else (rows, folds, FEATURES)

    def split() -> Split:
        x = torch.randn(shape, generator=g)
        return Split(x, x.sum(-1, keepdim=True) / FEATURES**0.5 + 0.1 * torch.randn(*shape[:-1], 1, generator=g))

    return Stage(
        index=0, total=1, name="table", train=split(), val=split(), test=split(), classes=(), outputs=1, shape=shape[1:],
        origin=Origin("table", "synthetic"), criterion=gaussian.loss, link=partial(gaussian.answer, values=1), folds=folds,
        units=(torch.zeros(folds, 1), torch.full((folds, 1), 2.0)),
    )  # fmt: skip


def method(folds: int = FOLDS, **knobs: object) -> MCDropout:
    torch.manual_seed(0)
    net = FoldMLP((FEATURES,) if folds == 1 else (folds, FEATURES), 1, widths=[8])
    return MCDropout(net, **({"drop": 0.2, "tau": 4.0, "passes": 30} | knobs))


def mean_of(x: Tensor, values: int = 1) -> Tensor:
    return x[..., :values]


# ---- prediction


def test_passes_differ_and_come_out_the_same_every_time() -> None:
    stage, one = table(), method().eval()
    x, _ = stage.test.tensors()
    predictions = one.predict(x, stage)
    assert predictions.shape == (30, 40, FOLDS, 2)
    assert len({tuple(p.flatten().tolist()) for p in predictions}) == 30, "dropout is live"
    torch.manual_seed(5)
    assert torch.equal(one.predict(x, stage), predictions)
    assert torch.equal(one.train().predict(x, stage), predictions), "and no mode of the module matters"


@pytest.mark.parametrize("size", [1, 7, 128])
def test_predictions_do_not_depend_on_the_batch(size: int) -> None:
    stage, one = table(rows=128), method()
    x, _ = stage.test.tensors()
    parts = torch.cat([one.predict(part, stage) for part in x.split(size)], 1)
    torch.testing.assert_close(parts, one.predict(x, stage), rtol=1e-5, atol=1e-6)


def test_a_pass_is_the_net_with_its_units_scaled_by_hand() -> None:
    stage, one = table(), method()
    x, _ = stage.test.tensors()
    gains, predictions = one.sampled(), one.predict(x, stage)
    assert all(gain.unique().tolist() == [0.0, pytest.approx(1.25)] for gain in gains.values())
    for t in (0, 7):
        w1, b1, w2, b2 = (p.detach() for p in one.net.parameters())
        for fold in range(FOLDS):
            z0, z1 = gains["inlet.gain"][t, fold], gains["gates.0.gain"][t, fold]
            hidden = torch.relu(x[:, fold] * z0 @ w1[fold].T + b1[fold]) * z1
            torch.testing.assert_close(predictions[t, :, fold, :1], hidden @ w2[fold].T + b2[fold])


def test_the_share_dropped_is_the_rate() -> None:
    drawn = method(drop=[0.1, 0.6], passes=4000).sampled()
    assert (drawn["inlet.gain"] == 0).double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (drawn["gates.0.gain"] == 0).double().mean().item() == pytest.approx(0.6, abs=0.01)
    assert drawn["gates.0.gain"].double().mean().item() == pytest.approx(1, abs=0.02), "kept units make up for dropped ones"


def test_the_standard_answer_is_the_whole_net() -> None:
    stage, one = table(), method()
    x, _ = stage.test.tensors()
    assert torch.equal(mean_of(one.predict_standard(x, stage)[0]), one.net(x))
    assert set(one.prediction_modes()) == {"", "standard"}


def test_nothing_dropped_leaves_equal_passes_and_the_noise_alone() -> None:
    stage, one = table(), method(drop=0.0, tau=16.0)
    predictions = one.predict(stage.test.tensors()[0], stage)
    assert (predictions == predictions[:1]).all()
    _, variance = gaussian.mixture_moments(*predictions.split(1, -1))
    assert (variance == 1 / (16 * 2**2)).all(), "1 / tau is in units^2, the deviation is 2"


def test_nothing_dropped_on_images_leaves_equal_passes() -> None:
    torch.manual_seed(0)
    net = LeNet5((1, 28, 28), 10, channels=[2, 3], widths=[4])
    one, stage = (
        MCDropout(net, drop=0.0, passes=3).eval(),
        replace(table(1), link=lambda outputs: outputs.softmax(-1), criterion=None),
    )
    stage = replace(stage, train=Split(torch.randn(2, 1, 28, 28), torch.zeros(2).long()))
    predictions = one.predict(torch.randn(5, 1, 28, 28), stage)
    assert predictions.shape == (3, 5, 10) and (predictions == predictions[:1]).all()


def test_before_every_weight_layer_means_the_pixels_too() -> None:
    torch.manual_seed(0)
    nets = [LeNet5((1, 28, 28), 10, channels=[2, 3], widths=[4]), ResNet((1, 28, 28), 10, blocks=[1, 1], base=4)]
    for net in nets:
        one = MCDropout(net, drop=0.5, passes=4)
        assert one.sampled()["inlet.gain"].shape == (4, 28 * 28)
        assert "inlet.gain" not in MCDropout(net, where="hidden").gates
        x = torch.randn(3, 1, 28, 28)
        gain = one.sampled()["inlet.gain"][:3]
        predictions = functional_call(net.eval(), {"inlet.gain": gain}, (x,))
        torch.testing.assert_close(predictions, net(x * gain.reshape(3, 1, 28, 28)))

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.head = Gate(6), nn.Linear(6, 3)

    with pytest.raises(UsageError, match="method.where=hidden"):
        MCDropout(Hidden())


def test_the_noise_is_one_over_tau_in_units() -> None:
    stage, one = table(), method()
    members, y = one.predict(stage.test.tensors()[0], stage), stage.test.y
    _, variance, _ = gaussian.in_units(members, y, stage.units)
    assert torch.equal(variance, torch.full_like(variance, 1 / 4.0))


def test_norms_keep_their_statistics_while_units_drop() -> None:
    class Normed(MLP):
        def __init__(self) -> None:
            super().__init__((6,), 3, widths=[8])
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gates[0](self.norm(self.hidden[0](x))))

    torch.manual_seed(0)
    one = MCDropout(Normed(), drop=0.5, where="hidden", passes=5).eval()
    before = one.net.norm.running_mean.clone()
    stage = replace(table(1), link=lambda outputs: outputs.softmax(-1), train=Split(torch.randn(9, 6), torch.zeros(9).long()))
    predictions = one.predict(torch.randn(9, 6), stage)
    assert torch.equal(one.net.norm.running_mean, before) and not torch.equal(predictions[0], predictions[1])


# ---- training


def test_each_example_trains_under_a_mask_of_its_own() -> None:
    one, x = method().train(), torch.randn(40, FOLDS, FEATURES)
    gains = one.effective_weights(x, None)
    assert {name: gain.shape for name, gain in gains.items()} == {
        "inlet.gain": (40, FOLDS, FEATURES),
        "gates.0.gain": (40, FOLDS, 8),
    }
    assert len({tuple(row.flatten().tolist()) for row in gains["gates.0.gain"]}) == 40
    assert one.eval().effective_weights(x, None) == {}
    assert list(method(where="hidden", drop=0.3).train().effective_weights(x, None)) == ["gates.0.gain"]


def test_lambda_is_the_codes_form_and_hits_weight_matrices_only() -> None:
    stage, one = table(), method(tau=0.16, drop=0.05, length_scale=0.01)
    rows = len(stage.train)
    wanted = 0.01**2 * (1 - 0.05) / (2 * rows * 0.16)
    torch.testing.assert_close(one.decay(rows), torch.full((FOLDS,), wanted))
    one.eval()
    x, y = stage.train.tensors()
    w1, b1, w2, b2 = one.net.parameters()
    plain = gaussian.loss(one.net(x), y)
    squares = wanted * (w1.square().sum() + w2.square().sum())
    torch.testing.assert_close(one.loss((x, y), stage), plain + squares)
    assert not method(tau=None, drop=0.2).decays


def test_folds_together_have_the_gradients_of_each_alone() -> None:
    stage, one = table(), method().eval()
    x, y = stage.train.tensors()
    one.loss((x, y), stage).backward()
    for fold in range(FOLDS):
        alone = method(1).eval()
        with torch.no_grad():
            for own, all_of_them in zip(alone.net.parameters(), one.net.parameters(), strict=True):
                own.copy_(all_of_them[fold : fold + 1])
        alone.loss((x[:, fold], y[:, fold]), table(1)).backward()
        for own, all_of_them in zip(alone.net.parameters(), one.net.parameters(), strict=True):
            torch.testing.assert_close(own.grad[0], all_of_them.grad[fold])


def test_folds_trained_together_are_the_nets_trained_apart() -> None:
    """Adam works element by element, so a sum over folds trains each as it would be alone."""
    stage, one = table(), method(drop=0.0)
    x, y = stage.train.tensors()
    nets = [method(1, drop=0.0) for _ in range(FOLDS)]
    with torch.no_grad():
        for fold, alone in enumerate(nets):
            for own, all_of_them in zip(alone.net.parameters(), one.net.parameters(), strict=True):
                own.copy_(all_of_them[fold : fold + 1])
    cases = [(one, x, y, stage)] + [(alone, x[:, f], y[:, f], table(1)) for f, alone in enumerate(nets)]
    for each, inputs, targets, its in cases:
        optimizer = torch.optim.Adam(each.net.parameters(), lr=1e-2)
        for _ in range(50):
            optimizer.zero_grad()
            each.loss((inputs, targets), its).backward()
            optimizer.step()
    for fold, alone in enumerate(nets):
        torch.testing.assert_close(alone.net(x[:, fold]), one.net(x)[:, fold], rtol=1e-3, atol=1e-4)


# ---- the grid


class Recorder:
    """Stands for fit: remembers what each phase trained on, and trains a little."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, list[float], list[float]]] = []

    def __call__(self, method: MCDropout, stage: Stage, *, name: str = "train") -> None:
        self.phases.append((name, len(stage.train), method.rates[0].tolist(), method.tau.tolist()))
        optimizer = torch.optim.Adam(method.net.parameters(), lr=1e-2)
        method.train()
        for _ in range(30):
            optimizer.zero_grad()
            method.loss(stage.train.tensors(), stage).backward()
            optimizer.step()


def test_the_grid_chooses_each_fold_by_validation_and_trains_again_on_all_rows() -> None:
    stage, fit = table(), Recorder()
    one = method(grid={"drop": [0.01, 0.8], "tau": [0.001, 2.0, 4.0]})
    one.learn(stage, fit)
    assert [(name, rows) for name, rows, _, _ in fit.phases] == [("drop 0.01", 40), ("drop 0.8", 40), ("chosen", 80)]
    assert [tau for *_, tau in fit.phases[:2]] == [[2.0] * FOLDS] * 2, "trained at the middle tau"
    assert fit.phases[2][2] == pytest.approx([0.01] * FOLDS) and set(fit.phases[2][3]) <= {2.0, 4.0}
    assert fit.phases[2][2:] == (one.rates[0].tolist(), one.tau.tolist())
    assert {f"chosen/drop/{fold}" for fold in range(FOLDS)} <= set(one.extra_metrics())


def test_a_grid_needs_rows_to_choose_by() -> None:
    stage = table()
    with pytest.raises(UsageError, match="data.val"):
        method(grid={"drop": [0.1], "tau": [1.0]}).learn(replace(stage, val=stage.train), Recorder())


# ---- refusals


@pytest.mark.parametrize(
    "knobs, words",
    [
        ({"drop": 1.0}, "drop"),
        ({"drop": [0.1, 0.1, 0.1]}, "inlet, gates.0"),
        ({"where": "inputs"}, "where"),
        ({"passes": 0}, "passes"),
        ({"tau": 0.0}, "tau"),
        ({"grid": {"drop": [0.1]}}, "method.grid="),
        ({"grid": {"drop": [1.0], "tau": [1.0]}}, "method.grid="),
        ({"grid": {"drop": [0.1], "tau": [0]}}, "method.grid="),
        ({"length_scale": -1.0}, "method.length_scale=-1"),
    ],
)
def test_wrong_knobs_are_refused_in_words(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        method(**knobs)


def test_regression_needs_a_noise_and_dropout_needs_gates() -> None:
    with pytest.raises(UsageError, match="method.tau=null"):
        method(tau=None).learn(table(), Recorder())
    with pytest.raises(UsageError, match="gates"):
        MCDropout(nn.Linear(3, 2))


def test_a_net_that_states_variances_keeps_its_own() -> None:
    torch.manual_seed(0)
    one, stage = MCDropout(FoldMLP((FOLDS, FEATURES), 2, widths=[8]), drop=0.1, passes=3), table()
    one.learn(stage, Recorder())
    x, _ = stage.test.tensors()
    whole = one.predict_standard(x, stage)
    assert torch.equal(whole[0], gaussian.moments(functional_call(one.net, {}, (x,)), 1))


@pytest.mark.full
def test_a_run_on_images(build: Callable) -> None:
    bench = build("method=mc_dropout", "data.base=synthetic", "budget.steps=20", "budget.epochs=null", "method.passes=6").go()
    metrics = bench.metrics
    assert metrics["mutual_information"] > 0 and metrics["disagreement"] > 0 and metrics["accuracy_standard"] is not None
    assert metrics["nll"] <= metrics["member_nll"]
