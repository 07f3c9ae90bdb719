"""A target found inside a random net by masking alone: build it, and say how far off it is, from above and from below.

An error over all inputs is only claimed where it is proved (the certificate); ascent and samples show how much of it is real.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.knobs import Count, Whole
from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.methods.theory import certify, construct, scaling, widths
from maskbench.tasks.contracts import Constructs
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method

RULES = construct.PICKS | {"subset_sum": construct.subsets("min_error")}
NARROW = 16  # candidates from which a search for a width starts


def run(
    method: Method,
    stages: list[Stage],
    fit: Callable,
    journal: Journal,
    *,
    starts: Count,
    ascent: Whole,
    samples: Count,
    scaling: Mapping[str, Any] | None,
) -> Outcome:
    """Strong lottery tickets by construction: settle target and width, build the layers one after another, then judge.

    Args:
        starts: points that climb the error.
        ascent: steps of their projected gradient ascent.
        samples: random unit vectors beside them.
        scaling: curves of the width needed against the error and the size of random targets (see `planned`); None: none.
    """
    need("theory", Constructs, method, stages, instead="data=ball or data=mnist")
    work, stage, plans = method.construction, stages[0], planned(scaling)
    journal.expected = 2 + len(work.pieces) + len(plans)
    clock = partial(timed, fit)
    parts = [journal.part("target", clock(lambda: work.aim(stage, fit, lambda: fit(method, stage, name="target"))))]
    for piece in work.pieces:
        parts.append(journal.part(piece, clock(partial(work.build, piece, stage, fit))))
    judged = journal.part("verify", clock(partial(verify, method, work, stage, fit, starts, ascent, samples)))
    points = []
    for name, plan in plans.items():
        points += journal.part(name, partial(measure, journal.seed, fit, name, **plan))["points"]
    return report(parts, judged, points)


def timed(fit: Callable, work: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """`work` with the CPU seconds it took, without those of training."""

    def go() -> dict[str, Any]:
        begun, trained = time.process_time(), fit.cpu_seconds
        return work() | {"seconds": time.process_time() - begun - (fit.cpu_seconds - trained)}

    return go


# ---- the judgement


def verify(method: Method, work: Any, stage: Stage, fit: Callable, starts: int, ascent: int, samples: int) -> dict[str, Any]:
    """All that is known of the distance between the masked random net and the target.

    Raises:
        UsageError: an error was asked for, and the net is too narrow to be certified within it.
    """
    judge = work.judge(stage)
    judge.check(fit)
    fit.watch("verify", 0, 2, {})
    numbers = {"certificate": judge.certificate} | below(judge, starts, ascent, samples)
    fit.watch("verify", 1, 2, {})
    numbers |= on_data(method, judge, stage) | judge.numbers()
    for name in ("certificate", "attained"):
        value = numbers[name]
        numbers[f"{name}_original"] = None if value is None else value * judge.scale
    numbers["certified_digits"] = None if judge.certificate is None else -math.log10(max(judge.certificate, 1e-300))
    headline = {name: numbers[name] for name in ("certificate", "attained", "agreement")}
    return {"numbers": numbers, "table": judge.table(), "notes": judge.notes(), "headline": headline}


def below(judge: Any, starts: int, ascent: int, samples: int) -> dict[str, float]:
    """The largest |difference|_2 that was met: points are found through matrices, and what counts is what the masked random
    net itself answers there."""
    points_on_sphere = partial(certify.sphere, dimension=judge.dimension, nonnegative=judge.nonnegative)
    stream = generator(0, "verification", judge.dimension)  # the same points for all nets of one input dimension
    met = {}
    for name, points in {
        "sampling": certify.highest(judge.difference, points_on_sphere(points=samples, generator=stream), starts),
        "ascent": certify.ascend(judge.difference, points_on_sphere(points=starts, generator=stream), ascent, judge.nonnegative),
    }.items():
        with torch.no_grad():
            met[f"attained/{name}"] = judge.real_difference(points).norm(dim=1).max().item()
    return {"attained": max(met.values())} | met


@torch.no_grad()
def on_data(method: Method, judge: Any, stage: Stage) -> dict[str, float | None]:
    """Test inputs through the masked random net as any method answers, in single precision.

    `data_sup`: largest difference of one output when inputs are scaled into the unit ball (bias-free nets are homogeneous);
    `data_sup_original`: as it is on the target's own scale. `agreement`: same largest output.
    """
    x, y = stage.test.tensors(evaluate.device_of(method))
    answer = evaluate.logits(method, stage, stage.test)
    target = torch.cat([judge.target(part) for part in x.split(evaluate.BATCH)])
    largest = (answer.double() - target.double()).abs().max().item()
    radius = max(1.0, x.flatten(1).norm(dim=1).max().item())
    numbers: dict[str, float | None] = {
        "data_sup": largest / radius,
        "data_sup_original": largest * judge.scale,
        "data_radius": radius,
        "agreement": None,
        "accuracy": None,
        "target_accuracy": None,
    }
    if answer.shape[1] > 1:
        numbers["agreement"] = (answer.argmax(-1) == target.argmax(-1)).double().mean().item()
    if not stage.regression:
        numbers["accuracy"] = (answer.argmax(-1) == y).double().mean().item()
        numbers["target_accuracy"] = (target.argmax(-1) == y).double().mean().item()
        numbers["accuracy_gap"] = numbers["target_accuracy"] - numbers["accuracy"]
    return numbers


# ---- curves of the width needed


def planned(asked: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The steps that the key `scaling` asks for, by name: for every replicate one construction over errors and one over sizes.

    Keys: `errors` {construction: [eps, ...]} on targets of `shape` [inputs, widths, outputs]; `sizes` [d, ...] with
    `size_errors` {construction: eps} on targets d-2d-2d-d/2; `replicates`.
    """
    if not asked:
        return {}
    known = {"errors", "shape", "sizes", "size_errors", "replicates"}
    for key in asked:
        if key not in known:
            raise UsageError(f"no key task.scaling.{key}.{did_you_mean(key, known)} Keys: {', '.join(sorted(known))}")
    shape, replicates = list(asked.get("shape", [8, 16, 16, 4])), int(asked.get("replicates", 5))
    plans = {}
    for name in dict.fromkeys([*asked.get("errors", {}), *asked.get("size_errors", {})]):
        if name not in RULES:
            raise UsageError(f"no construction '{name}' for task.scaling.{did_you_mean(name, RULES)} Known: {', '.join(RULES)}")
        for replicate in range(replicates):
            cells = [(shape, eps) for eps in asked.get("errors", {}).get(name, [])]
            if cells:
                plans[f"errors {name} {replicate}"] = {"rule": name, "replicate": replicate, "cells": cells}
            if name in asked.get("size_errors", {}):
                eps = asked["size_errors"][name]
                cells = [([d, 2 * d, 2 * d, max(1, d // 2)], eps) for d in asked.get("sizes", [])]
                plans[f"sizes {name} {replicate}"] = {"rule": name, "replicate": replicate, "cells": cells}
    return plans


def measure(
    seed: int, fit: Callable, step: str, *, rule: str, replicate: int, cells: Sequence[tuple[list[int], float]]
) -> dict[str, Any]:
    """The narrowest certified width for each (shape, eps), for one draw of target and random nets."""
    rows, width = [], NARROW
    for number, (shape, eps) in enumerate(cells):
        fit.watch(step, number, len(cells), {})
        bracket = scaling.width_needed(shape, RULES[rule], eps, width, seed, "scaling", replicate)
        if bracket is None:
            raise UsageError(f"task.scaling: {rule} needs more memory than there is for eps={eps} on {shape}; ask for less")
        width = bracket.width
        layers = [(d_out, d_in) for d_in, d_out in pairwise(shape)]
        e = min(certify.tolerances(eps, layers, [True] + [False] * (len(layers) - 1)))
        weights = sum(d_out * d_in for d_out, d_in in layers)
        largest = max(w.abs().max().item() for w in scaling.random_target(shape, seed, "scaling", replicate))
        rows.append(
            {
                "kind": step.split()[0],
                "construction": rule,
                "replicate": replicate,
                "size": shape[0],
                "eps": eps,
                "width": width,
                "certificate": bracket.error,
                "typical": widths.typical_width(rule, e, weights),
                "sufficient": widths.sufficient_width(rule, e, weights + layers[0][0] * layers[0][1], largest),
            }
        )
    return {"points": rows, "headline": {"width": width}}


def slopes(points: list[dict[str, Any]]) -> dict[str, float | None]:
    """Exponents of the width in 1/eps and in the size with 95 % intervals over replicates, and candidates per bit."""
    made: dict[str, float | None] = {}
    for kind, x, word in (
        ("errors", lambda p: math.log(1 / p["eps"]), "inverse_eps"),
        ("sizes", lambda p: math.log(p["size"]), "size"),
    ):
        for name in dict.fromkeys(p["construction"] for p in points if p["kind"] == kind):
            lines: dict[int, list] = {}
            for p in points:
                if (p["kind"], p["construction"]) == (kind, name):
                    lines.setdefault(p["replicate"], []).append(p)
            if any(len(line) < 2 for line in lines.values()):
                continue
            made |= slope_with_interval(
                f"width_exponent_in_{word}/{name}",
                scaling.slope([([x(p) for p in line], [math.log(p["width"]) for p in line]) for line in lines.values()]),
            )
            if kind == "errors":
                bits = [([-math.log2(p["eps"]) for p in line], [p["width"] for p in line]) for line in lines.values()]
                made |= slope_with_interval(f"width_per_bit/{name}", scaling.slope(bits))
    return made


def slope_with_interval(name: str, slope: scaling.Slope) -> dict[str, float | None]:
    """Undefined interval ends (a single replicate) are None."""
    ends = {f"{name}_ci95_low": slope.low, f"{name}_ci95_high": slope.high}
    return {name: slope.slope} | {key: value if math.isfinite(value) else None for key, value in ends.items()}


def report(parts: list[dict[str, Any]], judged: dict[str, Any], points: list[dict[str, Any]]) -> Outcome:
    numbers = judged["numbers"] | {
        "build_cpu_seconds": sum(part["seconds"] for part in parts),
        "verify_cpu_seconds": judged["seconds"],
    }
    objective = next(name for name in ("certified_digits", "explained") if numbers.get(name) is not None)
    return Outcome(numbers | slopes(points), objective, judged["table"], notes=judged["notes"], curves=points)
