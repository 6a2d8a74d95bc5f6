"""TM216: integration tests that are named after DDP."""

import ast
import re
from collections.abc import Iterator

from codemods.autocast import of_a_test
from codemods.example import Example
from codemods.findings import Finding, Severity, hazard_of_lines
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.plans.sites import of_ours
from codemods.source import SourceFile
from codemods.survey import OLD

CODE = "TM216"
TITLE = "integration tests named after DDP"
SEVERITY: Severity = "note"
WHAT = "A test that trains with dp_replicate is called DDP."
WHY = """\
torchtitan lists its integration tests as overrides of a configuration, with a title and
the name of the folder of its output: "DDP", "ddp". They train with replicate now, and a
failure is reported under the wrong name. The name of the folder may be what a CI, a
dashboard or a list of skipped tests asks for, so it is for a person to change. One
finding for each file, with the names to write.
"""
UPSTREAM = """\
None. torchtitan kept the names after it had moved to replicate.
"""
RISK = """\
Nothing fails. Whoever looks for the test of replicate finds none, and whoever sees DDP
fail looks for it in vain.
"""
PROOF = """\
It does not: names change no figure.
"""
EXAMPLE = Example(
    fixture="v0_1",
    path="tests/integration_tests.py",
    before="""\
    Case(["--parallelism.data_parallel_replicate_degree 2"], "DDP", "ddp"),
""",
    after="""\
"DDP" is "replicate" now
"ddp" is "replicate" now, if nothing outside asks for that name
""",
)

_TITLE = re.compile(r"DDP(?:\W.*)?\Z")
_FOLDER = re.compile(r"ddp(?:[\W_].*)?\Z")
_LONGEST = 40
"""Characters of a name; a longer text that begins so is a sentence."""


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.moves or facts.target.function_name == OLD:
        return
    for file in facts.checkout.mentioning("DDP"):
        if of_a_test(file.path) and of_ours(facts, file.path):
            found = dict(_names(file))
            if found:
                message = "tests are named after DDP, and run replicate"
                yield hazard_of_lines(file, CODE, message, found)


def _names(file: SourceFile) -> Iterator[tuple[int, str]]:
    """The lines that name a test after DDP, by its title or by the folder beside it."""
    for node in nodes(file.syntax):
        if not isinstance(node, ast.Call):
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [
            (text.lineno, text.value)
            for text in given
            if isinstance(text, ast.Constant)
            and isinstance(text.value, str)
            and len(text.value) < _LONGEST
        ]
        titles = {text: line for line, text in texts if _TITLE.match(text)}
        folders = {text: line for line, text in texts if _FOLDER.match(text)}
        said: dict[int, list[str]] = {}
        for text, line in titles.items():
            said.setdefault(line, []).append(f'"{text}" is "{_renamed(text)}" now')
        for text, line in folders.items() if titles else ():
            advice = f'"{text}" is "{_renamed(text)}" now, if nothing outside asks for that name'
            said.setdefault(line, []).append(advice)
        yield from ((line, "\n".join(words)) for line, words in said.items())


def _renamed(name: str) -> str:
    return re.sub("ddp", "replicate", name, flags=re.IGNORECASE)
