"""TM215: words in the code that are not true of replicate."""

import ast
import re
from collections.abc import Iterator

from codemods.autocast import choices, of_a_test
from codemods.beside import comments_of, said_beside
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts
from codemods.plans.sites import folder_of
from codemods.source import SourceFile
from codemods.survey import OLD

CODE = "TM215"
TITLE = "words that are not true of replicate"
SEVERITY: Severity = "note"
WHAT = "A help text, a comment beside a call or the name of a test speaks of DDP or of autocast."
WHY = """\
The configuration's help says that mixed precision comes by autocast under DDP, that
mixed_precision_reduce needs sharding, and that replication alone is DDP. A comment
beside a call says what DDP does, and an integration test is named after it. None of
them runs, and each tells the next reader something that is not so any more. One finding
for each file, with the sentences to write.
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

_SENTENCES = (
    (
        re.compile(r"via\s+torch\.autocast\b.{0,200}?\bDDP\b", re.S),
        "This feature takes effect via fully_shard or replicate under any data parallelism, "
        "and via torch.autocast on a single device.",
    ),
    (
        re.compile(
            r"only takes? effect when\s+data_parallel_shard_degree\s*>\s*1", re.S
        ),
        "This feature takes effect under any data parallelism, via fully_shard or replicate.",
    ),
    (
        re.compile(r"parallelism\s+method\s+used\s+is\s+DDP\b[^.\n]*", re.S),
        "Otherwise, the parallelism method used is replicate.",
    ),
)
_NAMED = re.compile(r"DDP(?:\W.*)?\Z")


def find(facts: Facts) -> Iterator[Finding]:
    if not any(facts.becomes(d) for d in facts.survey.definitions):
        return
    for file in facts.checkout.mentioning("autocast", "takes effect", "DDP"):
        if not of_a_test(file.path):
            yield from _helps(file)
            yield from _of_autocast(facts, file)
    if facts.target.function_name == OLD:
        return
    for file in facts.checkout.mentioning("DDP"):
        if of_a_test(file.path) and _of_ours(facts, file):
            yield from _names_of_tests(file)
    yield from _comments(facts)


def _helps(file: SourceFile) -> Iterator[Finding]:
    """The help texts and docstrings of a file, in one finding."""
    found = sorted(
        (node.lineno + node.value[: match.start()].count("\n"), sentence)
        for node in ast.walk(file.syntax)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for pattern, sentence in _SENTENCES
        for match in [pattern.search(node.value)]
        if match
    )
    if found:
        lines = ", ".join(str(line) for line, _ in found)
        yield Finding(
            file.path,
            found[0][0],
            CODE,
            f"the help says what was so under DDP (line{'s' * (len(found) > 1)} {lines})",
            "hazard",
            "\n".join(dict.fromkeys(sentence for _, sentence in found)),
        )


def _of_autocast(facts: Facts, file: SourceFile) -> Iterator[Finding]:
    """Comments that say when autocast is on, where it is chosen, in one finding."""
    scopes = {choice.scope for choice in choices(facts.checkout, file) if choice.terms}
    functions = [
        node
        for node in ast.walk(file.syntax)
        if isinstance(node, ast.FunctionDef)
        and any(scope.split(".")[-1] == node.name for scope in scopes)
    ]
    found = {
        line: text
        for line, text in comments_of(file).items()
        if re.search(r"\bDDP\b", text)
        and "DDP or single" not in text  # TM105 rewrites that
        and any(f.lineno <= line <= (f.end_lineno or 0) for f in functions)
    }
    if found:
        first = min(found)
        lines = ", ".join(map(str, sorted(found)))
        yield Finding(
            file.path,
            first,
            CODE,
            f"autocast is not on under replicate as it was under DDP (line"
            f"{'s' * (len(found) > 1)} {lines})",
            "hazard",
            re.sub(r"\bDDP (and|or) ", "", found[first]),
        )


def _of_ours(facts: Facts, file: SourceFile) -> bool:
    """Whether a test is not about an experiment that has its own way to replicate."""
    folder = folder_of(file.path)
    ours = {folder_of(site.reference.path) for site in facts.survey.call_sites}
    return folder in ours or "experiments/" not in file.path


def _names_of_tests(file: SourceFile) -> Iterator[Finding]:
    lines = sorted(
        node.lineno
        for node in ast.walk(file.syntax)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _NAMED.match(node.value)
        and len(node.value) < 40
    )
    if lines:
        what = ", ".join(map(str, lines))
        yield Finding(
            file.path,
            lines[0],
            CODE,
            f"tests are named after DDP (line{'s' * (len(lines) > 1)} {what}), and run replicate",
            "hazard",
            "# say replicate for DDP in what people read; keep names that a CI asks for",
        )


def _comments(facts: Facts) -> Iterator[Finding]:
    """What is said beside the calls of a file and may not be true, in one finding."""
    for path in sorted({call.site.reference.path for call in facts.calls}):
        file = facts.survey.files[path]
        said = {
            one.line: one
            for call in facts.calls_in(path)
            for one in said_beside(file, call.site.node)
            if not one.certain
        }
        if said:
            first = min(said)
            what = ", ".join(map(str, sorted(said)))
            yield Finding(
                path,
                first,
                CODE,
                "what is said here of DDP may not be true of replicate, which wraps group by "
                f"group and casts by a policy (line{'s' * (len(said) > 1)} {what}): reword it",
                "hazard",
                said[first].fresh,
            )
