"""A checkout made to break whatever is printed of it."""

import re
import shutil
from pathlib import Path

from places import TOP
from releases import git

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
NAME = (
    "::set-output name=a::b \"q\" 'p' <script>alert(1)<script> %0A, 100% {0} [x](y) "
    "##[add-mask]a\n::error::b\r\x1b[31m é.py"
)
"""A file name with all that some format gives a meaning."""

HOSTILE = f"{PLAN.rpartition('/')[0]}/{NAME}"
COMMENT = (
    "# <script>alert(1)</script> ::error::a %0A ##[error]b ]]> --> `c` {0} [d](e)\n"
)


def committed(tree: Path) -> Path:
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


def escapes_nothing(stream: str) -> bool:
    """No line of it is a command for GitHub, or for a terminal."""
    lines = stream.split("\n")
    return all(
        not line.lstrip().startswith("::")
        and "##[" not in line
        and all(character.isprintable() or character == "\t" for character in line)
        for line in lines
    )


def hostile_checkout(folder: Path, comment: str = COMMENT) -> Path:
    """A checkout with a file of a hostile name, and a comment in every file and behind many lines."""
    tree = folder / "hos tile %0A::x"
    shutil.copytree(TOP / "fixtures/v0_1", tree)
    (tree / HOSTILE).write_bytes((tree / PLAN).read_bytes())
    for path in tree.rglob("*.py"):
        text = path.read_text()
        end = re.compile(r"(?<=\))\n(?=    \w)")
        path.write_text(comment + end.sub(lambda _: f"  {comment}", text))
    return committed(tree)
