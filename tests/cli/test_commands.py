"""The sub-commands, on records written by hand to the documented layout."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from maskbench.cli import command_line
from maskbench.cli import main as cli
from maskbench.cli.commands import notes
from maskbench.common import identity


def call(line: str, capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    status = cli.main(line.split())
    told = capsys.readouterr()
    return status, told.out, told.err


def record(*overrides: str, status: str = "finished", accuracy: float = 0.9) -> Path:
    """A run directory as a run leaves it."""
    cfg = command_line.parse(list(overrides)).compose(list(overrides))
    run = identity.run_dir(cfg)
    run.mkdir(parents=True)
    about = {
        "status": status,
        "key": identity.key(cfg),
        "seed": cfg.seed,
        "choices": {"method": cfg.method.name, "data": cfg.data.name, "experiment": None},
        "config": identity.plain(cfg, without={"hydra"}),
        "overrides": list(overrides),
        "commit": "c0ffee",
        "dirty": True,
        "argv": ["maskbench", *overrides],
        "attempts": [{"started": "2020-01-01", "ended": "2020-01-02", "status": status}],
        "data": {"source": "npm", "checksums": {}},
        "cost": {"wall_seconds": 2.5},
    }
    (run / "run.json").write_text(json.dumps(about))
    if status == "finished":
        metrics = {"average_accuracy": accuracy, "forgetting": None, "accuracy/a/0.5": 0.1}
        table = [{"stage": 0, "accuracy": 0.8}, {"stage": 1, "accuracy": None}]
        result = {"status": "finished", "objective": accuracy, "metrics": metrics, "table": table}
        (run / "result.json").write_text(json.dumps(result))
    return run


def test_list_names_every_choice_with_its_description(capsys) -> None:
    status, out, _ = call("list", capsys)
    assert status == 0
    for group in ("method", "data", "backbone", "optimizer"):
        assert f"{group}\n" in out
    assert ["supsup", "continual", "SupSup,"] in [line.split()[:3] for line in out.splitlines()]
    assert "_adam" not in out and "hydra" not in out


def test_list_of_one_group(capsys) -> None:
    status, out, _ = call("list method", capsys)
    rows = {line.split()[0]: line for line in out.splitlines()[1:] if line}
    assert status == 0 and "continual" in rows["packnet"] and "PackNet (Mallya" in rows["packnet"]
    assert call("list metod", capsys)[2].startswith("maskbench: no group 'metod'. Did you mean 'method'?")


def test_no_description_ends_in_mid_sentence(capsys) -> None:
    whole = "# @package _global_\n# What it is, on a line\n# and a half (a.b, 2.5). More of it.\n\n# Another comment.\nx: 1  # no"
    assert notes.comment(whole) == "What it is, on a line and a half (a.b, 2.5)."
    assert notes.comment("# One line without a full stop\nx: 1\n# A key's.") == "One line without a full stop"
    assert (
        notes.comment("# One. And the same line\n# goes on. And on.") == "One. And the same line goes on."
        and notes.comment("") == ""
    )
    out = call("list backbone", capsys)[1]
    assert "a pool after each, 128 hidden units; 215,184 weights." in out


def test_data_made_of_other_sets_is_told_from_unknown_ones(capsys) -> None:
    status, _, told = call("data decathlon5", capsys)
    assert status == 2 and "data=decathlon5 is made of other sets" in told
    assert call("data mnits", capsys)[2].endswith("Did you mean 'mnist'?\n")


def test_list_of_published_values_has_those_that_no_row_runs_too(capsys, tmp_path) -> None:
    status, out, _ = call("list published supsup", capsys)
    lines = out.splitlines()
    wide = lines.index("supsup/permuted_250_gnu: 94.91")
    assert status == 0 and lines[wide + 2] == (
        "  setting: net not named; data permutedmnist; budget steps=1000 batch_size=128; stages 250"
    )
    assert lines[wide + 3] == "  beside: supsup/wide"
    assert "Online EWC" in lines[lines.index("supsup/permuted_10_ewc: 33.88") + 1]
    assert lines[lines.index("supsup/permuted_10_ewc: 33.88") + 3] == "  beside: no row: nothing here runs it"
    assert "maml/omniglot_5w1s: 98.7 (quoted by later papers' tables)\n" in call("list published", capsys)[1]
    assert "no file of published values 'supsop'. Did you mean 'supsup'?" in call("list published supsop", capsys)[2]
    (tmp_path / "lab" / "published").mkdir(parents=True)
    (tmp_path / "lab" / "published" / "mine.yaml").write_text("a: {value: 1.50, net: any, data: any, budget: any, stages: any, "
                                                              "place: here, read: paper, words: a value}")  # fmt: skip
    assert call(f"list published mine --config-dir {tmp_path / 'lab'}", capsys)[1].startswith("mine/a: 1.50\n")


def test_list_of_presets_says_what_to_expect_and_how_long_it_takes(capsys) -> None:
    status, out, _ = call("list experiment", capsys)
    _, _, uci = out.partition("  mc_dropout/uci_4000: ")
    lines = [line.strip() for line in uci.partition("\n\n")[0].splitlines()]
    assert status == 0 and lines[0].startswith("MC-dropout on a UCI table, 4,000 epochs")
    assert any(line.startswith("expect, data=boston: RMSE 2.82") for line in lines)
    assert "takes, data=boston: 30 seconds on one core" in lines
    assert "not run here: no GPU: about 10 hours a seed" in out and "_moved" not in out


def test_show_of_a_preset_says_what_the_paper_has_and_how_ours_differs(capsys) -> None:
    status, out, _ = call("show experiment=mc_dropout/uci_4000", capsys)
    told = [line.removeprefix("# ") for line in out.splitlines() if line.startswith("# ")]
    assert status == 0 and "paper: arXiv 1506.02142, appendix, ten times the epochs" in told
    assert "published, data=boston: 2.80 +- .19 / -2.39 +- .05" in told
    assert "differs from the paper: 1,000 passes, not 10,000; no visible difference" in told
    import yaml

    assert "experiment" not in yaml.safe_load(out)


def test_where_tells_directory_and_state(capsys) -> None:
    done, broken = record("seed=0"), record("seed=1", status="failed")
    killed = record("seed=2", status="running")
    status, out, _ = call("where seed=0,1,2,3", capsys)
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert [row[1] for row in rows] == ["finished", "failed", "interrupted", "new"]
    assert [Path(row[0]) for row in rows[:3]] == [path.absolute() for path in (done, broken, killed)]


def test_a_run_at_work_is_told_from_a_killed_one(capsys) -> None:
    from filelock import FileLock

    run = record("seed=0", status="running")
    with FileLock(run / ".lock"):
        assert call("where seed=0", capsys)[1].split()[1] == "running"
    assert call("where seed=0", capsys)[1].split()[1] == "interrupted"


def test_show_of_a_config_says_who_set_what(capsys) -> None:
    status, out, _ = call("show method=packnet data=permutedmnist budget.steps=7", capsys)
    assert status == 0
    budget = next(line for line in out.splitlines() if line.startswith("#   budget"))
    files = ["conf/config.yaml", "conf/data/permutedmnist.yaml", "conf/pair/packnet_permutedmnist.yaml"]
    assert budget.split()[2:] == " < ".join([*files, "budget.steps=7", "budget.epochs=null"]).split()
    import yaml

    assert yaml.safe_load(out)["budget"]["steps"] == 7


def test_show_of_a_run(capsys) -> None:
    run = record("method=packnet", accuracy=0.75)
    status, out, _ = call(f"show {run}", capsys)
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["state", "finished"] in lines and ["attempt", "2020-01-01", "to", "2020-01-02:", "finished"] in lines
    assert ["average_accuracy", "0.7500"] in lines and ["forgetting", "-"] in lines
    assert ["command", "maskbench", "method=packnet"] in lines and ["data", "from", "npm"] in lines
    assert ["commit", "c0ffee", "with", "changes", "(uncommitted.patch)"] in lines
    assert ["stage", "accuracy"] in lines and ["0", "0.8000"] in lines and ["1", "-"] in lines


def test_show_of_an_empty_record_and_of_none(capsys) -> None:
    run = Path("outputs/a/b")
    run.mkdir(parents=True)
    assert call(f"show {run}", capsys)[0] == 2
    (run / "run.json").write_text("{")
    assert call(f"show {run}", capsys)[0] == 0


def test_results_table_filter_and_csv(capsys) -> None:
    record("seed=0", accuracy=0.5)
    record("seed=1", status="failed")
    record("method=packnet", "optimizer.lr=0.25", accuracy=0.75)
    status, out, _ = call("results", capsys)
    shared, head, *rows = out.splitlines()
    assert status == 0 and shared == "all 3 runs: data=splitmnist"
    assert head.split()[:6] == ["method", "seed", "key", "status", "objective", "optimizer.lr"]
    assert len([row for row in rows if row.startswith(("supsup", "packnet"))]) == 3 and "accuracy/a/0.5" not in head
    assert rows[-1].startswith("With these also differ ") and len(rows) == 4
    assert len(call("results method=packnet", capsys)[1].splitlines()) == 2
    assert len(call("results method=supsup seed=0,1", capsys)[1].splitlines()) == 4, "what both share has a line"
    assert len(call("results optimizer.lr=0.25", capsys)[1].splitlines()) == 2
    assert "no runs" in call("results method=dense", capsys)[1]
    table = list(csv.DictReader(io.StringIO(call("results --csv status=finished", capsys)[1])))
    assert [row["objective"] for row in table] == ["0.75", "0.5"]
    assert table[0]["accuracy/a/0.5"] == "0.1" and table[0]["forgetting"] == ""
    assert call("results --output nowhere", capsys)[0] == 2


def test_rerun_of_a_preset_that_has_moved_is_the_same_run(runs, capsys) -> None:
    runs(lambda cfg: 0.0)
    assert cli.main(["experiment=lottery/mnist_quick", "data=fashion_mnist", "seed=4"]) == 0
    (run,) = Path("outputs").glob("*/*")
    (run / "run.json").write_text(json.dumps({"argv": ["maskbench", "experiment=lottery/fashion_quick", "seed=4"]}))
    (run / ".hydra" / "overrides.yaml").write_text("- experiment=lottery/fashion_quick\n- seed=4\n")
    seen = runs(lambda cfg: 0.0)
    status, out, _ = call(f"rerun {run}", capsys)
    assert status == 0 and "+" not in out
    assert identity.run_dir(seen[0]).name == run.name


@pytest.mark.full
def test_rerun_replays_with_force(runs, capsys) -> None:
    runs(lambda cfg: 0.0)
    assert cli.main(["method=packnet", "seed=4", "optimizer.lr=0.5"]) == 0
    (run,) = Path("outputs").glob("*/*")
    (run / "run.json").write_text(json.dumps({"argv": ["maskbench", "method=packnet"]}))
    seen = runs(lambda cfg: 0.0)
    status, out, _ = call(f"rerun {run}", capsys)
    assert status == 0 and len(seen) == 1 and seen[0].force is True
    assert (seen[0].method.name, seen[0].seed, seen[0].optimizer.lr) == ("packnet", 4, 0.5)
    assert "changed" not in out and "maskbench method=packnet seed=4 optimizer.lr=0.5 force=true" in out


def test_rerun_takes_overrides_in_the_place_of_recorded_ones(runs, capsys) -> None:
    runs(lambda cfg: 0.0)
    assert cli.main(["method=packnet", "seed=4", "optimizer.lr=0.5", "budget.epochs=2"]) == 0
    (run,) = Path("outputs").glob("*/*")
    (run / "run.json").write_text(json.dumps({"argv": ["maskbench", "method=packnet"]}))
    seen = runs(lambda cfg: 0.0)
    status, out, _ = call(f"rerun {run} optimizer.lr=0.25 budget.steps=7", capsys)
    assert status == 0 and (seen[0].method.name, seen[0].seed, seen[0].optimizer.lr) == ("packnet", 4, 0.25)
    assert (seen[0].budget.steps, seen[0].budget.epochs, seen[0].force) == (7, None, False)
    assert "another run than the recorded one: packnet-splitmnist/s4-" in out
    assert "maskbench method=packnet seed=4 optimizer.lr=0.25 budget.steps=7\n" in out
    seen.clear()
    assert call(f"rerun {run} tags=again", capsys)[0] == 0 and seen[0].force is True, "the same question is done anew"
    assert call(f"rerun {run} seed=5,6", capsys)[0] == 0 and [cfg.seed for cfg in seen[1:]] == [5, 6]
    status, _, err = call(f"rerun {run} optimiser.lr=0.25", capsys)
    assert status == 2 and "Did you mean" in err and len(err.splitlines()) == 1


def test_rerun_shows_what_has_changed_and_finds_a_moved_run(runs, capsys) -> None:
    seen = runs(lambda cfg: 0.0)
    cli.main(["seed=4"])
    (run,) = Path("outputs").glob("*/*")
    config = identity.plain(command_line.parse(["seed=4"]).compose(["seed=4"]), without={"hydra"})
    config["budget"]["batch_size"] = 64
    (run / "run.json").write_text(json.dumps({"config": config}))
    shutil.move("outputs", "kept")
    moved = Path("kept") / run.relative_to("outputs")
    status, out, _ = call(f"rerun {moved} --dry", capsys)
    assert status == 0 and len(seen) == 1
    assert "-  batch_size: 64" in out and "+  batch_size: 128" in out
    assert f"paths.output={Path('kept').absolute()}" in out


def test_doctor_and_data(capsys) -> None:
    status, out, _ = call("doctor", capsys)
    assert status == 0
    for part in ("torch ", "cores", "memory", "free", "wandb", "mnist", "offline", "bf16"):
        assert part in out
    status, out, _ = call("data", capsys)
    assert status == 0 and "fashion_mnist" in out
    assert call("data fetch", capsys)[0] == call("data fetch nothing", capsys)[0] == call("data foo", capsys)[0] == 2


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys) -> None:
    status, out, err = call(f"{command} --help", capsys)
    assert status == 0 and f"maskbench {command}" in out and err == ""


def test_the_help_names_every_command(capsys) -> None:
    assert [name for name in cli.COMMANDS if f"maskbench {name}" not in call("--help", capsys)[1]] == []


LISTED = {  # what one choice's listing has on one line, words in this order
    "method edge_popup": [["method.keep", "0.5", "a number"], ["does task=prune, task=uncertainty"], ["share"]],
    "method lottery": [["+method.gradient_batch", "128", "a whole number"], ["method.rate", "0.2"]],
    "data splitmnist": [
        ["gives stages one after another, classes"],
        ["data.val", "5000", "a whole number"],
        ["data.stages  ", " 5  ", "a whole number"],
        ["data.labels", " shifted  ", "shifted or kept"],
    ],
    "backbone conv2": [["backbone.widths", "[256,256]", "a list"], ["multiplies every one of them"]],
    "task prune": [["task.levels", "0", "a whole number at least 0"], ["task.levels asks of it shrink"], ["takes one stage"]],
    "task meta": [["asks of a method after"]],
    "optimizer adam": [["optimizer.lr", "1e-3", "a number"], ["+optimizer.eps", "1e-08"]],
}


@pytest.mark.parametrize("words", LISTED)
def test_list_of_one_choice_shows_its_settings(words: str, capsys) -> None:
    status, out, _ = call(f"list {words}", capsys)
    assert status == 0 and out.startswith(words.replace(" ", "="))
    for parts in LISTED[words]:
        assert any(all(part in line for part in parts) for line in out.splitlines()), parts
    assert "_target_" not in out and ".name" not in out


@pytest.mark.parametrize("words", [*LISTED, "method supsup", "method malach"])
def test_the_columns_of_a_choice_stay_within_a_line(words: str, capsys) -> None:
    _, out, _ = call(f"list {words}", capsys)
    assert max(map(len, out.splitlines())) <= 100
    if words == "method supsup":  # a long default is broken at its commas
        assert any(line.split()[:1] == ["binary_H,binary_G,"] for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("list method supsupp", "no method 'supsupp'. Did you mean 'supsup'?"),
        ("list sweep seeds", "settings are listed of method, data,"),
        ("compare supsup packnet", "'supsup' is a method: write method=supsup."),
        ("method supsup", "'method supsup' is written as one word: method=supsup."),
    ],
)
def test_the_cure_is_in_the_sentence(words: str, sentence: str, capsys) -> None:
    status, _, err = call(words, capsys)
    assert status == 2 and sentence in err
