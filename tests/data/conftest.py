"""Where the data tests run: roots like "nowhere" are folders below the session's own, never of the checkout."""

import pytest


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(autouse=True)
def _outside_the_checkout(elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(elsewhere)
