"""The words of a review, before they are escaped."""

from migrator.review import model


def test_the_words_of_the_model_are_where_they_can_be_seen():
    assert model.visible("a\tb\x1b\u202e\n") == "a\tb\\x1b\\u202e\\n"
    assert model.visible("\udcff") == "\\udcff"
