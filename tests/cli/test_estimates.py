"""How long runs take: by finished runs of the same question, by presets, by what was done before an interruption."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maskbench.cli.estimates import Estimates, fitting, outlook, question, told
from maskbench.report import durations

MINUTES = {"here": 1, "data=boston": 2, "data=boston method.members=1": [3, 5], "protocol=5w5s": 9}


@pytest.mark.parametrize(
    ("minutes", "given", "seconds"),
    [
        (2, ["experiment=a/b"], 120),
        ([2, 3], ["experiment=a/b"], 150),
        (None, ["experiment=a/b"], None),
        (MINUTES, ["experiment=a/b"], 60),
        (MINUTES, ["experiment=a/b", "data=boston"], 120),
        (MINUTES, ["experiment=a/b", "method.members=1", "data=boston"], 240),
        ({"data=boston": 2}, ["experiment=a/b"], None),
        (MINUTES, ["experiment=a/b", "optimizer.lr=0.1", "method.rate=0.5", "seed=3"], 60),
        (MINUTES, ["experiment=a/b", "budget.steps=2000"], None),
        (MINUTES, ["experiment=a/b", "data=boston", "backbone=conv2"], None),
        (2, ["experiment=a/b", "task.levels=3"], None),
        (2, ["experiment=a/b", "++data.test=600"], None),
    ],
)
def test_what_a_preset_says_is_of_the_variant_that_is_run(minutes: object, given: list[str], seconds: float | None) -> None:
    assert told({"minutes": minutes, "machine": "one core"}, given) == seconds
    assert told({"minutes": minutes, "machine": "a GPU"}, given) is None and told({}, given) is None


def finish(place: Path, seconds: float) -> Path:
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps({"status": "finished", "cost": {"wall_seconds": seconds}}))
    (place / "result.json").write_text(json.dumps({"status": "finished", "objective": 1.0, "metrics": {"a": 1.0}}))
    return place


def test_runs_take_what_those_of_other_seeds_took_and_presets_are_held_to_them(tmp_path: Path) -> None:
    home = tmp_path / "supsup-mnist"
    finish(home / "s0-a", 100.0)
    places = {name: home / f"s1-{name}" for name in "abc"}
    assert question(places["a"]) == home / "a"
    times = Estimates({question(places["a"]): 50.0, question(places["b"]): 30.0, question(places["c"]): None})
    assert [times.of(place) for place in places.values()] == [100.0, 60.0, None], "presets say half of what it took"
    assert times.measured_of(places["b"]) is None
    times.look(finish(places["a"], 300.0))
    times.look(home / "s2-a")  # which is not there
    assert times.of(home / "s2-a") == 200.0 and times.of(home / "s0-a") == 100.0 and times.of(places["b"]) == 120.0
    assert times.whole([home / "s0-a", places["a"], places["b"]], 2) == 300.0


def test_an_outlook_of_runs_side_by_side() -> None:
    assert outlook([60.0, 60.0, 60.0], 2).seconds == 120.0
    assert outlook([60.0], 2, running=[200.0, 10.0]).seconds == 200.0
    assert outlook([None, 60.0], 1).told(" left") == "about 60 s left, without 1 that were never timed"
    assert outlook([None], 1).told() == "how long they take is seen after the first"


def test_seeds_that_fit() -> None:
    def takes(seeds: tuple[int, ...]) -> float:
        return 3000.0 * len(seeds)

    assert fitting((0, 1, 2), 2, takes) == ((0, 1), "hours=2: 2 of 3 seeds: 3 would take about 2 h 30 min.")
    assert fitting((0, 1, 2), 2.5, takes) == ((0, 1, 2), "hours=2.5: 3 of 3 seeds: about 2 h 30 min.")
    assert fitting((4,), 0.5, takes) == ((4,), "hours=0.5: 1 of 1 seeds: about 50 min, which is more.")


def test_an_interrupted_run_has_the_time_up_to_its_checkpoint_behind_it(tmp_path: Path) -> None:
    """What ended a killed attempt is not on record; its last checkpoint is. One that began anew forgets those before it."""

    def moment(seconds: int) -> str:
        return datetime.fromtimestamp(1_700_000_000 + seconds, UTC).isoformat(timespec="seconds")

    attempts = [
        {"started": moment(0), "ended": moment(50), "resumed": False},
        {"started": moment(100), "ended": moment(160), "resumed": False},
        {"started": moment(200), "resumed": True},
    ]
    (tmp_path / "run.json").write_text(json.dumps({"attempts": attempts}))
    assert durations.spent(tmp_path) == 0.0, "nothing was saved"
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "checkpoint.pt").touch()
    os.utime(tmp_path / "state" / "checkpoint.pt", (1_700_000_230, 1_700_000_230))
    assert durations.spent(tmp_path) == 60.0 + 30.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (100, "2 min"), (3580, "1 h"), (6000, "1 h 40 min"), (7200, "2 h"), (0.2, "0 s")]
)
def test_a_duration_in_words(seconds: float, text: str) -> None:
    assert durations.words(seconds) == text
