"""The training loop: the bits of a plain PyTorch loop, whatever block size, schedule or looks; each phase fresh."""

import os
import signal
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.streams import generator
from maskbench.data.stage import Stage, batches
from maskbench.training import evaluate, lightning
from maskbench.training.method import Method

SMALL = (
    "method=dense", "data.base=synthetic", "backbone.widths=[16]", "budget.epochs=null", "budget.steps=23",
    "budget.batch_size=32",
)  # fmt: skip


class Noisy(Method):
    """Draws in every step of training: those bits depend on the state of the global generators."""

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        x, y = batch
        return stage.criterion(self.logits(x + 0.5 * torch.randn_like(x), stage), y)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """Looks draw too."""
        return stage.link(self.logits(x + 0.5 * torch.randn_like(x), stage))[None]


def plain_loop(
    net: torch.nn.Module, optimizer: torch.optim.Optimizer, stage: Stage, steps: int, rate: Callable, phase: int = 0
) -> None:
    """What everybody would write, on the run's own order of batches in a phase of the first step of the task."""
    x, y = stage.train.tensors()
    stream = (0, "train", stage.name, phase, "order")
    walk = batches(len(x), 32, range(steps), lambda e: torch.randperm(len(x), generator=generator(*stream, e)))
    base = optimizer.param_groups[0]["lr"]
    for step, index in enumerate(walk):
        optimizer.param_groups[0]["lr"] = base * rate(step)
        loss = torch.nn.functional.cross_entropy(net(x[index]), y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-4),
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_training_gives_the_bits_of_a_plain_loop(name: str, schedule: str, build: Callable) -> None:
    """70 steps of 32 on 1,834 images: over an epoch's end and its short last batch."""
    words = (*SMALL, f"optimizer={name}", f"schedule={schedule}", "budget.steps=70")
    net = build(*words, folder="plain").method.net
    bench = build(*words)
    rate = (lambda step: 1.0) if schedule == "constant" else (lambda step: bench.fit.schedule(step, 70))
    plain_loop(net, OPTIMIZERS[name](net.parameters()), bench.stages[0], 70, rate)
    bench.go()
    assert all(torch.equal(w, net.state_dict()[n]) for n, w in bench.method.net.state_dict().items())


def test_epochs_count_the_short_last_batch(build: Callable) -> None:
    bench = build(*SMALL, "budget.steps=null", "budget.epochs=2", "budget.batch_size=500")
    assert bench.fit.length(1834, 1.0) == 8
    assert bench.fit.length(1500, 1.0) == 6
    assert bench.fit.length(1834, 0.01) == 1, "a phase has a step at least"
    bench.go()
    assert bench.journal.tally["steps"] == 2 * -(-len(bench.stages[0].train) // 500)


def test_steps_win_over_epochs(build: Callable) -> None:
    bench = build(*SMALL)
    assert bench.fit.length(10_000, 1.0) == 23
    assert bench.fit.length(10_000, 0.5) == 12


def test_every_phase_has_an_optimiser_a_rate_and_an_order_of_its_own(build: Callable) -> None:
    """Two phases are two plain loops one after the other: no momentum is carried over, the walk over the data is new."""
    words = (*SMALL, "optimizer=sgd")
    net = build(*words, folder="plain").method.net
    bench = build(*words)

    def learn(stage: Stage, fit: Callable) -> None:
        fit(bench.method, stage)
        fit(bench.method, stage, name="again", share=0.5, lr=0.1)

    bench.method.learn = learn
    bench.go()
    for phase, (steps, lr) in enumerate([(23, 0.1), (12, 0.1 * 0.1)]):
        optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
        plain_loop(net, optimizer, bench.stages[0], steps, lambda step: 1.0, phase)
    assert all(torch.equal(w, net.state_dict()[n]) for n, w in bench.method.net.state_dict().items())
    assert [line.split(b",")[1:3] for line in bench.rows.splitlines()[1:]] == [[b"train", b"23"], [b"again", b"12"]]


def test_a_phase_can_go_on_from_a_step_of_another_as_if_it_had_been_there(build: Callable) -> None:
    """`at` is reached at its step exactly, inside a block too; `begin` with the same order and rates continues it."""
    bench = build(*SMALL, "optimizer=sgd", "optimizer.momentum=0", "schedule=cosine")
    method, kept, ends = bench.method, [], []

    def keep() -> None:
        kept.append({n: w.detach().clone() for n, w in method.net.state_dict().items()})

    def learn(stage: Stage, fit: Callable) -> None:
        fit(method, stage, order="first", callbacks_at_steps=([9], keep))
        ends.append({n: w.detach().clone() for n, w in method.net.state_dict().items()})
        method.net.load_state_dict(kept[0])
        fit(method, stage, order="first", begin=9)
        ends.append(method.net.state_dict())

    method.learn = learn
    bench.go()
    assert len(kept) == 1 and not torch.equal(kept[0]["head.weight"], ends[0]["head.weight"])
    assert all(torch.equal(w, ends[1][n]) for n, w in ends[0].items())
    assert bench.journal.tally["steps"] == 23 + 14


def test_rows_stand_at_their_steps_and_hold_the_mean_loss_since_the_last(build: Callable) -> None:
    lines = build(*SMALL, "loop.log_every=10", "loop.block=7").go().rows.decode().splitlines()
    assert lines[0] == "stage,phase,step,metric,value"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[:4] for row in rows] == [["synthetic", "train", str(step), "loss"] for step in (10, 20, 23)]
    each = build(*SMALL, "loop.log_every=1", folder="each").go().rows.decode().splitlines()[1:]
    losses = [float(line.split(",")[-1]) for line in each]
    assert float(rows[0][4]) == pytest.approx(sum(losses[:10]) / 10)
    assert float(rows[2][4]) == pytest.approx(sum(losses[20:]) / 3)


def test_fit_returns_its_looks_at_the_validation_split(build: Callable) -> None:
    bench, curves = build(*SMALL, "budget.validate_every=10"), []
    fit = bench.fit

    class Kept:
        cpu_seconds = 0.0

        def __call__(self, *args, **phase) -> list:
            curves.append(fit(*args, **phase))
            return curves[-1]

    bench.go(learner=Kept())
    (curve,) = curves
    assert [look["step"] for look in curve] == [10, 20, 23]
    stage = bench.stages[0]
    assert curve[-1]["val_accuracy"] == evaluate.accuracy(bench.method, stage, stage.val)
    assert curve[-1]["val_loss"] == evaluate.loss_and_accuracy(bench.method, stage, stage.val)["loss"]


def test_a_method_that_draws_is_reproducible_and_undisturbed_by_looks(build: Callable, same: Callable) -> None:
    calm = build(*SMALL, method=Noisy, folder="calm").go()
    same(calm, build(*SMALL, method=Noisy, folder="again").go())
    dense = build(*SMALL, folder="dense").go()
    assert not all(torch.equal(w, dense.state[n]) for n, w in calm.state.items())
    looked = build(*SMALL, "budget.validate_every=5", "loop.block=3", method=Noisy, folder="looked").go()
    assert all(torch.equal(w, looked.state[n]) for n, w in calm.state.items())


@pytest.mark.sample(1)
@pytest.mark.parametrize("every", [0, 1e9], ids=["saved-always", "saved-never"])
def test_a_method_that_draws_resumes_bit_for_bit(every: float, build: Callable, relay: Callable, same: Callable) -> None:
    calm = build(*SMALL, method=Noisy, folder="calm").go()
    words = (*SMALL, "loop.block=3", f"loop.checkpoint_seconds={every}")
    same(calm, relay(*words, method=Noisy, folder="resumed", halts=[3, 1, 2]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_saves_the_block_under_way_and_loses_nothing(number: int, build: Callable, same: Callable) -> None:
    """Even where nothing was saved before: the attempt ends as interrupted, and the next goes on from that block."""
    calm = build(*SMALL, method=Noisy, folder="calm").go()
    before = signal.getsignal(number)
    words = (*SMALL, "loop.block=4", "loop.checkpoint_seconds=1e9")
    bench = build(*words, method=Noisy)
    steps = []

    def watch(phase: str, step: int, total: int, values: dict) -> None:
        steps.append(step)
        if len(steps) == 3:
            os.kill(os.getpid(), number)

    make = bench.go
    bench.fit = Relay(bench.fit, watch)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert steps == [4, 8, 12]
    assert signal.getsignal(number) is before

    resumed, steps = build(*words, method=Noisy), []
    assert "training at step 12" in resumed.journal.resumed
    resumed.go()
    same(calm, resumed)


class Relay:
    """A fit whose `watch` is the test's own, whatever the bench sets."""

    def __init__(self, fit, watch: Callable) -> None:
        object.__setattr__(self, "fit", fit)
        fit.watch = watch

    def __setattr__(self, name: str, value) -> None:
        pass

    def __getattr__(self, name: str):
        return getattr(self.fit, name)

    def __call__(self, *args, **phase):
        return self.fit(*args, **phase)


def test_a_second_ctrl_c_ends_at_once(build: Callable) -> None:
    bench = build(*SMALL, "loop.block=4", "loop.checkpoint_seconds=1e9")

    def watch(*_) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    bench.fit = Relay(bench.fit, watch)
    with pytest.raises(KeyboardInterrupt):
        bench.go()
    assert not (bench.folder / "state").exists()


def test_training_says_nothing(build: Callable, capfd: pytest.CaptureFixture) -> None:
    build(*SMALL).go()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_the_loop_is_one_lightning_module_with_manual_steps() -> None:
    import pytorch_lightning as pl

    modules = [v for v in vars(lightning).values() if isinstance(v, type) and issubclass(v, pl.LightningModule)]
    assert modules == [lightning.Learner]


CPU = {"accelerator": "cpu", "devices": 1}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"accelerator": "gpu"}, "torch sees 0 CUDA GPUs: use trainer=cpu, or no more trainer.devices than there are."),
        ({"accelerator": "nonsense"}, "invalid accelerator name"),
        ({"devices": 0}, "devices=0: "),
        ({"precision": "nonsense"}, "Precision 'nonsense' is invalid"),
        ({"strategy": "nonsense"}, "invalid strategy name"),
        ({"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_settings_that_lightning_refuses_are_told_in_one_sentence(keys: dict, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError) as caught:
        lightning.check_trainer(CPU | keys)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    lightning.check_trainer(CPU)


def test_more_gpus_than_there_are_is_told_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match=r"requested gpu: \[0, 1\].*only has: \[0\]; torch sees 1 CUDA GPUs"):
        lightning.check_trainer({"accelerator": "gpu", "devices": 2})


@pytest.mark.parametrize(
    ("key", "told"),
    [("gradient_clip_val=1", "Remove `Trainer(gradient_clip_val=1)`"), ("limit_train_batches=1", "ended after 4 of 23 steps")],
)
def test_a_key_of_the_trainer_neither_breaks_nor_shortens_training_unsaid(key: str, told: str, build: Callable) -> None:
    with pytest.raises(UsageError) as caught:
        build(*SMALL, f"+trainer.{key}", "loop.block=4").go()
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"), "Nesterov momentum requires a momentum"),
        (("optimizer=adam", "+optimizer.eps=-1"), "Invalid epsilon value"),
        (("optimizer=adam", "+optimizer.foreach=true"), "cannot be `True` together"),
    ],
)
def test_settings_that_torchs_optimiser_refuses_are_the_users_to_mend(words: tuple, reason: str, build: Callable) -> None:
    with pytest.raises(UsageError, match=f"optimizer.KEY=VALUE: .*{reason}"):
        build(*SMALL, *words).go()
