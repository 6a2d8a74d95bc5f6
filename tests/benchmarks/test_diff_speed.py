"""How long one tree takes, against what resolving names with libcst alone would take.

`PYTHONPATH=.:tests python tests/benchmarks/test_diff_speed.py` prints a table: medians of one
run, beside what planning, or any command at all, cannot do without.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pytest

from releases import as_checkout, release

pytestmark = pytest.mark.release

COMMAND = [sys.executable, "-m", "migrator.cli"]

RESOLVE_WITH_LIBCST = """
import sys, pathlib, libcst
from libcst.metadata import MetadataWrapper, QualifiedNameProvider
for path in pathlib.Path(sys.argv[1]).rglob("*.py"):
    module = libcst.parse_module(path.read_bytes())
    MetadataWrapper(module, unsafe_skip_copy=True).resolve(QualifiedNameProvider)
"""


def seconds(command: list[str]) -> float:
    """That a command takes, by the clock."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def test_diff_is_faster_than_resolving_names_with_libcst(tmp_path: Path):
    """It takes less than half the time, so the other is not waited for to its end."""
    checkout = as_checkout(release("0.2.2"), tmp_path / "checkout")
    diff = seconds([*COMMAND, "diff", "--no-cache", str(checkout)])
    print(
        f"diff {diff:.2f} s, every name of every file with libcst more than twice that"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-c", RESOLVE_WITH_LIBCST, str(checkout)],
            check=True,
            capture_output=True,
            timeout=2 * diff,
        )


def test_check_of_a_checkout_with_nothing_to_do_imports_no_libcst(tmp_path: Path):
    checkout = as_checkout(release("0.3.0"), tmp_path / "checkout")
    assert "libcst" not in imported("check", "--no-cache", checkout)


def test_a_plan_that_is_known_imports_nothing_that_works_it_out(tmp_path, monkeypatch):
    """Neither what is changed nor findings, hazards among them, need a rule to be shown."""
    monkeypatch.delenv("TITAN_MIGRATE_NO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkout = as_checkout(release("0.2.2"), tmp_path / "checkout")
    assert "codemods.engine" in imported("diff", checkout)
    for what, code in (("diff", 0), ("check", 1), ("apply", 0)):
        known = imported(what, checkout, code=code)
        assert "codemods.outcome" in known
        assert "codemods.engine" not in known and "libcst" not in known


def imported(*words: object, code: int = 0) -> str:
    """What a command says that it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "migrator.cli"]
    command += map(str, words)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    return done.stderr


def main(runs: int = 7) -> None:
    """A table of medians, each beside its floor; the runs of all take turns."""
    floors = {
        name: [sys.executable, "-c", f"import {name}"] for _, name in MEASURED.values()
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch, "cache"))
        commands = {}
        for version, (what, floor) in MEASURED.items():
            number, _, migrated = version.partition(" ")
            tree = as_checkout(release(number), Path(scratch, version))
            if migrated:
                seconds([*COMMAND, "apply", str(tree)])
            for how, options in HOW.items():
                command = [*COMMAND, what, *options, str(tree)]
                commands[f"`{what}` of {version}, {how}"] = command, floor
                seconds(command)  # so that there is a plan to take over
        taken: dict[str, list[float]] = {key: [] for key in (*floors, *commands)}
        for _ in range(runs):
            for name, command in floors.items():
                taken[name].append(seconds(command))
            for name, (command, _) in commands.items():
                taken[name].append(seconds(command))
    found = {key: median(times) for key, times in taken.items()}
    print("| command | seconds | times its floor | floor |\n|---|---|---|---|")
    for name, (_, floor) in commands.items():
        took, least = found[name], found[floor]
        print(
            f"| {name} | {took:.2f} | {took / least:.1f} | `import {floor}`, {least:.2f} |"
        )


MEASURED = {
    "0.2.2": ("diff", "libcst"),
    "0.2.2 migrated": ("check", "click"),
    "0.3.0": ("check", "click"),
}
"""Release -> the command, one with much to do and two with nothing, and what it cannot do without."""

HOW = {"planned anew": ["--no-cache"], "known": []}
"""How the plan is come by -> options."""

if __name__ == "__main__":
    main()
