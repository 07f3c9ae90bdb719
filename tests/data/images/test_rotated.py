"""Rotated images: upright is exact, the direction is torchvision's, and the corners are black."""

import pickle

import numpy as np
import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.images.rotated import Rotate, rotated
from maskbench.data.images.whole_sets import load


def build(**changes):
    return rotated(
        **{
            "base": "synthetic", "stages": 5, "degrees": 10.0, "val": 200, "normalize": "standard", "source": "auto",
            "root": "nowhere", "seed": 0, **changes,
        }
    )  # fmt: skip


def test_no_turn_and_a_full_turn_are_exact():
    x = torch.randn(3, 1, 28, 28)
    for degrees in (0.0, 360.0, -720.0):
        assert torch.equal(Rotate(degrees, -0.4)(x), x)
    stage = build()[0]
    assert torch.equal(stage.test.tensors()[0], load("synthetic", "nowhere").test_x[stage.test.rows])


def test_a_quarter_turn_is_counter_clockwise():
    x = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(Rotate(90.0, -0.4)(x), x.rot90(1, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("degrees", [10.0, 45.0, 200.0, -30.0])
def test_it_turns_as_torchvision_does(degrees):
    from torchvision.transforms.v2 import functional as tv

    x = torch.nn.functional.pad(torch.rand(5, 1, 26, 26), (1, 1, 1, 1))  # the two treat a bright rim differently
    theirs = tv.rotate(x, degrees, interpolation=tv.InterpolationMode.BILINEAR, fill=0.0)
    torch.testing.assert_close(Rotate(degrees, 0.0)(x), theirs, atol=1e-4, rtol=0)


def test_what_comes_in_from_outside_is_black():
    black = load("synthetic", "nowhere").black
    assert black < -0.5
    dark = torch.full((2, 1, 28, 28), black)
    assert torch.equal(Rotate(33.0, black)(dark), dark)
    turned = Rotate(45.0, black)(torch.ones(1, 1, 28, 28))
    assert turned[0, 0, 0, 0] == black and turned[0, 0, 14, 14] == pytest.approx(1, abs=1e-5)


def test_many_images_are_turned_as_one_is(monkeypatch):
    x = torch.randn(10, 1, 28, 28)
    at_once = Rotate(25.0, 0.1)(x)
    monkeypatch.setattr("maskbench.data.images.rotated.ROWS", 3)
    assert torch.equal(Rotate(25.0, 0.1)(x), at_once)
    assert x is not at_once and Rotate(25.0, 0.1)(x[:0]).shape == (0, 1, 28, 28)


def test_stages_turn_by_equal_steps_and_share_the_images():
    made = build()
    assert [stage.train.view.degrees for stage in made] == [0, 10, 20, 30, 40]
    assert [stage.name for stage in made][:2] == ["0 degrees", "10 degrees"]
    assert len({stage.train.x.data_ptr() for stage in made}) == 1
    assert len({stage.fingerprint for stage in made}) == 5
    assert made[1].fingerprint == build(stages=2)[1].fingerprint
    back = pickle.loads(pickle.dumps(made[2]))
    assert torch.equal(back.val.tensors()[0], made[2].val.tensors()[0])


def test_an_angle_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match="data.degrees=nan .*finite"):
        build(degrees=float("nan"))


def test_an_angle_that_tells_no_stages_apart_is_refused():
    with pytest.raises(UsageError, match="data.degrees=0 .*5 stages apart"):
        build(degrees=0.0)


@pytest.mark.parametrize("degrees", [10.0, 45.0, 200.0, -30.0])
def test_nearest_pixels_are_torchvisions_and_on_pictures_those_of_pillow(degrees):
    from PIL import Image
    from torchvision.transforms.v2 import functional as tv

    x = (torch.rand(5, 1, 28, 28) * 256).floor()
    ours = Rotate(degrees, 0.0, "nearest")(x)
    theirs = tv.rotate(x, degrees, interpolation=tv.InterpolationMode.NEAREST, fill=0.0)
    assert (ours == theirs).double().mean() > 0.999
    assert set(ours.unique().tolist()) <= {0.0, *x.unique().tolist()}, "no new values"
    drawn = [np.asarray(Image.fromarray(one[0].numpy().astype("uint8")).rotate(degrees)) for one in x]  # as the authors' code
    assert (ours[:, 0].numpy() == np.stack(drawn)).mean() > 0.99
    assert not torch.equal(ours, Rotate(degrees, 0.0)(x))


def test_the_rule_is_part_of_what_a_stage_is_and_bilinear_is_what_it_was():
    assert Rotate(10.0, -0.4).key == "rotate 10.0 over -0.4" != Rotate(10.0, -0.4, "nearest").key
    plain, named, nearest = (
        build(**words)[1].fingerprint for words in ({}, {"interpolation": "bilinear"}, {"interpolation": "nearest"})
    )
    assert plain == named != nearest
