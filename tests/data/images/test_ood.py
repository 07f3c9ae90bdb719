"""Unknown classes: other sets' test images on the scale of what is learnt, and no way for them into training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.data.images import letters, ood
from maskbench.data.images import whole_sets as images
from maskbench.data.images.labels import NAMES, names
from maskbench.data.images.whole_sets import load, whole
from maskbench.data.sources import find as sources
from maskbench.data.sources import sets
from maskbench.data.stage import Origin


def build(root="nowhere", **changes):
    keys = {"base": "synthetic", "val": 200, "normalize": "standard", "source": "auto", "seed": 0}
    return whole(**keys | changes, root=root)[0]


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith((".", "?")) and ". " not in text.replace(". Did you mean", "")
    return text


# ---- the stage


def test_unknown_images_are_test_images_on_the_known_scale():
    stage = build(ood=["synthetic_other"])
    ((name, split),) = stage.ood.items()
    raw = sources.find("synthetic_other", "nowhere")[0]
    x, y = split.tensors()
    scale = images.STANDARD["synthetic"]
    expected = (torch.from_numpy(raw.test_x[split.rows.numpy()]).double() / 255 - scale.mean[0]) / scale.deviation[0]
    torch.testing.assert_close(x[:, 0].double(), expected, rtol=1e-5, atol=1e-6)
    assert name == "synthetic_other" and x.shape == (500, *stage.shape) and set(y.tolist()) == {ood.UNKNOWN}
    assert sorted(split.rows.tolist()) == list(range(500)) and not torch.equal(split.rows, split.rows.sort().values)


def test_nothing_else_of_the_stage_changes():
    plain, stage = build(), build(ood=["synthetic_other", "glyphs_aj"])
    for a, b in ((plain.train, stage.train), (plain.val, stage.val), (plain.test, stage.test)):
        assert a.x is b.x and torch.equal(a.y, b.y) and torch.equal(a.rows, b.rows)
    assert plain.ood == {} and plain.fingerprint != stage.fingerprint != build(ood=["glyphs_aj"]).fingerprint
    assert stage.fingerprint == build(ood=["synthetic_other", "glyphs_aj"]).fingerprint
    assert set(plain.origin.checksums) < set(stage.origin.checksums)


def test_a_set_has_as_many_images_as_the_test_split():
    stage = build(ood=["glyphs_aj"])
    assert len(stage.ood["glyphs_aj"]) == len(stage.test) == 500
    assert not torch.equal(stage.ood["glyphs_aj"].rows, build(ood=["glyphs_aj"], seed=1).ood["glyphs_aj"].rows)


@pytest.mark.parametrize("nothing", [None, False, [], ()])
def test_nothing_asked_is_nothing_made(nothing, monkeypatch):
    monkeypatch.setattr(ood, "unknown", None)
    assert build(ood=nothing).ood == {}


@pytest.mark.parametrize("base", ood.PARTNERS)
def test_auto_takes_sets_that_pass(base):
    assert ood.requested("auto", base) == ood.requested(list(ood.PARTNERS[base]), base) != ()


def test_colour_sets_are_each_others():
    stage = build(base="synthetic_cifar10", ood=["synthetic_cifar100"])
    assert stage.ood["synthetic_cifar100"].tensors()[0].shape == (500, 3, 32, 32)
    assert ood.requested(["cifar100", "svhn"], "cifar10") == ("cifar100", "svhn")
    assert ood.requested(["cifar10", "svhn"], "cifar100") == ("cifar10", "svhn")


# ---- leakage


@pytest.mark.parametrize(
    ("base", "wanted", "word"),
    [
        ("synthetic", ["synthetic"], "its classes are known"),
        ("mnist", ["fashion_mnist", "mnist"], "its classes are known"),
        ("cifar10", ["svhn", "cifar10"], "its classes are known"),
        ("mnist", ["cifar10"], "3 x 32 x 32 and not 28 x 28"),
        ("cifar10", "glyphs_aj", "28 x 28 and not 3 x 32 x 32"),
        ("mnist", ["fashion-mnist"], "Did you mean 'fashion_mnist'"),
    ],
)
def test_what_cannot_be_unknown_is_refused_before_any_file_is_looked_for(base, wanted, word):
    with pytest.raises(UsageError, match=word) as error:
        ood.requested(wanted, base)
    one_sentence(error)


def test_sets_that_share_a_class_are_refused(monkeypatch):
    monkeypatch.setitem(NAMES, "synthetic_other", ("bag", "blob"))
    monkeypatch.setitem(NAMES, "synthetic", ("sock", "bag"))
    with pytest.raises(UsageError, match="shares bag"):
        ood.requested(["synthetic_other"], "synthetic")
    assert set(names("mnist")) == set(names("svhn")) and len(set(names("cifar100"))) == 100
    assert not set(names("cifar10")) & set(names("cifar100"))


@pytest.mark.parametrize("part", ["train_x", "test_x"])
def test_a_set_that_holds_a_known_image_is_refused(monkeypatch, part):
    known = getattr(sets.synthetic(), part)

    keys = {"base": "synthetic", "known": (load("synthetic", "nowhere").train_x, load("synthetic", "nowhere").test_x)}
    keys |= {"inputs": lambda x: images.to_inputs(x, images.STANDARD["synthetic"]), "most": 5, "seed": 0, "source": "auto"}
    monkeypatch.setattr(ood.sources, "find", lambda *_: tainted(known))
    with pytest.raises(UsageError, match="holds 1 of the images") as error:
        ood.unknown(["synthetic_other"], root="nowhere", **keys)
    one_sentence(error)


def test_one_known_image_in_a_thousand_is_left_out(monkeypatch, caplog):
    known = (load("synthetic", "nowhere").train_x, load("synthetic", "nowhere").test_x)
    keys = {"base": "synthetic", "known": known, "most": 2000, "seed": 0, "source": "auto", "root": "nowhere"}
    keys |= {"inputs": lambda x: images.to_inputs(x, images.STANDARD["synthetic"])}
    monkeypatch.setattr(ood.sources, "find", lambda *_: tainted(sets.synthetic().test_x, times=3))
    with caplog.at_level("INFO", "maskbench"):
        splits, _ = ood.unknown(["synthetic_other"], **keys)
    x, y = splits["synthetic_other"].tensors()
    assert len(x) == len(y) == 1500 and not any(torch.equal(image, known[1][7]) for image in x)
    assert "without 1 of its 1,501 images" in caplog.text


def tainted(known, times=1):
    """Another set, whose last test image is one of the known; the others so many times."""
    raw = sets.synthetic(*sets.SYNTHETIC["synthetic_other"])
    return raw._replace(test_x=np.concatenate([raw.test_x] * times + [known[7:8]])), Origin("synthetic_other", "synthetic")


def test_missing_files_say_how_to_go_without(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "torchvision", lambda *_: (_ for _ in ()).throw(sources.Unavailable("no network")))
    monkeypatch.setitem(sets.SETS, "fashion_mnist", replace(sets.SETS["fashion_mnist"], client=None))
    with pytest.raises(UsageError, match="or leave fashion_mnist out of data.ood") as error:
        build(root=tmp_path, ood=["fashion_mnist"])
    one_sentence(error)


def test_a_sample_never_stands_in_for_unknown_classes(monkeypatch):
    monkeypatch.setattr(ood.sources, "find", lambda *_: (sets.synthetic(), Origin("mnist", "sample")))
    with pytest.raises(UsageError, match="only a small sample"):
        ood.test_images("mnist", "fashion_mnist", "nowhere", "auto")


# ---- the config


def test_only_the_uncertainty_task_asks_by_default(compose):
    prune, uncertainty = compose("method=lottery", "data=mnist"), compose("method=dense", "data=mnist")
    assert prune.data.ood is None and uncertainty.data.ood == "auto"
    assert compose("method=dense", "data=mnist", "data.ood=[glyphs_aj]").data.ood == ["glyphs_aj"]
    key = identity.key(prune)
    OmegaConf.set_struct(prune, False)
    del prune.data["ood"]
    assert identity.key(prune) == key  # runs made before there was the key are still found


# ---- letters


def test_letters_are_drawn_the_same_everywhere(tmp_path):
    x, y, sums = letters.glyphs(tmp_path)
    assert x.shape == (10_000, 28, 28) and x.dtype == y.dtype == np.uint8 and np.bincount(y).tolist() == [1000] * 10
    assert x.reshape(len(x), -1).max(1).min() > 100  # none is blank
    known = {"glyphs_aj (matplotlib 3.11.2, pillow 13.0.0)": "c6b642277eba7506a4a427bcc3e77757"}
    if sums.keys() == known.keys():
        assert sums == known
    again = letters.rendered(200)
    assert np.array_equal(letters.rendered(200)[0], again[0])
    assert len({image.tobytes() for image in x}) > 9900


@pytest.mark.full
def test_letters_are_kept_and_drawn_again_when_damaged(tmp_path, monkeypatch):
    x, y, sums = letters.glyphs(tmp_path)
    (file,) = (tmp_path / letters.NAME).iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(letters, "rendered", None)  # not called
        kept = letters.glyphs(tmp_path)
    assert np.array_equal(kept[0], x) and np.array_equal(kept[1], y) and kept[2] == sums
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    assert letters.glyphs(tmp_path)[2] == sums
    file.write_bytes(b"short")
    assert letters.glyphs(tmp_path)[2] == sums


def test_letters_need_no_folder(tmp_path, monkeypatch):
    small = letters.rendered(50)
    monkeypatch.setattr(letters, "rendered", lambda: small)
    (tmp_path / "file").write_text("in the way")
    assert letters.glyphs(tmp_path / "file")[0] is small[0]


def test_every_font_has_every_letter():
    for face in letters.FONTS:
        shapes = {letters.letter(text, face, 28).tobytes() for text in letters.LETTERS}
        assert len(shapes) == 10 and all(np.frombuffer(shape, np.uint8).max() > 0 for shape in shapes)


def test_missing_fonts_are_one_sentence():
    with pytest.raises(UsageError, match="install matplotlib again") as error:
        letters.typeface("NoSuchFace", 20)
    one_sentence(error)


def test_letters_are_listed_and_fetched(tmp_path, capsys):
    from maskbench.cli.main import main

    def listed() -> str:
        assert main(["data", "--root", str(tmp_path)]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if letters.NAME in line)

    assert " no " in listed()
    assert main(["data", "fetch", letters.NAME, "--root", str(tmp_path)]) == 0
    assert f"{letters.NAME}: matplotlib" in capsys.readouterr().out
    assert " yes " in listed()
    (file,) = (tmp_path / letters.NAME).iterdir()
    file.write_bytes(b"short")
    assert " no " in listed() and not letters.status(tmp_path)[0]["present"] and letters.status(tmp_path)[0]["damaged"]


# ---- near and far


def test_near_far_takes_the_sets_of_both_groups_and_noise_is_of_all_grey_levels():
    stage = build(ood="near_far")
    assert list(stage.ood) == ["synthetic_other", "noise"] and build(ood=["noise"]).ood_groups == {}
    assert stage.ood_groups == {"near": ("synthetic_other",), "far": ("noise",)}
    x, y = stage.ood["noise"].tensors()
    scale = images.STANDARD["synthetic"]
    grey = (x.double() * scale.deviation[0] + scale.mean[0]) * 255
    assert x.shape == (500, *stage.shape) and set(y.tolist()) == {ood.UNKNOWN}
    assert grey.min().round() == 0 and grey.max().round() == 255 and grey.mean() == pytest.approx(127.5, abs=1)


def test_near_far_of_mnist_and_fashion_mnist_are_of_one_shape():
    assert ood.requested("near_far", "mnist") == ("fashion_mnist", "glyphs_aj", "animals", "noise")
    assert ood.requested("near_far", "fashion_mnist") == ("mnist", "glyphs_aj", "animals", "noise")
    for base, by_group in ood.GROUPS.items():
        assert ood.requested([name for group in by_group.values() for name in group], base), "as a list they are taken too"
    with pytest.raises(UsageError, match="near_far is for mnist and fashion_mnist, not for cifar10") as error:
        ood.requested("near_far", "cifar10")
    one_sentence(error)
    with pytest.raises(UsageError, match="28 x 28 and not 3 x 32 x 32"):
        ood.requested(["animals"], "cifar10")
