"""Data sets of episodes: N classes, K support and Q query inputs of each; sine waves.

Imports common and other folders of data; no torch where files are only found (sources).
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/episodes.py when that was one file."""
    return moved.attribute(__name__, name)
