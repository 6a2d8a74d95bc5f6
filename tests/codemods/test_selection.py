"""Which rules run and on which files: by option and by comment."""

import shutil
from pathlib import Path

import pytest

from codemods.engine import migrate
from codemods.selection import Selection, SelectionError

from commands import run
from places import FIXTURES
from support import HERE, IMPORT, PLAN, aim, checkout

UTILS = "torchtitan/distributed/utils.py"
AMP = """
    import contextlib


    def maybe_enable_amp(parallel_dims, mixed_precision_param, device_type):
        if parallel_dims.fsdp_enabled:
            return contextlib.nullcontext()
        return torch.autocast(device_type, dtype=mixed_precision_param)
    """
CALLER = f"""
    {IMPORT} apply_ddp, apply_fsdp


    def parallelize(model, world_mesh, parallel_dims, job_config):
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh, job_config.param, job_config.reduce)
        elif parallel_dims.dp_replicate_enabled:
            apply_ddp(model, world_mesh, False)
    """
FILES = {HERE: CALLER, UTILS: AMP}


def selected(files=FILES, target="1d", **selection):
    return migrate(checkout(files), aim(target), Selection(**selection))


def codes(outcome):
    return {finding.code for finding in outcome.findings}


# rules


def test_everything_is_selected_unless_said_otherwise():
    assert {"TM101", "TM102", "TM105"} <= codes(selected())
    assert set(selected().changes) == {HERE, PLAN, UTILS}


@pytest.mark.parametrize(
    ("select", "ignore", "taken"),
    [
        ((), (), {"TM101", "TM106", "TM201"}),
        (("TM2",), (), {"TM201"}),
        (("TM1",), ("TM106",), {"TM101"}),
        (("TM106",), ("TM1",), {"TM106"}),
        (("TM106",), ("TM106",), set()),
        ((), ("TM",), set()),
        (("TM",), ("TM2",), {"TM101", "TM106"}),
    ],
)
def test_the_longer_prefix_wins_and_ignore_at_a_tie(select, ignore, taken):
    selection = Selection(select, ignore)
    assert {c for c in ("TM101", "TM106", "TM201") if selection.takes(c)} == taken


@pytest.mark.parametrize("code", ["TM101", "TM102", "TM103", "TM105"])
def test_what_belongs_together_is_not_split(code):
    with pytest.raises(SelectionError, match=f"belong together.*; {code} is left out"):
        selected(ignore=(code,))
    with pytest.raises(SelectionError, match="belong together"):
        selected(select=(code,))


def test_parallel_dims_belong_to_it_on_a_2d_mesh_only():
    assert selected(ignore=("TM104",)).changes
    with pytest.raises(SelectionError, match="ParallelDims"):
        selected(target="2d", ignore=("TM104",))


def test_hazards_alone_write_nothing():
    files = {**FILES, HERE: CALLER + "    model.output.weight = model.emb.weight\n"}
    outcome = selected(files, select=("TM2",))
    assert outcome.changes == {} and outcome.problems == ()
    assert codes(outcome) == {"TM201", "TM214"}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("TM1O6", "Did you mean TM106"),
        ("tm1", "Did you mean TM1?"),
        ("TM999", "Give codes"),
        ("E501", "Give codes"),
    ],
)
def test_a_code_of_no_rule_is_an_error_with_the_nearest(word, hint):
    with pytest.raises(SelectionError, match=f"there is no rule '{word}'.*{hint}"):
        selected(ignore=(word,))


def test_leaving_out_everything_is_an_error():
    with pytest.raises(SelectionError, match="leave no rule"):
        selected(ignore=("TM",))


# files


def test_an_excluded_file_is_not_looked_at():
    other = "torchtitan/models/other/parallelize.py"
    guard = "if mesh.ndim > 1:\n    raise RuntimeError('DDP has not supported > 1D')\n"
    files = {**FILES, other: guard}
    assert any(f.path == other for f in selected(files).findings)
    outcome = selected(files, exclude=("torchtitan/models/other/",))
    assert outcome.excluded == {other}
    assert outcome.changes and not any(f.path == other for f in outcome.findings)


def test_an_excluded_file_may_be_broken():
    files = {**FILES, "torchtitan/old/junk.py": "from x import apply_ddp\ndef ("}
    assert selected(files, exclude=("old",)).changes


@pytest.mark.parametrize(
    ("excluded", "at", "reason"),
    [
        (HERE, HERE, "definition it needs is migrated"),
        (UTILS, UTILS, "no autocast on top"),
    ],
)
def test_what_goes_with_the_migration_cannot_be_excluded(excluded, at, reason):
    outcome = selected(exclude=(excluded,))
    assert outcome.changes == {}
    left = [f for f in outcome.findings if f.status == "left"]
    assert {f.path for f in left} == {at}
    assert any(reason in f.message and "is excluded" in f.message for f in left)


def test_a_file_that_is_migrated_already_may_be_excluded():
    done = {
        path: raw.decode() for path, raw in selected().changes.items() if path == UTILS
    }
    assert selected({**FILES, **done}, exclude=(UTILS,)).changes


def test_where_the_definition_is_excluded_its_calls_stay_and_it_is_said():
    outcome = selected(exclude=(PLAN,))
    assert HERE not in outcome.changes and outcome.problems == ()
    said = [f for f in outcome.findings if f.path == HERE]
    assert {f.status for f in said} == {"opted-out"}
    assert all("stays DDP's: its definition" in f.message for f in said)


def test_excluding_the_mesh_that_the_2d_target_needs_is_refused():
    outcome = selected(target="2d", exclude=("parallel_dims.py",))
    assert outcome.changes == {}
    assert {f.code for f in outcome.findings if f.status == "left"} == {"TM104"}


@pytest.mark.parametrize(
    "pattern", ["*a" * 60 + "b", "**/a/" * 30 + "b", "x[z-a]", "torchtitan/*a*b*c*d"]
)
def test_patterns_that_no_machine_should_try_are_refused(pattern):
    with pytest.raises(SelectionError, match="exclude: "):
        selected(exclude=(pattern,))


def test_patterns_as_people_write_them_are_taken():
    for pattern in (
        "**/my_*/**/*_old.py",
        "*/x*y*z.py",
        "/a/b/",
        "!keep",
        "[[:alpha:]]",
    ):
        selected(exclude=(pattern,))


# comments


@pytest.mark.parametrize(
    ("code", "target", "line"),
    [
        ("TM105", "1d", "def maybe_enable_amp("),
        ("TM104", "2d", "            if d > 1:"),
    ],
)
def test_what_opts_out_of_its_step_is_shown(code, target, line):
    from migrator import render
    from migrator.changeset import Changeset
    from migrator.checkout import Checkout

    every = checkout(FILES)
    comment = f"  # titan-migrate: ignore[{code}]"
    files = {}
    for path, file in every.items():
        lines = file.text.split("\n")
        marked = [one + comment if one.startswith(line) else one for one in lines]
        files[path] = "\n".join(marked)
    outcome = selected(files, target=target)
    assert outcome.changes
    changeset = Changeset(Checkout(Path("."), False), outcome)
    for said in (render.text(changeset), render.rewritten(changeset)):
        assert f"{code} [opted out] and yet the rest needs it" in "\n".join(said)


def test_a_hazard_opts_out_on_its_line():
    tie = "    model.output.weight = model.emb.weight"
    loud = selected({**FILES, HERE: CALLER + tie + "\n"})
    assert [f.status for f in loud.findings if f.code == "TM201"] == ["hazard"]
    comment = "  # titan-migrate: ignore[TM201]\n"
    quiet = selected({**FILES, HERE: CALLER + tie + comment})
    assert [f.status for f in quiet.findings if f.code == "TM201"] == ["opted-out"]
    assert "TM213" not in codes(quiet)


def test_several_codes_on_one_line_keep_a_place_from_being_rewritten():
    adapter = """
        class StateDictAdapter:
            def split(self, placement, dim):
                if placement.dim == dim:  # titan-migrate: ignore[TM201, TM106]
                    return 1
                if placement.dim == dim:
                    return 2
        """
    outcome = selected({**FILES, "torchtitan/models/utils.py": adapter})
    after = outcome.changes["torchtitan/models/utils.py"].decode()
    assert after.count("is_replicate") == 1 and outcome.problems == ()


def test_what_goes_with_a_definition_that_opted_out_is_counted(tree):
    plan = tree / "torchtitan/models/llama3/infra/parallelize.py"
    lines = plan.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("def apply_ddp("))
    lines[at] += "  # titan-migrate: ignore[TM101]"
    plan.write_text("\n".join(lines))
    done = run("check", "--no-git", tree)
    assert done.exit_code == 0
    assert "Nothing to rewrite, though DDP is here: 16 places in 8 files opted out" in (
        done.stderr
    )
    said = run("check", "-v", "--no-git", tree).stderr
    assert "[opted out] apply_ddp stays DDP's: its definition" in said


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "fork")
    return tmp_path / "fork"
