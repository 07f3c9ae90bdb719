"""Last-layer Laplace: a Gaussian over the head's weights at the end of training (Daxberger et al. 2021, arXiv 2106.14806).

Its precision is the generalised Gauss-Newton matrix of the loss on the training inputs, plus the prior's, which is chosen by the
marginal likelihood. Members are draws of the head over the features of one net.

Written here rather than taken from laplace-torch (0.3), whose numbers the tests hold: that needs five further packages to be
imported, one of them from a repository, and keeps its posterior in objects that a run's state of plain tensors cannot hold.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from maskbench.backbones.features import tapped
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Positive
from maskbench.common.streams import generator, seed_for, under_way
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method

Structure = Literal["kron", "full"]
ROWS = 1000  # training inputs at a time
LARGEST = 10_000  # weights of a head whose full matrix is decomposed
PRIORS = (-4.0, 6.0)  # decimal logarithms between which the prior's precision is sought


@final
class Laplace(Method):
    """One net, trained plainly; members differ in their head, which is drawn around the one that was trained.

    Args:
        net: a backbone whose last layer is a Linear `head`.
        members: how many draws answer.
        structure: of the head's precision: `full`, or `kron`, a Kronecker product for weights and a matrix for biases.
        prior: precision of the Gaussian prior of the head's weights and biases, in 1 / weight^2; null: the one with the largest
            marginal likelihood. Weight decay of the optimiser is not counted as one.

    Raises:
        UsageError: no such head, one that is too large for `full`, or (as learning begins) targets that are no classes.
    """

    def __init__(
        self, net: nn.Module, *, members: Count = 30, structure: Structure = "kron", prior: Positive | None = None
    ) -> None:
        super().__init__(net)
        self.members, self.structure, self.prior = members, structure, prior
        head = getattr(net, "head", None)
        if not isinstance(head, nn.Linear):
            raise UsageError(f"method=laplace needs a Linear `head`, and {type(net).__name__} has none: take backbone=lenet5")
        count = sum(p.numel() for p in head.parameters())
        if structure == "full" and count > LARGEST:
            raise UsageError(f"method.structure=full is for heads of up to {LARGEST:,} weights, not {count:,}: take kron")
        self.heads = TensorStore()  # weight and bias of every member, [members, ...]
        for name, w in head.named_parameters():
            self.heads.put(name, torch.zeros(members, *w.shape))
        self.register_buffer("learnt", torch.zeros((), dtype=torch.bool))
        self.register_buffer("precision", torch.zeros((), dtype=torch.float64))  # of the prior, as it was chosen
        self.register_buffer("evidence", torch.zeros((), dtype=torch.float64))  # log marginal likelihood
        self.register_buffer("seed", torch.tensor(seed_for(under_way(), "laplace") >> 11))

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.regression:
            raise UsageError(
                "method=laplace is for classes, and this data has numbers: take method=swag or method=deep_ensembles"
            )
        self.learnt.fill_(False)
        fit(self, stage, shared=self.net)
        self.approximate(stage)
        self.learnt.fill_(True)

    @torch.no_grad()
    def approximate(self, stage: Stage) -> None:
        """The posterior of the head, its prior, and the members."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        head = self.net.head
        posterior = curvature(self.structure, self.features_of(stage), head)
        weights = torch.cat([p.double().flatten() for p in head.parameters()])
        self.precision.fill_(self.prior or posterior.best_prior(weights))
        self.evidence.fill_(posterior.evidence(float(self.precision), weights))
        lot = generator("laplace", int(self.seed))
        for number in range(self.members):
            for name, move in posterior.draw(float(self.precision), lot).items():
                self.heads[name][number] = head.get_parameter(name) + move.to(head.weight)
        for module, mode in modes.items():
            module.training = mode

    def features_of(self, stage: Stage) -> Iterator[tuple[Tensor, Tensor]]:
        """(what the head is given, targets) of the training inputs, in pieces."""
        for x, y in stage.train.batches(ROWS, self.seed.device):
            yield self.features(x), y

    def features(self, x: Tensor) -> Tensor:
        """[batch, inputs of the head]."""
        with tapped(self.net, [], head=True) as outputs:
            self.net(x)
        return outputs["head"]

    def member(self, number: int) -> dict[str, Tensor]:
        """A member's head, by the backbone's names."""
        return {f"head.{name}": self.heads[name][number] for name in self.heads.names()}

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """[members, batch, outputs]; until training is over the net's own answer, [1, batch, outputs]."""
        if not self.learnt:
            return self.map(x, stage)
        features, bias = self.features(x), self.heads["bias"] if "bias" in self.heads else [None] * self.members
        heads = zip(self.heads["weight"], bias, strict=True)
        return torch.stack([stage.link(nn.functional.linear(features, w, b)) for w, b in heads])

    def map(self, x: Tensor, stage: Stage) -> Tensor:
        """The trained net's own answer, [1, batch, outputs]."""
        return stage.link(self.net(x))[None]

    # ---- for the record

    def prediction_modes(self) -> dict[str, Callable[[Tensor, Stage], Tensor]]:
        """Besides the members' answer `map`, the net as it was trained."""
        return {"": self.predict, "map": self.map}

    def memory(self) -> dict[str, int]:
        """The net, and every member's head."""
        own = [*self.net.parameters(), *(self.heads[name] for name in self.heads.names())]
        return {"shared": sum(value.numel() * value.element_size() for value in own), "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """The prior's precision, and the log marginal likelihood under it, in nats over all training inputs."""
        return {"members": self.members, "prior_precision": float(self.precision), "log_evidence": float(self.evidence)}

    def fingerprints(self) -> dict[str, int]:
        """The seed of the draws."""
        return {"seed_members": int(self.seed)}


# ---- the posterior


@dataclass
class Block:
    """Some of the head's parameters, whose Gauss-Newton matrix is a product of symmetric ones: `values` are its eigenvalues,
    shaped as the parameters are, and each basis [n, n] belongs to one dimension of them."""

    values: Tensor
    bases: tuple[Tensor, ...]

    def out(self, x: Tensor) -> Tensor:
        """Coordinates among the eigenvectors -> parameters of that shape."""
        for dim, basis in enumerate(self.bases):
            x = torch.tensordot(basis, x, dims=([1], [dim])).movedim(0, dim)
        return x


@dataclass
class Posterior:
    """A Gaussian around the trained head.

    Attributes:
        blocks: of independent parameters. log_likelihood: of the training targets under the head, in nats.
        split: what a list of draws of all blocks is, by the head's names.
    """

    blocks: list[Block]
    log_likelihood: float
    split: Callable[[list[Tensor]], dict[str, Tensor]]

    def evidence(self, prior: float, weights: Tensor) -> float:
        """Laplace's approximation of the log marginal likelihood under a prior N(0, 1 / prior)."""
        ratio = sum(float((block.values / prior).log1p().sum()) for block in self.blocks)  # of determinants
        return self.log_likelihood - 0.5 * (ratio + prior * float(weights.square().sum()))

    def best_prior(self, weights: Tensor) -> float:
        """The precision with the largest evidence."""
        found = minimize_scalar(lambda power: -self.evidence(10**power, weights), bounds=PRIORS, method="bounded")
        return 10.0 ** float(found.x)

    def draw(self, prior: float, lot: torch.Generator) -> dict[str, Tensor]:
        """A deviation from the trained head, by its names."""
        moves = []
        for block in self.blocks:
            noise = torch.randn(block.values.shape, generator=lot, dtype=torch.float64).to(block.values)
            moves.append(block.out(noise / (block.values + prior).sqrt()))
        return self.split(moves)


def curvature(structure: Structure, pieces: Iterable[tuple[Tensor, Tensor]], head: nn.Linear) -> Posterior:
    """The posterior of a head, but for its prior, by features [n, inputs] and targets [n] that come in pieces, float64.

    The Gauss-Newton matrix of cross-entropy is the sum over inputs of (diag(p) - p p') x (f f'). `kron` takes the product of the
    sum of the one and the mean of the other for weights, and the former alone for biases.
    """
    biased, count, total = head.bias is not None, 0, 0.0
    outer: Tensor | float = 0.0  # sum of f f'
    inner: Tensor | float = 0.0  # sum of diag(p) - p p'
    whole: Tensor | float = 0.0  # of their products, [outputs, inputs, outputs * inputs]
    for features, y in pieces:
        log_p = head(features).double().log_softmax(-1)
        total += float(log_p.gather(-1, y[:, None]).sum())
        f, p = features.double(), log_p.exp()
        spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        count, inner = count + len(y), inner + spread.sum(0)
        if structure == "kron":
            outer = outer + f.mT @ f
        else:
            f = torch.cat([f, torch.ones_like(f[:, :1])], 1) if biased else f
            whole = whole + torch.stack([f.mT @ (row[:, :, None] * f[:, None]).flatten(1) for row in spread.unbind(1)])
    if structure == "full":
        return full(whole.flatten(0, 1), total, head)
    (g, g_basis), (a, a_basis) = eigen(inner), eigen(outer / count)
    blocks = [Block(g[:, None] * a, (g_basis, a_basis)), *([Block(g, (g_basis,))] if biased else [])]
    return Posterior(blocks, total, lambda moves: dict(zip(("weight", "bias"), moves, strict=False)))


def full(matrix: Tensor, log_likelihood: float, head: nn.Linear) -> Posterior:
    """Of a Gauss-Newton matrix of all parameters, output by output: its weights, then its bias."""

    def split(moves: list[Tensor]) -> dict[str, Tensor]:
        rows = moves[0].unflatten(0, (head.out_features, -1))
        return {"weight": rows[:, : head.in_features]} | ({} if head.bias is None else {"bias": rows[:, -1]})

    values, basis = eigen(matrix)
    return Posterior([Block(values, (basis,))], log_likelihood, split)


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, none below 0, and eigenvectors of a symmetric positive semi-definite matrix."""
    values, basis = torch.linalg.eigh(matrix)
    return values.clamp_min(0), basis
