"""TM107: the help texts of the configuration."""

import ast
from collections.abc import Collection, Iterator

import libcst as cst

from codemods import edit, layout
from codemods.example import Example
from codemods.findings import Finding, Status
from codemods.modules import Function
from codemods.order import text
from codemods.plans import Facts
from codemods.plans.help import Help, lies
from codemods.source import SourceFile
from codemods.wording import About, reworded

CODE = "TM107"
TITLE = "help texts and docstrings for replicate"
WHAT = "The help of the configuration says where mixed precision comes from, and that replication is replicate."
WHY = """\
The help of mixed_precision_param says that it works by autocast under DDP, that of
mixed_precision_reduce that it needs sharding, and that of
data_parallel_replicate_degree that replication alone is DDP. After the migration none
of that is so, and people choose a precision by what the help says. It is rewritten only
where all of the checkout moves to replicate, autocast goes and the calls pass what the
options say; otherwise TM215 names it.
"""
UPSTREAM = """\
None. torchtitan's own help still spoke of autocast under DDP in 0.3.0, which has none.
"""
RISK = """\
Nothing fails. A sentence that is not true of this fork would mislead whoever reads it.
"""
PROOF = """\
It does not: words change no figure. Read them.
"""
EXAMPLE = Example(
    fixture="v0_1",
    path="torchtitan/config_manager.py",
    before='''\
    """
    Ranks that hold a whole copy of the weights each. With shards besides it is HSDP.
    Otherwise, the parallelism method used is DDP (Distributed Data Parallelism).
    """
''',
    after="""\
    Otherwise, the parallelism method used is replicate (composable replication, built
    on FSDP2).
""",
)

_WIDEST = 100
"""Columns of a docstring, which black does not break, where the file goes so far."""

_NOW = {
    "compute": "the help says that mixed precision comes by autocast under DDP; it comes by "
    "replicate's policy",
    "reduce": "the help says that the option needs shards; replicate reduces in that dtype too",
    "method": "the help says that replication alone is DDP",
}


def find(facts: Facts) -> Iterator[Finding]:
    for file, said in lies(facts):
        if said.certain:
            status = _status(file, said)
            line = said.last if status == "opted-out" else said.line
            yield Finding(file.path, line, CODE, _NOW[said.sentence.about], status)


def _status(file: SourceFile, said: Help) -> Status:
    """A comment can stand on the last line of a string only."""
    return "opted-out" if file.opted_out(said.last, CODE) else "rewrite"


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    about: dict[str, set[About]] = {}
    for file, said in lies(facts):
        if file.path == path and said.certain and _status(file, said) == "rewrite":
            about.setdefault(said.raw, set()).add(said.sentence.about)
    file = facts.survey.files[path]
    longest = max(map(len, file.lines))
    room = max(layout.WIDTH, min(longest, _WIDEST))
    fresh = {raw: reworded(raw, which, room) for raw, which in about.items()}
    holding = [
        node.name
        for node in file.syntax.body
        if isinstance(node, Function | ast.ClassDef)
        if any(raw in text(file, node) for raw in fresh)
    ]
    return tree.visit(_Strings(tree, holding, fresh))


class _Strings(edit.ScopedTransformer):
    """Puts strings in the place of others, in some functions and classes and outside of all."""

    def __init__(
        self, tree: cst.Module, scopes: Collection[str], fresh: dict[str, str]
    ) -> None:
        super().__init__(tree, scopes)
        self.fresh = fresh

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.SimpleString:
        written = original_node.value
        fresh = self.fresh.get(written.replace("\r\n", "\n"))
        if fresh is None:
            return updated_node
        ends = "\r\n" if "\r\n" in written else "\n"
        return updated_node.with_changes(value=fresh.replace("\n", ends))
