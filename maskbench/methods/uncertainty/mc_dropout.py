"""MC-dropout: dropout that stays on when the net answers, read as sampling from a posterior (Gal 2016, arXiv 1506.02142).

Dropout stands before every weight layer, the first one included. T passes, each with a mask of its own, are T members;
for regression the noise precision tau and the length scale l set the weight decay lambda = l^2 (1 - drop) / (2 N tau).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench.backbones.gate import gates_of
from maskbench.common import devices
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, NonNegative, Positive, Share
from maskbench.common.streams import generator, seed_for, under_way
from maskbench.data import gaussian
from maskbench.data.stage import Stage
from maskbench.training.method import Method

ROWS = 1024  # that go through the net at once, where passes are tiled: LeNet-5 answers 4,096 in 1.6 times the time a row
NUMBERS = ROWS * 28 * 28  # of inputs at once, at most: images larger than MNIST's bring larger activations too


@final
class MCDropout(Method):
    """A net with dropout in training and prediction: T stochastic passes are T members.

    Dropout is a gain on gates, so no switch to evaluation turns it off, and none touches a norm. In training each example
    has a mask of its own. In prediction a pass has one mask for all examples: member t is one net, the same for every batch
    and every evaluation. (A single example's prediction has the same distribution either way.)

    Args:
        net: any backbone with gates.
        drop: share of units dropped (the paper's p is the share kept): one for all gates, or one each in their order.
        where: `all`, before every weight layer, or `hidden`, after hidden activations only. After a convolution whole maps
            are dropped; of input images single pixels.
        passes: T, stochastic passes of a prediction.
        tau: noise precision, in 1 / units of the target^2; null for classes without decay.
        length_scale: l, of the prior; sets the weight decay, which is on weight matrices, not biases, and is added to the mean
            squared error without its factor 1/2, as in the authors' code.
        grid: lists `drop` and `tau`; each fold takes the pair with the best validation likelihood, then trains on all
            but the test rows (the protocol of 2018). One training per drop rate, at the middle tau, which hardly matters
            there; each tau is scored on it. Inputs and targets stay standardised by the rows that trained at first.

    Raises:
        UsageError: the backbone has no gates where they are needed, or `drop` or `grid` does not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        drop: Share | Sequence[Share] = 0.5,
        where: Literal["all", "hidden"] = "all",
        passes: Count = 100,
        tau: Positive | None = None,
        length_scale: NonNegative = 0.01,
        grid: Mapping[Literal["drop", "tau"], Sequence[NonNegative]] | None = None,
    ) -> None:
        super().__init__(net)
        self.gates = gates_of(net, inlets=where == "all")
        if not self.gates:
            raise UsageError(f"method=mc_dropout needs a backbone with gates, and {type(net).__name__} has none: backbone=lenet5")
        if where == "all" and not any(gate.inlet for gate in self.gates.values()):
            raise UsageError(
                f"method.where=all needs a gate on the inputs, and {type(net).__name__} has none: method.where=hidden"
            )
        self.passes, self.length_scale, self.grid = passes, length_scale, check_grid(grid)
        drops = [drop] * len(self.gates) if isinstance(drop, int | float) else list(drop)
        if len(drops) != len(self.gates):
            at = ", ".join(name.removesuffix(".gain") for name in self.gates)
            raise UsageError(f"method.drop={drop} must be one share, or one for each of {at}")
        folds = max(gate.shape[0] if len(gate.shape) > 1 else 1 for gate in self.gates.values())
        self.decays = tau is not None or self.grid is not None
        self.weights = [w for name, w in net.named_parameters() if name.endswith("weight") and w.ndim > 1]
        self.register_buffer("rates", torch.tensor(drops, dtype=torch.float)[:, None].repeat(1, folds))  # [gates, folds]
        self.register_buffer("tau", torch.full((folds,), 1.0 if tau is None else float(tau)))
        self.register_buffer("stream", torch.tensor(seed_for(under_way(), "passes")))  # names the masks of prediction

    # ---- training

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.regression and not self.decays and stage.outputs == self.outputs(stage):
            raise UsageError("method.tau=null does not work here: regression needs the precision of its noise, in 1 / units^2")
        if self.grid is None:
            fit(self, stage)
        else:
            self.search(stage, fit)

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The criterion, and lambda times the squared weights; folds add up, so each has the gradient it would have alone."""
        x, y = batch
        loss = stage.criterion(self.logits(x, stage), y)
        if not self.decays:
            return loss
        decay = self.decay(len(stage.train))
        for w in self.weights:
            loss = loss + (decay.view(-1, *[1] * (w.ndim - 1)) * w.square()).sum()
        return loss

    def decay(self, rows: int) -> Tensor:
        """lambda of each fold, [folds], with the mean drop rate where gates differ."""
        return self.length_scale**2 * (1 - self.rates.mean(0)) / (2 * rows * self.tau)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        """A mask for each example in training; in evaluation nothing is dropped (`predict` draws masks of its own)."""
        if not self.training:
            return {}
        return {
            name: self.gain(number, devices.own(torch.rand(devices.whole(len(x)), *gate.shape, device=x.device)))
            for number, (name, gate) in enumerate(self.gates.items())
        }

    def gain(self, number: int, noise: Tensor) -> Tensor:
        """Bernoulli(1 - p) / (1 - p) of a gate, out of noise [batch, (folds,) units], uniform on [0, 1), which is overwritten."""
        rate = self.rates[number]
        rate = rate[:, None] if len(rate) > 1 else rate
        return torch.ge(noise, rate, out=noise).div_(1 - rate)

    # ---- prediction

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """T passes, [passes, batch, outputs]; for reals each is a Gaussian whose variance is 1 / tau, in standardised units."""
        if not self.rates.any():  # nothing is ever dropped: all passes are one
            answer = self.predict_standard(x, stage)
            return answer.expand(self.passes, *answer.shape[1:])
        gains, rows, step = self.sampled(), len(x), max(1, min(ROWS // len(x), NUMBERS // x.numel()))
        answers = []
        for begin in range(0, self.passes, step):
            some = {name: gain[begin : begin + step] for name, gain in gains.items()}
            count = len(next(iter(some.values())))
            tiled = {name: gain.repeat_interleave(rows, 0) for name, gain in some.items()}
            answers.append(functional_call(self.net, tiled, (x.repeat(count, *[1] * (x.ndim - 1)),)).unflatten(0, (count, rows)))
        return self.stated(torch.cat(answers), stage)

    def predict_standard(self, x: Tensor, stage: Stage) -> Tensor:
        """One pass of the whole net, nothing dropped: the paper's "standard" answer."""
        return self.stated(self.net(x)[None], stage)

    def prediction_modes(self) -> dict[str, Callable[[Tensor, Stage], Tensor]]:
        return {"": self.predict, "standard": self.predict_standard}

    def sampled(self) -> dict[str, Tensor]:
        """The gains of all passes, [passes, (folds,) units] by gate, from a stream that training never saw."""
        gains = {}
        for number, (name, gate) in enumerate(self.gates.items()):
            stream = generator(int(self.stream), "passes", name)
            noise = torch.rand(self.passes, *gate.shape, generator=stream).to(self.rates.device)
            gains[name] = self.gain(number, noise)
        return gains

    def stated(self, outputs: Tensor, stage: Stage) -> Tensor:
        """Outputs as a prediction; to a mean without a variance 1 / tau is added, from 1 / units^2 to standardised units."""
        answer = stage.link(outputs)
        if not stage.regression or answer.shape[-1] != stage.outputs:
            return answer
        variance = 1 / self.tau[:, None].expand(-1, stage.outputs)  # [folds, values]
        if stage.units is not None:
            variance = variance / stage.units[1].to(variance).square()
        variance = variance if answer.ndim > 3 else variance[0]
        return torch.cat([answer, variance.expand_as(answer)], -1)

    # ---- choosing drop rate and tau

    def search(self, stage: Stage, fit: Callable) -> None:
        """Train once for each drop rate, score every tau on validation rows, then train the best pair on all but the test rows.

        Raises:
            UsageError: no validation rows are held out.
        """
        if not stage.holds_out:
            raise UsageError("method.grid chooses by validation rows, and none are held out: data.val=0.2")
        start = {name: value.clone() for name, value in self.net.state_dict().items()}
        best, chosen = torch.full_like(self.tau, -torch.inf), (self.rates[0].clone(), self.tau.clone())
        for drop in self.grid["drop"]:
            self.restart(start, torch.full_like(self.tau, drop), torch.full_like(self.tau, middle(self.grid["tau"])))
            fit(self, stage, name=f"drop {drop:g}")
            for tau in self.grid["tau"]:
                self.tau.fill_(tau)
                score = self.likelihood(stage).to(best)
                better = score > best
                best = torch.where(better, score, best)
                chosen = (chosen[0].masked_fill(better, drop), chosen[1].masked_fill(better, tau))
        self.restart(start, *chosen)
        fit(self, replace(stage, train=stage.train + stage.val), name="chosen")

    @torch.no_grad()
    def restart(self, start: dict[str, Tensor], drop: Tensor, tau: Tensor) -> None:
        """Initial weights, and the drop rate and tau of each fold, [folds]."""
        self.net.load_state_dict(start)
        self.rates.copy_(drop.expand_as(self.rates))
        self.tau.copy_(tau)

    @torch.no_grad()
    def likelihood(self, stage: Stage) -> Tensor:
        """Mean predictive log-likelihood on the validation rows, [folds]."""
        self.eval()
        x, y = stage.val.tensors(self.tau.device)
        return gaussian.scores(self.predict(x, stage), y, stage.units)["log_likelihood"]

    # ---- for the record

    def masked_weights(self) -> list[str]:
        return list(self.gates)

    def outputs(self, stage: Stage) -> int:
        """How many the net has."""
        x, _ = stage.test.tensors(self.tau.device, first=1)
        with torch.no_grad():
            return self.net.eval()(x).shape[-1]

    def extra_metrics(self) -> dict[str, float]:
        """Mean drop rate; tau (mean over folds); of a grid, what each fold chose."""
        metrics = {"drop": self.rates.mean().item(), "passes": float(self.passes)}
        metrics |= {"tau": self.tau.mean().item()} if self.decays else {}
        for fold in range(len(self.tau)) if self.grid else ():
            metrics |= {f"chosen/drop/{fold}": self.rates[0, fold].item(), f"chosen/tau/{fold}": self.tau[fold].item()}
        return metrics


def check_grid(grid: Mapping[str, Sequence[float]] | None) -> dict[str, list[float]] | None:
    """The grid as plain lists.

    Raises:
        UsageError: a list is missing or empty, a drop rate is 1 or more, or a tau is 0.
    """
    if grid is None:
        return None
    complete = set(grid) == {"drop", "tau"} and all(len(values) for values in grid.values())
    if not complete or max(grid["drop"]) >= 1 or min(grid["tau"]) <= 0:
        raise UsageError(f"method.grid={dict(grid)} must be {{drop: [shares below 1], tau: [values above 0]}}")
    return {name: list(values) for name, values in grid.items()}


def middle(values: Sequence[float]) -> float:
    """The upper median."""
    return sorted(values)[len(values) // 2]
