"""Data sets of rows: UCI tables in their published divisions, and functions and dynamical systems with a known truth. May import
maskbench.common and the other rooms of data.
"""

from maskbench.common import moved


def __getattr__(name: str) -> object:
    """What stood in data/tables.py when that was one file."""
    return moved.attribute(__name__, name)
