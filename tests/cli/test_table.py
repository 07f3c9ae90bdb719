"""`maskbench table` on a stand-in for the runs: what is started, what is shown and written, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from maskbench.cli import command_line, jobs
from maskbench.cli import main as cli
from maskbench.common import identity, provenance

TINY = {
    "title": "Tiny",
    "paper": "Nobody 2020, table 1",
    "seeds": {"quick": [0, 1, 2], "full": [0]},
    "runs": {
        "a": {"quick": ["method=supsup", "budget.steps=5"], "full": ["method=supsup"]},
        "b": ["method=packnet"],
    },
    "metric": "accuracy",
    "transform": "percent",
    "rows": [
        {"id": "a", "name": "A", "run": "a", "rule": {"above": "b", "rests_on": "row"}},
        {"id": "b", "name": "B", "run": "b", "rule": {"at_least": 50, "rests_on": "ours"}},
    ],
}
HOURS = {
    "limit": 1,
    "differs": ["seven steps"],
    "title": "Tiny on its own data",
    "seeds": [0, 1, 2],
    "runs": {"a": ["method=supsup", "budget.steps=7"], "b": ["method=packnet", "budget.steps=7"]},
    "rows": [
        {"id": "a", "name": "A", "run": "a", "rule": {"above": "b", "rests_on": "row"}},
        {"id": "b", "name": "B, more", "run": "b", "rule": {"at_least": 50, "rests_on": "ours"}},
    ],
}
CODE = {"commit": "c0ffee" * 7, "dirty": False}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of the jobs that were started; each leaves a finished run, a seed of 13 crashes."""
    seen: list[list[str]] = []

    def do(job: jobs.Job) -> str:
        words = [word for word in job.words if not word.startswith("--")]
        words = [word for word in words if word not in ("-m", "conf")]
        seen.append(list(words))
        code = 0
        for folder in job.folders:
            seed = int(folder.name.split("-")[0][1:])
            if seed == 13:
                code = 1
                continue
            finish(folder, seed, words)
        job.process = type("Process", (), {"returncode": code, "poll": lambda self: code})()
        return "seed 13 is unlucky" if code else ""

    monkeypatch.setattr(jobs, "_follow", do)
    return seen


def finish(folder: Path, seed: int, words: list[str], code: dict = CODE) -> None:
    words = [word for word in words if not word.startswith(("seed=", "hydra/"))]
    cfg = command_line.parse(words).compose([*words, f"seed={seed}"])
    folder.mkdir(parents=True, exist_ok=True)
    about = {"key": identity.key(cfg), "seed": seed, "config": identity.plain(cfg, without={"hydra"}), "status": "finished"}
    more = {"data": {"source": "npm"}, "cost": {"wall_seconds": 1500.0}}
    (folder / "run.json").write_text(json.dumps(about | code | more))
    metrics = {"accuracy": (0.9 if cfg.method.name == "supsup" else 0.8) + seed / 1000}
    result = {"status": "finished", "metrics": metrics, "objective": 1.0, "source": "npm", "data": cfg.data.name}
    (folder / "result.json").write_text(json.dumps(result | {"method": cfg.method.name, "seed": seed}))


def table(words: str, capsys: pytest.CaptureFixture, *, told: dict = TINY) -> tuple[int, str, str]:
    Path("conf/table").mkdir(parents=True, exist_ok=True)
    Path("conf/table/tiny.yaml").write_text(yaml.safe_dump(told))
    status = cli.main(["table", *words.split(), "--config-dir", "conf"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def rows(out: str) -> dict[str, list[str]]:
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return {line[0]: line for line in lines if line[0]}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_table_runs_what_is_missing_and_shows_ours(started: list, capsys) -> None:
    status, out, err = table("tiny jobs=1", capsys)
    assert status == 0 and err.splitlines()[0] == "6 runs to do: how long they take is seen after the first"
    assert started[4] == ["method=supsup", "budget.steps=5", "logger=none", "seed=2"]
    assert [words[-1] for words in started] == [f"seed={seed}" for seed in (0, 0, 1, 1, 2, 2)], "soon every row has one"
    assert rows(out)["A"] == ["A", "3", "90.10%", "[89.85, 90.35]", "", "", "above “B”, paired: 10.00", "row", "holds"]
    assert err.splitlines()[-1].startswith("6 of 6 jobs over, tiny/")
    written = sorted(path.name for path in Path("outputs/tables/tiny").iterdir())
    assert written == ["quick.csv", "quick.md", "quick.png", "quick.svg", "quick.tex", "scoreboard-quick.md"]
    before = {name: (Path("outputs/tables/tiny") / name).read_bytes() for name in written}
    started.clear()
    assert table("tiny", capsys)[0] == 0 and started == [], "nothing is done twice"
    assert {name: (Path("outputs/tables/tiny") / name).read_bytes() for name in written} == before


def test_latex_alone_is_printed_where_it_is_asked_for(started: list, capsys) -> None:
    table("tiny jobs=1", capsys)
    status, out, _ = table("tiny --only-print --latex", capsys)
    assert status == 0 and out.startswith("\\begin{table}\n") and out.endswith("\\end{table}\n")
    assert r"\textbf{90.10} $\pm$ 0.25" in out and "Commit: c0ffeec0ff." in out
    status, out, err = table("tiny --dry --latex", capsys)
    assert (status, out) == (2, "") and "leave one of them out" in err


@pytest.mark.full
def test_a_table_names_figures_of_all_its_experiments(started: list, capsys) -> None:
    told = TINY | {"figures": ["methods_bytes"]}
    assert table("tiny jobs=1", capsys, told=told)[0] == 0
    assert not list(Path("outputs/tables/tiny").glob("*methods*")), "records without an accuracy matrix have none"
    for path in Path("outputs").glob("*-*/s*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"] |= {"average_accuracy": 0.9, "memory_bytes": 1000}
        more = {"matrices": {"accuracy": [[0.9, None], [0.9, 0.9]]}, "table": [{"stage": "a"}, {"stage": "b"}], "key": "k"}
        path.write_text(json.dumps(result | more))
    assert table("tiny", capsys, told=told)[0] == 0
    drawn = {path.name for path in Path("outputs/tables/tiny").glob("*methods*")}
    assert drawn == {"quick-splitmnist-methods_bytes.png", "quick-splitmnist-methods_bytes.svg"}
    for path in Path("outputs").glob("*-*/s0*/result.json"):  # one of the two experiments on three stages
        result = json.loads(path.read_text())
        result["matrices"] = {"accuracy": [[0.9, None, None], [0.9, 0.9, None], [0.9, 0.9, 0.9]]}
        result["table"].append({"stage": "c"})
        path.write_text(json.dumps(result))
        break
    assert table("tiny seeds=0", capsys, told=told)[0] == 0
    drawn = {path.name for path in Path("outputs/tables/tiny").glob("*methods*.png")}
    assert drawn >= {"quick-splitmnist2-methods_bytes.png", "quick-splitmnist3-methods_bytes.png"}


def test_only_the_missing_seeds_are_run(started: list, capsys) -> None:
    table("tiny seeds=0,1", capsys)
    started.clear()
    status, out, _ = table("tiny seeds=0,1,2,5", capsys)
    assert sorted(words[-1] for words in started) == ["seed=2", "seed=2", "seed=5", "seed=5"]
    assert rows(out)["B"][1] == "4" and "Seeds 0, 1, 2, 5" in out


def test_a_crashed_run_is_reported_and_the_others_are_shown(started: list, capsys) -> None:
    status, out, err = table("tiny seeds=0,13,2", capsys)
    assert status == 1 and len(started) == 6
    assert "failed: tiny/a seed 13: seed 13 is unlucky" in out
    assert rows(out)["B"][1] == "2" and rows(out)["B"][-1] == "incomplete" and "seed 13: no finished run" in out


@pytest.mark.full
def test_a_run_that_is_damaged_is_not_one_that_is_missing(started: list, capsys) -> None:
    table("tiny seeds=0,1,2", capsys)
    (lost,) = Path("outputs").glob("packnet-*/s1-*")
    (lost / "result.json").write_text("{")
    status, out, err = table("tiny seeds=0,1,2 --only-print", capsys)
    assert status == 0 and rows(out)["B"][-1] == "incomplete"
    assert f"{lost.name} is skipped: result.json cannot be read" in err and err.count("is skipped") == 1


@pytest.mark.full
def test_as_many_seeds_are_taken_as_fit_into_the_hours(started: list, capsys) -> None:
    """A run takes 25 minutes here: what nobody knows before the first seed is there."""
    told = TINY | {"hours": HOURS}
    _, out, err = table("tiny budget=hours hours=2 jobs=1", capsys, told=told)
    assert [words[-1] for words in started] == ["seed=0", "seed=0", "seed=1", "seed=1"]
    choice = "hours=2: 2 of 3 seeds: 3 would take about 2 h 30 min."
    assert "tiny: 2 seeds take about 1 h 40 min, more than its 1 h; hours=1: as many as fit." in err.splitlines()
    assert f"tiny: {choice}" in err.splitlines() and "2 runs to do: about 50 min on one core" in err.splitlines()
    assert rows(out)["B, more"][:2] == ["B, more", "2"] and "Seeds 0, 1;" in out and choice in out
    page = Path("outputs/tables/tiny/hours.md").read_text()
    assert page.startswith("# Tiny on its own data (hours budget)\n") and f"- {choice}\n" in page
    assert "- 4 of 4 runs are there, which took 1 h 40 min on one core, 50 min on 2: within its 1 h.\n" in page
    started.clear()
    _, out, err = table("tiny budget=hours --hours 0.2 jobs=1", capsys, told=told)
    assert "more than" not in err
    choice = "hours=0.2: 1 of 3 seeds: 2 would take about 1 h 40 min, and 1 takes about 50 min."
    assert started == [] and choice in out and rows(out)["B, more"][1] == "1"


def test_a_table_can_be_looked_at_before_it_is_whole(started: list, capsys) -> None:
    told = TINY | {"hours": HOURS}
    table("tiny budget=hours seeds=0 jobs=1", capsys, told=told)
    started.clear()
    status, out, err = table("tiny budget=hours --partial jobs=1", capsys, told=told)
    assert status == 0 and started == [] and err == "4 runs to do (2 done before): about 1 h 40 min on one core\n"
    assert rows(out)["A"][1:3] == ["1", "90.00%"] and rows(out)["A"][-1] == "incomplete"
    assert "2 of 6 runs are there, which took 50 min on one core" in out


@pytest.mark.full
def test_the_budget_of_hours_shares_no_run_that_it_does_not_name(started: list, capsys) -> None:
    told = TINY | {"hours": HOURS | {"runs": {"b": HOURS["runs"]["b"]}, "rows": HOURS["rows"][1:]}}
    _, out, _ = table("tiny budget=hours", capsys, told=told)
    assert {words[0] for words in started} == {"method=packnet"} and set(rows(out)) == {"B, more"}
    started.clear()
    _, out, _ = table("tiny", capsys, told=told)
    assert len(started) == 6 and set(rows(out)) == {"A", "B"} and "which took" not in out


@pytest.mark.full
def test_overrides_reach_the_runs_and_are_told(started: list, capsys) -> None:
    _, out, _ = table("tiny optimizer.lr=0.5 logger=csv jobs=1", capsys)
    assert started[0] == ["method=supsup", "budget.steps=5", "optimizer.lr=0.5", "logger=csv", "seed=0"]
    assert "on all runs also optimizer.lr=0.5." in out
    started.clear()
    table("tiny budget.steps=7 jobs=1", capsys)
    assert started[0][:2] == ["method=supsup", "budget.steps=7"], "the last word for a key stands"


@pytest.mark.full
def test_the_budgets_are_apart(started: list, capsys) -> None:
    table("tiny", capsys)
    started.clear()
    table("tiny budget=full", capsys)
    assert started == [["method=supsup", "logger=none", "seed=0"]], "packnet's run of seed 0 is the same in both"
    assert Path("outputs/tables/tiny/full.md").exists() and Path("outputs/tables/tiny/quick.md").exists()


@pytest.mark.full
def test_a_launcher_gets_the_seeds_as_one_sweep(started: list, capsys) -> None:
    table("tiny hydra/launcher=basic", capsys)
    assert sorted(words[-1] for words in started) == ["seed=0,1,2"] * 2


def test_printing_runs_nothing(started: list, capsys) -> None:
    status, out, _ = table("tiny --only-print", capsys)
    assert status == 0 and started == [] and rows(out)["A"][-1] == "incomplete"
    status, out, err = table("tiny --dry", capsys)
    assert status == 0 and err == "6 runs to do: how long they take is seen after the first\n"
    assert started == [] and [line.split()[1] for line in out.splitlines()] == ["new"] * 6


@pytest.mark.full
def test_runs_of_another_commit_are_refused_allowed_or_redone(started: list, capsys, monkeypatch) -> None:
    table("tiny", capsys)
    (place,) = Path("outputs").glob("packnet-*/s1-*")
    about = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps(about | {"commit": "decade" * 7}))
    _, out, _ = table("tiny", capsys)
    assert rows(out)["B"][-1] == rows(out)["A"][-1] == "refused"
    assert "it would mix commits c0ffeec0ff and decadedeca" in out
    assert rows(table("tiny mixed=allow", capsys)[1])["B"][-1] == "holds"
    started.clear()
    monkeypatch.setattr(provenance, "collect", lambda: CODE)
    monkeypatch.setattr(provenance, "diff", lambda: "")
    _, out, _ = table("tiny mixed=redo", capsys)
    assert started == [["method=packnet", "logger=none", "seed=1", "force=true"]] and rows(out)["B"][-1] == "holds"


@pytest.mark.full
def test_runs_of_other_code_are_done_anew_or_kept_and_said_to_be_old(started: list, capsys) -> None:
    table("tiny", capsys)
    (place,) = Path("outputs").glob("packnet-*/s1-*")
    about = json.loads((place / "run.json").read_text())
    old = {"code": {"closure": "beef", "modules": {"maskbench.training.fit": "old"}}}
    (place / "run.json").write_text(json.dumps(about | old))
    started.clear()
    assert [line.split()[2:] for line in table("tiny --dry", capsys)[1].splitlines()].count(["stale"]) == 1
    for words in ("tiny --only-print", "tiny stale=keep"):
        _, out, _ = table(words, capsys)
        assert started == [] and "Stale, as maskbench." in out and "changed since: packnet-" in out
    _, out, _ = table("tiny", capsys)
    assert started == [["method=packnet", "logger=none", "seed=1", "force=true"]]
    assert "Stale" not in out and rows(out)["B"][-1] == "holds"


@pytest.mark.full
def test_all_tables_and_the_scoreboard(started: list, capsys, monkeypatch, tmp_path) -> None:
    (tmp_path / "none").mkdir()
    from maskbench.cli.commands import table as command

    names = command.spec.names
    monkeypatch.setattr(command.spec, "names", lambda folders: names([folders[-1]]))
    Path("conf/table").mkdir(parents=True)
    other = TINY | {"title": "Other", "system": "other"}
    Path("conf/table/other.yaml").write_text(yaml.safe_dump(other))
    status, out, _ = table("all", capsys)
    assert status == 0 and len(started) == 6, "runs that two tables share are done once"
    assert rows(out)["other"] == ["other", "other", "2 of 2", "1 row, 1 ours, earlier", "3", "holds"]
    assert "2 of 2 systems have a verdict on 3 seeds or more." in out
    page = Path("outputs/tables/all/quick.md").read_text()
    assert page.startswith("# Scoreboard (quick budget)\n\n- Of 4 rows with a rule, ") and "## Tiny (quick budget)" in page
    assert Path("outputs/tables/all/quick.tex").exists()


@pytest.mark.full
def test_a_reader_that_leaves_early_does_not_keep_files_from_being_written(started: list, capsys, monkeypatch) -> None:
    def leave(*_: object) -> None:
        raise BrokenPipeError

    from maskbench.cli.commands import table as command

    monkeypatch.setattr(command, "show", leave)
    Path("conf/table").mkdir(parents=True)
    for name in ("tiny", "other"):
        Path(f"conf/table/{name}.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.raises(BrokenPipeError):
        command.main(["tiny", "other", "--config-dir", "conf"])
    assert Path("outputs/tables/tiny/quick.csv").exists() and Path("outputs/tables/other/quick.csv").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("tini", "no table 'tini'. Did you mean 'tiny'?"),
        ("tiny budget=huge", "budget=huge is none of quick, full, hours."),
        ("tiny budget=hours", "table tiny has no budget=hours; it has quick, full."),
        ("tiny seeds=a", "seeds=a must be whole numbers such as 0,1,2."),
        ("tiny hours=soon", "hours=soon must be a number above 0, such as 2 or 0.5."),
        ("tiny hours=0", "hours=0 must be a number above 0"),
        ("tiny --submit", "--submit needs hydra/launcher=submitit_slurm: only a cluster goes on without this command."),
        ("tiny jobs=0", "jobs=0 must be a whole number above 0."),
        ("tiny seed=1", "given with seeds=0,1,2"),
        ("tiny mixed=yes", "mixed=yes is none of refuse, allow, redo."),
        ("tiny optimizer.lrr=1", "unknown key 'optimizer.lrr'. Did you mean 'optimizer.lr'?"),
    ],
)
def test_mistakes_are_one_sentence_and_start_nothing(words: str, sentence: str, started: list, capsys) -> None:
    status, out, err = table(words, capsys)
    assert status == 2 and sentence in err and len(err.splitlines()) == 1 and started == []
    assert not Path("outputs").exists()


def test_without_a_name_the_tables_are_listed(capsys) -> None:
    status, out, _ = table("", capsys, told=TINY | {"hours": HOURS})
    listed = dict(line.split(None, 1) for line in out.splitlines())
    assert status == 0 and listed["tiny"] == "Tiny; budget=hours: Tiny on its own data" and "lottery" in listed
