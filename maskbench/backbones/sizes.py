"""Sizes of layers. Imports nothing."""

from collections.abc import Iterable


def widened(sizes: Iterable[int], width: float) -> list[int]:
    """Units of each layer times `width`, rounded; however narrow, a layer keeps one."""
    return [max(1, round(width * size)) for size in sizes]
