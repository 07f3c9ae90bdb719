"""Where files come from: folders, package clients, checksums; what is known of each set before it is here.

Imports common and other folders of data; no torch where files are only found (sources).
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/sources.py when that was one file."""
    return moved.attribute(__name__, name)
