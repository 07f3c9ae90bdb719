"""Data sets of images: whole, split, permuted, rotated, in pairs; unknown classes and corruptions of them.

Imports common and other folders of data; no torch where files are only found (sources).
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/images.py when that was one file."""
    return moved.attribute(__name__, name)
