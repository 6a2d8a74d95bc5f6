"""One tree planned, whatever is in it."""

import pytest

from migrator.errors import TitanMigrateError
from migrator.sweep import plan
from migrator.sweep.plan import Options, plan_tree, refuse

from organisation import files_of
from places import FIXTURES


def test_a_tree_that_can_be_migrated(checkout_of):
    planned, changeset = plan_tree(
        checkout_of(files_of(FIXTURES / "legacy")), Options()
    )
    assert (planned.state, planned.exit_code) == ("ready", 0)
    assert changeset is not None and tuple(changeset.places) == planned.files
    assert planned.findings["TM101"] == 1 and not planned.reasons


def test_a_tree_that_is_migrated_is_done(checkout_of):
    files = files_of(FIXTURES / "legacy")
    _, changeset = plan_tree(checkout_of(files), Options())
    planned, again = plan_tree(checkout_of({**files, **changeset.changes}), Options())
    assert planned.state == "done" and again is None
    assert planned.reasons[0].startswith("Nothing to")


def test_a_tree_without_torchtitan_is_another(checkout_of):
    planned, _ = plan_tree(checkout_of({"index.html": b"<p>"}), Options())
    assert planned.state == "other"
    assert planned.reasons[0].startswith("this tree has no Python file in it")


def test_what_the_tree_says_of_itself_counts(checkout_of):
    files = files_of(FIXTURES / "legacy")
    pinned, _ = plan_tree(
        checkout_of({**files, "requirements.txt": b"torch==2.9.1\n"}), Options()
    )
    assert pinned.target == "2d"
    asked, _ = plan_tree(checkout_of(files), Options(target="2d", torch_version="2.9"))
    assert asked.target == "2d"
    wrong, _ = plan_tree(
        checkout_of({**files, "pyproject.toml": b"[tool.titan-migrate\n"}), Options()
    )
    assert wrong.state == "failed" and wrong.exit_code == 2
    assert wrong.reasons[0].startswith("pyproject.toml is not TOML")


def test_what_is_left_has_its_rule(checkout_of):
    planned, changeset = plan_tree(
        checkout_of(files_of(FIXTURES / "dependent")), Options()
    )
    assert planned.state == "person" and changeset is None
    assert set(planned.codes) == {"TM102"} and len(planned.codes) == len(
        planned.reasons
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("odd"), MemoryError()])
def test_an_error_of_ours_is_of_that_tree_alone(checkout_of, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(plan, "plan", fail)
    planned, _ = plan_tree(checkout_of(files_of(FIXTURES / "legacy")), Options())
    assert planned.state == "failed" and type(error).__name__ in planned.reasons[0]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"select": ("TM999",)}, "there is no rule 'TM999'"),
        ({"select": ("TM101",)}, "belong together"),
        ({"select": ("TM106",), "ignore": ("TM106",)}, "leave no rule to run"),
        ({"exclude": ("a****",)}, "too many wildcards"),
        ({"torch_version": "banana"}, "not a version of torch"),
        ({"target": "2d", "torch_version": "2.13.0"}, "does not go with torch 2.13.0"),
        ({"torchtitan": "/not/there"}, "neither a folder nor a version"),
        ({"target": "1d", "ignore": ("TM103",)}, "TM103 is left out"),
    ],
)
def test_what_no_tree_takes_is_refused_before_any(asked, sentence):
    with pytest.raises(TitanMigrateError, match=sentence):
        refuse(Options(**asked))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        # Those that use a torchtitan and hold none take it.
        {"ignore": ("TM105",)},
        # Only 2d has something to do for it, and each tree has a target of its own.
        {"select": ("TM104",)},
        # A folder of trees that have one.
        {"torchtitan": "third_party/torchtitan"},
    ],
)
def test_what_some_trees_may_take_is_left_to_each(asked):
    refuse(Options(**asked))
