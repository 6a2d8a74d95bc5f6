"""The command line as a whole: exit codes, streams, what a command says and what comes next."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from migrator.cli import main

from commands import diff, run, snapshot
from places import FIXTURES
from releases import git

# check


def test_check_exits_1_while_there_is_something_to_do_and_0_after(fork):
    result = run("check", fork)
    assert result.exit_code == 1
    assert "TM101" in result.stderr and not result.stdout
    assert run("apply", fork).exit_code == 0
    result = run("check", fork)
    assert result.exit_code == 0
    assert "Nothing to rewrite" in result.stderr


def test_check_writes_nothing(fork):
    before = snapshot(fork)
    run("check", fork)
    run("diff", fork)
    assert snapshot(fork) == before


# precision


@pytest.fixture
def without_amp(tmp_path):
    """A clean git checkout from before torchtitan had autocast."""
    tree = tmp_path / "legacy"
    shutil.copytree(FIXTURES / "legacy", tree)
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


def test_keep_precision_is_refused_where_ddp_had_autocast(fork):
    for command in ("check", "diff", "apply", "report"):
        result = run(command, fork, "--keep-precision")
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert "this checkout opens autocast" in line
    assert git(fork, "status", "--porcelain") == ""


def test_keep_precision_passes_fp32(without_amp):
    shown = run("diff", without_amp, "--keep-precision")
    assert shown.exit_code == 0, shown.stderr
    assert "+            param_dtype=torch.float32,\n" in shown.stdout
    assert "+            reduce_dtype=torch.float32,\n" in shown.stdout
    result = run("apply", without_amp, "--keep-precision")
    assert result.exit_code == 0 and "Precision" not in result.stderr
    assert run("check", without_amp).exit_code == 0


def test_a_report_of_a_tree_with_its_precision_kept(without_amp):
    run("apply", without_amp, "--keep-precision")
    shown = run("report", without_amp, "--keep-precision")
    assert shown.exit_code == 0, shown.stderr
    exactly = "It is exactly what the tool writes: nothing was changed by hand."
    assert exactly in shown.stdout
    assert "--keep-precision --html FILE" in shown.stdout
    assert exactly not in run("report", without_amp).stdout


def test_apply_and_the_commit_say_what_becomes_of_the_precision(without_amp, fork):
    for tree, words in ((without_amp, "no autocast"), (fork, "becomes a policy")):
        git(tree, "config", "user.name", "t")
        git(tree, "config", "user.email", "t@example.org")
        result = run("apply", tree, "--commit", "--branch", "replicate")
        assert result.exit_code == 0, result.stderr
        line = result.stderr.splitlines()
        said = [text for text in line if text.startswith("Precision: ")]
        assert len(said) == 1 and words in said[0]
        message = " ".join(git(tree, "log", "--format=%B", "replicate").split())
        assert message.count("Precision: ") == 1 and words in message


# diff


def test_diff_prints_a_patch_and_nothing_else_on_stdout(fork):
    result = run("diff", fork)
    assert result.exit_code == 0
    assert result.stdout.startswith("diff --git a/")
    subprocess.run(
        ["git", "apply", "--check", "-"],
        cwd=fork,
        input=result.stdout_bytes,
        check=True,
    )


def test_diff_of_a_migrated_tree_is_empty(fork):
    run("apply", fork)
    result = run("diff", fork)
    assert result.exit_code == 0 and result.stdout == ""


# apply


def test_no_code_of_the_checkout_runs(fork):
    for name in ("sitecustomize.py", "conftest.py", "torchtitan/__init__.py"):
        with (fork / name).open("a") as file:
            file.write("raise SystemExit('ran')\n")
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "traps")
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", "apply", "."],
        cwd=fork,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(FIXTURES.parent), "PYTHONSAFEPATH": "1"},
    )
    assert done.returncode == 0, done.stderr


# explain


def test_explain_lists_and_explains():
    listed = run("explain")
    assert listed.exit_code == 0
    codes = re.findall(r"^  (TM\d+)  ", listed.stdout, re.MULTILINE)
    assert codes[:6] == ["TM101", "TM102", "TM103", "TM104", "TM105", "TM106"]
    for code in codes:
        assert run("explain", code).stdout.startswith(f"{code}  ")


def test_explain_of_an_unknown_code_is_wrong_use():
    result = run("explain", "TM1O1")
    assert result.exit_code == 2
    assert "Did you mean TM101?" in result.stderr and not result.stdout


def test_torch_is_never_imported(fork):
    script = (
        "import sys; from migrator.cli import main\n"
        "try: main(['check', sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'imported'\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(fork)], check=True, capture_output=True
    )


def test_explain_of_a_family_lists_it():
    listed = run("explain", "TM2xx").stdout
    assert "TM201" in listed and "TM101" not in listed


# verify


def test_names_are_taken_once_and_gaps_are_ignored(fork, monkeypatch):
    import migrator.verify

    asked = {}

    def run_verify(path, **options):
        asked.update(options)
        return migrator.verify.Verification({})

    monkeypatch.setattr(migrator.verify, "run_verify", run_verify)
    run("verify", fork, "--cells", "dp,,dp+tp, dp", "--model", "llama3,llama3,")
    assert asked["cells"] == ("dp", "dp+tp") and asked["model"] == ("llama3",)
    run("verify", fork, "--full")
    assert "export" in asked["cells"] and asked["model"] == ("all",)
    run("verify", fork)
    assert asked["cells"] == (
        *("dp", "dp+tp", "dp+pp", "dp-bf16", "dp-together", "dp-fresh"),
        "dp-unseeded",
    )
    assert asked["model"] == ()
    assert asked["cached"] and asked["export"] is asked["against"] is None
    assert not asked["sensitivity"]
    run(
        "verify", fork, "--no-cache", "--export", "a", "--against", "b", "--sensitivity"
    )
    assert not asked["cached"] and asked["sensitivity"]
    assert (str(asked["export"]), str(asked["against"])) == ("a", "b")


@pytest.mark.parametrize(
    "options", [("--quick", "--full"), ("--full", "--cells", "dp")]
)
def test_cells_are_chosen_in_one_way(fork, options):
    done = run("verify", fork, *options)
    assert done.exit_code == 2
    assert f"{options[0]} and {options[1]} contradict each other" in done.stderr


# help


def test_help_without_a_command_shows_the_way_through():
    said = run("--help").output
    order = [
        said.index(f"titan-migrate {name} ") for name in ("check", "diff", "apply")
    ]
    assert order == sorted(order) and "Exit codes" in said


def test_a_misspelt_folder_gets_a_suggestion(tree):
    done = run("check", tree.parent / "frok")
    assert done.exit_code == 2 and f"did you mean {tree}?" in done.stderr


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell(shell):
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("needs bash, of which the version is asked")
    done = run("completion", shell)
    assert done.exit_code == 0 and "_TITAN_MIGRATE_COMPLETE" in done.stdout


def test_bash_takes_the_script(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    script = tmp_path / "complete.sh"
    script.write_text(run("completion", "bash").stdout)
    command = f"source {script} && complete -p titan-migrate"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and "titan-migrate" in done.stdout


# what comes next


def test_a_folder_of_a_checkout_stands_for_all_of_it_and_that_is_said(repo):
    said = run("check", repo / "torchtitan/models").stderr
    assert f"is in the checkout {repo}, which is taken as a whole." in said


def test_nothing_to_commit_is_said(repo):
    run("apply", repo)
    git(repo, "commit", "-qam", "Migrate")
    done = run("apply", repo, "--branch", "again", "--commit")
    assert done.exit_code == 0 and "no commit was made" in done.stderr
    assert "again" not in git(repo, "branch")


def test_refused_or_not_json_is_on_stdout(repo):
    trainer = repo / "torchtitan/experiments/distill/wrap.py"
    line = (
        "from torchtitan.models.llama3.infra.parallelize import apply_ddp as f\nx = f\n"
    )
    trainer.write_text(line)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "left")
    done = run("apply", repo, "--format", "json")
    data = json.loads(done.stdout)
    assert done.exit_code == 1 and not data["written"] and data["problems"]


def test_apply_writes_no_annotations(fork):
    assert run("apply", fork, "--format", "sarif").exit_code == 2


def test_three_lines_are_the_default(fork):
    assert diff(fork) == diff(fork, "--unified", "3") == diff(fork, "-U3")


def test_context_is_not_negative(fork):
    result = CliRunner().invoke(main, ["diff", str(fork), "--unified", "-1"])
    assert result.exit_code == 2 and not result.stdout
