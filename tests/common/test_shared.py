"""Mappings that many records hold in common."""

import copy
import json
import pickle

from maskbench.common.shared import Like, Shared, alike, once


def test_what_follows_from_a_shared_mapping_is_worked_out_once() -> None:
    seen: list[object] = []

    def count(value: dict, more: int = 0) -> int:
        seen.append(value)
        return len(value) + more

    shared = Shared({"a": 1})
    assert [once(count, shared), once(count, shared), once(count, shared, 1), once(count, shared, 1)] == [1, 1, 2, 2]
    assert len(seen) == 2
    assert once(count, {"a": 1}) == once(count, {"a": 1}) == 1 and len(seen) == 4, "of others it cannot be known"


def test_a_mapping_like_a_shared_one_is_a_dict_of_its_own() -> None:
    shared = Shared({"seed": None, "rate": 0.1})
    one, other = Like(shared, {"seed": 0}), Like(shared, {"seed": 1})
    assert one == {"seed": 0, "rate": 0.1} and list(one) == ["seed", "rate"] and other["seed"] == 1
    assert alike(one) is alike(other) is shared and shared["seed"] is None
    assert alike({"seed": 0}) == {"seed": 0} and alike(None) is None
    assert json.loads(json.dumps(one)) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == dict(one)
