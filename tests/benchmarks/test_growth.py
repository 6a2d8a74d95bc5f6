"""What a tree costs with the number of its files: seconds and memory of `diff`.

Run by hand it goes up to 100,000 generated files, which takes half a minute:
`PYTHONPATH=.:tests python tests/benchmarks/test_growth.py`.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from places import FIXTURES

MODULE = '''\
"""What run {n} was trained with."""

import torch
from torch import nn

from torchtitan.models.{a} import {b}


class {c}{n}(nn.Module):
    def __init__(self, {a}: int, {b}: int = {n}) -> None:
        super().__init__()
        self.{c} = nn.Linear({a}, {b})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # {a} before {b}
        return self.{c}(x) * {n}


def {b}_{n}(values: list[int]) -> int:
    return sum(value for value in values if value > {n})
'''


def tree(place: Path, files: int) -> int:
    """Makes a fork with so many modules besides; the bytes of all Python files."""
    shutil.copytree(FIXTURES / "v0_2_2", place)
    chance = random.Random(0)
    words = [f"word_{n}" for n in range(3000)]
    for n in range(files):
        folder = place / "torchtitan" / "experiments" / f"runs_{n // 200}"
        folder.mkdir(parents=True, exist_ok=True)
        a, b, c = chance.sample(words, 3)
        (folder / f"run_{n}.py").write_text(MODULE.format(n=n, a=a, b=b, c=c))
    return sum(path.stat().st_size for path in place.rglob("*.py"))


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds of processor time, and the bytes it held at most."""

    seconds: float
    peak: int


RUN = """
import os, sys
from migrator.cli import main
try:
    main(["diff", "--no-cache", sys.argv[1]])
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    os.write(2, f"\\n{sum(os.times()[:2])} {status['VmHWM'].split()[0]}".encode())
"""
"""Says at the end what the process has cost; what started it may have held more."""


def cost(place: Path, runs: int = 2) -> Cost:
    """Of the cheapest of some runs of `diff`."""
    found = []
    for _ in range(runs):
        command = [sys.executable, "-c", RUN, str(place)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, peak = done.stderr.splitlines()[-1].split()
        found.append(Cost(float(seconds), int(peak) * 1024))
    return min(found, key=lambda one: one.seconds)


def costs(place: Path, sizes: Sequence[int], runs: int = 2) -> dict[int, Cost]:
    """Number of files -> what it costs; each is said as soon as it is known."""
    found = {}
    for files in sizes:
        size = tree(place / str(files), files)
        one = found[files] = cost(place / str(files), runs)
        print(
            f"{files} files, {size / 1e6:.1f} MB: {one.seconds:.2f} s, at most {one.peak / 1e6:.0f} MB",
            flush=True,
        )
        shutil.rmtree(place / str(files))
    return found


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="tells no memory here"
)
def test_four_times_the_files_cost_four_times_as_much(tmp_path: Path):
    """With the square of their number it were sixteen times."""
    found = costs(tmp_path, (0, 2_000, 8_000))
    alone, some, many = found.values()
    assert many.seconds - alone.seconds < 7 * (some.seconds - alone.seconds)
    assert many.peak - alone.peak < 7 * (some.peak - alone.peak)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        costs(Path(scratch), (0, 1_000, 10_000, 30_000, 100_000), runs=1)
