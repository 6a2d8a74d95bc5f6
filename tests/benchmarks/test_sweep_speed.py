"""How long a sweep takes against `diff` of one ref after the other, and how much memory.

Run by hand it sweeps 300 refs of the four releases and the fixtures, compares each row with
what `check` and `diff` say of that ref, and takes half an hour on 2 cores (with 10 behind it, of one ref in ten, four minutes):
`PYTHONPATH=.:tests:tests/migrator/sweep python tests/benchmarks/test_sweep_speed.py`.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from organisation import files_of, organisation
from places import FIXTURES
from releases import VERSIONS, git, release

pytestmark = pytest.mark.release

COMMAND = [sys.executable, "-m", "migrator.cli"]
JOBS = 2


def repository(
    place: Path, refs: int, versions: tuple[str, ...], fixtures: tuple[str, ...] = ()
) -> Path:
    """A repository as an organisation has it: branches are of releases, and one of ten is about replication."""
    trees = {f"release-{v}": files_of(release(v)) for v in versions}
    trees |= {name: files_of(FIXTURES / name) for name in fixtures}
    branches = refs - len(trees)
    return organisation(place, trees, branches, concerned=0.1, bases=len(versions))


@dataclass(frozen=True)
class Swept:
    """A sweep without a cache.

    Args:
        seconds: it took.
        peak: bytes that its processes had at most together, as the sum of what was seen at one time.
        rows: of its table.
    """

    seconds: float
    peak: int
    rows: list[dict]


def swept(place: Path) -> Swept:
    """Sweeps a repository, and looks at its processes three times a second: more often costs it time."""
    words = [str(place), "--no-cache", "--jobs", str(JOBS), "--format", "json"]
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "sweep", *words], stdout=out, start_new_session=True
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.3)
        seconds = time.perf_counter() - start
        out.seek(0)
        return Swept(seconds, peak, json.load(out)["rows"])


def memory(session: int) -> int:
    """Bytes that the processes of a session hold, what they share counted for each in part (PSS)."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != session:
                continue
            for line in (place / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:  # it ended meanwhile
            continue
    return total


def one_by_one(place: Path, refs: list[str], checkout: Path) -> float:
    """Seconds that `diff` takes for each of some refs, checked out one after another; git's time not counted."""
    git(place, "worktree", "add", "-q", "--detach", str(checkout), refs[0])
    seconds = 0.0
    for ref in refs:
        git(checkout, "checkout", "-q", "--force", "--detach", ref)
        start = time.perf_counter()
        subprocess.run(
            [*COMMAND, "diff", "--no-cache", str(checkout)], capture_output=True
        )
        seconds += time.perf_counter() - start
    return seconds


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no PSS here")
def test_a_sweep_is_many_times_faster_than_diff_one_by_one(tmp_path):
    """Few refs, of which the first is planned whole by each process: with more it is faster still."""
    place = repository(tmp_path / "a.git", 24, VERSIONS[-1:])
    found = swept(place)
    refs = [row["ref"] for row in found.rows]
    each = one_by_one(place, refs[::10], tmp_path / "checkout") / len(refs[::10])
    times = each * len(refs) / found.seconds
    print(
        f"{len(refs)} refs: {found.seconds:.1f} s, {times:.1f} times diff's {each:.2f} s"
    )
    assert times > 2 * min(JOBS, len(os.sched_getaffinity(0))) / JOBS


def main(step: int = 1) -> None:
    """All that a sweep is to show, in figures.

    Args:
        step: of so many refs one is compared with `check` and `diff`, and timed.
    """
    from test_run import compare

    fixtures = tuple(sorted(p.name for p in FIXTURES.iterdir() if p.is_dir()))
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        small = swept(repository(top / "100.git", 100, VERSIONS, fixtures))
        place = repository(top / "300.git", 300, VERSIONS, fixtures)
        every = git(place, "for-each-ref", "--format=%(refname)").split()
        refs = random.Random(0).sample(every, len(every) // step)  # each as likely
        # Half of them before and half after: a machine is not as fast all the time.
        before = one_by_one(place, refs[::2], top / "before")
        large = swept(place)
        each = (before + one_by_one(place, refs[1::2], top / "after")) / len(refs)
        for one in (small, large):
            n, peak = len(one.rows), one.peak / 1e6
            print(f"{n} refs: {one.seconds:.1f} s, at most {peak:.0f} MB", flush=True)
        print(f"memory: {large.peak / small.peak:.2f} times", flush=True)
        rows = [row for row in large.rows if row["ref"] in refs]
        times = each * len(large.rows) / large.seconds
        print(f"diff: {each:.2f} s each, {times:.1f} times the sweep", flush=True)
        compare(place, rows, top / "other")
        print(f"{len(rows)} of {len(large.rows)} rows are what check and diff say")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
