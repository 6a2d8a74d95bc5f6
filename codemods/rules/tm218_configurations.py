"""TM218: configurations of jobs that set or say what was DDP's."""

import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity, hazard_of_lines
from codemods.plans import Facts
from codemods.plans.sites import of_ours
from codemods.survey import OLD, function_of
from codemods.texts import TextFile
from codemods.wording import NAME, of_replicate

CODE = "TM218"
TITLE = "configurations that mean DDP"
SEVERITY: Severity = "note"
WHAT = "A TOML or YAML file switches compiled autograd on, which chose a mode of DDP, or calls a job DDP."
WHY = """\
apply_ddp took enable_compiled_autograd and chose by it how torch.compile treats DDP's
reducer; the new function does not take it (TM208). A job that set it for this has an
option that does only the other thing, compiling the backward. A comment or a
description that calls a job with dp_replicate DDP is not so any more. One finding for
each file.
"""
UPSTREAM = """\
PR 2458, whose apply_replicate takes no compiler switches.
"""
RISK = """\
A tuned job compiles its backward without a reason left in its settings.
"""
PROOF = """\
It does not: verify trains with a configuration of its own.
"""
EXAMPLE = Example(
    fixture="v0_1",
    path="train_configs/replicated.toml",
    before="""\
enable_compiled_autograd = true
""",
    after="""\
# drop it, unless the backward is to be compiled for its own sake
""",
)

_SWITCHED_ON = re.compile(
    r"\s*[\"']?(?:[\w.]+\.)?enable_compiled_autograd\b[\"']?\s*[=:]\s*[Tt]rue"
)
_SAYS = re.compile(r"#.*|\b(?:description|name|run_name)\s*[=:].*")
_REPLICATES = ("data_parallel_replicate_degree", "dp_replicate")


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.moves:
        return
    switch = _took_the_switch(facts)
    for file in facts.texts.values():
        if not file.is_config or not of_ours(facts, file.path):
            continue
        if switch and b"enable_compiled_autograd" in file.raw:
            found = {
                line: "# drop it, unless the backward is to be compiled for its own sake"
                for line, text in enumerate(file.lines, 1)
                if _SWITCHED_ON.match(text)
            }
            if found:
                message = (
                    "this chose a mode of DDP's reducer, and has no part in replicate"
                )
                yield hazard_of_lines(file, CODE, message, found)
        if facts.target.function_name != OLD:
            said = dict(_said(file))
            if said:
                message = "this calls DDP what is replicate now"
                yield hazard_of_lines(file, CODE, message, said)


def _took_the_switch(facts: Facts) -> bool:
    """Whether a function that changes took enable_compiled_autograd."""
    nodes = [function_of(facts.checkout, d) for d in facts.survey.definitions]
    return any(
        argument.arg == "enable_compiled_autograd"
        for node in nodes
        if node is not None
        for argument in (*node.args.args, *node.args.kwonlyargs)
    )


def _said(file: TextFile) -> Iterator[tuple[int, str]]:
    """Comments and descriptions of a job with dp_replicate that name DDP."""
    if not any(word.encode() in file.raw for word in _REPLICATES):
        return
    for line, text in enumerate(file.lines, 1):
        found = _SAYS.search(text)
        if found and NAME.search(found[0]):
            yield line, of_replicate(text.strip())
