"""Masks as pure functions on tensors, and modules that keep them: where they stand, how they are drawn, cut, pruned, packed.

A mask stands beside a named weight of the backbone. `keep` is the share that stays (density), `share` the share that goes.
Imports common only.
"""

from maskbench.masks.cuts import Cut, cut, cuts, kept, kept_count, kept_counts, top_share, top_shares
from maskbench.masks.drawing import bernoulli, binary, gain, signed, signs, threshold
from maskbench.masks.packing import load, pack, packed_bytes, save, sparse_bytes, unpack
from maskbench.masks.pruning import densities, density, keep_best, prune, ranked, smallest
from maskbench.masks.sites import LAYERS, maskable, sites
from maskbench.masks.windows import Cutter

__all__ = [
    "LAYERS", "Cut", "Cutter", "bernoulli", "binary", "cut", "cuts", "densities", "density", "gain", "keep_best", "kept",
    "kept_count", "kept_counts", "load", "maskable", "pack", "packed_bytes", "prune", "ranked", "save", "signed", "signs",
    "smallest", "sites", "sparse_bytes", "threshold", "top_share", "top_shares", "unpack",
]  # fmt: skip
