"""Data sets of images: whole, split, permuted, rotated, in pairs; with unknown classes and corruptions to test on. May import
maskbench.common and the other rooms of data.
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/images.py when that was one file."""
    return moved.attribute(__name__, name)
