"""Files read whole: absent, unreadable and damaged are three things, and what never ends is not opened."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from maskbench.common.files import Damaged, Unreadable, content, glance, read_json


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("nothing", "link", "a\0b"):
        assert content(tmp_path / name) is None and read_json(tmp_path / name) == {}
    (tmp_path / "empty").touch()
    assert content(tmp_path / "empty") == b""


KINDS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe that nobody writes": os.mkfifo,
    "a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_sound_is_not_taken_for_absent(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "it")
    for read in (content, read_json):
        with pytest.raises(Unreadable, match=r"it cannot be read \("):
            read(tmp_path / "it")
    assert glance(tmp_path / "it") == {}


def test_a_file_below_a_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unreadable, match="not a directory"):
        content(tmp_path / "file" / "below")


def test_a_record_longer_than_any_is_damaged_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.touch()
    os.truncate(path, 1 << 40)  # more than any memory, without content
    for read in (content, read_json):
        with pytest.raises(Damaged, match="long is damaged: it is longer than 64 MB"):
            read(path)
    os.truncate(path, 7)
    with pytest.raises(Damaged):
        content(path, most=6)
    assert content(path, most=7) == content(path, most=None) == bytes(7)
