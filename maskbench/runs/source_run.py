"""A finished run as the source of another's first weights: what its net computes with after a stage, masks applied."""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.runs import loaded
from maskbench.training.method import Method

Tensors = tuple[dict[str, Tensor], dict[str, str]]  # by name, and what the record says of where they came from


def tensors(folder: Path, stage: int | str | None, untrained: Callable[[DictConfig], tuple[Method, list[Stage]]]) -> Tensors:
    """The tensors of a run's plain net by the backbone's names; masked weights are zeros.

    Args:
        stage: its index or name; None: the last. untrained: makes the method and the stages of a config.

    Raises:
        UsageError: there is no such run or stage, or no one net answers as the run does.
    """
    key = f"backbone.init=run:{folder}"
    try:
        source = loaded.load(folder, untrained)
        named = source.stages[-1].index if stage is None else stage
        made, name = source.plain(named), source.stage(named).name
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from error
    if made.gated:
        raise UsageError(
            f"{key}: the masks of this run stand on units, which no weights of its net hold: maskbench compact makes one."
        )
    state = {name: value.detach().cpu().clone() for name, value in made.net.state_dict().items()}
    return state, {"stage": name, "masked": str(len(made.masks))}
