"""The tokenizers in assets/ are what is built of our own corpus."""

from __future__ import annotations

import json

import pytest

from migrator.verify.train.assets_build import ASSETS, build


def test_the_tokenizers_are_those_that_are_built(tmp_path):
    pytest.importorskip("tokenizers")
    build(tmp_path)
    names = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(ASSETS) for p in ASSETS.rglob("*.*"))
    built = json.loads((tmp_path / "tokenizer/tokenizer.json").read_text())
    kept = json.loads((ASSETS / "tokenizer/tokenizer.json").read_text())
    assert built["model"]["vocab"] == kept["model"]["vocab"]
    for name in ("tokenizer.model", "tokenizer/tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes()
