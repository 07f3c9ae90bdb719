"""What a run says of its progress: each number names what it counts, and a stage's name is not taken for a count."""

import io

import pytest
from rich.console import Console as Terminal

from maskbench.cli.jobs import PART
from maskbench.runs.console import Console

STAGES = ["0/1", "2/3"]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "maskbench.runs.console.Terminal",
        lambda **_: Terminal(file=io.StringIO(), force_terminal=True, width=100, highlight=False, color_system=None),
    )
    made = Console("supsup on splitmnist, seed 0", live=True)
    made.stages = STAGES
    yield made
    made.close()


def drawn(console: Console) -> str:
    """The bar as it stands now."""
    page = Terminal(file=io.StringIO(), width=100, color_system=None)
    page.print(console.bar.get_renderable())
    return page.file.getvalue()


def test_the_bar_says_which_part_of_how_many_is_under_way_and_which_step_of_how_many(console: Console) -> None:
    console.begin("0/1", 0, 4)
    console.watch("train", 20, 1200, {})
    first = drawn(console)
    assert "part 1 of 4" in first and "stage 0/1: train" in first and "step 20 of 1,200" in first
    console.part("0/1", {"accuracy": 0.5}, 1, 4)
    console.begin("infer 2/3", 1, 4)
    console.watch("probe", 5, 9, {"loss": 0.25})
    second = drawn(console)
    assert "part 2 of 4" in second and "infer stage 2/3: probe" in second and "step 5 of 9" in second and "loss 0.2500" in second
    assert "?" not in first + second and "accuracy 0.5000" in second


def test_a_line_names_the_part_it_counts_and_what_reads_it_finds_the_count(caplog) -> None:
    console = Console("", live=False)
    console.stages = STAGES
    with caplog.at_level("INFO", "maskbench"):
        console.part("0/1", {"accuracy": 0.89}, 1, 4)
        console.part("infer 2/3", {"stage found": 0.5}, 4, 4)
        console.part("level 0", {"accuracy": 0.5}, 1, None)
    console.close()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "part 1 of 4, stage 0/1: accuracy 0.8900",
        "part 4 of 4, infer stage 2/3: stage found 0.5000",
        "part 1, level 0: accuracy 0.5000",
    ]
    assert [PART.match(line)[1] for line in lines] == ["1 of 4", "4 of 4", "1"]
