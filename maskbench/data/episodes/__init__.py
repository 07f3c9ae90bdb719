"""Few-shot data: splits whose rows are episodes, of N classes with K support and Q query images each, or of one sine wave. May
import maskbench.common and the other rooms of data.
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/episodes.py when that was one file."""
    return moved.attribute(__name__, name)
