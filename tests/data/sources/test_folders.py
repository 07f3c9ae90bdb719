"""Data sets that have to be put into the data folder by hand: listed, and asked for in one sentence; what fetch knows."""

import pytest

from maskbench.cli.commands import data
from maskbench.common.errors import UsageError
from maskbench.data.sources import folders


@pytest.mark.parametrize("name", folders.OWN)
def test_a_folder_is_here_when_its_parts_are(tmp_path, name):
    own = folders.OWN[name]
    with pytest.raises(UsageError) as error:
        data.get([name], tmp_path)
    text = str(error.value)
    assert str(tmp_path / own.folder) in text and own.advice in text and ". " not in text and text.endswith(".")
    assert [row[1] for row in data.rows(tmp_path) if row[0] == name] == ["no"]
    for part in own.parts:
        (tmp_path / own.folder / part).mkdir(parents=True)
    assert folders.fetch(name, tmp_path) == "folder"
    assert [row[1:3] for row in data.rows(tmp_path) if row[0] == name] == [["yes", "folder"]]


def test_every_name_that_is_listed_can_be_asked_for(tmp_path, capsys):
    data.get(["synthetic_other", "boston", "glyphs_aj"], tmp_path)
    assert capsys.readouterr().out.startswith("synthetic_other: synthetic\nboston: ")
    listed = {row[0] for row in data.rows(tmp_path)}
    assert {"mnist", "svhn", "boston", "energy", "co2", "glyphs_aj", "imagenet", "cifar10_c"} <= listed


@pytest.mark.parametrize("name", ["bostn", "imagenett", "glyph_aj", "minst"])
def test_a_wrong_name_gets_a_hint(tmp_path, name):
    with pytest.raises(UsageError, match="Did you mean"):
        data.get([name], tmp_path)
