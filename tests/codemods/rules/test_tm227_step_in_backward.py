"""TM227: optimizers that step during backward."""

from trainers import found, lines, trainer


def test_the_option_is_named_once_where_it_is_declared():
    body = "class Options:\n    early_step_in_backward: bool = False\n"
    body += "def use(options):\n    return options.early_step_in_backward\n"
    source = trainer(body)
    assert lines(source, "TM227") == ["early_step_in_backward: bool = False"]
    assert found(source, "TM227")[0].severity == "note"


def test_does_not_fire_where_it_is_only_read():
    body = "def use(options):\n    return options.early_step_in_backward\n"
    assert lines(trainer(body), "TM227") == []
