"""A method on a table or a curve simply runs: its net, its likelihood and the table's own knobs come with the pair."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maskbench.cli import command_line, preflight
from maskbench.cli.command_line import choices
from maskbench.common.errors import UsageError
from maskbench.common.identity import conf_dir

TABLES = [name for name, path in choices([conf_dir()], "data").items() if "/kind: table" in path.read_text()]
PUBLISHED = ["boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht", "year"]


def composed(*words: str):
    return command_line.parse(list(words)).compose(list(words))


@pytest.mark.parametrize("data", PUBLISHED)
def test_mc_dropout_has_the_noise_of_each_published_table(data: str) -> None:
    cfg = composed("method=mc_dropout", f"data={data}")
    assert data in TABLES and cfg.backbone.name == "fold_mlp"
    assert cfg.method.tau > 0 and cfg.method.where == "all"
    assert cfg.backbone.widths == ([100] if data in ("protein", "year") else [50])
    assert cfg.budget.epochs == (200 if data in ("protein", "year") else 400)
    assert cfg.budget.batch_size == 32


@pytest.mark.parametrize(("words", "rows"), [
    ("method=mc_dropout protocol=uci_400", 32), ("method=mc_dropout protocol=uci_4000", 128),
    ("method=mc_dropout protocol=uci_2layers", 128), ("method=mc_dropout protocol=uci_grid", 128),
    ("method=masksembles", 100), ("method=masksembles_ensemble", 100), ("method=deep_ensembles", 100),
])  # fmt: skip
def test_each_protocol_and_method_has_the_batch_its_numbers_were_made_at(words: str, rows: int) -> None:
    assert composed(*words.split(), "data=boston").budget.batch_size == rows


@pytest.mark.parametrize("method", ["mc_dropout", "masksembles", "deep_ensembles", "dense"])
@pytest.mark.parametrize("data", ["boston", "cubic"])
def test_a_method_runs_on_a_table_and_on_a_curve(method: str, data: str, build: Callable) -> None:
    small = ("budget.epochs=1", "budget.steps=null", *(["method.passes=3"] if method == "mc_dropout" else []))
    bench = build(f"method={method}", f"data={data}", *small).go()
    assert bench.metrics["rmse"] > 0
    assert (bench.metrics["nll"] is not None) == (method != "dense")


def test_what_one_says_wins_over_protocol_over_pair_over_method() -> None:
    pair = ("method=mc_dropout", "data=boston")
    assert composed(*pair).budget.epochs == 400
    assert composed(*pair, "protocol=uci_4000").budget.epochs == 4000
    assert composed(*pair, "protocol=uci_4000", "budget.epochs=7").budget.epochs == 7
    assert composed("experiment=supsup/outputs").data.stages == 10
    assert composed("experiment=supsup/outputs", "protocol=permuted_250").data.stages == 250
    assert composed(*pair, "backbone=mlp").backbone.name == "mlp"


def test_keys_of_a_task_that_a_method_brings_leave_other_tasks_alone(tmp_path: Path) -> None:
    assert composed("method=lottery").task.levels == 5
    assert composed("method=lottery", "task.levels=2").task.levels == 2
    assert composed("experiment=lottery/mnist_quick").task.levels == 15
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "robust.yaml").write_text(
        "_target_: mine.run\nname: robust\nneeds: maskbench.tasks.contracts.Predicts\nnoise: 0.1\n"
    )
    words = ["--config-dir", str(tmp_path), "method=lottery", "task=robust"]
    command = preflight.check(words, starts=False)
    assert set(command.compose(["method=lottery", "task=robust"]).task) == {"_target_", "name", "needs", "noise"}


def test_images_keep_the_net_of_the_method() -> None:
    assert composed("method=mc_dropout").backbone.name == "conv5_16_32"
    assert composed("method=deep_ensembles").backbone.name == "lenet_300_100"


def test_a_protocol_that_has_nothing_for_a_table_says_for_which_it_has() -> None:
    with pytest.raises(UsageError, match="no value here for 'year', only for boston, concrete"):
        preflight.check(["method=mc_dropout", "data=year", "protocol=uci_grid"])


def test_a_budget_that_follows_from_the_data_reaches_training_as_a_number(build: Callable) -> None:
    bench = build("experiment=mc_dropout/uci_400", "data=boston", "method.passes=2")
    assert bench.fit.length(455, 1.0) == 400 * 15  # batches of 32, the last one short


@pytest.mark.parametrize("method", ["packnet", "piggyback", "heads", "frozen_heads", "separate", "finetune"])
def test_the_decathlon_brings_the_net_that_comes_trained_and_how_it_is_trained(method: str) -> None:
    cfg = composed(f"method={method}", "data=decathlon5")
    assert (cfg.backbone.name, cfg.backbone.init, cfg.data.normalize) == ("efficientnet_lite0", "imagenet", "net")
    assert (cfg.method.head_start, cfg.trainer.memory_format) == ("probe", "channels_last")
    assert cfg.schedule._target_.endswith("cosine") and cfg.budget.batch_size == 32
    assert method == "piggyback" or cfg.optimizer.recipes.trunk.lr == 3e-4
    assert method != "packnet" or cfg.method.prune == [0.25, 0.75]
    assert method not in ("heads", "frozen_heads") or cfg.method.trunk == "given"
    plain = composed(f"method={method}")
    assert (plain.backbone.name, plain.backbone.init == "imagenet", plain.method.head_start) == ("lenet_300_100", False, None)


TRANSFER = ["pac_net", "pac_net_no_penalty", "pac_net_random_mask", "pac_net_no_allocate", "transfer_finetune", "transfer_l2",
            "transfer_l2_sp", "transfer_last_layer", "transfer_scratch", "transfer_delta", "transfer_bss"]  # fmt: skip


@pytest.mark.parametrize("method", TRANSFER)
def test_transfer_from_a_net_that_comes_trained(method: str) -> None:
    cfg = composed(f"method={method}", "data=imagenet2animals")
    assert (cfg.backbone.name, cfg.backbone.init, cfg.data.normalize) == ("efficientnet_lite0", "imagenet", "net")
    assert cfg.optimizer.recipes.trunk.lr == 3e-4 and cfg.task.name == "transfer"
    scratch = method == "transfer_scratch"
    assert (cfg.method.head_start, cfg.backbone.init_norm) == ((None, "train") if scratch else ("probe", None))
    if method.startswith("pac_net"):
        assert (cfg.method.prune.ratio, cfg.method.allocate.share) == (0.25, 0)
    assert composed(f"method={method}").backbone.name == "mlp_100x3"


@pytest.mark.parametrize("method", ["one_shot", "piggyback", "frozen_heads", "heads"])
def test_texts_bring_a_net_that_reads_them(method: str) -> None:
    cfg = composed(f"method={method}", "data=fortunes")
    assert (cfg.backbone.name, cfg.backbone.init) == ("hf", "published")
    assert cfg.method.head_start == (None if method == "one_shot" else "probe")
