"""How long a diff takes, against what resolving names with libcst alone would take."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from releases import as_checkout, release

pytestmark = pytest.mark.release

RESOLVE_WITH_LIBCST = """
import sys, pathlib, libcst
from libcst.metadata import MetadataWrapper, QualifiedNameProvider
for path in pathlib.Path(sys.argv[1]).rglob("*.py"):
    module = libcst.parse_module(path.read_bytes())
    MetadataWrapper(module, unsafe_skip_copy=True).resolve(QualifiedNameProvider)
"""


def fastest(command: list[str], runs: int = 3) -> float:
    """Seconds of the fastest of some runs."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return min(taken)


def test_diff_is_faster_than_resolving_names_with_libcst(tmp_path: Path):
    """It takes less than half the time, so the other is not waited for to its end."""
    checkout = as_checkout(release("0.2.2"), tmp_path / "checkout")
    diff = fastest([sys.executable, "-m", "migrator.cli", "diff", str(checkout)])
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
    command = [sys.executable, "-X", "importtime", "-m", "migrator.cli", "check"]
    done = subprocess.run([*command, str(checkout)], capture_output=True, text=True)
    assert done.returncode == 0
    assert "libcst" not in done.stderr
