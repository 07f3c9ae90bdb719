"""Named streams of randomness: every draw has a source of its own, so changing one leaves the others alone.

A stream is named by the run's seed and words, such as `(seed, "init")` or `(seed, "order", stage, epoch)`. The name alone
decides the bits: nothing depends on how much was drawn before, which is what lets an interrupted run go on bit for bit.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(*names: object) -> int:
    """A 63-bit seed from the words of a stream's name; equal names give equal seeds on every machine."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*names: object) -> torch.Generator:
    """A CPU generator at the start of the named stream."""
    return torch.Generator().manual_seed(seed_for(*names))


def under_way() -> int:
    """The seed of the global stream that is open now, however much was drawn from it: what to name further streams by."""
    return torch.initial_seed()


@contextmanager
def seeded(*names: object) -> Iterator[None]:
    """Inside, torch's global generators (CPU and accelerators) are the named stream; after, they are as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(*names))
        yield
