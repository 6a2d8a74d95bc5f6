"""Many programs, and what they find.

    PYTHONPATH=.:tests/generated python tests/generated/many.py 20000

runs as many over two processes, and prints each failure once, with a program that has it.
"""

import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from programs import Program, programs  # noqa: E402
from properties import judged  # noqa: E402

_WAYS = ("written", "written from a template, which is said")
SHARE = 100


def some(number: int) -> tuple[int, Counter[str], Counter[str], dict[str, str]]:
    """(how many, why nothing is written, what fails, a program of each) for one seed."""
    told: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    examples: dict[str, str] = {}
    count = 0

    @seed(number)
    @settings(
        max_examples=SHARE, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs())
    def each(program: Program) -> None:
        nonlocal count
        count += 1
        try:
            result = judged(program, order=count % 10 == 0, patch=count % 10 == 5)
            found = result.failures
            told.update([*map(kind, result.left[:1])] or [_WAYS[result.template]])
        except Exception as error:
            found = [f"crash: {type(error).__name__}: {error}"]
        for one in map(kind, found):
            wrong[one] += 1
            if one not in examples or len(str(program)) < len(examples[one]):
                examples[one] = f"{number}: {[*found]}\n{program}"

    each()
    return count, told, wrong, examples


def kind(message: str) -> str:
    """A message without what differs from one program to the next."""
    return re.sub(r"[\w/]+\.py|'[^']*'|\d+", "_", message)[:240]


def main() -> int:
    wanted, first = (int(a) for a in [*sys.argv[1:], "20000", "1"][:2])
    total, told, wrong = 0, Counter[str](), Counter[str]()
    examples: dict[str, str] = {}
    start = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        for count, left_, wrong_, found in pool.map(
            some, range(first, first + -(-wanted // SHARE))
        ):
            total += count
            print(f"{total} programs, {sum(wrong.values())} wrong", file=sys.stderr)
            told += left_
            for one, times in wrong_.items():
                if one not in wrong:
                    print(f"NEW {one}\n{found[one]}\n", flush=True)
                    examples[one] = found[one]
                wrong[one] += times
    print(f"{total} programs in {time.monotonic() - start:.0f} s")
    for one, times in told.most_common():
        print(f"{times}: {one}")
    for one, times in wrong.most_common():
        print(f"WRONG {times}: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
