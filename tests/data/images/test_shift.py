"""Corruptions: what each does to pixels, that it is the same for everyone and grows with its level; -C folders."""

import io
import pickle

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from maskbench.common.errors import UsageError
from maskbench.data.images import corrupt, shift
from maskbench.data.images import whole_sets as images
from maskbench.data.images.corrupt import LEVELS, TYPES, corrupted
from maskbench.data.images.whole_sets import Scale, load, whole


def build(root="nowhere", **changes):
    keys = {"base": "synthetic", "val": 200, "normalize": "standard", "source": "auto", "seed": 0}
    return whole(**keys | changes, root=root)[0]


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith((".", "?")) and ". " not in text.replace(". Did you mean", "")
    return text


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    """Two hundred images, 0 to 1."""
    return images.STANDARD["synthetic"].undo(load("synthetic", "nowhere").test_x[:200]).round_() / 255


# ---- types


def test_there_are_fourteen_types_of_five_levels():
    assert len(TYPES) == 14 and {len(strengths) for _, strengths in TYPES.values()} == {len(LEVELS)} == {5}


@pytest.mark.parametrize("kind", TYPES)
def test_a_higher_level_changes_more(clean, kind):
    distances = [(corrupted(clean, kind, level) - clean).square().mean((1, 2, 3)).sqrt().mean().item() for level in LEVELS]
    assert distances[0] > 0 and all(low < high for low, high in zip(distances, distances[1:], strict=False)), distances


@pytest.mark.parametrize("kind", TYPES)
def test_images_stay_images_and_the_draw_is_everyones(clean, kind):
    before = clean.clone()
    changed = corrupted(clean, kind, 3)
    assert changed.shape == clean.shape and changed.dtype == torch.float32 and torch.equal(clean, before)
    assert changed.min() >= 0 and changed.max() <= 1 and torch.equal((changed * 255).round() / 255, changed)
    torch.manual_seed(99)
    assert torch.equal(corrupted(clean, kind, 3), changed)
    colour = clean.expand(-1, 3, -1, -1)[:20, :, :, 2:26].contiguous()  # other shapes too
    assert corrupted(colour, kind, 5).shape == colour.shape


def test_pieces_are_as_good_as_all_at_once(clean, monkeypatch):
    still = [kind for kind in TYPES if kind in ("gaussian_blur", "brightness", "contrast", "pixelate", "jpeg")]
    whole_ = [corrupted(clean, kind, 4) for kind in still]
    monkeypatch.setattr(corrupt, "ROWS", 64)
    assert all(torch.equal(corrupted(clean, kind, 4), other) for kind, other in zip(still, whole_, strict=True))


def test_forms_are_what_torchvision_does_image_by_image(clean):
    draw, x = torch.Generator(), clean[:12]
    for kind, word in (("rotate", "angle"), ("scale", "scale"), ("translate", "translate")):
        strength = TYPES[kind][1][2]
        changed = TYPES[kind][0](x, strength, draw.manual_seed(1))
        signs = corrupt.signs(draw.manual_seed(1), 24 if kind == "translate" else 12)
        for i, image in enumerate(x):
            keys = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0]}
            if word == "angle":
                keys["angle"] = -strength * signs[i].item()
            elif word == "scale":
                keys["scale"] = strength ** -signs[i].item()
            else:
                keys["translate"] = [-int(strength * s) for s in signs.view(-1, 2)[i].tolist()]
            expected = tv.affine(image, **keys, interpolation=tv.InterpolationMode.BILINEAR)
            torch.testing.assert_close(changed[i], expected, atol=2e-4, rtol=0)


def test_gaussian_blur_is_torchvisions_but_for_what_lies_beyond_the_edge(clean):
    changed = corrupt.gaussian_blur(clean, 1.2, None)
    expected = tv.gaussian_blur(clean, [9, 9], [1.2, 1.2])
    torch.testing.assert_close(changed[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-5, rtol=0)
    assert corrupt.bell(28, 2.0).sum(1) == pytest.approx(torch.ones(28))


def test_noise_has_the_moments_it_states():
    draw, grey = torch.Generator().manual_seed(0), torch.full((50, 1, 28, 28), 0.5)
    assert (corrupt.gaussian_noise(grey, 0.2, draw) - grey).std() == pytest.approx(0.2, rel=0.02)
    shot = corrupt.shot_noise(grey, 12, draw)
    assert shot.mean() == pytest.approx(0.5, rel=0.01) and shot.var() == pytest.approx(0.5 / 12, rel=0.05)
    hit = corrupt.impulse_noise(grey, 0.25, draw) != 0.5
    assert hit.float().mean() == pytest.approx(0.25, rel=0.03)


def test_a_stripe_is_a_negative_of_its_columns(clean):
    changed = corrupt.stripe(clean, 4, torch.Generator().manual_seed(3))
    columns = (changed != clean).any(2).any(1)
    assert (columns.sum(1) <= 4).all() and columns.sum(1).float().mean() > 3.5
    inside = columns[:, None, None].expand_as(clean)
    torch.testing.assert_close(changed[inside], 1 - clean[inside])


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_of_each_image_gives(clean, monkeypatch, channels):
    from PIL import Image

    monkeypatch.setattr(corrupt, "TALLEST", 100)  # three images a file
    x = clean[:11].expand(-1, channels, -1, -1) * torch.linspace(0.4, 1, channels).view(-1, 1, 1)
    for image, changed in zip((x * 255).round().to(torch.uint8), corrupt.jpeg(x, 20, None), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.movedim(0, -1).squeeze(-1).numpy()).save(file, "JPEG", quality=20, subsampling=0)
        expected = torch.from_numpy(np.array(Image.open(file))).view(28, 28, -1).movedim(-1, 0)
        assert torch.equal((changed * 255).round().to(torch.uint8), expected)


def test_motion_blur_is_a_mean_along_a_line():
    dot = torch.zeros(1, 1, 29, 29)
    dot[..., 14, 14] = 1
    changed = corrupt.motion_blur(dot, 9, torch.Generator().manual_seed(0))
    y, x = (changed[0, 0] > 0.01).nonzero().double().T
    assert changed.sum() == pytest.approx(1, abs=1e-4)
    spread = torch.linalg.eigvalsh(torch.cov(torch.stack([x, y])))
    assert spread[1] > 8 * spread[0]  # long and thin


# ---- stages


def test_shifted_splits_are_the_test_images_in_their_order():
    stage = build(shifted=["brightness", "jpeg"], normalize="unit")
    assert list(stage.shifted) == [f"{kind}/{level}" for kind in ("brightness", "jpeg") for level in LEVELS]
    split = stage.shifted["brightness/2"]()
    (x, y), (test_x, test_y) = split.tensors(), stage.test.tensors()
    assert torch.equal(y, test_y) and x.shape == test_x.shape
    torch.testing.assert_close(x, (test_x + 0.2).clamp(max=1), atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(stage.shifted["brightness/2"]().x, split.x)


def test_the_seed_moves_rows_and_never_pixels():
    a, b = (build(shifted=True, seed=seed).shifted["gaussian_noise/3"]() for seed in (0, 1))
    assert torch.equal(a.x, b.x) and not torch.equal(a.rows, b.rows)


def test_all_types_are_made_lazily_and_recorded(monkeypatch):
    monkeypatch.setattr(shift, "corrupted", None)  # not called
    stage, plain = build(shifted=True), build()
    assert len(stage.shifted) == 70 and plain.shifted == {}
    assert stage.fingerprint != plain.fingerprint != build(shifted="jpeg").fingerprint
    assert {name for name in stage.origin.checksums if name.startswith("shifted/")} == {f"shifted/{kind}" for kind in TYPES}
    assert pickle.loads(pickle.dumps(stage)).shifted.keys() == stage.shifted.keys()


def test_some_of_the_test_images_are_the_same_ones_for_every_type_and_level():
    stage = build(shifted=["brightness", "jpeg"], shifted_images=40, normalize="unit")
    (x, y), (bright, other) = stage.test.tensors(), stage.shifted["brightness/2"]().tensors()
    rows = torch.cat([(((one + 0.2).clamp(max=1) - x_plus).abs().amax((1, 2, 3)) < 0.01).nonzero()[:1, 0]
                      for one, x_plus in ((image[None], bright) for image in x)])  # fmt: skip
    assert len(bright) == len(rows) == 40 and len(rows.unique()) == 40
    assert torch.equal(other, stage.shifted["jpeg/5"]().y) and len(stage.test) == len(y) == 500
    again, seed_1 = (build(shifted="jpeg", shifted_images=40, seed=seed).shifted["jpeg/1"]().x for seed in (0, 1))
    assert torch.equal(again, build(shifted="jpeg", shifted_images=40).shifted["jpeg/1"]().x) and not torch.equal(again, seed_1)


def test_some_images_of_a_folder_are_the_clean_ones_of_those_rows(tmp_path):
    _, arrays = folder(tmp_path)
    stage = build(root=tmp_path, base="synthetic_cifar10", shifted="CIFAR-10-C", shifted_images=30)
    split = stage.shifted["snow/3"]()
    x, y = split.tensors()
    raw = torch.from_numpy(arrays["snow"][2 * 500 : 3 * 500].transpose(0, 3, 1, 2).astype(np.float32))
    assert torch.equal(x, images.STANDARD["synthetic_cifar10"].apply(raw)[split.rows]) and len(y) == 30
    assert torch.equal(y, load("synthetic_cifar10", "nowhere").test_y[split.rows])


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"shifted": "jpeg", "shifted_images": 501}, "data.shifted_images=501 are more than the 500 test images"),
        ({"shifted_images": 5}, "data.shifted_images=5 has no data.shifted"),
    ],
)
def test_a_number_of_images_that_cannot_be_is_one_sentence(keys, word):
    with pytest.raises(UsageError, match=word) as error:
        build(**keys)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("nothing", [None, False, []])
def test_nothing_asked_is_nothing_made(nothing):
    assert build(shifted=nothing).fingerprint == build().fingerprint


@pytest.mark.parametrize(
    ("wanted", "word"),
    [(["jpg"], "Did you mean 'jpeg'"), ("briteness", "Did you mean 'brightness'")],
)
def test_unknown_types_are_one_sentence(tmp_path, wanted, word):
    with pytest.raises(UsageError, match=word) as error:
        build(root=tmp_path, shifted=wanted)
    one_sentence(error)


# ---- folders


def folder(root, base="synthetic_cifar10", kinds=("fog", "snow")):
    """A folder of the layout of CIFAR-10-C; the arrays."""
    place, y = root / "CIFAR-10-C", load(base, "nowhere").test_y.numpy()
    place.mkdir(parents=True)
    draw, side = np.random.RandomState(1), load(base, "nowhere").shape[-1]
    arrays = {kind: draw.randint(0, 256, (5 * len(y), side, side, 3)).astype(np.uint8) for kind in kinds}
    for kind, array in arrays.items():
        np.save(place / f"{kind}.npy", array)
    np.save(place / "labels.npy", np.tile(y, 5).astype(np.uint8))
    return place, arrays


def test_a_folder_of_cifar_10_c_is_read_level_by_level(tmp_path):
    _, arrays = folder(tmp_path)
    stage = build(root=tmp_path, base="synthetic_cifar10", shifted="CIFAR-10-C")
    assert list(stage.shifted) == [f"{kind}/{level}" for kind in ("fog", "snow") for level in LEVELS]
    scale = images.STANDARD["synthetic_cifar10"]
    for kind, level in (("fog", 1), ("snow", 5)):
        split = stage.shifted[f"{kind}/{level}"]()
        raw = torch.from_numpy(arrays[kind][(level - 1) * 500 : level * 500].transpose(0, 3, 1, 2).astype(np.float32))
        assert torch.equal(split.x, scale.apply(raw)) and torch.equal(split.y, stage.test.y)
        assert torch.equal(split.rows, stage.test.rows)
    assert {"CIFAR-10-C/fog.npy", "CIFAR-10-C/labels.npy"} < set(stage.origin.checksums)


def test_grey_images_may_lack_their_channel(tmp_path):
    place, y = tmp_path / "mine", load("synthetic", "nowhere").test_y.numpy()
    place.mkdir()
    array = np.random.RandomState(0).randint(0, 256, (2500, 28, 28)).astype(np.uint8)
    np.save(place / "fog.npy", array)
    np.save(place / "labels.npy", np.tile(y, 5))
    split = build(root=tmp_path, shifted=str(place), normalize="unit").shifted["fog/2"]()
    assert torch.equal(split.x[:, 0], torch.from_numpy(array[500:1000]) / 255)


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("fog.npy", np.zeros((10, 32, 32, 3), np.uint8), "of another set"),
        ("fog.npy", np.zeros((2500, 32, 32, 3), np.float32), "of another set"),
        ("fog.npy", b"short", "fog.npy is damaged"),
        ("labels.npy", np.zeros(2500, np.uint8), "these are other images"),
        ("labels.npy", None, "labels.npy is missing"),
        ("fog.npy", None, "holds no <type>.npy"),
    ],
)
def test_files_that_do_not_fit_are_one_sentence(tmp_path, file, content, word):
    place, _ = folder(tmp_path, kinds=("fog",))
    (place / file).unlink()
    if isinstance(content, bytes):
        (place / file).write_bytes(content)
    elif content is not None:
        np.save(place / file, content)
    with pytest.raises(UsageError, match=word) as error:
        build(root=tmp_path, base="synthetic_cifar10", shifted="CIFAR-10-C")
    one_sentence(error)


def test_a_scale_is_undone():
    x = torch.randint(0, 256, (5, 3, 4, 4)).float()
    scale = Scale((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    torch.testing.assert_close(scale.undo(scale.apply(x.clone())), x, atol=1e-4, rtol=0)
