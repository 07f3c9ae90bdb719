"""Masks are the same bits on every device: drawn, cut to exact counts, packed, stored, counted (`pytest --device`)."""

import pytest
import torch
from torch import Tensor

from maskbench import masks
from maskbench.common.streams import generator
from maskbench.masks.stores import MaskBank
from maskbench.masks.windows import Cutter, cut_there

pytestmark = pytest.mark.device
SHAPES = [(300,), (40, 31), (8, 5, 3, 3)]


def scores(shape: tuple[int, ...], name: str) -> Tensor:
    """Draws of which many are equal, so that a cut falls among ties."""
    return (torch.randn(shape, generator=generator("device", name)) * 8).round() / 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("magnitude", [False, True])
def test_a_cut_keeps_the_same_weights(shape: tuple[int, ...], magnitude: bool, device: str) -> None:
    score = scores(shape, "cut")
    for keep in (0.01, 0.3, 0.5, 1.0):
        count = masks.kept_count(keep, score.numel())
        here = masks.kept(score, masks.cut(score, count, magnitude), magnitude)
        there = masks.kept(score.to(device), cut_there(score.to(device), count, magnitude), magnitude)
        assert int(here.sum()) == count
        assert torch.equal(here, there.cpu())
        again = Cutter().cut(score.to(device), count, magnitude)
        assert torch.equal(here, masks.kept(score.to(device), again, magnitude).cpu())


def test_a_joint_cut_keeps_the_same_weights(device: str) -> None:
    parts = [scores(shape, "joint") for shape in SHAPES]
    there = [part.to(device) for part in parts]
    count = sum(part.numel() for part in parts) // 3
    here = [masks.kept(score, c) for score, c in zip(parts, masks.cuts(parts, count, least=4), strict=True)]
    assert sum(int(mask.sum()) for mask in here) == count
    by = [cut_there] * (len(parts) + 1)
    found = [masks.kept(score, c) for score, c in zip(there, masks.cuts(there, count, least=4, by=by), strict=True)]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, found, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_pruning_drops_the_same_weights(shape: tuple[int, ...], device: str) -> None:
    w, alive = torch.randn(shape, generator=generator("device", "w")), scores(shape, "alive") > -0.5
    for share in (0.0, 0.2, 0.9):
        assert torch.equal(masks.prune(w, alive, share), masks.prune(w.to(device), alive.to(device), share).cpu())
    for keep in (1, int(alive.sum()) // 3, int(alive.sum())):
        kept = masks.keep_best(w.to(device), alive.to(device), keep)
        assert torch.equal(masks.keep_best(w, alive, keep), kept.cpu()) and int(kept.sum()) == keep


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_masked_and_its_gradients_agree(shape: tuple[int, ...], device: str) -> None:
    w, score = torch.randn(shape, generator=generator("device", "w")), scores(shape, "score")
    upstream = torch.randn(shape, generator=generator("device", "up"))
    logit, noise = scores(shape, "logit"), torch.rand(shape, generator=generator("device", "noise"))
    kinds = {
        "threshold": lambda w, s: masks.threshold(w, s),
        "signed": lambda w, s: masks.signed(w, s, torch.tensor(0.25, device=s.device)),
        "top share": lambda w, s: masks.top_share(w, s, masks.cut(s.detach().cpu(), s.numel() // 3, True), True),
        "bernoulli": lambda w, s: masks.bernoulli(logit.to(s.device) + 0 * s, noise.to(s.device)) * w,
    }
    for name, kind in kinds.items():
        here, there = ([t.clone().to(where).requires_grad_() for t in (w, score)] for where in ("cpu", device))
        made = [kind(*pair) for pair in (here, there)]
        assert torch.equal(made[0].detach() != 0, made[1].detach().cpu() != 0), name
        for result, where in zip(made, ("cpu", device), strict=True):
            (result * upstream.to(where)).sum().backward()
        for a, b in zip(here, there, strict=True):
            torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-5, atol=1e-6)


def test_a_bank_stores_and_counts_the_same_bits(device: str) -> None:
    shapes = {f"w{number}": torch.Size(shape) for number, shape in enumerate(SHAPES)}
    here, there = MaskBank(shapes), MaskBank(shapes).to(device)
    for stage in range(5):
        drawn = {name: scores(shape, f"{stage}/{name}") > 0.1 for name, shape in shapes.items()}
        here.write(stage, drawn)
        there.write(stage, {name: mask.to(device) for name, mask in drawn.items()})
        assert all(torch.equal(masks.pack(m), masks.pack(m.to(device)).cpu()) for m in drawn.values())
    there.drop(1)
    here.drop(1)
    assert {k: v for k, v in here.named().items() if not torch.equal(v, there.named()[k].cpu())} == {}
    rows = torch.tensor([0, 2])
    vectors = {name: torch.randn((3, *shape), generator=generator("device", name)) for name, shape in shapes.items()}
    for chosen in (None, rows):
        mean, far = here.mean(chosen), there.mean(None if chosen is None else chosen.to(device))
        assert all(torch.equal(mean[name], far[name].cpu()) for name in shapes)
        dot = here.dot(vectors, chosen)
        far = there.dot({n: v.to(device) for n, v in vectors.items()}, None if chosen is None else chosen.to(device))
        torch.testing.assert_close(far.cpu(), dot, rtol=1e-4, atol=1e-4)
