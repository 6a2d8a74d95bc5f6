"""The Markdown: what is in it, what is left out, and that nothing in it acts."""

import json
from dataclasses import replace
from pathlib import Path

from migrator import review
from migrator.review.page import as_html

from hostile import hostile_checkout
from inert import assert_inert_markdown, parsed
from releases import git
from reviewed import (
    EVIL,
    FAILED,
    NOT_RUN,
    PASSED,
    UTILS,
    edit,
    evil,
    fork,
    migrated,
    reviewed,
    run,
    verify_report,
)


def test_a_place_for_a_person_is_shown_and_ends_with_1(tmp_path):
    tree = fork(tmp_path)
    guard = next(
        p for p in tree.rglob("parallelize.py") if "DDP has not" in p.read_text()
    )
    text = guard.read_text().replace("raise RuntimeError(", "print(end=", 1)
    guard.write_text(text.replace("not supported > 1D", "not supported > 1D"))
    result = run(tree, "--target", "1d")
    assert result.exit_code == 1, result.stdout
    assert "Before the tool writes anything" in result.stdout
    assert "has to change first" in result.stdout
    assert "What changed" not in result.stdout
    page = as_html(reviewed(tree))
    assert "Has to change first." in page and "No Python file changes." in page


def test_markdown_of_a_migration(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(
        tree,
        verify_report=verify_report(
            tmp_path / "r", tree, dp=PASSED, **{"dp+tp": FAILED}
        ),
    )
    text = review.as_markdown(found)
    assert_inert_markdown(text)
    tokens = parsed(text)
    heads = [
        tokens[n + 1].content for n, t in enumerate(tokens) if t.type == "heading_open"
    ]
    assert (
        heads
        == [
            "DDP becomes the composable `replicate`",
            "What changed, and why",
            "Verdicts: **failed**",
            "For the reviewer",
            "How to see it again",
        ]
        or "Left for a person" in heads
    )
    # What the tool wrote is under the pull request's changes.
    assert not [t for t in tokens if t.type == "fence" and t.info == "diff"]
    for file in found.files:
        assert f"`{file.path}` | +{file.added} −{file.removed}" in text
    for hunk in found.hunks:
        for reason in hunk.reasons:
            assert f":{reason.line}`: " in text
    assert "plots/00-llama3-dp.png" in text and "drag each image" in text
    assert "❌ **failed**" in text


def test_markdown_of_a_hostile_checkout(tmp_path):
    tree = hostile_checkout(tmp_path, f"# {EVIL}\n")
    result = run(tree, "--target", "1d")
    assert result.exit_code == 0 and not result.stderr
    assert_inert_markdown(result.stdout)
    words = tree / "torchtitan/words.py"
    words.write_text("'''\n  ::add-mask::x\n'''\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "words")
    migrated(tree)
    words.write_text(words.read_text() + "x = 1\n")
    (tree / "torchtitan" / f"{'`' * 7}.py").write_text(
        f"'''\n{'`' * 9}\n::add-mask::x\n'''\n"
    )
    folder = verify_report(
        tmp_path / "r",
        tree,
        dp=evil(FAILED),
        **{"dp+tp": replace(NOT_RUN, not_run=EVIL)},
    )
    result = run(tree, "--verify-report", folder)
    assert result.exit_code == 0, result.stderr
    assert_inert_markdown(result.stdout)
    assert (
        "Changed by hand" in result.stdout and "   \\x3a:add-mask::x" in result.stdout
    )


def test_markdown_that_would_be_too_long_leaves_hunks_out(tmp_path):
    tree = migrated(fork(tmp_path))
    whole = review.as_markdown(reviewed(tree))
    edit(tree, UTILS, "import", "# by hand\nimport")
    edit(
        tree,
        "torchtitan/train.py",
        "import",
        "".join(f"# {n} `x` <b>\n" for n in range(9000)) + "import",
    )
    found = reviewed(tree)
    text = review.as_markdown(found)
    assert_inert_markdown(text)
    assert "1 hunk of 2 by hand left out" in text
    assert whole.count("```diff") == 0 and text.count("```diff") == 1


def test_markdown_of_very_much_is_still_short_enough(tmp_path):
    tree = migrated(fork(tmp_path))
    for n in range(400):
        (tree / f"torchtitan/{'long' * 20}{n}.py").write_text(f"x = {n}\n")
    text = review.as_markdown(reviewed(tree))
    assert_inert_markdown(text)
    assert "more" in text


def test_what_is_code_is_shown_as_code(tmp_path):
    text = review.as_markdown(reviewed(migrated(fork(tmp_path))))
    assert "so `dp_mesh is not None and dp_mesh.ndim > 1` need not" in text
    assert "&#96;" not in text


def test_the_reviewer_is_told_what_to_check(tmp_path):
    tree = migrated(fork(tmp_path))

    def told(*, report: Path | None = None) -> str:
        text = review.as_markdown(reviewed(tree, verify_report=report))
        return text.partition("### For the reviewer")[2].partition("###")[0]

    assert "- [ ] `titan-migrate verify` has passed" in told()
    assert "- [ ] The precision is meant" in told()
    assert "PR 2900" in told() and "by hand" not in told()
    passed = verify_report(tmp_path / "passed", tree)
    assert "- [x] `titan-migrate verify` has passed" in told(report=passed)
    failed = verify_report(tmp_path / "failed", tree, dp=FAILED)
    assert "- [ ] The verdict above is failed: do not merge" in told(report=failed)
    edit(tree, UTILS, "import", "# by hand\nimport")
    # By then the verdict is of another tree.
    assert "- [ ] `titan-migrate verify` has passed" in told(report=passed)
    assert "- [ ] What was changed by hand is read" in told()


def test_what_was_not_trained_stands_beside_the_verdict(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)
    data = json.loads((folder / "report.json").read_text())
    data["environment"]["not_trained"] = {"flux": "no dataset | here"}
    for rank in data["models"]["llama3"]["dp"]["traces"]["migrated"]["ranks"]:
        rank["model"]["policies"] = {"": {"param_dtype": "torch.float32"}}
    (folder / "report.json").write_text(json.dumps(data))
    text = review.as_markdown(reviewed(tree, verify_report=folder))
    assert "Changed and not trained: flux (no dataset &#124; here)." in text
    assert "somebody has tried them: flux." in text
    row = next(line for line in text.splitlines() if line.startswith("| llama3 | `dp`"))
    assert row.endswith("| bitwise | float32 |")
