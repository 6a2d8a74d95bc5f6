"""TM217: documentation and guides that speak of DDP as what this checkout trains with."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity, hazard_of_lines
from codemods.plans import Facts
from codemods.plans.sites import of_ours
from codemods.prose import lies

CODE = "TM217"
TITLE = "documentation that speaks of DDP"
SEVERITY: Severity = "note"
WHAT = "README, documentation or a guide for agents says DDP of what is replicate now."
WHY = """\
README, documentation and the guides that people give to coding agents (CLAUDE.md,
AGENTS.md, the rules of editors) name apply_ddp, list DDP among what the tree can do,
tell how to choose it, or say that it composes with nothing. Whoever follows them looks
for a function that is gone, and an agent that is told of apply_ddp writes it again. One
finding for each file, with the sentences to write; nothing of it is rewritten. Texts
about another library, about DDP as such, histories and benchmarks are not named.
"""
UPSTREAM = """\
None. torchtitan's README still listed DDP in 0.3.0.
"""
RISK = """\
Nothing fails. The next plan is written with a guard and a call that are not there any
more.
"""
PROOF = """\
It does not: words change no figure. Read them.
"""
EXAMPLE = Example(
    fixture="v0_1",
    path="README.md",
    before="""\
- FSDP, HSDP and DDP
""",
    after="""\
- FSDP, HSDP and replicate
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.moves:
        return
    for file in facts.texts.values():
        if not (file.is_config or file.is_script) and of_ours(facts, file.path):
            found = dict(lies(file, facts.target.function_name))
            if found:
                message = "this speaks of DDP, where the checkout has replicate now"
                yield hazard_of_lines(file, CODE, message, found)
