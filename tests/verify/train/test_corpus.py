"""The text that the training runs read."""

from __future__ import annotations

from migrator.verify.train import corpus


def test_corpus_is_the_same_everywhere():
    import hashlib

    text = "\n".join(corpus.documents())
    assert hashlib.sha256(text.encode()).hexdigest().startswith(CORPUS_DIGEST)
    assert 200_000 < len(text) < 400_000


CORPUS_DIGEST = "ed760837cba86614"


def test_data_that_is_alike_for_all_ranks_is_one_text(tmp_path):
    corpus.write_dataset(tmp_path / "a")
    corpus.write_dataset(tmp_path / "b", alike=True)
    several, one = (
        (tmp_path / name / "data.json").read_text().splitlines() for name in "ab"
    )
    assert len(several) == len(one) == 200
    assert set(one) == {several[0]} and len(set(several)) == 200
