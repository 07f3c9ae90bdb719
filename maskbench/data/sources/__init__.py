"""Where files come from: the data folder, downloads, packages, each file checked against a known checksum. May import
maskbench.common, and torch (which data/stage.py brings) inside functions only, so that preflight and listings stay fast.
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/sources.py when that was one file."""
    return moved.attribute(__name__, name)
