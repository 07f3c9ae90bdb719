"""What a task asks of its data: other data are refused before anything is trained."""

from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import EpisodeStage
from maskbench.data.stage import Stage


def need(task: str, stages: list[Stage], *, instead: str, count: int | None = None, classes: bool = False) -> None:
    """
    Args:
        instead: what to try. count: of stages (None: any). classes: whether the targets must be classes.

    Raises:
        UsageError: the data are not of that kind.
    """
    amounts = {1: "data of one stage", 2: "a source and a target"}
    if any(isinstance(stage, EpisodeStage) for stage in stages):
        wrong = "takes no data that come as episodes, which only task=meta learns from"
    elif count is not None and len(stages) != count:
        wrong = f"takes {amounts[count]}, and this data has {len(stages)}"
    elif classes and any(stage.regression for stage in stages):
        wrong = "measures the accuracy on classes, and the targets of this data are numbers"
    else:
        return
    raise UsageError(f"task={task} {wrong}; try {instead}")
