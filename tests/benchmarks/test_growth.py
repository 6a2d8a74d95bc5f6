"""What a tree costs with the number of its files: seconds and memory of `diff`.

Run by hand it goes up to 100,000 generated files, which takes half a minute:
`PYTHONPATH=.:tests python tests/benchmarks/test_growth.py`.
"""

import random
import shutil
import subprocess
import sys
import tempfile
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


def cost(place: Path) -> Cost:
    """Of one run of `diff`."""
    command = [sys.executable, "-c", RUN, str(place)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = done.stderr.splitlines()[-1].split()
    return Cost(float(seconds), int(peak) * 1024)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="tells no memory here"
)
def test_four_times_the_files_cost_four_times_as_much(tmp_path: Path):
    """With the square of their number it were sixteen times.

    What else the machine does only adds seconds. So the cheapest of some runs counts, of
    more where few do not tell, and the sizes take turns.
    """
    places = [tmp_path / str(files) for files in (0, 2_000, 8_000)]
    for place in places:
        tree(place, int(place.name))
    seen: list[list[Cost]] = [[] for _ in places]
    for turn in range(6):
        for place, costs in zip(places, seen, strict=True):
            costs.append(cost(place))
        alone, some, many = (min(one.seconds for one in costs) for costs in seen)
        if turn and many - alone < 7 * (some - alone):
            break
    assert many - alone < 7 * (some - alone), seen
    alone, some, many = (costs[0].peak for costs in seen)
    assert many - alone < 7 * (some - alone)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for files in (0, 1_000, 10_000, 30_000, 100_000):
            place = Path(scratch, str(files))
            size = tree(place, files)
            one = cost(place)
            print(
                f"{files} files, {size / 1e6:.1f} MB: {one.seconds:.2f} s, at most {one.peak / 1e6:.0f} MB",
                flush=True,
            )
            shutil.rmtree(place)
