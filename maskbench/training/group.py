"""The process that makes the steps of runs side by side (side_by_side.py), and keeps nothing: each run holds its whole state."""

import contextlib
import pickle
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from math import prod
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from maskbench.training.side_by_side import Arrival, Block, Done, packed
from maskbench.training.wide import Wide

SHARED_MEMORY = Path("/dev/shm")


def serve(links: Sequence[Connection]) -> None:
    """Train what the runs at these links bring, until all have left."""
    Group(links).run()


class Group:
    """The other side of it: of each run that is at work a link, and its arrival while it waits for an answer."""

    def __init__(self, links: Sequence[Connection]) -> None:
        self.links, self.waiting = list(links), dict[Connection, Arrival]()

    def run(self) -> None:
        while self.links:
            while absent := [link for link in self.links if link not in self.waiting]:
                for link in wait(absent):
                    if (message := self.hear(link)) is not None:
                        self.waiting[link] = message
            if self.waiting:
                self.answer()

    def answer(self) -> None:
        """Of the runs that are least far, those that fit each other train together now, the others by themselves."""
        first = min(arrival.place for arrival in self.waiting.values())
        here = {link: self.waiting.pop(link) for link, arrival in list(self.waiting.items()) if arrival.place == first}
        able = {link: arrival for link, arrival in here.items() if arrival.fits is not None}
        kinds = Counter(arrival.fits for arrival in able.values())
        common = max(kinds, key=lambda kind: (kinds[kind], kind), default=None)
        group = {link: arrival for link, arrival in able.items() if arrival.fits == common and roomy(arrival, kinds[common])}
        if len(group) < 2:
            group = {}
        for link in able:
            if link not in group:
                self.say(link, None)
        if group:
            self.train(dict(sorted(group.items(), key=lambda entry: entry[1].name)))

    def train(self, group: dict[Connection, Arrival]) -> None:
        """Make the steps of a phase, block by block, until it is over or one of the runs has left."""
        one, names = next(iter(group.values())), [arrival.name for arrival in group.values()]
        kind, options = one.optimizer
        begun = time.process_time()
        wide = Wide(one.net, [arrival.part for arrival in group.values()], lambda params: kind(params, **options))
        step, total = one.steps
        block, rows, inputs = one.inputs
        rest, dtype = one.targets
        x = torch.zeros(block, len(group), inputs, rows).share_memory_()
        y = torch.zeros(block, rows, len(group), *rest, dtype=dtype).share_memory_()
        for number, link in enumerate(group):
            self.say(link, (number, names))
            with contextlib.suppress(OSError):
                link.send((x, y))
        while step < total:
            heard = {link: self.hear(link) for link in group}
            if None in heard.values():
                for link in heard:
                    self.say(link, None)
                return
            blocks: list[Block] = list(heard.values())
            losses = torch.zeros(len(group))
            for number, (size, rate) in enumerate(zip(blocks[0].rows, blocks[0].rates, strict=True)):
                side = x[number, :, :, :size].reshape(-1, size).t()
                losses += wide.step(side, y[number, :size], one.criterion, rate)
            step += len(blocks[0].rows)
            now, due = time.process_time(), any(told.due for told in blocks)
            each, begun = (now - begun) / len(group), now
            for link, loss, (values, moments) in zip(group, losses, wide.parts(), strict=True):
                self.say(link, Done(loss, values, moments, each, due))

    def say(self, link: Connection, message: object) -> None:
        if link in self.links:
            with contextlib.suppress(OSError):  # that it has left is heard at the next word of it
                link.send_bytes(packed(message))

    def hear(self, link: Connection) -> Any:
        """What a run says; None: it has left."""
        if link in self.links:
            try:
                return pickle.loads(link.recv_bytes())
            except (EOFError, OSError):
                self.links.remove(link)
                self.waiting.pop(link, None)
        return None


def roomy(arrival: Arrival, nets: int) -> bool:
    """Whether the shared memory holds the batches of a block."""
    if not SHARED_MEMORY.is_dir():
        return True  # no file system with a limit of its own
    return 4 * nets * prod(arrival.inputs) < shutil.disk_usage(SHARED_MEMORY).free / 2
