"""TM213: an opt-out on a line where there is nothing to opt out of."""

import io
import tokenize
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts
from codemods.rules import all_rules
from codemods.source import opt_outs

CODE = "TM213"
TITLE = "opt-outs that opt out of nothing"
WHY = """\
`# titan-migrate: ignore[CODE]` counts for its own line only. One that names a code
with nothing to say there has outlived its reason, or was meant for another line or
another code, whose place is then rewritten although somebody wanted it left alone.
"""

SEVERITY: Severity = "note"
WHAT = "A comment opts out of a rule that has nothing to say on its line."
UPSTREAM = """\
None. It is about comments of this tool.
"""
RISK = """\
A place that somebody wanted left alone is rewritten, because the comment stands on
another line or names another code.
"""
PROOF = """\
It does not: verify trains what was written. Look in the diff at the lines around it.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/tools/wrapping.py",
    before="""\
    return wrapper.apply_ddp(model)  # titan-migrate: ignore[TM102]
""",
    after="""\
# nothing, or `titan-migrate: ignore[...]` with the code of a finding of this line
""",
)

_MARK = "titan-migrate:"


def find(facts: Facts) -> Iterator[Finding]:
    written = [
        (file, token.start[0], codes)
        for file in facts.checkout.mentioning(_MARK)
        for token in tokenize.generate_tokens(io.StringIO(file.text).readline)
        if token.type == tokenize.COMMENT
        for codes in [opt_outs(token.string)]
        if codes is not None
    ]
    if not written:
        return
    known = {rule.CODE for rule in all_rules()} - {CODE}
    useful = {
        (finding.path, finding.line, finding.code)
        for rule in all_rules()
        if rule.CODE in known
        for finding in rule.find(facts)
        if finding.status != "done"
    }
    for file, line, codes in written:
        for code in codes:
            if (file.path, line, code) not in useful:
                reason = (
                    f"{code} has nothing to say on this line"
                    if code in known
                    else f"there is no rule {code} to opt out of"
                )
                yield _unused(file.path, line, f"this opt-out is not used: {reason}")
        if not codes:
            yield _unused(file.path, line, "this comment opts out of nothing")


def _unused(path: str, line: int, message: str) -> Finding:
    advice = "# nothing, or `titan-migrate: ignore[...]` with the code of a finding of this line"
    return Finding(path, line, CODE, message, "hazard", advice)
