"""CPU time of a training step of a later stage, for the methods that ask more of it, as a ratio to the dense step and to the
same method written by hand: what the loop, the hooks and the records cost, or gain.

python scripts/bench_continual.py [--rounds 7] [--steps 1000] [--output outputs/bench.json]

As bench.py measures, whose loops these are: LeNet-300-100 on the second permutation of MNIST, batch 128, fused Adam. The first
stage is learnt in one step, so that a WSN's second stage has half its weights taken. By hand is plain PyTorch: index batches of
resident tensors, selection by kthvalue, terms in the loss, the memory's rows joined to the batch.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from bench import bare, config, measure, tell, through_the_loop
from torch import Tensor, nn
from torch.func import functional_call

from maskbench.common.streams import generator
from maskbench.data.stage import Stage, batches
from maskbench.runs.assemble import Run

DENSE, BARE = "dense, later stage", "bare"
ROWS = {
    "wsn, second stage": ["method=wsn"],
    "ewc": ["method=ewc"],
    "si": ["method=si"],
    "lwf": ["method=lwf"],
    "replay": ["method=replay"],
}
KEEP, MEMORY, TEMPERATURE = 0.5, 200, 2.0  # as the methods' own files have them


class Ranked(torch.autograd.Function):
    """1 where |score| is among the `count` highest, else 0; the gradient goes to the score as it came."""

    @staticmethod
    def forward(ctx, score: Tensor, count: int) -> Tensor:
        rank = score.abs()
        return (rank > rank.flatten().kthvalue(rank.numel() - count).values).float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class ByHand:
    """A method's part in a plain loop: what it trains, its loss, and what it does before and after the optimiser's step."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def parameters(self) -> list[nn.Parameter]:
        return list(self.net.parameters())

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.net(x), y)

    def before_step(self) -> None:
        pass

    def after_step(self, x: Tensor, y: Tensor) -> None:
        pass


class WSNByHand(ByHand):
    """Half the weights are the first stage's: their gradient is 0, and what the optimiser makes of its moments is taken back."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.trunk = {name: w for name, w in net.named_parameters() if w.ndim > 1 and not name.startswith("head")}
        self.scores = {name: nn.Parameter(torch.randn_like(w)) for name, w in self.trunk.items()}
        self.taken = {name: torch.rand_like(w) < KEEP for name, w in self.trunk.items()}
        self.values = {name: w.detach().clone() for name, w in self.trunk.items()}

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), *self.scores.values()]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        masked = {name: w * Ranked.apply(self.scores[name], int(KEEP * w.numel())) for name, w in self.trunk.items()}
        return F.cross_entropy(functional_call(self.net, masked, (x,)), y)

    def before_step(self) -> None:
        for name, w in self.trunk.items():
            w.grad[self.taken[name]] = 0

    @torch.no_grad()
    def after_step(self, x: Tensor, y: Tensor) -> None:
        for name, w in self.trunk.items():
            w.copy_(torch.where(self.taken[name], self.values[name], w))


class EWCByHand(ByHand):
    """The quadratic term is in the loss."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.anchor = [w.detach().clone() for w in net.parameters()]
        self.fisher = [torch.rand_like(w) for w in net.parameters()]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        terms = zip(self.fisher, self.net.parameters(), self.anchor, strict=True)
        return super().loss(x, y) + 0.5 * sum((f * (w - a) ** 2).sum() for f, w, a in terms)


class SIByHand(EWCByHand):
    """The term of EWC by another importance, and the path's: the gradient of the data alone times the way of each step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.path = [torch.zeros_like(w) for w in net.parameters()]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        data = F.cross_entropy(self.net(x), y)
        self.slopes = torch.autograd.grad(data, self.parameters(), retain_graph=True)
        self.before = [w.detach().clone() for w in self.net.parameters()]
        terms = zip(self.fisher, self.net.parameters(), self.anchor, strict=True)
        return data + sum((f * (w - a) ** 2).sum() for f, w, a in terms)

    @torch.no_grad()
    def after_step(self, x: Tensor, y: Tensor) -> None:
        for path, slope, w, before in zip(self.path, self.slopes, self.net.parameters(), self.before, strict=True):
            path -= slope * (w - before)


class LwFByHand(ByHand):
    """The net from before the stage answers, too."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.teacher = copy.deepcopy(net).eval()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.net(x)
        with torch.no_grad():
            told = (self.teacher(x) / TEMPERATURE).softmax(1)
        return F.cross_entropy(logits, y) + 2 * TEMPERATURE**2 * F.cross_entropy(logits / TEMPERATURE, told)


class ReplayByHand(ByHand):
    """As many rows of a memory as the batch has, which then takes in what the reservoir's rule says."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.images: Tensor | None = None
        self.labels, self.seen = torch.zeros(MEMORY, dtype=torch.long), 0

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        if self.images is None:
            self.images = torch.zeros(MEMORY, *x.shape[1:])
        if self.seen:
            rows = torch.randint(min(self.seen, MEMORY), (len(y),))
            x, y = torch.cat([x, self.images[rows]]), torch.cat([y, self.labels[rows]])
        return super().loss(x, y)

    def after_step(self, x: Tensor, y: Tensor) -> None:
        lots = (torch.rand(len(y)) * (self.seen + 1 + torch.arange(len(y)))).long().tolist()
        for row, lot in enumerate(lots):
            slot = self.seen if self.seen < MEMORY else lot
            if slot < MEMORY:
                self.images[slot], self.labels[slot] = x[row], y[row]
            self.seen += 1


BY_HAND = dict(zip(ROWS, (WSNByHand, EWCByHand, SIByHand, LwFByHand, ReplayByHand), strict=True))


def by_hand(kind: type[ByHand], run: Run, stage: Stage, steps: int) -> Callable[[], Callable[[], None]]:
    """Prepares a stage learnt by a plain loop around one of the above."""
    x, y = stage.train.tensors()
    size = run.cfg.budget.batch_size

    def prepare() -> Callable[[], None]:
        part = kind(run.method([stage]).net)
        return lambda: loop(part)

    def loop(part: ByHand) -> None:
        optimizer = torch.optim.Adam(part.parameters(), lr=1e-3, fused=True)
        part.net.train()
        for index in batches(
            len(y), size, range(steps), lambda epoch: torch.randperm(len(y), generator=generator("bare", epoch))
        ):
            images, labels = x.index_select(0, index), y.index_select(0, index)
            optimizer.zero_grad(set_to_none=True)
            part.loss(images, labels).backward()
            part.before_step()
            optimizer.step()
            part.after_step(images, labels)

    return prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("outputs/bench.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    dense = config(["method=finetune"])
    first, second = dense.stages()
    loops = {BARE: bare(dense, second, args.steps), DENSE: through_the_loop(dense, second, args.steps)}
    against = {DENSE: BARE}
    for name, words in ROWS.items():
        loops[name] = through_the_loop(config(words), second, args.steps, after=[first])
        hand = f"{name}, by hand"
        loops[hand] = by_hand(BY_HAND[name], dense, second, args.steps)
        against |= {name: DENSE, hand: DENSE}
    seconds = {name: [s / args.steps for s in values] for name, values in measure(loops, args.rounds).items()}
    title = f"CPU time of a step of a later stage ({args.rounds} rounds of {args.steps} steps, one thread)"
    tell(title, seconds, against, args.output)
    # a row has one ratio in the file: the second is a row of its own
    for name in ROWS:
        seconds[f"{name}, of by hand"] = seconds[name]
    tell(title, seconds, {f"{name}, of by hand": f"{name}, by hand" for name in ROWS}, args.output)


if __name__ == "__main__":
    main()
