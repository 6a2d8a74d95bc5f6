"""What is said of a package that is missing."""

from __future__ import annotations

from migrator.verify.rehearse.packages import lacking


def test_a_package_of_the_index_is_named_with_the_command():
    assert lacking("PIL.Image").endswith(
        "PIL is missing here: pip install pillow adds it"
    )
    assert "pip install transformers" in lacking("transformers")


def test_others_are_named_without_a_guess():
    assert "the module autoparallel is missing" in lacking("autoparallel.api")
    assert "pip" not in lacking("autoparallel")


def test_what_the_checkout_lacks_of_itself_is_no_package():
    assert lacking("torchtitan.models.gone") == ""
