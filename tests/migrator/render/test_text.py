"""What was found, for people: how much is said, in which order, and that nothing in it acts."""

import shutil
from dataclasses import replace

from migrator import render

from commands import changeset, run, with_finding
from hostile import COMMENT, escapes_nothing
from places import FIXTURES


def test_check_says_which_target_and_why(fork):
    result = run("check", fork, "--torch", "2.9.1")
    assert "Target 2d (torch 2.9.1)" in result.stderr
    result = run("check", fork, "--torch", "2.10")
    assert "Target 1d (torch 2.10)" in result.stderr


def test_verbose_shows_what_is_done_already(tree):
    run("apply", "--no-git", tree)
    assert "[already done]" not in run("check", "--no-git", tree).stderr
    assert "[already done]" in run("check", "-v", "--no-git", tree).stderr


def test_apply_says_the_files_and_with_v_the_places(tree):
    short = run("apply", "--no-git", tree).stderr
    assert "  torchtitan/distributed/utils.py: TM105\n" in short
    shutil.rmtree(tree)
    shutil.copytree(FIXTURES / "fork_quirks", tree)
    assert "  torchtitan/distributed/utils.py:44: TM105 " in (
        run("apply", "-v", "--no-git", tree).stderr
    )


def test_diff_shows_hazards_only_when_asked(tree):
    assert "Hazards" not in run("diff", "--no-git", tree).stderr
    done = run("diff", "-v", "--no-git", tree)
    assert "Hazards" in done.stderr and done.stdout.startswith("diff --git")


def test_hazards_stand_together_at_the_end_with_the_way_to_be_rid_of_them(tree):
    lines = run("check", "--no-git", tree).stderr.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Hazards"))
    assert "# titan-migrate: ignore[" in lines[head]
    assert not any("[hazard]" in line for line in lines[:head])
    assert not any("[to rewrite]" in line for line in lines[head:])


def test_what_is_left_for_a_person_stands_last(repo):
    trainer = repo / "torchtitan/experiments/distill/wrap.py"
    line = (
        "from torchtitan.models.llama3.infra.parallelize import apply_ddp as f\nx = f\n"
    )
    trainer.write_text(line)
    lines = run("check", repo).stderr.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Left for"))
    assert any("[left for a person]" in line for line in lines[head:])
    assert not any("[hazard]" in line or "to rewrite]" in line for line in lines[head:])


def test_check_names_what_keeps_diff_from_writing(repo):
    """Also where it is the rewrite, executed, that does not do what FSDP does."""
    plan = repo / "torchtitan/models/llama3/infra/parallelize.py"
    text = plan.read_text()
    root = text.rindex("    fully_shard(model, **fsdp_config")
    of_shards = '    model.set_ranks(dp_mesh["dp_shard_cp"].size())\n'
    plan.write_text(text[:root] + of_shards + text[root:])
    lines = run("check", repo).stderr.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Left for"))
    left = [line for line in lines[head:] if "[left for a person]" in line]
    assert left and all(": executed as it would be written, " in line for line in left)
    refused = run("diff", repo)
    assert refused.exit_code == 1 and not refused.stdout
    for line in left:
        place, _, message = line.partition(" TM102 [left for a person] ")
        assert f"  {place} {message}" in refused.stderr


def test_check_says_what_else_keeps_diff_from_writing(fork):
    found = changeset(fork)
    odd = replace(found, outcome=replace(found.outcome, problems=("a.py:1: b\n",)))
    lines = list(render.text(odd))
    head = lines.index("For a person to see to first; nothing is written before:")
    assert lines[head + 1] == "  a.py:1: b\\n"


def test_text_of_a_hostile_checkout_is_inert(hostile):
    result = run("check", hostile)
    assert result.exit_code == 1 and not result.stdout
    assert "\\n::error::b\\r\\x1b[31m é.py:" in result.stderr
    assert escapes_nothing(result.stderr)


def test_suggestions_are_inert(fork):
    hazard = {"status": "hazard", "message": "a\n::error::b", "suggestion": COMMENT}
    lines = list(render.text(with_finding(changeset(fork), **hazard)))
    assert escapes_nothing("\n".join(lines)), lines
    assert lines[1] == "a.py:3: TM201 [hazard] a\\n::error::b"


def test_what_is_left_out_is_said_in_every_command(tree):
    options = ("--no-git", tree, "--ignore", "TM106,TM2", "--exclude", "nowhere")
    for command in ("check", "diff", "apply"):
        said = run(command, *options).stderr
        assert "Left out: rules TM106, TM2xx; 0 Python files by exclude (" in said


def test_what_is_silent_stands_before_what_is_loud_and_notes_come_last(tree):
    lines = run("check", "--no-git", tree).stderr.splitlines()
    kinds = [
        kind
        for line in lines
        for kind in ("silent hazard", "loud hazard", "note")
        if f" [{kind}] " in line
    ]
    silent, loud, notes = map(kinds.count, ("silent hazard", "loud hazard", "note"))
    assert silent and loud and notes
    assert (
        kinds == ["silent hazard"] * silent + ["loud hazard"] * loud + ["note"] * notes
    )
    total = silent + loud + notes
    assert f"{total} hazards ({silent} silent, {loud} loud, {notes} notes)" in lines[-2]
