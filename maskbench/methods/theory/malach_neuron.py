"""Masks over whole neurons: no stronger than random features (Malach et al. 2020, arXiv 2002.00585, section 3).

A random depth-two net may lose neurons and gets one output scalar; it is to stand in for a small target, such as one ReLU
neuron. Beside it in the record: the random-features predictor (its ceiling), random rounding of that (a weak baseline), and a
mask over weights with as many random neurons, which does what neuron masks cannot.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.random_relu import Linear, RandomReLU
from maskbench.common.knobs import Count, Positive
from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.methods.theory import certify, construct, neurons
from maskbench.methods.theory.targets import Target
from maskbench.training.method import Method


@final
class MalachNeuron(Method):
    """A target approximated by a random depth-two net from which a mask takes whole neurons.

    Args:
        net: the target's backbone.
        target: `random`: as the backbone was drawn; `given`: as `backbone.init` left it; `trained`: within this run, first; or
            the run directory of a finished run.
        neurons: how many the random net has.
        select: `greedy`: flips of single neurons until none helps; `rounding`: at random by the ridge coefficients.
        penalty: of the ridge regression, as a share of the features' mean square.
    """

    drawn_by_rule: ClassVar = {"target": {"random": "given"}}  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        target: str = "random",
        neurons: Count = 1000,
        select: Literal["greedy", "rounding"] = "greedy",
        penalty: Positive = 1e-4,
    ) -> None:
        goal = Target(net, target)
        super().__init__(RandomReLU([Linear(), Linear()]))
        self.target, self.book = goal, TensorStore()
        self.construction = Neurons(self.net, self.target, self.book, neurons, select, penalty)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """A target that is to be trained, before it is approximated; of the random net nothing."""
        return iter(self.construction.trainable())

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.construction.aim(stage, fit, lambda: fit(self, stage, name="target"))
        self.construction.build("neurons", stage, fit)

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        return super().logits(x, stage) * self.book["scalar"] if self.has_learned(stage) else self.target.net(x)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return {name: self.net.get_buffer(name) * mask for name, mask in self.construction.masks().items()}

    def has_learned(self, stage: Stage) -> bool:
        return "scalar" in self.book

    def masks(self) -> dict[str, Tensor]:
        return {f"0/{name}": mask for name, mask in self.construction.masks().items()}

    def extra_metrics(self) -> dict[str, float]:
        return {"target_weights": self.target.size}


class Neurons:
    """The construction that task=theory works with: the random net, which neurons stay, and the errors that leaves."""

    pieces = ("neurons",)
    certificate, scale = None, 1.0  # nothing is proved about the ball

    def __init__(self, net: nn.Module, target: Target, book: TensorStore, count: int, select: str, penalty: float) -> None:
        self.net, self.goal, self.book, self.count, self.select, self.penalty = net, target, book, count, select, penalty
        self.root = int(torch.randint(2**62, (1,)))

    def trainable(self) -> list[nn.Parameter]:
        return list(self.goal.parameters()) if self.goal.source == "trained" and not self.book.names() else []

    def aim(self, stage: Stage, fit: Callable, train: Callable[[], Any]) -> dict[str, Any]:
        self.goal.prepare(stage, train)
        (_, d_in), d_out = self.goal.shapes[0], self.goal.shapes[-1][0]
        first = torch.rand(self.count, d_in, generator=generator(self.root, "u"))
        self.net.layers[0].weight = 2 * first - 1
        self.net.layers[1].weight = (2 * torch.rand(self.count, d_out, generator=generator(self.root, "v")) - 1).T.contiguous()
        self.book.put("drawn", torch.tensor(True))
        return {"headline": {"neurons": self.count}}

    def build(self, piece: str, stage: Stage, fit: Callable) -> dict[str, Any]:
        """Choose the neurons on the training inputs."""
        fit.watch(piece, 0, 1, {})
        phi, v, y = self.features(stage.train.tensors()[0])
        q, kept = neurons.quadratic(phi, v, y), self.selections(phi, v, y)[self.select]
        fit.watch(piece, 1, 1, {})
        self.book.put("kept", masks.pack(kept))
        self.book.put("scalar", torch.tensor(q.scalar(kept.double()), dtype=torch.float32))
        return {"headline": {"kept": int(kept.sum())}}

    def selections(self, phi: Tensor, v: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The neurons, bool [k], that each way of selecting keeps."""
        stream = generator(self.root, "rounding")
        weights = neurons.ridge(phi, y, self.penalty)
        return {"greedy": neurons.greedy(neurons.quadratic(phi, v, y)), "rounding": neurons.rounded(weights, v, stream)}

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(features [points, k], outgoing weights [k, outputs], what the target answers), float64."""
        x = x.flatten(1).double()
        return (x @ self.net.layers[0].weight.double().T).relu(), self.net.layers[1].weight.double().T, self.target(x)

    def masks(self) -> dict[str, Tensor]:
        """Of a neuron that goes, all weights to and from it."""
        if "kept" not in self.book:
            return {}
        kept, (first, second) = masks.unpack(self.book["kept"], (self.count,)), (layer.weight for layer in self.net.layers)
        return {"layers.0.weight": kept[:, None].expand_as(first).clone(), "layers.1.weight": kept.expand_as(second).clone()}

    # ---- the judgement

    def judge(self, stage: Stage) -> "Neurons":
        self.stage, self.dimension = stage, self.goal.shapes[0][1]
        self.nonnegative = all(bool((x >= 0).all()) for x, _ in stage.train.batches(10_000))
        return self

    def target(self, x: Tensor) -> Tensor:
        return certify.run([certify.linear(w.to(x.dtype)) for w in self.goal.unit()], x.flatten(1))

    def difference(self, x: Tensor) -> Tensor:
        phi, v, y = self.features(x)
        kept = masks.unpack(self.book["kept"], (self.count,)).double()
        return self.book["scalar"].double() * (phi * kept) @ v - y

    real_difference = difference

    def check(self, fit: Callable) -> None:
        """Nothing to refuse, as no bound is promised."""

    def numbers(self) -> dict[str, float | None]:
        """Relative errors on test inputs: of the mask, of its ceiling, and of what it is compared with."""
        train, test = (self.features(split.tensors()[0]) for split in (self.stage.train, self.stage.test))
        q, (phi, v, y) = neurons.quadratic(*train), test
        weights = neurons.ridge(train[0], train[2], self.penalty)
        errors = {"ridge": neurons.relative(phi @ weights, y)}
        for name, kept in self.selections(*train).items():
            m = kept.double()
            errors[name] = neurons.relative(q.scalar(m) * (phi * m) @ v, y)
        per_input = max(1, self.count // self.dimension)
        errors["weight_mask"] = neurons.relative(self.weight_mask(per_input), y)
        kept = int(masks.unpack(self.book["kept"], (self.count,)).sum())
        return {
            "relative_error": errors[self.select],
            "explained": 1 - errors[self.select] ** 2,  # share of the target's mean square
            **{f"relative_error/{name}": value for name, value in errors.items()},
            "neurons": self.count,
            "neurons_kept": kept,
            "kept": sum(int(mask.sum()) for mask in self.masks().values()),
        }

    def weight_mask(self, width: int) -> Tensor:
        """What a mask over weights answers on test inputs, with `width` random neurons for each input (subset sums)."""
        maps, rule = [], construct.subsets()
        for layer, w in enumerate(self.goal.unit()):
            pairs, both = construct.draw(tuple(w.shape), width, "uniform", self.root, "weights", layer), layer == 0
            maps.append(construct.effect(*pairs, construct.choose(w, pairs, both, rule, 0.0), both))
        return certify.run(maps, self.stage.test.tensors()[0].flatten(1).double())

    def table(self) -> list[dict[str, Any]]:
        names = {"ridge": "random features, trained top layer (ceiling)", "greedy": "neuron mask, greedy flips",
                 "rounding": "neuron mask, rounded ridge", "weight_mask": "weight mask, as many random neurons"}  # fmt: skip
        numbers = self.numbers()
        return [{"what": words, "relative error": numbers[f"relative_error/{name}"]} for name, words in names.items()]

    def notes(self) -> list[str]:
        return []
