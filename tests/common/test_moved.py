"""Old names of modules and of what stood in them."""

from importlib import import_module

import pytest

from maskbench.common import moved


@pytest.mark.parametrize("old", moved.MOVED)
def test_every_old_module_can_be_imported_and_hands_on_what_is_in_the_new_one(old: str) -> None:
    new = import_module(moved.MOVED[old])
    names = [name for name in vars(new) if not name.startswith("_")]
    assert names and all(getattr(import_module(old), name) is getattr(new, name) for name in names)


@pytest.mark.parametrize("new", moved.RENAMED)
def test_what_was_renamed_is_found_under_its_old_name(new: str) -> None:
    olds = [old for old, place in moved.MOVED.items() if place == new]
    for was, now in moved.RENAMED[new].items():
        assert all(getattr(import_module(old), was) is getattr(import_module(new), now) for old in olds) and olds
