"""Plain training of one dense net: the baseline, and with stages one after another the net that forgets (fine-tuning)."""

from typing import final

from maskbench.method import Method


@final
class Dense(Method):
    """Every verb is the default."""
