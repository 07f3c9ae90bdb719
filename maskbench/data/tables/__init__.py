"""Data sets of rows: UCI tables in published divisions, and functions drawn on purpose.

Imports common and other folders of data; no torch where files are only found (sources).
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/tables.py when that was one file."""
    return moved.attribute(__name__, name)
