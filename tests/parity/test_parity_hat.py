"""HAT against its authors' training: 60 steps over 2 stages on the same tensors and batches. On the kind of processor that the
tensors were frozen on (AMD with AVX-512) all bits are equal; another one sums in another order, within ROUNDING of it."""

import torch
from torch import Tensor

from maskbench.backbones.mlp import MLP
from maskbench.data.stage import Origin, Split, Stage, in_order
from maskbench.methods.continual.hat import HAT
from maskbench.training.method import Progress

BATCH, RATE, SMAX = 8, 0.05, 30.0
ROUNDING = 1e-7  # of values up to 6; an Intel Xeon came to 1.5e-8
THEIRS = {f"hidden.{i}.{part}": f"fc{i + 1}.{part}" for i in range(2) for part in ("weight", "bias")}


def begun(frozen: dict[str, Tensor]) -> HAT:
    method = HAT(MLP((9,), 2, widths=[12, 12]), smax=SMAX)
    with torch.no_grad():
        for ours, theirs in THEIRS.items():
            method.trunk[ours].copy_(frozen[f"start/{theirs}"])
    return method


def stages_of(frozen: dict[str, Tensor]) -> list[Stage]:
    splits = [Split(frozen[f"x{t}"], frozen[f"y{t}"]) for t in range(2)]
    return in_order(
        Stage(index=t, total=2, name=str(t), train=split, val=split, test=split, classes=(0, 1), outputs=2, shape=(9,),
              origin=Origin("frozen", "synthetic"))
        for t, split in enumerate(splits)
    )  # fmt: skip


def in_their_order(frozen: dict[str, Tensor]):
    """A fit of one epoch in the batches of the authors' loop, from their first head and embedding."""

    def fit(method: HAT, stage: Stage) -> None:
        t = stage.index
        for i, name in enumerate(method.gates):
            method.embeddings[name].data.copy_(frozen[f"start/efc{i + 1}.weight"][t])
        for part in ("weight", "bias"):
            method.heads.of(t)[f"head.{part}"].data.copy_(frozen[f"start/last.{t}.{part}"])
        optimizer = torch.optim.SGD(method.trainable_parameters(), lr=RATE)
        batches = frozen[f"order{t}"].split(BATCH)
        method.train()
        for step, rows in enumerate(batches):
            progress = Progress(step, len(batches), "train", stage, ("train",), BATCH)
            optimizer.zero_grad()
            with torch.no_grad():
                method.before_step(progress)
            method.loss(stage.train.pick(rows), stage).backward()
            with torch.no_grad():
                method.after_backward(progress)
                optimizer.step()
                method.after_step(progress, optimizer)

    return fit


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=ROUNDING)


def test_sixty_steps_are_those_of_the_authors_loop(frozen) -> None:
    method, stages = begun(frozen), stages_of(frozen)
    fit, steps = in_their_order(frozen), sum(len(frozen[f"order{t}"].split(BATCH)) for t in range(2))
    assert steps == 60
    for stage in stages:
        t = stage.index
        method.learn(stage, fit)
        for ours, theirs in THEIRS.items():
            same(method.owners.present(method.trunk)[ours], frozen[f"end{t}/{theirs}"])
        for i, name in enumerate(method.gates):
            same(method.embeddings[name], frozen[f"end{t}/efc{i + 1}.weight"][t])
            same(method.used[name], frozen[f"used{t}/{i}"])
        for part in ("weight", "bias"):
            same(method.heads.of(t)[f"head.{part}"], frozen[f"end{t}/last.{t}.{part}"])
        method.eval()
        for known in stages[: t + 1]:
            x, _ = known.test.tensors(first=20)
            same(method.logits(x, known), frozen[f"answers{t}/{known.index}"])


def test_the_fixture_has_gates_of_every_kind(frozen) -> None:
    """Shut, open and locked ones: else equality would say little."""
    used = torch.cat([frozen[f"used0/{i}"] for i in range(2)])
    assert (used == 0).any() or (used < 1e-6).any()
    assert ((used > 0.01) & (used < 0.99)).any() and (used == 1).any()
    assert (frozen["answers0/0"] - frozen["answers1/0"]).abs().max() > 0, "open gates let a finished stage drift"
