"""Colours, markers and dashes of the lines in figures, told apart by colour-blind people too: a method has the same in every
figure."""

from collections.abc import Sequence
from itertools import product
from typing import Any
from zlib import crc32

# Okabe and Ito's palette without the yellow that paper swallows
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
TURN = 3  # markers that the second seven are ahead of the first: dots without lines are told apart too
KINDS = [
    {"color": COLOURS[colour], "marker": MARKERS[(colour + TURN * dash) % len(MARKERS)], "linestyle": DASHES[dash]}
    for dash, colour in product(range(len(DASHES)), range(len(COLOURS)))
]
FAMILIES = (  # methods that papers compare with each other, and branches of a pruning run: the first seven by colour alone
    "supsup packnet piggyback separate heads finetune joint wsn hat exssnet ewc si lwf replay "
    "hopsupsup psp batch_ensemble frozen_heads",
    "masksembles mc_dropout deep_ensembles packed_ensembles batch_ensemble_members swag dense "
    "masksembles_ensemble mc_dropout_ensemble mimo laplace",
    "lottery edge_popup supermask one_shot gradual rigl static_sparse set snip grasp synflow magnitude_init random_sparse "
    "biprop signed_supermask",
    "pac_net transfer_finetune pac_net_no_allocate transfer_l2_sp transfer_last_layer transfer_scratch pac_net_no_penalty "
    "pac_net_random_mask transfer_l2 transfer_delta transfer_bss",
    "maml fomaml anil boil meta_ticket pretrained meta_ticket_boil",
    "subset_sum malach malach_neuron",
    "ticket reinit random one_shot",
)
PLACES = {name: place for family in FAMILIES for place, name in enumerate(family.split())}


def line_styles(names: Sequence[str], methods: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash by name: no two alike among the first 21.

    Args:
        methods: of each name, where names are those of experiments: then a method keeps its colour, and several experiments
            of one differ in marker and dash, unless all are of one method.
    """
    if len(set(methods)) > 1:
        return _of_methods(names, methods)
    given: dict[str, int] = {}
    for name in sorted(set(names) & set(PLACES), key=PLACES.__getitem__):
        _place(given, name, PLACES[name])
    for i, name in enumerate(names):
        if name not in given:
            _place(given, name, i)
    return {name: KINDS[given[name]] for name in names}


def _of_methods(names: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    given: dict[str, int] = {}
    for method in sorted(set(methods), key=lambda one: (one not in PLACES, PLACES.get(one, 0), one)):
        _place(given, method, PLACES.get(method, crc32(method.encode())))
    made, seen = {}, dict.fromkeys(methods, 0)
    for name, method in zip(names, methods, strict=True):
        dash, colour = divmod(given[method], len(COLOURS))
        again, seen[method] = seen[method], seen[method] + 1
        other = {
            "marker": MARKERS[(colour + TURN * dash + again) % len(MARKERS)],
            "linestyle": DASHES[(dash + again) % len(DASHES)],
        }
        made[name] = {"color": COLOURS[colour]} | other
    return made


def _place(given: dict[str, int], name: str, wanted: int) -> None:
    """The first place from the wanted one on that no other has."""
    places = [(wanted + i) % len(KINDS) for i in range(len(KINDS))]
    taken = set(given.values())
    given[name] = next((place for place in places if place not in taken), places[0])
