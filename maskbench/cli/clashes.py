"""Settings of two parts that are right alone and wrong together, from the config as text. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from omegaconf import ListConfig

from maskbench.common import declared

OF_CLASSES = ("snip", "grad", "grasp", "grasp_magnitude")  # criteria that, at initialisation, take so many images a class


def schedule_mistake(steps: object, method: Mapping[str, Any]) -> str | None:
    """Why a mask that is to move `every` so many steps until the share `end` of a training would not."""
    every, end = method.get("every"), method.get("end")
    if not (isinstance(steps, int) and isinstance(every, int) and isinstance(end, int | float)) or every < end * steps:
        return None
    return (
        f"method.every={every} and budget.steps={steps}: the mask would never move, since that ends at method.end={end:g} of the "
        "steps; take a smaller method.every or a longer training."
    )


def alone_mistake(task: Mapping[str, Any], budget: Mapping[str, Any]) -> str | None:
    """Why stages that are learnt alone, each as the first, would not get the epochs they have in the stream."""
    if not task.get("alone") or budget.get("steps") or not isinstance(budget.get("epochs"), list | ListConfig):
        return None
    return "task.alone=true learns every stage as the first one, so that epochs cannot differ: take one number for budget.epochs."


def images_mistake(method: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Why a criterion cannot have the images of each class that its gradient is taken on."""
    criterion, gives = method.get("criterion"), data.get("gives")
    if "per_class" not in method or criterion not in OF_CLASSES or "numbers" not in (gives or ()):
        return None
    return (
        f"method.criterion={criterion} takes its gradient on images of each class, and the targets of this data are numbers; "
        "take data of classes such as data=mnist, or method=lottery, whose criteria take any rows."
    )


def outputs_mistake(method: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Why a loss that sees the stage's own outputs alone has nothing to learn from a stage."""
    groups = data.get("split") or []
    alone = any(isinstance(own, list) and len(own) == 1 for own in groups) or 1 in (data.get("sizes") or [])
    if method.get("outputs") != "stage" or not alone:
        return None
    return (
        "method.outputs=stage: a stage of one class has loss 0 and accuracy 1 whatever is learnt; take method.outputs=seen, or "
        "two classes a stage or more."
    )


def stages_mistake(method: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Why a method whose class says how many stages it can learn (`most_stages`) cannot learn those of the data."""
    most, stages = declared.declared(method, "most_stages"), data.get("stages")
    if not (isinstance(most, int) and isinstance(stages, int)) or stages <= most:
        return None
    return f"data.stages={stages}: method={method.get('name')} learns {most} stages at most; take fewer, or method=supsup"
