"""``diff`` for people: colours, a diffstat and a pager."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.changeset import file_diff
from migrator.patch import coloured, count, diffstat

from commands import PLAN, diff, git_apply, run
from places import FIXTURES, FORKS, ONLY_1D
from releases import VERSIONS, as_checkout, git, release

ESCAPE = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path_factory):
    """None of what the person who runs the tests has set."""
    for name in ("GIT_PAGER", "PAGER", "LESS", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))


@pytest.fixture(
    scope="module",
    params=[
        *FORKS,
        *(pytest.param(version, marks=pytest.mark.release) for version in VERSIONS),
    ],
)
def tree(request, tmp_path_factory):
    """A checkout of every fixture and every release; nothing writes to it."""
    name = request.param
    source = release(name) if name in VERSIONS else FIXTURES / name
    return as_checkout(source, tmp_path_factory.mktemp(name) / "tree")


# a patch for git


@pytest.mark.parametrize("target", ["1d", "2d"])
def test_git_takes_the_patch_with_any_context(tree, target):
    if target == "2d" and tree.parent.name.startswith(ONLY_1D):
        assert run("diff", tree, "--target", target).exit_code == 1
        return
    sizes = []
    for lines in (0, 1, 3, 10):
        patch = diff(tree, "--unified", str(lines), "--target", target)
        git_apply(tree, patch, "--check", *["--unidiff-zero"][lines:])
        sizes.append(len(patch))
    assert sizes == sorted(set(sizes))


# colour


def test_colours_are_all_that_they_add(tree):
    plain = diff(tree)
    painted = diff(tree, "--color", "always")
    assert not ESCAPE.search(plain)
    assert ESCAPE.sub(b"", painted) == plain
    assert b"\x1b[36m@@" in painted
    assert b"\x1b[31m-" in painted and b"\x1b[32m+" in painted


def test_a_coloured_patch_keeps_every_byte():
    before = bytes(range(256)).replace(b"\x1b", b"") + b"\r\nsame\r\n-- old"
    after = before.replace(b"-- old", b"++ new\r\n\xff")
    patch = file_diff("é.py", before, after)
    assert ESCAPE.sub(b"", coloured(patch)) == patch
    assert b"\x1b[32m+++ new\x1b[0m\r\n" in coloured(patch)


def test_piped_there_is_no_colour_unless_always(fork):
    assert not ESCAPE.search(diff(fork, "--color", "auto"))
    assert ESCAPE.search(diff(fork, "--color", "always"))
    assert ESCAPE.search(diff(fork, "--color", "always", "--stat"))


def test_on_a_terminal_there_is_colour(fork):
    assert ESCAPE.search(on_terminal(fork, "--no-pager"))
    assert not ESCAPE.search(on_terminal(fork, "--no-pager", "--color", "never"))


def test_no_color(fork, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert not ESCAPE.search(on_terminal(fork, "--no-pager"))
    assert ESCAPE.search(on_terminal(fork, "--no-pager", "--color", "always"))
    assert ESCAPE.search(diff(fork, "--color", "always"))
    monkeypatch.setenv("NO_COLOR", "")
    assert ESCAPE.search(on_terminal(fork, "--no-pager"))


def test_a_dumb_terminal_gets_no_colour(fork, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not ESCAPE.search(on_terminal(fork, "--no-pager"))


# --stat


def test_stat_counts_as_git_does(tree):
    patch = diff(tree)
    assert diff(tree, "--stat", "--unified", "0") == diff(tree, "--stat")
    *lines, summary = diff(tree, "--stat").decode().splitlines()
    numbers = [
        line.split("\t") for line in git_apply(tree, patch, "--numstat").splitlines()
    ]
    assert numbers and len(lines) == len(numbers)
    for line, (added, removed, path) in zip(lines, numbers, strict=True):
        name, total = re.fullmatch(r" (.*?) +\| +(\d+) \+*-*", line).groups()
        assert int(total) == int(added) + int(removed)
        assert path == name or path.endswith(name.removeprefix("..."))
    said = {word[:3]: int(n) for n, word in re.findall(r"(\d+) (\w+)", summary)}
    assert said["fil"] == len(numbers)
    assert said["ins"] == sum(int(added) for added, _, _ in numbers)
    assert said["del"] == sum(int(removed) for _, removed, _ in numbers)


LONG = "torchtitan/experiments/" + "a_rather_long_folder/" * 3 + "infra/parallelize.py"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize(
    "sizes",
    [
        {"a.py": (1, 0)},
        {"a.py": (0, 1), "b.py": (7, 3)},
        {"a.py": (1, 1), LONG: (0, 400)},
        {LONG: (1200, 900), "b.py": (2, 1), "c.py": (1, 2), "x" * 90: (30, 50)},
        {"é.py": (2, 2)},
    ],
)
def test_stat_looks_as_git_has_it(sizes, width, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    git(tmp_path, "init", "-q")
    before = {
        p: b"".join(b"-%d\n" % n for n in range(r)) for p, (_, r) in sizes.items()
    }
    after = {p: b"".join(b"+%d\n" % n for n in range(a)) for p, (a, _) in sizes.items()}
    for path, content in before.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content + b"end\n")
    git(tmp_path, "add", "-A")
    for path, content in after.items():
        (tmp_path / path).write_bytes(content + b"end\n")
    counts = [
        count(
            '"\\303\\251.py"' if path == "é.py" else path,
            file_diff(path, before[path] + b"end\n", after[path] + b"end\n"),
        )
        for path in sorted(sizes)
    ]
    assert {(c.added, c.removed) for c in counts} == set(sizes.values())
    assert diffstat(counts, width) == git(tmp_path, "diff", "--stat")
    painted = diffstat(counts, width, colour=True).encode()
    assert ESCAPE.sub(b"", painted).decode() == diffstat(counts, width)


def test_stat_of_a_migrated_tree_is_empty(fork):
    git_apply(fork, diff(fork))
    assert diff(fork, "--stat") == diff(fork) == b""


# a pager


def on_terminal(tree: Path, *options: str) -> bytes:
    """What ``diff`` shows on a terminal, without what it says on stderr."""
    main_end, other_end = pty.openpty()
    command = [sys.executable, "-m", "migrator.cli", "diff", str(tree), *options]
    running = subprocess.Popen(
        command, stdin=other_end, stdout=other_end, stderr=subprocess.PIPE
    )
    os.close(other_end)
    shown = b""
    try:
        while part := os.read(main_end, 65536):
            shown += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(main_end)
    said = running.communicate()[1].decode()
    assert running.returncode == 0, said
    assert "Traceback" not in said
    return shown.replace(b"\r\n", b"\n")


@pytest.fixture
def pager(tmp_path):
    """A pager that keeps what it is given; (command, file, where its LESS goes)."""
    script, kept = tmp_path / "my pager", tmp_path / "kept"
    script.write_text(
        f'#!/bin/sh\necho "$LESS" > "{kept}.less"\ncat > "{kept}"\necho paged\n'
    )
    script.chmod(0o755)
    return f"'{script}'", kept, kept.with_name("kept.less")


def test_a_terminal_gets_a_pager(fork, pager, monkeypatch):
    command, kept, less = pager
    monkeypatch.setenv("GIT_PAGER", command)
    monkeypatch.setenv("PAGER", "false")
    assert on_terminal(fork) == b"paged\n"
    assert kept.read_bytes() == diff(fork, "--color", "always")
    assert less.read_text() == "FRX\n"
    assert on_terminal(fork, "--stat", "--color", "never") == b"paged\n"
    assert kept.read_bytes() == diff(fork, "--stat")


def test_no_pager_when_piped_or_told_so_or_with_nothing_to_show(
    fork, pager, monkeypatch
):
    command, kept, _ = pager
    monkeypatch.setenv("GIT_PAGER", command)
    patch = diff(fork)
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", "diff", str(fork)], capture_output=True
    )
    assert done.stdout == patch
    assert on_terminal(fork, "--no-pager", "--color", "never") == patch
    git_apply(fork, patch)
    assert on_terminal(fork) == b""
    assert not kept.exists()


def test_pagers_in_the_order_of_git(fork, pager, monkeypatch):
    command, kept, _ = pager
    monkeypatch.setenv("PAGER", command)
    assert on_terminal(fork) == b"paged\n"
    own = Path(os.environ["GIT_CONFIG_GLOBAL"])
    own.write_text("[core]\n\tpager = echo my own\n")
    assert on_terminal(fork) == b"my own\n"
    monkeypatch.setenv("GIT_PAGER", "echo first")
    assert on_terminal(fork) == b"first\n"
    for none in ("", "cat"):
        monkeypatch.setenv("GIT_PAGER", none)
        assert on_terminal(fork, "--color", "never") == diff(fork)


def test_a_pager_that_the_checkout_configures_is_not_run(fork, pager, monkeypatch):
    command, kept, _ = pager
    for key in ("core.pager", "pager.diff"):
        git(fork, "config", key, command)
    monkeypatch.setenv("PAGER", "echo mine")
    monkeypatch.chdir(fork)
    monkeypatch.setenv("PYTHONPATH", str(FIXTURES.parent))
    assert on_terminal(fork) == b"mine\n"
    assert not kept.exists()


@pytest.mark.parametrize("leaving", ["true", "false", "head -n 1", "kill -INT $$"])
def test_a_pager_that_is_left_early_is_no_error(fork, leaving, monkeypatch):
    monkeypatch.setenv("GIT_PAGER", leaving)
    # More than fits into a pipe, so that its end is seen to be closed.
    plan = fork / PLAN
    plan.write_text(plan.read_text() + "# a line of a long file\n" * 5000)
    shown = on_terminal(fork, "--color", "never", "--unified", "9999")
    assert len(shown.splitlines()) <= 1


def test_without_the_pager_the_patch_is_shown_as_it_is(fork, monkeypatch):
    monkeypatch.setenv("GIT_PAGER", "no-such-pager-anywhere")
    assert on_terminal(fork, "--color", "never").endswith(diff(fork))
