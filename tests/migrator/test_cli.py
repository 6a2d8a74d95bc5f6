"""The commands as a person or a program meets them: exit codes, streams, sentences."""

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from migrator import apply
from migrator.cli import main
from migrator.errors import FileProblem

from places import FIXTURES
from releases import git

PLAN = "torchtitan/models/llama3/infra/parallelize.py"


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def fork(tmp_path):
    """A clean git checkout of a fixture with every kind of place in it."""
    tree = tmp_path / "fork"
    shutil.copytree(FIXTURES / "v0_2_1", tree)
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


def snapshot(tree: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


# check


def test_check_exits_1_while_there_is_something_to_do_and_0_after(fork):
    result = run("check", fork)
    assert result.exit_code == 1
    assert "TM101" in result.stderr and not result.stdout
    assert run("apply", fork).exit_code == 0
    result = run("check", fork)
    assert result.exit_code == 0
    assert "Nothing to do" in result.stderr


def test_check_as_json_accounts_for_every_place(fork):
    result = run("check", fork, "--format", "json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["generation"] == "0.2.1" and data["target"]["mesh"] == "1d"
    assert not data["written"] and PLAN in data["changed"]
    for finding in data["findings"]:
        assert finding["line"] >= 1 and finding["message"]
        assert finding["status"] in ("rewrite", "done", "opted-out", "left", "hazard")
        assert finding["suggestion"] or finding["status"] != "hazard"


def test_check_says_which_target_and_why(fork):
    result = run("check", fork, "--torch", "2.9.1")
    assert "Target 2d (torch 2.9.1)" in result.stderr
    result = run("check", fork, "--torch", "2.10")
    assert "Target 1d (torch 2.10)" in result.stderr


def test_check_writes_nothing(fork):
    before = snapshot(fork)
    run("check", fork)
    run("diff", fork)
    assert snapshot(fork) == before


@pytest.mark.parametrize(
    "source",
    [
        "apply_ddp = " + "-" * 100000 + "1",
        "apply_ddp = " + "(" * 3000 + ")" * 3000,
        "apply_ddp" + ".b" * 3000,
        "apply_ddp = 1" + "+1" * 3000,
        "# coding: rot13\napply_ddp = 1",
        "# coding: undefined\napply_ddp = 1",
    ],
    ids=["minus", "brackets", "attributes", "sum", "rot13", "undefined"],
)
def test_code_that_nobody_wrote_by_hand_is_named_and_no_traceback(fork, source):
    (fork / "torchtitan/odd.py").write_text(source + "\n")
    result = run("check", fork)
    assert result.exit_code in (1, 3) and not isinstance(
        result.exception, (RecursionError, MemoryError, LookupError, UnicodeError)
    )
    if result.exit_code == 3:
        assert len(result.stderr.splitlines()) == 1


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
    for command in ("check", "diff", "apply"):
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


def test_diff_into_a_closed_pipe_is_no_traceback(fork):
    command = f"{sys.executable} -m migrator.cli diff {fork} | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_patch_of_a_path_with_odd_characters(tmp_path):
    tree = tmp_path / "fork"
    shutil.copytree(FIXTURES / "v0_1", tree)
    plan = tree / PLAN
    odd = plan.with_name('odd "name" é\ttab.py')
    odd.write_text(plan.read_text())
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    result = run("diff", tree)
    assert result.exit_code == 0
    subprocess.run(
        ["git", "apply", "-"], cwd=tree, input=result.stdout_bytes, check=True
    )
    assert "apply_ddp" not in odd.read_text()


# apply


def test_apply_refuses_uncommitted_changes_and_says_how_to_go_on(fork):
    with (fork / PLAN).open("a") as file:
        file.write("# mine\n")
    before = snapshot(fork)
    result = run("apply", fork)
    assert result.exit_code == 2
    assert PLAN in result.stderr and "--allow-dirty" in result.stderr
    assert snapshot(fork) == before
    assert run("apply", fork, "--allow-dirty").exit_code == 0
    assert (fork / PLAN).read_text().endswith("# mine\n")


def test_apply_refuses_an_untracked_file_it_would_write(fork):
    copy = fork / "torchtitan/models/own/infra/parallelize.py"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((fork / PLAN).read_bytes())
    result = run("apply", fork)
    assert result.exit_code == 2
    assert "torchtitan/models/own" in result.stderr


def test_apply_lets_other_uncommitted_changes_be(fork):
    (fork / "notes.txt").write_text("mine")
    assert run("apply", fork).exit_code == 0


def test_apply_needs_git_or_no_git(tmp_path):
    tree = tmp_path / "plain"
    shutil.copytree(FIXTURES / "v0_2_1", tree)
    result = run("apply", tree)
    assert result.exit_code == 2
    assert "--no-git" in result.stderr
    assert run("apply", tree, "--no-git").exit_code == 0
    assert "apply_replicate" in (tree / PLAN).read_text()


def test_apply_as_json(fork):
    result = run("apply", fork, "--format", "json")
    data = json.loads(result.stdout)
    assert data["written"] and PLAN in data["changed"]


def test_apply_keeps_the_mode_and_the_symlink(fork):
    plan = fork / PLAN
    real = plan.with_name("real_plan.py")
    plan.rename(real)
    plan.symlink_to("real_plan.py")
    real.chmod(0o755)
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    assert run("apply", fork).exit_code == 0
    assert plan.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o755
    assert "apply_replicate" in real.read_text()


def test_apply_never_writes_through_a_symlink_out_of_the_checkout(fork, tmp_path):
    outside = tmp_path / "outside.py"
    plan = fork / "torchtitan/models/qwen3/infra/parallelize.py"
    plan.rename(outside)
    plan.symlink_to(outside)
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    before = outside.read_bytes()
    run("apply", fork)
    assert outside.read_bytes() == before


def test_no_hook_of_the_checkout_runs(fork):
    trap = fork / "ran"
    for name in ("post-checkout", "post-index-change", "pre-commit", "fsmonitor"):
        hook = fork / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
        hook.chmod(0o755)
    git(fork, "config", "core.fsmonitor", str(fork / ".git/hooks/fsmonitor"))
    git(fork, "config", "filter.trap.clean", f"touch {trap}; cat")
    (fork / ".git/info").mkdir(exist_ok=True)
    (fork / ".git/info/attributes").write_text("*.py filter=trap\n")
    os.utime(fork / PLAN)
    trap.unlink(missing_ok=True)
    assert run("apply", fork).exit_code == 0
    assert not trap.exists()


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


def test_a_file_that_cannot_be_written_rolls_everything_back(fork, monkeypatch):
    import migrator.changeset

    before = snapshot(fork)
    real, calls = os.replace, []

    def third_fails(source, place):
        calls.append(place)
        if len(calls) == 3:
            raise PermissionError(13, "Permission denied")
        real(source, place)

    monkeypatch.setattr(migrator.changeset.os, "replace", third_fails)
    result = run("apply", fork)
    assert result.exit_code == 3
    assert "every file is as it was" in result.stderr
    assert snapshot(fork) == before


def test_an_unparsable_file_is_named_with_its_line(fork):
    with (fork / PLAN).open("a") as file:
        file.write("def broken(:\n")
    line = (fork / PLAN).read_text().count("\n")
    before = snapshot(fork)
    for command in ("check", "diff", "apply"):
        result = run(command, fork)
        assert result.exit_code == 3
        assert f"{PLAN}:{line}" in result.stderr
    assert snapshot(fork) == before


def test_a_place_left_for_a_person_writes_nothing(fork):
    extra = fork / "torchtitan/table.py"
    extra.write_text(
        "from torchtitan.models.llama3.infra.parallelize import apply_ddp\n\n"
        'WRAP = {"ddp": apply_ddp}\n'
    )
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "table")
    before = snapshot(fork)
    result = run("apply", fork)
    assert result.exit_code == 1
    assert "torchtitan/table.py:3" in result.stderr
    assert snapshot(fork) == before


# wrong use


def test_a_misspelt_folder_gets_a_suggestion(fork):
    result = run("check", fork.parent / "frok")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr and "fork?" in result.stderr


def test_a_folder_that_is_no_torchtitan(tmp_path):
    (tmp_path / "a.py").write_text("print(1)\n")
    result = run("check", tmp_path, "--no-git")
    assert result.exit_code == 2
    assert "does not look like a torchtitan checkout" in result.stderr


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--torch", "2.8"], "no composable replicate"),
        (["--torch", "latest"], "not a version"),
        (["--target", "2d", "--torch", "2.13"], "does not go with"),
    ],
)
def test_a_target_that_cannot_be(fork, arguments, said):
    result = run("check", fork, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_subfolder_means_its_checkout(fork):
    result = run("check", fork / "torchtitan" / "models", "--format", "json")
    assert json.loads(result.stdout)["root"] == str(fork)


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


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_changes_that_git_is_told_not_to_see_are_not_written_over(fork, flag):
    git(fork, "update-index", flag, PLAN)
    with (fork / PLAN).open("a") as file:
        file.write("# mine\n")
    before = snapshot(fork)
    result = run("apply", fork)
    assert result.exit_code == 2 and PLAN in result.stderr
    assert snapshot(fork) == before


def test_a_symlink_to_a_file_with_uncommitted_changes_is_refused(fork):
    plan = fork / PLAN
    real = plan.with_name("plan.src")
    plan.rename(real)
    plan.symlink_to("plan.src")
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    with real.open("a") as file:
        file.write("# mine\n")
    result = run("apply", fork)
    assert result.exit_code == 2 and "plan.src" in result.stderr


def test_a_symlink_into_git_is_refused(fork):
    plan = fork / PLAN
    inside = fork / ".git" / "plan.py"
    plan.rename(inside)
    plan.symlink_to(inside)
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    before = inside.read_bytes()
    assert run("apply", fork).exit_code == 2
    assert inside.read_bytes() == before


def test_a_sparse_checkout_is_refused(fork):
    git(
        fork,
        "sparse-checkout",
        "set",
        "torchtitan/models/llama3",
        "torchtitan/distributed",
    )
    result = run("apply", fork)
    assert result.exit_code == 2
    assert "sparse" in result.stderr


def test_no_filter_of_an_included_configuration_runs(fork, tmp_path):
    trap = tmp_path / "ran"
    (fork / ".git/evil.cfg").write_text(
        f'[filter "evil"]\n\tclean = "touch {trap}; cat"\n'
    )
    git(fork, "config", "include.path", "evil.cfg")
    (fork / ".git/info").mkdir(exist_ok=True)
    (fork / ".git/info/attributes").write_text("*.py filter=evil\n")
    os.utime(fork / PLAN)
    assert run("apply", fork).exit_code == 0
    assert not trap.exists()


def test_no_filter_runs_whatever_its_name(fork, tmp_path):
    trap = tmp_path / "ran"
    for key in ("clean", "smudge"):
        git(fork, "config", f"filter.a=b.{key}", f"touch {trap}; cat")
    git(fork, "config", "filter.a=b.required", "true")
    (fork / ".git/info/attributes").write_text("*.py filter=a=b\n")
    os.utime(fork / PLAN)
    assert run("apply", fork).exit_code == 0
    assert run("report", fork).exit_code == 0
    assert not trap.exists()


def test_no_filter_of_a_submodule_runs(fork, tmp_path):
    trap, module = tmp_path / "ran", fork / "x.py"
    module.mkdir()
    git(module, "init", "-q")
    (module / "file.txt").write_text("text\n")
    git(module, "add", "-A")
    git(module, "commit", "-q", "-m", "base")
    git(fork, "add", "x.py")
    (fork / ".gitmodules").write_text('[submodule "x"]\n\tpath = x.py\n\turl = ./x\n')
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "module")
    git(module, "config", "filter.evil.clean", f"touch {trap}; cat")
    (module / ".git/info/attributes").write_text("* filter=evil\n")
    (module / "file.txt").write_text("TEXT\n")
    assert run("apply", fork).exit_code == 0
    assert run("report", fork).exit_code == 0
    assert not trap.exists()


def test_nothing_is_fetched_in_a_partial_clone(fork, tmp_path):
    trap, origin = tmp_path / "ran", tmp_path / "origin"
    git(tmp_path, "clone", "-q", "--bare", str(fork), str(origin))
    blob = git(fork, "rev-parse", f"HEAD:{PLAN}").strip()
    (fork / ".git/objects" / blob[:2] / blob[2:]).unlink()
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(origin),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": f"touch {trap}; git-upload-pack",
        "protocol.file.allow": "always",
    }.items():
        git(fork, "config", key, value)
    assert run("apply", fork).exit_code == 0
    result = run("report", fork, "--base", "HEAD")
    assert result.exit_code == 2 and result.stderr.startswith("titan-migrate: `git ")
    assert not trap.exists()


@pytest.mark.parametrize("command", ["check", "diff", "apply", "report"])
def test_a_git_checkout_without_git_is_said(fork, tmp_path, command):
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", command, str(fork)],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path / "empty")},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "there is none on PATH" in done.stderr


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_a_signal_while_writing_rolls_everything_back(fork, number):
    before = snapshot(fork)
    script = (
        "import os, signal, sys\n"
        "import migrator.changeset as changeset\n"
        "real, calls = os.replace, []\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def replace(source, place):\n"
        "    calls.append(place)\n"
        "    real(source, place)\n"
        f"    if len(calls) == 2: os.kill(os.getpid(), signal.{number})\n"
        "changeset.os.replace = replace\n"
        "from migrator.cli import main\n"
        "main(['apply', sys.argv[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(fork)], capture_output=True
    )
    assert done.returncode == 128 + getattr(signal, number)
    assert snapshot(fork) == before


def test_a_lost_connection_does_not_end_what_nohup_began():
    script = (
        "import os, signal\n"
        "from migrator.signals import signals_held, terminable\n"
        "with terminable():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    with signals_held(): pass\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('there')\n"
    )
    done = subprocess.run(
        ["nohup", sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=FIXTURES.parent,
    )
    assert (done.returncode, done.stdout) == (0, b"there\n")


@pytest.mark.parametrize("stays_full", [False, True])
def test_a_disk_that_fills_up_gives_room_for_the_old_files_back(
    fork, monkeypatch, stays_full
):
    from migrator import changeset
    from migrator.checkout import open_checkout

    def planned():
        return apply.plan(open_checkout(fork), apply.resolve_target("1d"))

    first, *_, last = planned().changes
    with open(fork / first, "a") as file:
        file.write("# large\n" * 100_000)
    before, found = snapshot(fork), planned()
    # Once the first file is written, and others grew too, there is not room for its
    # old version until they are small again.
    room = len(found.changes[first])
    real, full = changeset.replace_file, []

    def replace(place, content):
        nonlocal room
        if place == fork / last or len(content) > room or full and stays_full:
            full.append(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room -= len(content) - len(place.read_bytes())
        real(place, content)

    monkeypatch.setattr(changeset, "replace_file", replace)
    with pytest.raises(FileProblem) as caught:
        found.write()
    said = str(caught.value)
    assert "No space left on device" in said and "permission" not in said
    assert "Make room on the disk" in said
    if stays_full:
        assert all(path in said for path in list(found.changes)[:-1])
    else:
        assert "every file is as it was" in said and snapshot(fork) == before


def test_explain_of_a_family_lists_it():
    listed = run("explain", "TM2xx").stdout
    assert "TM201" in listed and "TM101" not in listed


# verify


@pytest.mark.parametrize("option", ["--cells", "--model"])
def test_lists_of_names_without_a_name_are_said(fork, option):
    result = run("verify", fork, option, " ,,")
    assert result.exit_code == 2
    assert f"{option} names nothing" in result.stderr


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
    assert asked["cells"] == ("dp", "dp+tp", "dp+pp") and asked["model"] == ("llama3",)


@pytest.mark.parametrize("words", [["verify", "."], ["demo"]])
def test_without_git_a_sentence_says_so(tmp_path, words):
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", *words],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{words[0]} needs git" in done.stderr


# Prints more than a pipe or a buffer holds, and then has something to say still.
TALKER = """
import sys
from migrator.terminal import console_on_stdout
console = console_on_stdout()
with console.status("training …"):
    for number in range(20000):
        console.print(f"[/x] … {number}", soft_wrap=True)
print("figures are kept", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("stdout", ["| head -1", "> /dev/full", ">&-"])
def test_a_run_goes_on_whatever_becomes_of_stdout(stdout):
    command = f'set -o pipefail; {sys.executable} -c "$TALKER" {stdout}'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "TALKER": TALKER},
    )
    assert done.returncode == 3
    assert done.stderr == "figures are kept\n"


def test_what_stdout_cannot_encode_is_replaced():
    done = subprocess.run(
        [sys.executable, "-c", TALKER],
        cwd=FIXTURES.parent,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == b"[/x] ? 19999"


@pytest.mark.parametrize(
    "options", [("--quick", "--full"), ("--full", "--cells", "dp")]
)
def test_cells_are_chosen_in_one_way(fork, options):
    done = run("verify", fork, *options)
    assert done.exit_code == 2
    assert f"{options[0]} and {options[1]} contradict each other" in done.stderr
