"""What each task asks of a method and of its data: one contract a task, which any method may fulfil.

A contract is a Protocol: a method fulfils it by having its members, and imports nothing from here. `learn`, `predict` and
the other verbs of `Method` are there in every method; what stands below is what a task asks beyond them. A task's yaml
names its contract (`needs: maskbench.tasks.contracts.Prunes`), and so does that of a task from outside the package: it may
name one of these, or a Protocol of its own. Contracts are read as text before anything starts (fulfilment.py) and checked
again before data are read and when the task begins (needs.py). Imports no torch.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maskbench.data.stage import Stage

Contract = TypeVar("Contract", bound=type)


TAKES: dict[type, tuple[str, ...]] = {}  # contract -> of which kind its data must be
WHEN: dict[type, dict[str, type]] = {}  # contract -> key of the task -> what it asks in addition where it is set
KEYWORDS: dict[type, dict[str, str]] = {}  # contract -> key of the task -> the function of a method that its entries are for


def takes(*kinds: str) -> Callable[[Contract], Contract]:
    """Of which kind the data must be: `one` stage or a `pair` of them; targets that are `classes`; or `episodes`; or
    `samples`, too few for an accuracy, of what a given net was trained on; `vectors` where that net has no output layer.

    A data set's yaml says what it is (`gives: [one, classes]`); it suits a task when that is all the task takes.
    """
    return lambda contract: TAKES.update({contract: kinds}) or contract


def when(**contracts: type) -> Callable[[Contract], Contract]:
    """What a key of the task asks in addition where it is set to something: `levels=Shrinks`."""
    return lambda contract: WHEN.update({contract: contracts}) or contract


def keywords(**functions: str) -> Callable[[Contract], Contract]:
    """Which keys of the task hold keywords, by names of the user's choice, for a function of the method: `branches="branch"`.

    What stands behind the function the task itself hands over: `supermasks="branch mask level"`. Keywords are judged by the
    function's signature before anything starts.
    """
    return lambda contract: KEYWORDS.update({contract: functions}) or contract


# ---- a method that can do more has it counted or used


@runtime_checkable
class InfersStage(Protocol):
    """Says which finished stage unlabelled inputs come from."""

    inference_rules: tuple[str, ...]  # the first is the one whose answers count as 'inferred' accuracy

    def infer(self, groups: "Tensor", rule: str) -> "Tensor":
        """The stage each group comes from, by one of `inference_rules`: [groups, images, ...] -> stage indices [groups]."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """Finds the masks of a stage that is not named in a memory of its own."""

    def recall(self, x: "Tensor") -> "tuple[list[dict[str, Tensor]], Callable[[Tensor], Tensor]]":
        """Which masks answer the unlabelled inputs x [images, ...], all from one finished stage?

        Returns the masks (bool, by weight) as they stood at the start and after each step of the search, and the
        answer under the last ones: inputs -> outputs [batch, outputs].
        """
        ...


@runtime_checkable
class Shrinks(Protocol):
    """Prunes what it has learnt, to be trained again."""

    def shrink(self, stage: "Stage") -> None:
        """One level of pruning: the masks that `learn` trains next."""
        ...


@runtime_checkable
class Exhausts(Protocol):
    """Has so few weights after some level that no further one could prune any."""

    def exhausted(self) -> bool:
        """Whether `shrink` would find nothing to prune; task=prune then ends with a note."""
        ...


@runtime_checkable
class Branches(Protocol):
    """Turns into a control of itself at the level it has reached: another mask, or other weights under the same mask."""

    def branch(self, stage: "Stage", **control: Any) -> Self:
        """This method as the control that the task's `branches` or `supermasks` describe; it is a copy that is asked."""
        ...


@runtime_checkable
class Penalises(Protocol):
    """Adds a penalty on its weights to the loss."""

    def penalty(self, stage: "Stage") -> "Tensor":
        """The penalty as it stands, a scalar; task=transfer records it."""
        ...


@runtime_checkable
class Costs(Protocol):
    """Knows what its training costs where that is not the cost of one mask that stays."""

    def training_cost(self, share: float, steps: int) -> float:
        """What `learn` cost, in trainings of the dense net of that many steps.

        share: multiplications under the masks it ended with over those of the dense net; biases, norms not counted.
        """
        ...


@runtime_checkable
class Forgets(Protocol):
    """Takes a finished stage out again, so that nothing of it is left in its state and every other stage answers as before."""

    def forget(self, stage: "Stage") -> None:
        """Drop all that is the stage's own: its mask, its head, the weights that it alone computes with.

        Raises:
            UsageError: another stage computes with something that this one has learnt; says what. Nothing is changed then.
        """
        ...


# ---- the contract of each task


@takes("classes")
class Continual(Protocol):
    """task=continual: any method. One that `InfersStage` is also tested without being told the stage, and one that
    `Recalls` by the masks it recalls."""


@when(levels=Shrinks, branches=Branches, supermasks=Branches)
@keywords(branches="branch", supermasks="branch mask level")
@takes("one")
class Prunes(Protocol):
    """task=prune: any method at `levels=0`; more levels ask it to shrink, controls and supermasks to branch."""


@takes("one")
class Predicts(Protocol):
    """task=uncertainty: any method; `predict` gives the answers of its members."""


@takes("samples", "classes")
class Agrees(Protocol):
    """task=agreement: any method that leaves a net which came trained on its one stage to answer it (`keeps_given_stage`)."""


@takes("samples")
class Resembles(Protocol):
    """task=similarity: as of task=agreement; the net needs no output layer."""


@takes("pair")
class Transfers(Protocol):
    """task=transfer: any method; `stage.index` says whether it learns the source or the target. The weight penalty of one
    that `Penalises` is recorded."""


@takes("one", "episodes")
class Adapts(Protocol):
    """task=meta: a method with an inner loop."""

    net: "nn.Module"
    test_count: int  # inner steps in testing, whose score is the task's objective

    def after(self, tasks: Any, stage: Any, counts: Sequence[int], inductive: bool) -> "Tensor":
        """Answers to the queries after each count of inner steps: [counts, tasks, queries, outputs].

        inductive: norms use the statistics of the support set, not of the queries.
        """
        ...


class Construction(Protocol):
    """How a mask is built that makes a random net compute a target."""

    pieces: Sequence[str]  # names of its parts, in the order they are built

    def aim(self, stage: "Stage", fit: Callable, train: Callable[[], None]) -> dict[str, Any]:
        """Settle target and width; `train` trains the target net. What is to be recorded."""
        ...

    def build(self, piece: str, stage: "Stage", fit: Callable) -> dict[str, Any]:
        """Choose the mask of one part."""
        ...

    def judge(self, stage: "Stage") -> Any:
        """What measures the distance from the target: see methods/theory/judgement.py."""
        ...


@takes("one")
class Constructs(Protocol):
    """task=theory: a method that builds its mask, and trains no weight of the net it masks."""

    construction: Construction
