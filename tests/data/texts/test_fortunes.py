"""Quotations by subject: read as they are published, as many of each subject, as tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.sources import texts
from maskbench.data.sources.small_sets import Pool
from maskbench.data.stage import Origin
from maskbench.data.texts import fortunes

WORDS = ["[PAD]", "[UNK]", *(f"word{i}" for i in range(12))]
KEYS = {"train": 4, "test": 3, "length": 5, "source": "auto", "root": "nowhere", "seed": 0}


def test_quotations_are_read_without_their_authors_and_once() -> None:
    said = "To be or\nnot to be,  that is it.\n\t\t-- Somebody\n%\nToo short, this.\n%\nTo be or not to be, that is it.\n"
    long = " ".join(["word"] * 41)
    files = {subject: f"{long}\n%\nOf {subject} there is much to be said.\n".encode() for subject in texts.SUBJECTS}
    pool = texts.fortunes(files | {"law": said.encode()})
    assert list(pool.x[pool.y == texts.SUBJECTS.index("law")]) == ["To be or not to be, that is it."]
    assert list(pool.x[pool.y == 1]) == ["Of education there is much to be said."] and len(pool.x) == 10
    assert pool.classes == texts.SUBJECTS and set(texts.TEXTS["fortunes"].md5) == set(texts.SUBJECTS)


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    told = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None, "decoder": None, "truncation": None, "padding": None,
            "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "[UNK]"}}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    return str(tmp_path)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three subjects of ten quotations, of two to eight words that are numbers of theirs."""
    x = np.array([" ".join([f"word{i}"] * (2 + i % 7)) for _ in range(3) for i in range(10)], dtype=object)
    pool = Pool(x, np.repeat(np.arange(3), 10), ("a", "b", "c"))
    monkeypatch.setattr(fortunes, "pool_of", lambda *_: (pool, Origin("fortunes", "debian", {"law": "md5"})))


def test_texts_are_tokens_filled_up_or_cut_to_one_length(tokenizer: str) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'maskbench[text]'")
    (stage,) = fortunes.fortunes(**KEYS, val=0.25, tokenizer=tokenizer)
    assert (len(stage.train), len(stage.val), len(stage.test)) == (9, 3, 9) and stage.shape == (5,) and stage.outputs == 3
    x, y = stage.test.tensors()
    assert x.dtype == torch.int64 and x.shape == (9, 5) and y.bincount().tolist() == [3] * 3
    for row in x.tolist():
        number, count = row[0] - 2, sum(token >= 0 for token in row)
        assert row == [number + 2] * count + [-1] * (5 - count) and count == min(5, 2 + number % 7)
    assert {"law", "rows", "tokenizer.json"} == set(stage.origin.checksums)
    train = [set(map(tuple, part.tensors()[0].tolist())) for part in (stage.train, stage.test)]
    assert len(train[0]) > 1 and not stage.regression


def test_samples_are_looked_at_and_compared_apart(tokenizer: str) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'maskbench[text]'")
    (stage,) = fortunes.fortunes_samples(**KEYS, tokenizer=tokenizer)
    assert stage.given and stage.samples and stage.vectors and stage.val is stage.train
    assert not set(stage.train.rows.tolist()) & set(stage.test.rows.tolist())
    (other,) = fortunes.fortunes_samples(**KEYS | {"seed": 1}, tokenizer=tokenizer)
    assert stage.fingerprint != other.fingerprint


def test_what_is_refused(tokenizer: str) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'maskbench[text]'")
    with pytest.raises(UsageError, match="data.train=8 asks for more .* beside 3 that test, 7 are left"):
        fortunes.fortunes(**KEYS | {"train": 8}, val=0.0, tokenizer=tokenizer)
    with pytest.raises(UsageError, match="data.tokenizer=nowhere is neither all-MiniLM-L6-v2 nor a folder with tokenizer.json"):
        fortunes.fortunes(**KEYS, val=0.0, tokenizer="nowhere")
    (Path(tokenizer) / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="its tokenizer.json is damaged, or none"):
        fortunes.fortunes(**KEYS, val=0.1, tokenizer=tokenizer + "/")
