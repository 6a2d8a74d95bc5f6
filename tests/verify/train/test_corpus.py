"""The text that the training runs read."""

from __future__ import annotations

from migrator.verify.train import corpus


def test_corpus_is_the_same_everywhere():
    import hashlib

    text = "\n".join(corpus.documents())
    assert hashlib.sha256(text.encode()).hexdigest().startswith(CORPUS_DIGEST)
    assert 200_000 < len(text) < 400_000


CORPUS_DIGEST = "ed760837cba86614"
