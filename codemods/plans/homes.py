"""Where a new function is put that mirrors what the checkout does not hold."""

from collections.abc import Sequence
from os.path import commonpath
from pathlib import PurePosixPath

from codemods.plans.records import Facts
from codemods.source import SourceFile
from codemods.survey import CallSite

MODULE = "replicate.py"
"""What a new file is called that several plans import their function from."""

_HEAD = b'"""Data parallelism by replicate, as several plans here share it."""\n'


def home_of(facts: Facts, sites: Sequence[CallSite]) -> tuple[str, str]:
    """The file that a function is put in, and the function there that it follows.

    Args:
        facts: about the checkout.
        sites: the calls that will use it.

    Returns:
        The file of the calls where it is one; else a new file in the lowest package that
        they have in common, "" for what stands before. Where there is no such package,
        the first of the files.
    """
    files = sorted({site.reference.path for site in sites})
    shared = _shared(facts, files) if len(files) > 1 else None
    if shared is None:
        first = next(s for s in sites if s.reference.path == files[0])
        return files[0], first.reference.scope.partition(".")[0]
    if shared not in facts.survey.files:
        root = facts.survey.files[files[0]].root
        facts.checkout.add(SourceFile(shared, _HEAD, root=root))
    return shared, ""


def _shared(facts: Facts, files: Sequence[str]) -> str | None:
    folder = commonpath([PurePosixPath(path).parent.as_posix() for path in files])
    if folder in ("", "."):
        return None
    path = f"{folder}/{MODULE}"
    return None if path in facts.survey.files else path
