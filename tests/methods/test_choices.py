"""The words that constructors of these methods allow are those that the tables behind them explain."""

from typing import get_args

import pytest

from maskbench.backbones.initial import RULES
from maskbench.common import knobs
from maskbench.methods.theory import construct
from maskbench.methods.transfer import pac_net
from maskbench.methods.uncertainty import masksembles

TABLES = [
    ("theory.strong_tickets.StrongTickets", "solver", construct.SOLVERS),
    ("theory.strong_tickets.StrongTickets", "distribution", construct.LAWS),
    ("uncertainty.masksembles.Masksembles", "assign", masksembles.ASSIGN),
    ("uncertainty.masksembles.Masksembles", "generator", masksembles.GENERATORS),
    ("meta.episodic.Episodic", "weights", RULES),
]


@pytest.mark.parametrize(("method", "key", "table"), TABLES)
def test_allowed_words_are_those_of_the_table(method: str, key: str, table: dict) -> None:
    kinds = {knob.name: knob.kind for knob in knobs.read(f"maskbench.methods.{method}")}
    assert set(get_args(kinds[key])) == set(table)


def test_picks_and_the_steps_of_pac_net() -> None:
    kinds = {knob.name: knob.kind for knob in knobs.read("maskbench.methods.theory.strong_tickets.StrongTickets")}
    assert all(knobs.fits(word, kinds["pick"]) for word in (None, *construct.PICKS)) and not knobs.fits("subset", kinds["pick"])
    assert set(get_args(pac_net.STEPS["prune"]["criterion"])) == set(pac_net.CRITERIA)
    assert set(get_args(pac_net.STEPS["calibrate"]["reset"])) == set(pac_net.REFILLS)
