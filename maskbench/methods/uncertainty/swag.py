"""SWAG-diagonal: a Gaussian over weights from where training went (Maddox et al. 2019, arXiv 1902.02476).

Running first and second moments of all weights are taken on the way, at equal distances over the last part of training. Members
are draws from the Gaussian with these moments, whose batch norms get statistics of their own on the training inputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

from maskbench.backbones.norm import BATCH_NORMS
from maskbench.common.knobs import Count, NonNegative, Share
from maskbench.common.streams import generator, seed_for, under_way
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method, Progress
from maskbench.training.stand_in import call

ROWS = 1000  # training inputs at a time, over which a norm's variance is taken and then averaged


@final
class SWAG(Method):
    """One net, trained once; members are drawn around the mean of its later weights.

    Args:
        net: any backbone.
        members: how many draws answer.
        start: share of training before the first collection.
        per_epoch: collections an epoch, the last at its end; the paper's is 1, over 140 epochs. The end of training always
            counts; a single collection has no variance.
        scale: of the variance, which is multiplied by it: 1/2 in SWAG, whose other half is the low-rank part that the diagonal
            form leaves out; 1: the moments' own; 0: the mean alone (SWA).
    """

    def __init__(
        self, net: nn.Module, *, members: Count = 30, start: Share = 0.5, per_epoch: Count = 10, scale: NonNegative = 0.5
    ) -> None:
        super().__init__(net)
        self.members, self.start, self.per_epoch, self.scale = members, start, per_epoch, scale
        self.moments = TensorStore()  # mean/<name>; spread/<name>, the sum of squared distances from it
        self.statistics = TensorStore()  # of norms, by buffer: [members, ...]
        self.register_buffer("collected", torch.zeros((), dtype=torch.int64))
        self.register_buffer("learnt", torch.zeros((), dtype=torch.bool))
        self.register_buffer("seed", torch.tensor(seed_for(under_way(), "swag") >> 11))
        for name, w in net.named_parameters():
            for kind in ("mean", "spread"):
                self.moments.put(f"{kind}/{name}", torch.zeros_like(w))
        self.drawn: tuple[object, list[dict[str, Tensor]]] = (None, [])  # made again whenever the moments are others

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        for buffer in (self.learnt, self.collected, *(self.moments[name] for name in self.moments.names())):
            buffer.zero_()
        fit(self, stage)
        for number in range(self.members):
            for name, value in renewed(self.net, self.sample(number), stage).items():
                many = self.statistics[name] if number else value.expand(self.members, *value.shape)
                many = many.clone()
                many[number] = value
                self.statistics.put(name, many)
        self.learnt.fill_(True)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Collect the weights where a part of an epoch ends, and at the end."""
        done = progress.step + 1
        share = self.per_epoch / progress.steps_per_epoch
        ends = int(done * share) > int(progress.step * share)
        if done == progress.total or (ends and done > self.start * progress.total):
            self.collect()

    def collect(self) -> None:
        """One more point: Welford's update, which is the running moments without their cancellation."""
        self.collected += 1
        for name, w in self.net.named_parameters():
            mean, before = self.moments[f"mean/{name}"], w - self.moments[f"mean/{name}"]
            mean += before / self.collected
            self.moments[f"spread/{name}"].add_(before * (w - mean))

    def sample(self, number: int) -> dict[str, Tensor]:
        """Weights number so-and-so of the endless draws, by the backbone's names: mean + sqrt(scale * variance) * noise."""
        lot, weights = generator("swag", int(self.seed), number), {}
        for name, _ in self.net.named_parameters():
            mean, spread = self.moments[f"mean/{name}"], self.moments[f"spread/{name}"]
            noise = torch.randn(mean.shape, generator=lot).to(mean)
            weights[name] = mean + (self.scale * spread / self.collected).sqrt() * noise
        return weights

    def member(self, number: int) -> dict[str, Tensor]:
        """A member's weights and its norms' statistics, by the backbone's names."""
        held = [self.moments[name] for name in self.moments.names()]
        now = (int(self.seed), [(tensor.data_ptr(), tensor._version) for tensor in held])
        if self.drawn[0] != now:
            self.drawn = (now, [self.sample(m) for m in range(self.members)])
        return self.drawn[1][number] | {name: self.statistics[name][number] for name in self.statistics.names()}

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """[members, batch, outputs]; until training is over the net's own answer, [1, batch, outputs]."""
        if not self.learnt:
            return stage.link(self.net(x))[None]
        return torch.stack([stage.link(call(self.net, self.member(m), x)) for m in range(self.members)])

    # ---- for the record

    def memory(self) -> dict[str, int]:
        """Two moments of each weight, and the statistics of every member's norms."""
        kept = [store[name] for store in (self.moments, self.statistics) for name in store.names()]
        return {"shared": sum(value.numel() * value.element_size() for value in kept), "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """How many collections, and the mean deviation of a weight."""
        spreads = [self.moments[name] for name in self.moments.names() if name.startswith("spread/")]
        mean = torch.cat([(spread / self.collected).sqrt().flatten() for spread in spreads]).mean().item()
        return {"members": self.members, "collected": int(self.collected), "weight_deviation": mean}

    def fingerprints(self) -> dict[str, int]:
        """The seed of the draws."""
        return {"seed_members": int(self.seed)}


@torch.no_grad()
def renewed(net: nn.Module, weights: dict[str, Tensor], stage: Stage) -> dict[str, Tensor]:
    """The running statistics of a net's batch norms under other weights: their means over the training inputs, by name.

    Norms that stay as they came with the net's weights (backbone.init_norm=still) are left out.
    """
    norms = {
        name: norm
        for name, norm in net.named_modules()
        if isinstance(norm, BATCH_NORMS) and norm.track_running_stats and not getattr(norm, "still", False)
    }
    fresh = {f"{name}.{kind}": torch.zeros_like(value) for name, norm in norms.items() for kind, value in norm.named_buffers()}
    if not norms:
        return fresh
    with averaging(net, norms.values()):
        for x, _ in stage.train.batches(ROWS, next(net.parameters()).device):
            call(net, weights | fresh, x)
    return fresh


@contextmanager
def averaging(net: nn.Module, norms: Iterator[nn.Module]) -> Iterator[None]:
    """Inside, these norms take the plain mean of all batches they see, and nothing else of the net is in training."""
    modes = {module: module.training for module in net.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    net.eval()
    for norm in momenta:
        norm.train()
        norm.momentum = None
    try:
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
