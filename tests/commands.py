"""The command line as the tests call it, and what they look at before and after."""

import subprocess
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from codemods.findings import Finding
from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.cli import main

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
AUTOCAST = "torchtitan/distributed/utils.py"


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def snapshot(tree: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def changeset(tree: Path):
    return plan(Checkout(tree, is_git=(tree / ".git").exists()), resolve_target("1d"))


def with_finding(found, **fields):
    """A changeset with one finding instead of its own."""
    finding = Finding(**{"path": "a.py", "line": 3, "code": "TM201", **fields})
    outcome = replace(found.outcome, findings=(finding,), changes={})
    return replace(found, outcome=outcome)


def diff(tree: Path, *options: str) -> bytes:
    result = CliRunner().invoke(main, ["diff", str(tree), *options])
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def git_apply(tree: Path, patch: bytes, *options: str) -> str:
    command = ["git", "apply", *options, "-"]
    done = subprocess.run(command, cwd=tree, input=patch, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()
