"""glyph28: the recipe gives the same bits again, is kept, and is rebuilt when what is kept is damaged."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from maskbench.common.errors import UsageError
from maskbench.data.episodes import glyph28
from maskbench.data.episodes.few_shot import few_shot
from maskbench.data.images import glyphs
from maskbench.data.sources import clients

FREETYPE, MATPLOTLIB = "2.14.3", "3.11.2"  # with which the hashes of record were made


@pytest.fixture(scope="module")
def faces() -> list[glyphs.Face]:
    return glyph28.matplotlib_faces()


@pytest.fixture(scope="module")
def hebrew(faces) -> list[glyphs.Letter]:
    return glyphs.letters(faces, ("HEBREW", "OGHAM"), 4)["HEBREW"]


def as_recorded() -> bool:
    import matplotlib
    from PIL import features

    return (features.version("freetype2"), matplotlib.__version__) == (FREETYPE, MATPLOTLIB)


# ---- the recipe


def test_letters_are_drawn_bit_for_bit(faces) -> None:
    """Two scripts, twelve letters each, four instances: their hash is known for one version of the drawing library."""
    some = glyphs.letters(faces, ("HEBREW", "OGHAM"), 4)
    parts = [letter.name.encode() + glyphs.instances(letter, 4).tobytes() for own in some.values() for letter in own[:12]]
    again = [letter.name.encode() + glyphs.instances(letter, 4).tobytes() for own in some.values() for letter in own[:12]]
    assert parts == again
    if not as_recorded():
        pytest.skip(f"the hash holds for matplotlib {MATPLOTLIB} and a Pillow built with FreeType {FREETYPE}: install these")
    assert hashlib.md5(b"".join(parts)).hexdigest() == "5ed56d69d7b614e9f90167aa19a0c8d7"


def test_images_of_a_letter_depend_on_its_own_name_only(faces, hebrew) -> None:
    alone = glyphs.letters(faces, ("HEBREW",), 4)["HEBREW"]
    assert [letter.name for letter in alone] == [letter.name for letter in hebrew]
    letter = alone[5]
    before = glyphs.instances(letter)
    glyphs.instances(alone[0])
    assert np.array_equal(glyphs.instances(letter), before)
    assert not np.array_equal(glyphs.instances(alone[6]), before)


def test_images_are_letters_in_the_middle(hebrew) -> None:
    for letter in hebrew[:6]:
        images = glyphs.instances(letter)
        assert images.shape == (20, 28, 28) and images.dtype == np.uint8
        assert images.max() > 180 and not (images == images[0]).all((1, 2)).all()
        ink = images / images.sum((1, 2), keepdims=True)
        place = np.arange(28)
        centres = np.stack([(ink.sum(2) * place).sum(1), (ink.sum(1) * place).sum(1)])
        assert abs(centres - 13.5).max() < 8 and abs(centres.mean() - 13.5) < 3
        plain = glyphs.plain(letter)
        rows, columns = np.flatnonzero(plain.any(1)), np.flatnonzero(plain.any(0))
        longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        assert 20 <= longest <= 22  # the body and its soft edge


def test_what_counts_as_a_letter() -> None:
    assert glyphs.script_of("A") == "LATIN" and glyphs.script_of("я") == "CYRILLIC" and glyphs.script_of("ש") == "HEBREW"
    for character in ("é", "ﬁ", "Ａ", "1", "-", "ᵃ", "\u0301", "\ue000"):
        assert glyphs.script_of(character) is None, "accented, presentation forms, other categories"


def test_look_alikes_are_dropped_within_a_script_and_within_a_split(faces) -> None:
    scripts = ("LATIN", "GREEK", "CYRILLIC")
    classes = glyphs.letters(faces, scripts, 4)
    for own in classes.values():
        images = np.stack([glyphs.plain(letter).ravel() for letter in own])
        apart = np.sqrt(np.square(images[:, None] - images[None]).sum(-1))[np.triu_indices(len(own), 1)]
        assert glyphs.LEAST <= len(own) <= glyphs.MOST and apart.min() >= glyphs.NEAR
    together = glyphs.without_doubles(classes[script] for script in scripts)
    names = {letter.name for letter in together}
    assert "LATIN:0041" in names and "GREEK:0391" not in names and "CYRILLIC:0410" not in names  # one shape, A
    assert len(together) < sum(map(len, classes.values()))


def test_faces_alternate_over_families(faces) -> None:
    draw = np.random.RandomState(0)
    twelve = list(glyphs.alternating(faces, 12, draw))
    assert len(set(twelve)) == 12 and len({face.family for face in twelve[:6]}) == 6
    more = list(glyphs.alternating(faces, 30, draw))
    assert more[:6] == more[12:18], "faces come again when all were there"
    assert {face.style for face in faces} >= {"Regular", "Bold", "Oblique"}


# ---- kept


@pytest.fixture
def few(monkeypatch) -> list[int]:
    """Makes of few scripts, no package manager; the list grows when letters are drawn."""
    drawn: list[int] = []
    make = glyph28.Make(4, {"train": ("OGHAM",), "val": ("NKO",), "test": ("HEBREW",)}, "")
    monkeypatch.setattr(glyph28, "MAKES", {"noto": make, "matplotlib": make})
    real = glyph28.images
    monkeypatch.setattr(glyph28, "images", lambda *args: drawn.append(1) or real(*args))

    def absent(package: str, work: Path) -> Path:
        raise clients.Unavailable("apt-get is not installed")

    monkeypatch.setattr(clients, "debian_archive", absent)
    return drawn


def test_drawn_once_kept_and_the_same_when_drawn_again(tmp_path, few) -> None:
    images, source, digest = glyph28.load(tmp_path, "sample")
    again, _, same = glyph28.load(tmp_path, "sample")
    assert source == "sample" and len(few) == 1 and same == digest
    assert [len(images[split]) for split in ("train", "val", "test")] == [26, 28, 29]
    assert all(np.array_equal(images[s][n], again[s][n]) for s in images for n in images[s])
    shutil.rmtree(tmp_path / "glyph28")
    assert glyph28.load(tmp_path, "sample")[2] == digest and len(few) == 2


@pytest.mark.full
def test_what_is_damaged_is_drawn_again(tmp_path, few, caplog) -> None:
    _, _, digest = glyph28.load(tmp_path, "sample")
    path = glyph28.cache(tmp_path, "matplotlib")
    path.write_bytes(path.read_bytes()[:5000])
    assert glyph28.load(tmp_path, "sample")[2] == digest and len(few) == 2
    assert "damaged" in caplog.text


def test_without_the_fonts_matplotlibs_stand_in_loudly(tmp_path, few, caplog) -> None:
    _, source, _ = glyph28.load(tmp_path, "auto")
    assert source == "sample" and "do not compare" in caplog.text
    for only in ("package", "folder"):
        with pytest.raises(UsageError, match="put Debian's fonts-noto-core") as error:
            glyph28.load(tmp_path, only)
        assert "\n" not in str(error.value)


def test_the_packages_may_lie_in_the_data_folder(tmp_path, few, monkeypatch) -> None:
    def unpacked(archive: Path, work: Path) -> None:
        fonts = work / "files" / glyph28.FONTS
        fonts.mkdir(parents=True, exist_ok=True)
        for face in glyph28.matplotlib_faces():
            shutil.copy(face.path, fonts)

    monkeypatch.setattr(clients, "unpacked", unpacked)
    (tmp_path / "glyph28").mkdir()
    for package in glyph28.PACKAGES:
        (tmp_path / "glyph28" / f"{package}_{glyph28.VERSION}_all.deb").write_bytes(b"")
    _, source, digest = glyph28.load(tmp_path, "folder")
    assert source == "folder" and glyph28.load(tmp_path, "auto")[1:] == ("folder", digest) and len(few) == 1


def test_episodes_of_glyphs_record_their_source_and_hash(tmp_path, few) -> None:
    (stage,) = few_shot(
        base="glyph28", size=28, ways=5, shots=1, queries=None, test_queries=15, test_shots=[], cross=[], rotations=True, val=5,
        test=5, source="sample", root=tmp_path, seed=0,
    )  # fmt: skip
    assert stage.origin.source == "sample" and set(stage.origin.checksums) == {"glyph28"} and stage.shape == (1, 28, 28)
    assert len(stage.classes) == 4 * 26


# ---- the fonts of record


@pytest.mark.network
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not installed: needs Debian or Ubuntu")
def test_glyph28_through_debian_is_that_of_record(tmp_path) -> None:
    images, source, digest = glyph28.load(tmp_path, "package")
    assert source == "debian"
    assert {split: len(classes) for split, classes in images.items()} == {"train": 611, "val": 157, "test": 289}
    if as_recorded():
        assert digest == glyph28.NOTO.md5


@pytest.mark.slow
def test_matplotlibs_glyphs_are_those_of_record(tmp_path) -> None:
    digest = glyph28.load(tmp_path, "sample")[2]
    if as_recorded():
        assert digest == glyph28.MATPLOTLIB.md5
