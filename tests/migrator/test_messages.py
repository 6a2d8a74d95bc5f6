"""Every error message of the tool: what is typed and where, what is said, the exit code.

To be read from top to bottom, as a stranger: what happened, and what to do next. `/w` is
the folder that the command is called in. What stands in `fork` is committed; `done` is the
same, migrated and not committed; `plain` is no git checkout, `dep` uses a torchtitan that it
does not hold.
"""

import ast
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from codemods.selection import SelectionError
from codemods.source import UnreadableSource
from codemods.targets import TargetError
from migrator.cli import main
from migrator.errors import TitanMigrateError
from migrator.verify.keep import record
from migrator.verify.show import folder

from places import FIXTURES, TOP
from releases import as_checkout, git

PLAN = "torchtitan/models/llama3/parallelize.py"


class Place:
    """Where a row is provoked: the folder that the command is called in, and what is patched."""

    def __init__(self, top: Path, patch: pytest.MonkeyPatch) -> None:
        self.top, self.patch = top, patch

    def write(self, path: str, text: str = "") -> None:
        (self.top / path).parent.mkdir(parents=True, exist_ok=True)
        (self.top / path).write_text(text)

    def git(self, *words: str, tree: str = "fork") -> str:
        return git(self.top / tree, *words)

    def commit(self, path: str = "", text: str = "", tree: str = "fork") -> None:
        if path:
            self.write(f"{tree}/{path}", text)
        self.git("add", "-A", tree=tree)
        self.git("commit", "-q", "--allow-empty", "-m", "more", tree=tree)

    def without(self, *packages: str) -> None:
        """An environment that lacks these."""
        import importlib.util

        find = importlib.util.find_spec

        def found(name: str, *rest: str):
            return None if name in packages else find(name, *rest)

        self.patch.setattr("importlib.util.find_spec", found)
        for module in ("cli", "releases", "verify.rehearsal"):
            self.patch.setattr(f"migrator.{module}.find_spec", found)

    def fails(self, place: str, error: BaseException) -> None:
        """Has a function raise, as the system would."""

        def fail(*_: object, **__: object) -> None:
            raise error

        self.patch.setattr(place, fail)

    def pip(self, stderr: str) -> None:
        """A pip that says this and has nothing."""
        done = subprocess.CompletedProcess("pip", 1, "", stderr)
        self.patch.setattr("migrator.releases.subprocess.run", lambda *_, **__: done)

    def installed(self, name: str, version: str) -> None:
        self.patch.setattr(
            "importlib.metadata.version",
            lambda asked: version if asked == name else "1",
        )


@dataclass(frozen=True)
class Row:
    """argv: after `titan-migrate`. says: all that the error is. given: what is so before.
    lost: the files that are not as they were, which the message names."""

    argv: str
    says: str
    code: int = 2
    given: Callable[[Place], object] = field(default=lambda place: None)
    lost: tuple[str, ...] = ()


DENIED = PermissionError(13, "Permission denied")
JOB = "done/torchtitan/config/job_config.py"


def two_at_hand(place: Place) -> None:
    """A submodule, and an installed torchtitan that fits the pin as well."""
    shutil.copytree(FIXTURES / "v0_2_2", place.top / "dep/third_party/torchtitan")
    listed = '[submodule "titan"]\n\tpath = third_party/torchtitan\n\turl = https://example.org/pytorch/torchtitan\n'
    place.write("dep/.gitmodules", listed)
    place.write("dep/.gitignore", ".venv/\n")
    place.git("init", "-q", tree="dep/third_party/torchtitan")
    place.commit(tree="dep/third_party/torchtitan")
    place.commit(tree="dep")
    site = "dep/.venv/lib/python3.12/site-packages"
    shutil.copytree(FIXTURES / "v0_2_2", place.top / site)
    place.write(f"{site}/torchtitan-0.2.2.dist-info/METADATA")
    place.write(f"{site}/torchtitan/own.py")


def unreadable(place: Place, tree: str) -> None:
    """A tree with a file that may not be read (root may read all)."""
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.parts[-2:] == ("torchtitan", "train.py") and tree in path.parts:
            raise DENIED
        return read(path)

    place.patch.setattr(Path, "read_bytes", refused)


def written_in_part(place: Place) -> None:
    """The second file cannot be written, and the first then not be given back."""
    from migrator import changeset

    write, written = changeset.replace_file, []

    def once(*words: object) -> None:
        if written:
            raise DENIED
        written.append(words)
        write(*words)

    place.patch.setattr(changeset, "replace_file", once)


def unmerged(place: Place) -> None:
    blob = place.git("rev-parse", "HEAD:torchtitan/train.py").strip()
    listed = "".join(f"100644 {blob} {stage}\tx.txt\n" for stage in (1, 2, 3))
    command = ["git", "update-index", "--index-info"]
    subprocess.run(command, cwd=place.top / "fork", input=listed.encode(), check=True)


def filtered(place: Place) -> None:
    place.git("config", "filter.mine.clean", "cat")
    place.commit(".gitattributes", "*.py filter=mine\n")


def hooked(place: Place) -> None:
    place.write(
        "fork/.git/hooks/pre-commit",
        "#!/bin/sh\necho $PWD/a.py: no tabs, please; exit 1\n",
    )
    (place.top / "fork/.git/hooks/pre-commit").chmod(0o755)


def locked(place: Place) -> None:
    """Another verify, which writes into r/."""
    import fcntl

    (place.top / "r").mkdir()
    handle = os.open(place.top / "r", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)


def sparse(place: Place) -> None:
    place.git("update-index", "--skip-worktree", "torchtitan/train.py", PLAN)
    for path in ("torchtitan/train.py", PLAN):
        (place.top / "fork" / path).unlink()


def packed(place: Place, raw: bytes) -> None:
    (place.top / "file").write_bytes(gzip.compress(raw))


TABLE = (
    # How the command is called.
    Row("chek fork", "No such command 'chek'. Did you mean 'check'?"),
    Row(
        "fork",
        "fork is a folder: say what to do with it, as `titan-migrate check fork`.",
    ),
    Row("check -q -v fork", "-q and -v contradict each other: give one of them."),
    Row(
        "check fork --select ,",
        "--select names nothing: give names with commas between them.",
    ),
    Row(
        "check fork --select TM999",
        "select: there is no rule 'TM999'. Give codes or their beginnings, as TM106 or TM2; `titan-migrate explain` lists all.",
    ),
    Row(
        "check fork --ignore T106",
        "ignore: there is no rule 'T106'. Did you mean TM106? Give codes or their beginnings, as TM106 or TM2; `titan-migrate explain` lists all.",
    ),
    Row(
        "check fork --ignore TM",
        "select and ignore together leave no rule to run: ignore fewer codes, or select others.",
    ),
    Row(
        "check fork --select TM101",
        "TM101, TM102, TM103 and TM105 belong together: they are the new function, the calls that fit it, the guard that would refuse what it can do, and mixed precision by its policy instead of autocast. Select all of them or none; TM102, TM103 and TM105 are left out.",
    ),
    Row(
        "check fork --exclude !",
        "exclude: Invalid git pattern: '!'. Write patterns as in a .gitignore.",
    ),
    Row(
        "check fork --exclude a*b*c*d*e",
        "exclude: 'a*b*c*d*e' has too many wildcards; three in a part, or three times **, are the most.",
    ),
    Row(
        "check fork --torch 2.8",
        "torch 2.8 has no composable replicate: it came with torch 2.9. Move the environment to torch 2.9 or later, or name the version that the migrated code will run on with --torch.",
    ),
    Row(
        "check fork --torch latest",
        "'latest' is not a version of torch; write it like 2.10 or 2.13.0.",
    ),
    Row(
        "check fork --target 2d --torch 2.10",
        "--target 2d does not go with torch 2.10, whose replicate takes a 1D mesh. Leave out one of the two.",
    ),
    Row(
        "check fork --keep-precision",
        '--keep-precision is for forks in which DDP computed in fp32, and this checkout opens autocast, whose arithmetic no policy has: leave it out, and set mixed_precision_param = "float32" in a configuration that is to train in fp32.',
    ),
    Row(
        "explain TM9",
        "there is no rule TM9. There are TM101 to TM107, TM201 to TM218 and TM220 to TM235. `titan-migrate explain` lists all.",
    ),
    Row(
        "explain T101",
        "there is no rule T101. Did you mean TM101? `titan-migrate explain` lists all.",
    ),
    # The folder.
    Row(
        "check frok",
        "frok is not a folder (did you mean fork?). Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
    ),
    Row(
        "check empty",
        "empty is empty. Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
        given=lambda p: (p.top / "empty").mkdir(),
    ),
    Row(
        "check words",
        "/w/words has no Python file in it. Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
        given=lambda p: p.write("words/README.md"),
    ),
    Row(
        "check other",
        "/w/other does not look like a torchtitan checkout: no ParallelDims, no JobConfig and no apply_ddp of torchtitan's in it. Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
        given=lambda p: p.write("other/a.py", "print(1)\n"),
    ),
    Row(
        "apply plain",
        "plain is not a git checkout, in which a migration could be undone. Run `git init` and commit first, or pass --no-git to go on without.",
    ),
    Row(
        "apply fork",
        "/w/fork is a git checkout, and there is no git on PATH: install it, or put it on PATH.",
        given=lambda p: p.patch.setenv("PATH", ""),
    ),
    Row(
        "verify fork",
        "verify needs git, and there is none on PATH: install it, or put it on PATH.",
        given=lambda p: p.patch.setenv("PATH", ""),
    ),
    Row(
        "check fork",
        "/w/fork belongs to another user, and git reads it only where you say that you trust it. If you do: git config --global --add safe.directory /w/fork",
        given=lambda p: p.patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"),
    ),
    Row(
        "check fork",
        "`git ls-files` failed in /w/fork: fatal: WORDS. Mend the checkout and run again.",
        given=lambda p: (p.top / "fork/.git/HEAD").write_text("nonsense"),
    ),
    Row(
        "check fork",
        "this checkout is sparse: Python files that are not on disk would be left behind (2, torchtitan/models/llama3/parallelize.py among them). Run `git sparse-checkout disable`, migrate, and make it sparse again.",
        given=lambda p: sparse(p),
    ),
    # Its files.
    Row(
        "check fork",
        "a.py:1: does not parse: invalid syntax. Mend the file and run again; nothing was written.",
        3,
        lambda p: p.commit("a.py", "def apply_ddp(:\n"),
    ),
    Row(
        "check fork",
        "a.py:1: unknown encoding: klingon. Mend the file and run again; nothing was written.",
        3,
        lambda p: p.commit(
            "a.py",
            "# coding: klingon\nfrom torchtitan.models.llama3.parallelize import apply_ddp\n",
        ),
    ),
    Row(
        "check fork",
        "a.py:1: invalid or missing encoding declaration. Mend the file and run again; nothing was written.",
        3,
        lambda p: (p.top / "fork/a.py").write_bytes(b"apply_ddp = '\xff'\n"),
    ),
    Row(
        "check fork",
        "a.py: 'utf-8' codec can't decode byte 0xff in position 24: invalid start byte. Mend the file and run again; nothing was written.",
        3,
        lambda p: (p.top / "fork/a.py").write_bytes(
            b"import os\n\napply_ddp = '\xff'\n"
        ),
    ),
    Row(
        "check fork",
        "a.py: has bare carriage returns as line ends; convert them first. Mend the file and run again; nothing was written.",
        3,
        lambda p: (p.top / "fork/a.py").write_bytes(b"apply_ddp = 1\rx = 2\n"),
    ),
    Row(
        "check fork",
        "a.py: nests too deeply to be read. Mend the file and run again; nothing was written.",
        3,
        lambda p: p.commit("a.py", f"apply_ddp = {'-' * 9999}1\n"),
    ),
    Row(
        "check fork",
        "a file that mentions apply_ddp nests too deeply to be followed; nothing was written. Leave it out with --exclude.",
        3,
        lambda p: p.fails("codemods.engine.migrate", RecursionError()),
    ),
    Row(
        "check fork",
        "torchtitan/train.py could not be read (Permission denied). Give yourself read permission and run again; nothing was written.",
        3,
        lambda p: unreadable(p, "fork"),
    ),
    Row(
        "apply fork",
        "a person has to see to these places first, and nothing was written:\n    |   a.py:2: f is passed on as a value, so what it is called with cannot be followed: call it by name here\n    | `titan-migrate check` shows the code to write; write it, commit it, and run again.",
        1,
        lambda p: p.commit(
            "a.py",
            "from torchtitan.models.llama3.parallelize import apply_ddp as f\nx = f\n",
        ),
    ),
    # What its pyproject.toml and its pins say.
    Row(
        "check fork",
        "/w/fork/pyproject.toml: [tool.titan-migrate] has no key 'exclud'; did you mean exclude? Its keys are select, ignore, exclude, torchtitan.",
        given=lambda p: p.write(
            "fork/pyproject.toml", "[tool.titan-migrate]\nexclud = []\n"
        ),
    ),
    Row(
        "check fork",
        '/w/fork/pyproject.toml: ignore of [tool.titan-migrate] has to be a list of strings, as ignore = ["TM106"].',
        given=lambda p: p.write(
            "fork/pyproject.toml", "[tool.titan-migrate]\nignore = 'TM106'\n"
        ),
    ),
    Row(
        "check fork",
        "/w/fork/pyproject.toml: tool.titan-migrate has to be a table, as [tool.titan-migrate] and its keys below it.",
        given=lambda p: p.write("fork/pyproject.toml", "[tool]\ntitan-migrate = 1\n"),
    ),
    Row(
        "check fork",
        "/w/fork/pyproject.toml is not TOML that can be read (Expected ']' at the end of a table declaration (at line 1, column 6)): mend it and run again.",
        given=lambda p: p.write("fork/pyproject.toml", "[tool\n"),
    ),
    Row(
        "check fork",
        "/w/fork/pyproject.toml could not be read (it is not UTF-8): mend it and run again.",
        given=lambda p: (p.top / "fork/pyproject.toml").write_bytes(b"\xff"),
    ),
    Row(
        "check fork",
        '/w/fork/pyproject.toml: torchtitan of [tool.titan-migrate] has to be the path of a folder, as torchtitan = "third_party/torchtitan".',
        given=lambda p: p.write(
            "fork/pyproject.toml", "[tool.titan-migrate]\ntorchtitan = 1\n"
        ),
    ),
    Row(
        "check fork",
        "/w/fork/pyproject.toml: torchtitan of [tool.titan-migrate] names nowhere, which is no folder. Mend it; a submodule comes with `git submodule update --init`.",
        given=lambda p: p.write(
            "fork/pyproject.toml", "[tool.titan-migrate]\ntorchtitan = 'nowhere'\n"
        ),
    ),
    Row(
        "check fork",
        "this checkout pins torch==2.12.0 (requirements-dev.txt:1) and torch==2.9.1 (requirements.txt:1), whose replicate differs. Say which one the migrated code will run on, with --torch.",
        given=lambda p: (
            p.write("fork/requirements.txt", "torch==2.9.1\n"),
            p.write("fork/requirements-dev.txt", "torch==2.12.0\n"),
        ),
    ),
    # The torchtitan that it uses.
    Row(
        "check dep --torchtitan nowhere",
        "--torchtitan: nowhere is neither a folder nor a version of torchtitan. Name a checkout of torchtitan, a site-packages folder that has it, a wheel of it, or a release as 0.2.2.",
    ),
    Row(
        "check dep --torchtitan any.whl",
        "--torchtitan: /w/dep/any.whl is no wheel, or not whole. Name a wheel of torchtitan.",
        given=lambda p: p.write("dep/any.whl", "no archive"),
    ),
    Row(
        "check dep --torchtitan other.whl",
        "--torchtitan: there is no torchtitan in /w/dep/other.whl. Name a wheel of torchtitan.",
        given=lambda p: zipfile.ZipFile(p.top / "dep/other.whl", "w").close(),
    ),
    Row(
        "check dep --torchtitan plain/torchtitan/models",
        "--torchtitan: there is no package torchtitan in /w/plain/torchtitan/models. Name the folder that holds it.",
    ),
    Row(
        "check dep --torchtitan empty",
        "--torchtitan: there is no package torchtitan in /w/empty, which is empty: run `git submodule update --init` first.",
        given=lambda p: (p.top / "empty").mkdir(),
    ),
    Row(
        "check dep --torchtitan bare",
        "--torchtitan: there is no package torchtitan in /w/bare. Name the folder that holds it.",
        given=lambda p: (p.top / "bare/torchtitan").mkdir(parents=True),
    ),
    Row(
        "check fork --torchtitan plain",
        "This checkout holds a torchtitan (torchtitan/), and --torchtitan names another, /w/plain. Leave the option out to migrate the one that is held, or name its folder to leave it as it is.",
    ),
    Row(
        "check dep --torchtitan 9.9",
        "--torchtitan 9.9: there is no torchtitan 9.9 on PyPI; there are 0.1.0, 0.2.0.",
        given=lambda p: p.pip(
            "ERROR: Could not find a version (from versions: 0.1.0, 0.2.0)"
        ),
    ),
    Row(
        "check dep --torchtitan 9.9",
        "torchtitan 9.9 could not be downloaded (No route to host). Name a folder that holds one with --torchtitan PATH, or try again with a network.",
        given=lambda p: p.pip("ERROR: No route to host"),
    ),
    Row(
        "check dep --torchtitan 9.9",
        "torchtitan 9.9 could not be downloaded (this environment has no pip: `python -m ensurepip`, or `uvx --with pip`, adds it). Name a folder that holds one with --torchtitan PATH, or try again with a network.",
        given=lambda p: p.without("pip"),
    ),
    Row(
        "check dep",
        'third_party/torchtitan at REVISION (third_party/torchtitan/torchtitan) and torchtitan 0.2.2 (.venv/lib/python3.12/site-packages/torchtitan) are both what this checkout asks for, and they differ. Say which one counts with --torchtitan PATH, or with `torchtitan = "PATH"` under [tool.titan-migrate] in pyproject.toml.',
        given=two_at_hand,
    ),
    Row(
        "check dep",
        "/w/dep/venv/lib/python3.12/site-packages/torchtitan holds no Python file: install it again, or name a folder that has torchtitan in it with --torchtitan.",
        given=lambda p: [
            p.write(f"dep/venv/lib/python3.12/site-packages/{f}")
            for f in ("torchtitan/README", "torchtitan-0.2.2.dist-info/METADATA")
        ],
    ),
    Row(
        "check dep --torchtitan plain",
        "/w/plain/torchtitan/train.py could not be read (Permission denied). Give yourself read permission and run again; nothing was written.",
        3,
        lambda p: unreadable(p, "plain"),
    ),
    # apply: options, and what is in the way.
    Row("apply fork --commit", "--commit needs a new branch: name it with --branch."),
    Row(
        "apply fork --branch m",
        "--branch is for commits: pass --commit with it, or leave it out.",
    ),
    Row(
        "apply fork --hooks",
        "--hooks is for commits: pass --commit with it, or leave it out.",
    ),
    Row(
        "apply fork --commit --branch m --patches p",
        "--commit and --patches contradict each other: leave one of them out.",
    ),
    Row(
        "apply plain --patches p",
        "plain is not a git checkout, and --patches makes commits on one: run `git init` and commit first, or leave --patches out.",
    ),
    Row(
        "apply fork",
        "torchtitan/models/llama3/parallelize.py has uncommitted changes. Commit or stash them, or pass --allow-dirty to write over them.",
        given=lambda p: p.write(
            f"fork/{PLAN}", (p.top / "fork" / PLAN).read_text() + "# mine\n"
        ),
    ),
    Row(
        "apply fork",
        "torchtitan/distributed/utils.py changed while the migration was worked out; nothing was written. Run again.",
        3,
        lambda p: p.patch.setattr("migrator.changeset._read", lambda *_: b""),
    ),
    Row(
        "apply fork",
        "torchtitan/distributed/utils.py could not be written (Permission denied); every file is as it was. Give yourself write permission and run again.",
        3,
        lambda p: p.fails("migrator.changeset.replace_file", DENIED),
    ),
    Row(
        "apply fork",
        "torchtitan/models/llama3/parallelize.py could not be written (Permission denied), and these files are migrated and could not get their old bytes back: torchtitan/distributed/utils.py. Give yourself write permission, and get them back with `git checkout` before you run again.",
        3,
        written_in_part,
        ("fork/torchtitan/distributed/utils.py",),
    ),
    # apply --commit and --patches.
    Row(
        "apply fork --commit --branch main",
        "there is a branch main already: give --branch another name, or remove it with `git branch -D main`.",
    ),
    Row(
        "apply fork --commit --branch -m",
        "'-m' cannot be the name of a branch: give --branch another.",
    ),
    Row(
        "apply fork --commit --branch main/x",
        "git cannot make a branch main/x (fatal: WORDS): give --branch another name.",
    ),
    Row(
        "apply fork --commit --branch m",
        "/w/fork is in the middle of a merge: finish or abort it first.",
        given=lambda p: p.write("fork/.git/MERGE_HEAD", p.git("rev-parse", "HEAD")),
    ),
    Row(
        "apply fork --commit --branch m",
        "/w/fork has unmerged files: resolve the conflicts first.",
        given=unmerged,
    ),
    Row(
        "apply new --commit --branch m",
        "/w/new has no commit yet, on which others could follow: commit the unmigrated tree first.",
        given=lambda p: (
            shutil.copytree(FIXTURES / "flat", p.top / "new"),
            p.git("init", "-q", tree="new"),
        ),
    ),
    Row(
        "apply fork --commit --branch m",
        "torchtitan/train.py is not as in HEAD, on which the commits would be made. Commit or stash your changes first.",
        given=lambda p: p.write("fork/torchtitan/train.py", "# mine\n"),
    ),
    Row(
        "apply fork --commit --branch m",
        "git does not know in whose name to commit: run `git config user.name NAME` and `git config user.email ADDRESS` in /w/fork.",
        given=lambda p: [
            p.git("config", *words)
            for words in (("--unset", "user.name"), ("user.useConfigOnly", "true"))
        ],
    ),
    Row(
        "apply fork --commit --branch m",
        "git keeps torchtitan/distributed/utils.py as the filter mine makes it, whose program is run with --hooks only: pass --hooks with --commit, or commit a plain `apply` yourself.",
        given=filtered,
    ),
    Row(
        "apply fork --commit --branch m --hooks",
        "`git commit` was refused, and nothing was left behind. Mend what it says, or leave out --hooks:\n    |   | /w/fork/a.py: no tabs, please",
        1,
        hooked,
    ),
    Row(
        "apply fork --patches fork/p",
        "/w/fork/p is inside the checkout, where nothing is to change: name a folder outside of it with --patches.",
    ),
    Row(
        "apply fork --patches file",
        "/w/file is a file: name a folder with --patches.",
        given=lambda p: p.write("file"),
    ),
    Row(
        "apply fork --patches full",
        "/w/full is not empty: name a new or an empty folder with --patches.",
        given=lambda p: p.write("full/a"),
    ),
    Row(
        "apply fork --patches p",
        "/w/p could not be written (No space left on device); no patch is there. Name another folder with --patches.",
        3,
        lambda p: p.fails(
            "migrator.series.mail.write", OSError(28, "No space left on device")
        ),
    ),
    # report.
    Row(
        "report plain --base v1",
        "--base names a revision, and git does not keep /w/plain, or there is no git on PATH: leave it out to see what is there now.",
    ),
    Row("report fork --base v1", "--base v1 is no revision of /w/fork."),
    Row(
        "report fork --base HEAD~",
        "torchtitan/models/llama3/parallelize.py:1: does not parse: invalid syntax, in the base REVISION. Name another one with --base.",
        3,
        lambda p: (
            p.commit(PLAN, "def apply_ddp(:\n"),
            p.git("revert", "--no-edit", "HEAD"),
        ),
    ),
    Row(
        "report fork --html nowhere/page.html",
        "nowhere is not a folder: make it, or name another file with --html.",
    ),
    Row("report fork --html fork", "fork is a folder: name a file in it with --html."),
    Row(
        "report fork --html fork/.git/page.html",
        "fork/.git/page.html would be among git's own files: name another one with --html.",
    ),
    Row(
        "report fork --html fork/torchtitan/train.py",
        "fork/torchtitan/train.py is a file of the checkout, and would be written over: name another one with --html.",
    ),
    Row(
        "report fork --html fork/page.py",
        "fork/page.py would be read as Python by every later run, and is none: name one that ends in .html with --html.",
    ),
    Row(
        "report fork --html mine.html",
        "mine.html is there and no report of titan-migrate: move it away, or name another file with --html.",
        given=lambda p: p.write("mine.html", "<p>"),
    ),
    Row(
        "report fork --html page.html",
        "page.html could not be written (Permission denied): name another file with --html.",
        given=lambda p: p.fails("migrator.review.output.os.replace", DENIED),
    ),
    Row(
        "report fork --verify-report nowhere",
        "nowhere/report.json could not be read (No such file or directory): name the folder that `titan-migrate verify` wrote.",
    ),
    Row(
        "report fork --verify-report odd",
        "odd/report.json is no file, or larger than 200 MB: name the folder that `titan-migrate verify` wrote.",
        given=lambda p: (p.top / "odd/report.json").mkdir(parents=True),
    ),
    Row(
        "report fork --verify-report odd",
        "odd/report.json is no report of verify, or a broken one: run `titan-migrate verify` again.",
        given=lambda p: p.write("odd/report.json", "{}"),
    ),
    # demo.
    Row(
        "demo",
        "demo trains, and there is no torch in this environment: run `pip install -e '/titan-migrate[demo]'`, or pass --no-verify.",
        given=lambda p: p.without("torch"),
    ),
    Row(
        "demo --no-verify --torchtitan 9.9",
        "there is no torchtitan 9.9 on PyPI; there are 0.1.0, 0.2.0.",
        given=lambda p: p.pip(
            "ERROR: Could not find a version (from versions: 0.1.0, 0.2.0)"
        ),
    ),
    # verify: options.
    Row(
        "verify done --quick --full",
        "--quick and --full contradict each other: give one of them.",
    ),
    Row(
        "verify done --cells foo",
        "There is no cell foo: there are dp, dp+tp, dp+pp, dp-bf16, dp-together, dp-fresh, dp-unseeded, dp-accumulate, dp-compile, dp-recompute, dp-selective, dp-fused, dp-foreach, dp-early, dp-bfloat16, dp-float8, dp+tp+pp, dp-checkpoint, dp-validate, fsdp, hsdp, cp, ep, export.",
    ),
    Row(
        "verify done --cells dpp",
        "There is no cell dpp: did you mean dp? There are dp, dp+tp, dp+pp, dp-bf16, dp-together, dp-fresh, dp-unseeded, dp-accumulate, dp-compile, dp-recompute, dp-selective, dp-fused, dp-foreach, dp-early, dp-bfloat16, dp-float8, dp+tp+pp, dp-checkpoint, dp-validate, fsdp, hsdp, cp, ep, export.",
    ),
    Row(
        "verify done --cells ,",
        "--cells names nothing: give names with commas between them.",
    ),
    Row(
        "verify done --timeout nan",
        "--timeout nan is no time that a run could take: give a number of seconds.",
    ),
    Row(
        "verify done --device cuda",
        "--device cuda: torch sees no GPU here. Run on a machine with one, or with --device cpu.",
        given=lambda p: p.installed("torch", "2.13.0+cpu"),
    ),
    Row(
        "verify done --export a --against b",
        "--export and --against contradict each other: what is exported has to be trained here.",
    ),
    Row(
        "verify done --export a --nnodes 2 --node-rank 0 --rdzv-endpoint host:29500",
        "--export and --against are for one node: leave them out, or --nnodes.",
    ),
    Row(
        "verify done --export nowhere/a",
        "--export nowhere/a: there is no folder /w/nowhere. Name a file in a folder that is there.",
    ),
    Row(
        "verify done --export fork",
        "--export fork: it is a folder. Name a file in a folder that is there.",
    ),
    Row(
        "verify done --against nowhere",
        "--against nowhere could not be read (No such file or directory): name a file that `titan-migrate verify --export` wrote.",
    ),
    Row(
        "verify done --against file",
        "--against file cannot be used: it is damaged, or no file of titan-migrate: export it again here, or leave --against out.",
        given=lambda p: p.write("file"),
    ),
    Row(
        "verify done --against file",
        "--against file cannot be used: it is damaged, or holds no golden runs: export it again here, or leave --against out.",
        given=lambda p: record.write(p.top / "file", {}),
    ),
    Row(
        "verify done --against file",
        "--against file cannot be used: it is no file of titan-migrate: export it again here, or leave --against out.",
        given=lambda p: packed(p, b"[]"),
    ),
    Row(
        "verify done --against file",
        "--against file cannot be used: its version is 0, and this titan-migrate reads 2: export it again here, or leave --against out.",
        given=lambda p: packed(
            p, json.dumps({"format": record.FORMAT, "version": 0}).encode()
        ),
    ),
    Row(
        "verify done --against file",
        "--against file cannot be used: it was changed after it was written: export it again here, or leave --against out.",
        given=lambda p: packed(
            p,
            json.dumps(
                {"format": record.FORMAT, "version": record.VERSION, "digest": "0"}
            ).encode(),
        ),
    ),
    Row("verify done --nnodes 0", "--nnodes 0 trains nowhere: give at least 1."),
    Row(
        "verify done --node-rank 1",
        "--node-rank and --rdzv-endpoint are for several nodes: give their number with --nnodes.",
    ),
    Row(
        "verify done --nnodes 2",
        "--nnodes 2 needs --node-rank: 0 on the node that judges, and counted up from there on the others.",
        given=lambda p: p.patch.delenv("SLURM_NODEID", raising=False),
    ),
    Row(
        "verify done --nnodes 2 --node-rank 2",
        "--node-rank 2 is none of 2 nodes: they are numbered from 0 to 1.",
    ),
    Row(
        "verify done --nnodes 2 --node-rank 0 --rdzv-endpoint host",
        "--nnodes 2 needs --rdzv-endpoint HOST:PORT: node 0's address, and a port that is free there, the same on every node (not host).",
    ),
    Row(
        "verify done --model foo",
        "There is no model foo here: there are llama3, llama3/debugmodel_deep, changed and all.",
    ),
    Row(
        "verify done --model llama",
        "There is no model llama here: did you mean llama3? There are llama3, llama3/debugmodel_deep, changed and all.",
    ),
    # verify: the environment.
    Row(
        "verify done",
        "python has no torch, tyro, which training torchtitan needs: `pip install -e '/titan-migrate[verify]'` brings what is missing, and leaves what is there.",
        given=lambda p: p.without("torch", "tyro"),
    ),
    Row(
        "verify done",
        "torch 2.8.0 has no composable replicate on FSDP2: verify needs torch 2.9 or later.",
        given=lambda p: p.installed("torch", "2.8.0"),
    ),
    Row(
        "verify done",
        "No usable temporary directory found in ['/tmp']: make room in one of them, or set TMPDIR to a folder on another disk.",
        given=lambda p: p.fails(
            "tempfile.gettempdir",
            FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
        ),
    ),
    Row(
        "verify done",
        "The path /data[1] has [ and ] in it, and training data below it would not be found: set TMPDIR to another folder.",
        given=lambda p: p.patch.setattr("tempfile.tempdir", "/data[1]"),
    ),
    Row(
        "rehearse done",
        "There is no torch here to rehearse with: run in the environment in which the fork trains, or add what that needs with `pip install -e '/titan-migrate[verify]'`.",
        given=lambda p: p.without("torch"),
    ),
    Row(
        "rehearse done",
        "torch 2.8.0 is too old for a rehearsal, which needs its composable replicate and fake process group: 2.9 or later.",
        given=lambda p: p.installed("torch", "2.8.0"),
    ),
    # verify: the checkout.
    Row(
        "verify frok",
        "frok is not a folder (did you mean fork?). Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
    ),
    Row(
        "verify plain",
        "plain is not in a git checkout, and two revisions are compared. Run `git init`, commit the unmigrated tree, and then `titan-migrate apply`.",
    ),
    Row(
        "verify bare",
        "bare is a bare git repository, without files. Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
        given=lambda p: p.git("clone", "-q", "--bare", ".", "../bare"),
    ),
    Row(
        "verify new",
        "/w/new has no commit yet: commit the unmigrated tree first.",
        given=lambda p: (p.write("new/a.py"), p.git("init", "-q", tree="new")),
    ),
    Row(
        "verify old",
        "/w/old keeps train.py at its top, as torchtitan did in 2024: verify trains 0.1.0 to 0.2.2 and forks of them. Train it before and after by its own trainer, and compare the losses.",
        given=lambda p: as_checkout(FIXTURES / "legacy_mid", p.top / "old"),
    ),
    Row(
        "verify other",
        "No torchtitan package (torchtitan/train.py) was found in /w/other. Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that uses torchtitan.",
        given=lambda p: (
            p.write("other/a.py"),
            p.git("init", "-q", tree="other"),
            p.commit(tree="other"),
        ),
    ),
    Row(
        "verify fork",
        "/w/fork is not migrated: it has no uncommitted change, and no commit in its history brought replicate in. Run `titan-migrate apply` first, or name the unmigrated revision with --base.",
    ),
    Row(
        "verify fork --base HEAD",
        "The migrated tree does not differ from the base revision, so there is nothing to verify: run `titan-migrate apply` first, or name another revision with --base.",
    ),
    Row("verify done --base v1", "--base v1 is no revision of /w/done."),
    Row("verify done --rev v1", "--rev v1 is no revision of /w/done."),
    Row(
        "verify fork --rev HEAD",
        "--rev HEAD is not migrated: no commit in its history brought replicate in. Name another revision, or the unmigrated one with --base.",
    ),
    Row(
        "verify fork",
        "REVISION names ONES as its base, which is not in /w/fork: fetch it, or name the unmigrated revision with --base.",
        given=lambda p: p.git(
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            f"Migrate\n\nTitan-Migrate-Base: {'1' * 40}",
        ),
    ),
    Row(
        "verify fork --base HEAD~ --rev HEAD",
        "The migrated revision REVISION has no torchtitan/train.py: name another with --rev.",
        given=lambda p: (
            p.git("rm", "-q", "torchtitan/train.py"),
            p.git("commit", "-qm", "gone"),
            p.write("fork/torchtitan/train.py"),
        ),
    ),
    Row(
        "verify done",
        "torchtitan/distributed/utils.py could not be read (Permission denied): give yourself read permission and run again, or verify a commit with --rev.",
        given=lambda p: p.fails("migrator.verify.train.worktrees.shutil.copy2", DENIED),
    ),
    Row(
        "verify done",
        "git could not check out REVISION. `git worktree` failed in /w/done: fatal: WORDS. Mend the checkout and run again.",
        given=lambda p: p.write("done/.git/worktrees"),
    ),
    Row(
        "verify done --no-rehearse",
        "/w/done/torchtitan has no JobConfig (config/job_config.py or config_manager.py): verify trains torchtitan 0.1.0 to 0.2.2 and forks of them; compare the losses of other generations by hand.",
        given=lambda p: (p.top / JOB).unlink(),
    ),
    Row(
        "verify done --no-rehearse",
        "/w/done/torchtitan/config/job_config.py:1 cannot be parsed (invalid syntax), so verify cannot read how to configure the trainer: mend it first.",
        given=lambda p: p.write(JOB, "class JobConfig(:\n"),
    ),
    Row(
        "verify done --no-rehearse",
        "/w/done/torchtitan/config/job_config.py defines no JobConfig: verify does not know how this trainer is configured; compare its losses before and after by hand.",
        given=lambda p: p.write(JOB, "class Config:\n    pass\n"),
    ),
    Row(
        "verify fork --base HEAD --no-rehearse",
        "No model of this checkout can be trained. models/llama3: it registers no model that torchtitan's trainer could look up.",
        given=lambda p: p.write("fork/torchtitan/train.py", "# mine\n"),
    ),
    Row(
        "verify dep --torchtitan plain --base HEAD --no-rehearse",
        "This checkout registers no train spec (register_train_spec), by which torchtitan's trainer, and the rehearsal, find a model: its plans are executed with stand-ins when they are written, and trained by its own trainer only.",
        given=lambda p: (
            p.write("dep/lab/train.py", "# mine\n"),
            [f.unlink() for f in p.top.glob("dep/lab/models/*/__init__.py")],
        ),
    ),
    Row(
        "verify done",
        "No space is left on the disk of /w/titan-migrate-report (N MiB free): make room there, or name a folder on another disk with --report. The checkout is as it was, and nothing runs any more.",
        given=lambda p: p.fails(
            "migrator.verify.run._verified",
            OSError(
                28, "No space left on device", str(p.top / "titan-migrate-report/a")
            ),
        ),
    ),
    Row(
        "verify dep",
        "/w/dep uses a torchtitan that it does not hold (pyproject.toml:4, torchtitan==0.2.2), and nothing of it runs without: `pip download --no-deps torchtitan==0.2.2` fetches it, and so does `--torchtitan 0.2.2`, which reads it too.",
    ),
    # verify: the report folder.
    Row(
        "verify done --report done/report",
        "The report folder /w/done/report lies inside the checkout: name one outside with --report.",
    ),
    Row(
        "verify done --report .",
        "The report folder /w holds the checkout itself: name a new or empty folder with --report.",
    ),
    Row(
        "verify done --report full",
        "The folder /w/full is not empty, and holds no report of verify (there is no .titan-migrate-report in it): name a new or empty folder with --report.",
        given=lambda p: p.write("full/a"),
    ),
    Row(
        "verify done --report file",
        "The report folder /w/file cannot be made (File exists): name another with --report.",
        given=lambda p: p.write("file"),
    ),
    Row(
        "verify done --report r",
        "Another verify is writing into /w/r: wait for it, or name another folder with --report.",
        given=locked,
    ),
    Row(
        "verify done --report r",
        "/w/r/report.json is no report of verify, and would be written over: name a new or empty folder with --report.",
        given=lambda p: (
            p.write("r/.titan-migrate-report"),
            p.write("r/report.json", "[]"),
        ),
    ),
    Row(
        "verify done --report r --no-rehearse",
        "/w/r/report.md is in the way of the report: move it away, or name a new or empty folder with --report.",
        given=lambda p: (
            p.write("r/report.md/a") or p.write("r/.titan-migrate-report", folder._SAYS)
        ),
    ),
    # rehearse.
    Row(
        "rehearse done --world foo=2",
        "--world foo=2: 'foo' is no degree or is there twice: give dp_replicate, dp_shard, cp, tp, pp, ep, etp as dp_replicate=128,tp=8.",
    ),
    Row(
        "rehearse done --world tp=x",
        "--world tp=x: tp needs a number of ranks, as tp=8.",
    ),
    Row(
        "rehearse done --world tp=2000000",
        "--world tp=2000000 has 2,000,000 ranks, more than a million: give smaller degrees.",
    ),
    Row(
        "rehearse done --config nowhere",
        "--config nowhere is no file, and no train_configs/nowhere.toml of the checkout either.",
    ),
    Row(
        "rehearse done --config job.toml",
        "--config /w/job.toml cannot be read (Invalid initial character for a key part (at end of document)): mend it and run again.",
        given=lambda p: p.write("job.toml", "["),
    ),
    Row(
        "rehearse done --config job.toml --world-size 3",
        "--world-size 3 does not divide by the 2 ranks of the configuration's other degrees.",
        given=lambda p: p.write(
            "job.toml", "[parallelism]\ntensor_parallel_degree = 2\n"
        ),
    ),
    Row(
        "rehearse done --config debug",
        "--config debug is the name of several: give one of torchtitan/a/train_configs/debug.toml, torchtitan/b/train_configs/debug.toml.",
        given=lambda p: [
            p.commit(f"torchtitan/{m}/train_configs/debug.toml", tree="done")
            for m in "ab"
        ],
    ),
    # A sweep; what is wrong with one ref is said in its row.
    Row("sweep", "name a repository, or several."),
    Row("sweep --merge", "name the tables to merge."),
    Row(
        "sweep none",
        "none is not a folder. Name a repository: bare, or one with a working tree.",
    ),
    Row(
        "sweep plain",
        "plain is not a git repository, of which sweep reads every ref. Name one, or look at the folder alone with `titan-migrate check plain`.",
    ),
    Row(
        "sweep fork --refs none/*",
        "there is no ref that fits --refs none/* in fork: refs are branches, and those of remotes; others are named with --refs, as --refs 'refs/tags/*'.",
    ),
    Row(
        "sweep 1.json --merge --jobs 2",
        "--merge puts tables together that are there, and takes no --jobs: pass it to the sweeps that write them.",
    ),
    Row(
        "sweep fork --select TM999",
        "select: there is no rule 'TM999'. Give codes or their beginnings, as TM106 or TM2; `titan-migrate explain` lists all.",
    ),
    Row(
        "sweep fork --shard 4/3",
        "--shard 4/3: write it as 3/16, for the third of sixteen parts.",
    ),
    Row(
        "sweep fork --since nonsense",
        "--since nonsense: git takes this for no date that is past; write 2026-05-01, or '6 months ago'.",
    ),
    Row(
        "sweep fork --patches fork/patches",
        "fork/patches is inside of fork, where nothing is to change: name a folder outside of it with --patches.",
    ),
    Row(
        "sweep fork --patches plain/torchtitan/train.py",
        "plain/torchtitan/train.py is a file: name a folder with --patches.",
    ),
    Row(
        "sweep fork --patches plain/torchtitan/train.py/x",
        "plain/torchtitan/train.py/x could not be made (Not a directory): name another folder with --patches.",
    ),
    Row(
        "sweep --merge none.json",
        "none.json could not be read (No such file or directory): name tables that `sweep --format json` wrote.",
    ),
    Row(
        "sweep --merge a.json",
        "a.json is no table of a sweep, or not whole: write it anew with `sweep --format json`, and merge again.",
        given=lambda p: p.write("a.json", '{"rows": ['),
    ),
    Row(
        "sweep --merge a.json b.json",
        "a.json and b.json were made with other options, another torch or another titan-migrate, so their rows do not go together: make them alike, and merge again.",
        given=lambda p: [
            p.write(
                f"{n}.json",
                f'{{"tool": "t", "asked": "{n}", "shard": null, "rows": []}}',
            )
            for n in "ab"
        ],
    ),
)

OWN = (
    TitanMigrateError,
    TargetError,
    SelectionError,
    UnreadableSource,
    click.UsageError,
    record.Damaged,
)


@dataclass(frozen=True)
class Told:
    """What came of a row."""

    row: Row
    text: str
    code: int
    lost: list[str]


def told(row: Row, top: Path, trees: Path, reached: set[tuple[str, int]]) -> Told:
    """Provokes a row, and notes where our errors are made."""
    for name in ("fork", "done", "plain", "dep"):
        if name in f"{row.argv} ".replace("/", " ").split() or name == "fork":
            shutil.copytree(trees / name, top / name, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        for name in ("XDG_CACHE_HOME", "HOME"):
            patch.setenv(name, str(top / "home"))
        for who in ("AUTHOR", "COMMITTER"):
            for what in ("NAME", "EMAIL"):
                patch.delenv(f"GIT_{who}_{what}", raising=False)
        patch.setattr("migrator.dependency._environment", list)
        row.given(Place(top, patch))
        for kind in OWN:
            noting(kind, reached, patch)
        before = contents(top)
        done = CliRunner().invoke(main, row.argv.split(), prog_name="titan-migrate")
    after = contents(top)
    lost = [path for path, raw in before.items() if after.get(path) != raw]
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Told(row, plain(done.stderr, top), done.exit_code, lost)


def plain(stderr: str, top: Path) -> str:
    """The error in what was said, without what is another on each machine."""
    found = re.search(r"^(?:titan-migrate|Error): (.*)", stderr, re.M | re.S)
    text = found[1].rstrip("\n") if found else stderr
    for path, name in (
        (top, "/w"),
        (sys.executable, "python"),
        (TOP, "/titan-migrate"),
    ):
        text = text.replace(str(path), name)
    # git says it in other words from version to version.
    text = re.sub(r"fatal: .*?(?=\. Mend|\): give)", "fatal: WORDS", text)
    text = text.replace("1" * 12, "ONES")
    text = re.sub(r"\b([0-9a-f]{12}|(?<=at )[0-9a-f]{7})\b", "REVISION", text)
    return re.sub(r"\d+ MiB", "N MiB", text)


def contents(top: Path) -> dict[str, bytes]:
    """Every file, but what git keeps for itself."""
    files = (
        path for path in top.rglob("*") if path.is_file() and ".git" not in path.parts
    )
    return {str(path.relative_to(top)): path.open("rb").read() for path in files}


def noting(
    kind: type, reached: set[tuple[str, int]], patch: pytest.MonkeyPatch
) -> None:
    """Has a class of errors note the line that makes one."""
    make = kind.__init__

    def made(self, *words: object, **named: object) -> None:
        frame = sys._getframe(1)
        while frame.f_locals.get("self") is self:  # of a derived class
            frame = frame.f_back
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        make(self, *words, **named)

    patch.setattr(kind, "__init__", made)


UNREACHED = {
    "codemods/engine.py::_rewritten_file": "an encoding without a letter of the new code, which is ASCII",
    "codemods/source.py::SourceFile.tree": "what Python parses and libcst does not, of which none is known",
    "migrator/changeset.py::Changeset.write": "a link that is laid out of the checkout meanwhile",
    "migrator/changeset.py::_read": "a file that becomes unreadable meanwhile",
    "migrator/series/commits.py::refuse_uncommitted": "a link into a submodule",
    "migrator/sweep/objects.py::Repository._read": "a row of the table: sweep/test_objects.py",
    "migrator/sweep/objects.py::Repository.commit": "a row of the table: sweep/test_objects.py",
    "migrator/sweep/objects.py::Repository.read": "a row of the table: sweep/test_objects.py",
    "migrator/sweep/patches.py::write_series": "a row of the table: sweep/test_patches.py",
    "migrator/caches.py::of_this_tool": "an installation without metadata or files: test_caches.py",
    "migrator/sweep/tree.py::Tree._below": "a row of the table: sweep/test_tree.py",
    "migrator/sweep/tree.py::TreePath.read_bytes": "a row of the table: sweep/test_hostile.py",
    "migrator/sweep/tree.py::_entries": "a row of the table: sweep/test_tree.py",
    "migrator/verify/choose/devices.py::gpus": "GPUs that fail: verify/choose/test_devices.py",
    "migrator/verify/choose/models.py::choose": "no name at all, which --model refuses before",
    "migrator/verify/choose/scenarios.py::job_settings": "a JobConfig without a number of steps, seen once a run begins",
    "migrator/verify/keep/cache.py::Cache.get": "never shown: the run is trained instead",
    "migrator/verify/keep/golden.py::Exported.write": "a full disk, once all is trained",
    "migrator/verify/keep/record.py::laid_out": "a damaged file, once a run is taken from it: verify/keep/test_record.py",
    "migrator/verify/rehearse/launch.py::Stage.ask": "a process that was killed: verify/rehearse/test_launch.py",
    "migrator/verify/rehearse/launch.py::Theatre.open": "a process that was killed: verify/rehearse/test_launch.py",
    "migrator/verify/run.py::_check_arguments": "what --steps and --nproc refuse before",
    "migrator/verify/run.py::_chosen": "no name at all, which --cells refuses before",
    "migrator/verify/show/folder.py::clear": "an earlier report that cannot be removed",
    "migrator/verify/train/graft.py::graft": "two torchtitans in one tree: verify/train/test_graft.py",
    "migrator/verify/train/graft.py::is_dependent": "a vendored package of another name",
    "migrator/verify/train/nodes.py::Leader._alive": "other nodes: verify/train/test_nodes.py",
    "migrator/verify/train/nodes.py::Leader.gather": "other nodes: verify/train/test_nodes.py",
    "migrator/verify/train/nodes.py::Leader.run_job": "other nodes: verify/train/test_nodes.py",
    "migrator/verify/train/nodes.py::_heard": "other nodes: verify/train/test_nodes.py",
    "migrator/verify/train/nodes.py::_join": "other nodes: verify/train/test_nodes.py",
    "migrator/verify/train/warm.py::Warm.start": "a process that was killed, as by want of memory",
}
"""Where an error is made that no row provokes, and why; a file that is named tests it."""


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("trees")
    for name, fixture in {"fork": "flat", "done": "v0_2_1", "dep": "dependent"}.items():
        tree = as_checkout(FIXTURES / fixture, top / name)
        git(tree, "config", "user.name", "t")
        git(tree, "config", "user.email", "t@example.org")
    shutil.copytree(FIXTURES / "flat", top / "plain")
    done = CliRunner().invoke(main, ["apply", str(top / "done"), "--torch=2.10"])
    assert done.exit_code == 0, done.stderr
    return top


@pytest.fixture(scope="module")
def reached() -> set[tuple[str, int]]:
    """The lines where the rows have had our errors made."""
    return set()


@pytest.mark.parametrize("row", TABLE, ids=[row.argv for row in TABLE])
def test_a_message(row, trees, reached, tmp_path):
    found = told(row, tmp_path, trees, reached)
    assert found.text == row.says
    assert found.code == row.code
    assert found.lost == list(row.lost)


def test_every_error_has_its_row(request, reached):
    mine = [item for item in request.session.items if item.path == request.path]
    if len(mine) <= len(TABLE):
        pytest.skip("only where the whole table is run")
    lacking = {
        site
        for site, path, lines in sites()
        if not any(file == path and line in lines for file, line in reached)
    }
    assert lacking == set(UNREACHED)


def test_no_temporary_folder_is_told_of():
    known = ("/tmp", "titan-migrate-demo", ".titan-migrate-")
    shown = [row.says.replace("['/tmp']", "") for row in TABLE]
    shown = [text.replace(folder.MARKER, "") for text in shown]
    assert [text for text in shown if any(word in text for word in known)] == []


def sites() -> Iterator[tuple[str, str, range]]:
    """Where our errors are made: file and function, path, lines."""
    kinds = {kind.__name__ for kind in derived(*OWN)}
    for top in ("codemods", "migrator"):
        for path in (TOP / top).rglob("*.py"):
            for function, call in calls(ast.parse(path.read_bytes()), ""):
                if getattr(call.func, "id", getattr(call.func, "attr", "")) in kinds:
                    lines = range(call.lineno, (call.end_lineno or 0) + 1)
                    where = path.relative_to(TOP).as_posix()
                    yield f"{where}::{function}", str(path), lines


def derived(*kinds: type) -> set[type]:
    return {*kinds, *(kind for k in kinds for kind in derived(*k.__subclasses__()))}


def calls(node: ast.AST, name: str) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a module, each with the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        inside = name
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inside = f"{name}.{child.name}".lstrip(".")
        if isinstance(child, ast.Call):
            yield name, child
        yield from calls(child, inside)
