"""TM215: help, docstrings and comments that are not true of replicate, or may not be."""

import ast
import re
from collections.abc import Iterator

from codemods.autocast import choices, of_a_test
from codemods.beside import comments_of, said_around, said_beside
from codemods.example import Example
from codemods.findings import Finding, Severity, hazard_of_lines
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.plans.help import lies
from codemods.plans.sites import of_ours
from codemods.source import SourceFile
from codemods.survey import OLD, function_of
from codemods.wording import NAME, of_replicate

CODE = "TM215"
TITLE = "words that are not true of replicate"
SEVERITY: Severity = "note"
WHAT = "A help text, a docstring or a comment speaks of DDP or of autocast, and it takes a person to say what it should say now."
WHY = """\
The configuration's help says that mixed precision comes by autocast under DDP, that
mixed_precision_reduce needs sharding, and that replication alone is DDP; TM107 rewrites
that where it is certain what is so now. A docstring tells of the dimension that DDP
replicates over, and a comment of what DDP does. None of them runs, and each tells the
next reader something that is not so any more. One finding for each file, with the
sentences to write.
"""
UPSTREAM = """\
None. torchtitan's own help still spoke of autocast under DDP in 0.3.0.
"""
RISK = """\
Nothing fails. Somebody sets a precision by what the help says, and gets another one.
"""
PROOF = """\
It does not: words change no figure. Read them.
"""
EXAMPLE = Example(
    fixture="v0_2_2",
    path="torchtitan/distributed/utils.py",
    before="""\
    # FSDP casts for TP and PP too; without it only DDP and a single device can
""",
    after="""\
# FSDP casts for TP and PP too; without it only a single device can
""",
)

# Without one of these a docstring speaks of another DDP, or of DDP as such.
_OURS = re.compile(r"dp_replicate|data_parallel_|HSDP|ParallelDims|\bapply_ddp\b")


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.moves:
        return
    yield from _helps(facts)
    for file in facts.checkout.mentioning("autocast"):
        if not of_a_test(file.path):
            yield from _of_autocast(facts, file)
    if facts.target.function_name != OLD:
        yield from _docstrings(facts)
        yield from _comments(facts)


def _helps(facts: Facts) -> Iterator[Finding]:
    """The help of a file for which no new words are certain, in one finding."""
    found: dict[str, dict[int, str]] = {}
    for file, said in lies(facts):
        if not said.certain:
            line = said.last if file.opted_out(said.last, CODE) else said.line
            found.setdefault(file.path, {})[line] = said.sentence.instead
    for path, lines in found.items():
        file = facts.survey.files[path]
        yield hazard_of_lines(file, CODE, "the help says what was so under DDP", lines)


def _of_autocast(facts: Facts, file: SourceFile) -> Iterator[Finding]:
    """Comments that say when autocast is on, where it is chosen, in one finding."""
    scopes = {choice.scope for choice in choices(facts.checkout, file) if choice.terms}
    functions = [
        node
        for node in nodes(file.syntax)
        if isinstance(node, ast.FunctionDef)
        and any(scope.split(".")[-1] == node.name for scope in scopes)
    ]
    found = {
        line: re.sub(r"\bDDP (and|or) ", "", text)
        for line, text in comments_of(file).items()
        if re.search(r"\bDDP\b", text)
        and "DDP or single" not in text  # TM105 rewrites that
        and any(f.lineno <= line <= (f.end_lineno or 0) for f in functions)
    }
    if found:
        message = "autocast is not on under replicate as it was under DDP"
        yield hazard_of_lines(file, CODE, message, found)


def _docstrings(facts: Facts) -> Iterator[Finding]:
    """What docstrings say of DDP, outside of the functions that change, in one finding a file."""
    helps = {(file.path, said.raw) for file, said in lies(facts)}
    for file in facts.checkout.mentioning("DDP", "DistributedDataParallel"):
        if of_a_test(file.path) or not of_ours(facts, file.path):
            continue
        gone = _lines_of_definitions(facts, file.path)
        found = {
            line: words
            for node in nodes(file.syntax)
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            and _OURS.search(node.value.value)
            and node.lineno not in gone
            and (file.path, file.segment(node.value)) not in helps
            for line, words in _of_ddp(file, node)
        }
        if found:
            message = "a docstring says DDP of what is replicate's now"
            yield hazard_of_lines(file, CODE, message, found)


def _of_ddp(file: SourceFile, node: ast.Expr) -> Iterator[tuple[int, str]]:
    """The lines of a docstring that name DDP, each with what to write."""
    last = node.end_lineno or node.lineno
    for line in range(node.lineno, last + 1):
        words = file.lines[line - 1].strip().strip("\"'")
        if NAME.search(words):
            # A comment can stand on the last line of a string only.
            yield last if file.opted_out(last, CODE) else line, of_replicate(words)


def _lines_of_definitions(facts: Facts, path: str) -> set[int]:
    nodes = [
        function_of(facts.checkout, definition)
        for definition in facts.survey.definitions
        if definition.path == path
    ]
    return {
        line
        for node in nodes
        if node is not None
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _comments(facts: Facts) -> Iterator[Finding]:
    """What is said beside the calls of a file and may not be true, in one finding."""
    for path in sorted({call.site.reference.path for call in facts.calls}):
        file = facts.survey.files[path]
        beside = [
            one
            for call in facts.calls_in(path)
            for one in said_beside(file, call.site.node)
        ]
        said = {one.line: one.fresh for one in beside if not one.certain}
        certain = {one.line for one in beside if one.certain}
        for call in facts.calls_in(path):
            if call.site.function is not None:
                around = dict(said_around(file, call.site.function))
                said |= {line: around[line] for line in around.keys() - certain}
        if said:
            message = (
                "what is said here of DDP may not be true of replicate, which wraps group by "
                "group and casts by a policy: reword it"
            )
            yield hazard_of_lines(file, CODE, message, said)
