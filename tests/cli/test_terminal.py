"""`results` and `table` on a real terminal of 80 columns, that of tmux: the screen as a reader sees it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from maskbench.cli import command_line, screen
from maskbench.common import identity
from maskbench.report.tables import ALIGN, HEAD
from maskbench.report.writers import Sheet

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 80
TABLE = {
    "title": "Masks on split digits",
    "paper": "Nobody 2020, table 1",
    "seeds": [0, 1, 2],
    "runs": {"a": ["method=supsup"], "b": ["method=packnet"]},
    "metric": "average_accuracy",
    "transform": "percent",
    "rows": [
        {"id": "a", "name": "SupSup, stage given, all five stages", "run": "a", "rule": {"above": "b", "rests_on": "row"}},
        {"id": "b", "name": "PackNet", "run": "b", "rule": {"between": [80, 80.5], "rests_on": "ours"}},
    ],
}
SCREENS = {  # by the words of a command; kkkkkkkkkk stands for the key of a run
    "results method=supsup": """\
all 3 runs: method=supsup data=splitmnist status=finished
                             average_
                  average_  accuracy_                memory_
seed  key         accuracy   inferred  forgetting      bytes
   0  kkkkkkkkkk    0.9123     0.1235      0.0000  123456789
   1  kkkkkkkkkk    0.9133     0.1235      0.0000  123456789
   2  kkkkkkkkkk    0.9143     0.1235      0.0000  123456789
""",
    "results group=method": """\
                                     average_accuracy_
method   n  average_accuracy         inferred
packnet  3  0.8022 [0.7997, 0.8047]  0.1235 [0.1235, 0.1235]
supsup   3  0.9133 [0.9108, 0.9158]  0.1235 [0.1235, 0.1235]
No room for forgetting, memory_bytes: metrics=NAME makes some, --csv and
--markdown have all.
""",
    "table mine --only-print --config-dir conf": """\
Masks on split digits (quick budget)
┏━━━━━━━━━━━┳━━━┳━━━━━━━━┳━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━━┓
┃ row       ┃ n ┃   ours ┃  95 % interval ┃ rule        ┃ rests on ┃ verdict   ┃
┡━━━━━━━━━━━╇━━━╇━━━━━━━━╇━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━━┩
│ SupSup,   │ 3 │ 91.33% │ [91.08, 91.58] │ above       │ row      │ holds     │
│ stage     │   │        │                │ “PackNet”,  │          │           │
│ given,    │   │        │                │ paired:     │          │           │
│ all five  │   │        │                │ 11.11       │          │           │
│ stages    │   │        │                │             │          │           │
│ PackNet   │ 3 │ 80.22% │ [79.97, 80.47] │ 80 to 80.5  │ ours,    │ undecided │
│           │   │        │                │             │ earlier  │           │
└───────────┴───┴────────┴────────────────┴─────────────┴──────────┴───────────┘
Paper: Nobody 2020, table 1.
Seeds 0, 1, 2; intervals are Student's t over seeds.
written: outputs/tables/mine/quick.md, outputs/tables/mine/quick.csv,
outputs/tables/mine/quick.tex, outputs/tables/mine/quick.png,
outputs/tables/mine/quick.svg
""",
}


def finished(method: str, seed: int) -> None:
    """A run as the table asks for it, with metrics of long names."""
    words = [f"method={method}", f"seed={seed}"]
    cfg = command_line.parse(words).compose(words)
    key = identity.key(cfg)
    folder = Path("outputs") / f"{method}-splitmnist" / f"s{seed}-{key}"
    folder.mkdir(parents=True)
    about = {"key": key, "seed": seed, "config": identity.plain(cfg, without={"hydra"}), "status": "finished"}
    about |= {"data": {"source": "npm"}, "commit": "c0ffee" * 7, "dirty": False, "choices": {"method": method}}
    accuracy = (0.9123 if method == "supsup" else 0.8012) + seed / 1000
    metrics = {"average_accuracy": accuracy, "average_accuracy_inferred": 0.123456, "forgetting": 0.0, "memory_bytes": 123456789}
    result = {"status": "finished", "metrics": metrics, "objective": accuracy, "objective_name": "average_accuracy"}
    result |= {"source": "npm", "data": "splitmnist", "method": method, "seed": seed, "key": key, "task": "continual"}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def runs_and_table() -> None:
    for seed in (0, 1, 2):
        for method in ("supsup", "packnet"):
            finished(method, seed)
    Path("conf/table").mkdir(parents=True)
    Path("conf/table/mine.yaml").write_text(yaml.safe_dump(TABLE))


@pytest.fixture
def terminal() -> Iterator[Callable[..., str]]:
    """`terminal(*words)`: what `maskbench *words` leaves on a screen; lines that the terminal had to break are whole again."""
    if not (program := shutil.which("tmux")):
        pytest.skip("no tmux here: Debian's package tmux has it")
    server = [program, "-u", "-f", "/dev/null", "-L", f"maskbench-{uuid.uuid4().hex}"]
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TMUX", "NO_COLOR")}
    plain |= {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}

    def run(*words: str) -> str:
        command = shlex.join([sys.executable, "-m", "maskbench", *words])
        signal = shlex.join([*server, "wait-for", "-S", "over"])
        size = ["-x", str(COLUMNS), "-y", "50"]
        subprocess.run([*server, "new-session", "-d", *size, f"{command}; {signal}; cat"], env=plain, check=True)
        subprocess.run([*server, "wait-for", "over"], env=plain, check=True)
        shown = subprocess.run([*server, "capture-pane", "-pJ", "-S", "-"], env=plain, check=True, capture_output=True, text=True)
        subprocess.run([*server, "kill-server"], env=plain, check=True)
        return "\n".join(line.rstrip() for line in shown.stdout.rstrip().splitlines()) + "\n"

    yield run
    subprocess.run([*server, "kill-server"], env=plain, capture_output=True)


@pytest.mark.full
@pytest.mark.parametrize("words", SCREENS)
def test_a_screen_of_80_columns(words: str, runs_and_table: None, terminal: Callable) -> None:
    told = terminal(*words.split())
    keys = {path.parent.name.partition("-")[2] for path in Path("outputs").glob("*/*/run.json")}
    for key in keys:
        told = told.replace(key, "k" * len(key))
    assert max(map(len, told.splitlines())) <= COLUMNS
    assert told == SCREENS[words]


# ---- what stands where


ROWS = [
    [
        "Tickets against random masks",
        "3",
        "98.12%",
        "[97.80, 98.44]",
        "98.50 (ours, earlier)",
        "-0.38",
        "within 0.5",
        "ours",
        "holds",
    ],
    ["B", "3", "-80.00 points", "[-80.85, -79.35]", "", "", "above “Tickets”, paired: 10.00", "row", "undecided"],
]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_a_grid_keeps_numbers_and_words_whole_and_says_all(columns: int, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen.show(Sheet("Tiny", HEAD, ROWS, ALIGN, ["Paper: X."]), [Path("a.md")])
    out = capsys.readouterr().out
    grid = [line for line in out.splitlines() if line.startswith(("│", "┃"))]
    kept = [place for place, name in enumerate(HEAD) if any(line.split()[1:] and name.split()[0] in line for line in grid[:3])]
    assert len({len(line) for line in grid}) == 1
    assert len(grid[0]) <= columns or [HEAD[place] for place in kept] == [name for name in HEAD if name not in screen.BELOW]
    for row in ROWS:
        for cell in filter(None, row):
            assert all(word in out for word in cell.split()), cell
    assert "[-80.85, -79.35]" in out and "-80.00 points" in out, "intervals and units stay on one line"
    assert out.endswith("Paper: X.\nwritten: a.md\n\n")


def test_what_has_no_room_stands_below_the_grid() -> None:
    sheet = Sheet("", HEAD, ROWS, ALIGN)
    kept, widths = screen.fitted(sheet, 80)
    assert [name for name in HEAD if HEAD.index(name) not in kept][-2:] == ["rule", "rests on"]
    assert screen.taken(widths) <= 80
    assert screen.below(sheet, kept)[1].endswith("rule above “Tickets”, paired: 10.00; rests on row.")
    assert screen.below(sheet, screen.fitted(sheet, 300)[0]) == []


def test_room_goes_to_those_who_need_it() -> None:
    assert screen.grown([3, 3, 3], [3, 5, 30], 3 * 3 + 1 + 20) == [3, 5, 12]
    assert screen.grown([3, 3], [9, 9], 4) == [3, 3], "never below what words take"
