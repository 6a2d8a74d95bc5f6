"""What the rules do and why, from the rule files themselves.

``python -m migrator.explain`` prints the table of rules that the README holds.
"""

import re
import shutil
import textwrap
from types import ModuleType

from codemods.findings import kind_of
from codemods.rules import all_rules, meant_by
from codemods.steps import step_of
from codemods.targets import choose_target
from migrator.errors import TitanMigrateError

_PULLS = "https://github.com/pytorch/torchtitan/pull"
_WIDTH = 88
_MARGIN = "    "


def explanation(code: str) -> str:
    """The text of one rule, or the list of a family (``TM2``, ``TM2xx``).

    Raises:
        TitanMigrateError: there is no such code.
    """
    rules = {rule.CODE: rule for rule in all_rules()}
    wanted = code.strip().upper()
    if wanted in rules:
        return _explained(rules[wanted])
    family = wanted.rstrip("X")
    if family and any(known.startswith(family) for known in rules):
        return overview(family)
    meant = meant_by(code)
    hint = f"Did you mean {meant}?" if meant else f"There are {_ranges()}."
    raise TitanMigrateError(
        f"there is no rule {code}. {hint} `titan-migrate explain` lists all."
    )


def overview(family: str = "TM") -> str:
    """Every code of a family (``TM2``) with its title, rewrites before hazards."""
    groups: dict[str, list[str]] = {}
    for rule in all_rules():
        if rule.CODE.startswith(family):
            rewrites = hasattr(rule, "rewrite")
            heading = "Rewritten:" if rewrites else "Hazards, left for a person:"
            severity = "" if rewrites else f"{rule.SEVERITY:<8}"
            line = f"  {rule.CODE}  {severity}{rule.TITLE}"
            groups.setdefault(heading, [heading]).append(line)
    blocks = ["\n".join(lines) for lines in groups.values()]
    return "\n\n".join([*blocks, "`titan-migrate explain CODE` says more of each."])


def markdown_table() -> str:
    """The table of the README: every code, what it does or finds, what it follows."""
    lines = ["| code | what | severity | upstream |", "|---|---|---|---|"]
    for rule in all_rules():
        pulls = ", ".join(f"[PR {pull}]({_PULLS}/{pull})" for pull in _pulls(rule))
        severity = "" if hasattr(rule, "rewrite") else rule.SEVERITY
        lines.append(f"| {rule.CODE} | {rule.WHAT} | {severity} | {pulls} |")
    return "\n".join(lines)


def upstream_url(rule: ModuleType) -> str | None:
    """The first pull request that a rule names; None where it names none."""
    return next((f"{_PULLS}/{pull}" for pull in _pulls(rule)), None)


def _pulls(rule: ModuleType) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\bPR (\d+)", rule.UPSTREAM)))


def _explained(rule: ModuleType) -> str:
    rewrites = hasattr(rule, "rewrite")
    kind = "rewrites"
    if not rewrites:
        kind = f"{kind_of(rule.SEVERITY)}, left for a person"
    example = rule.EXAMPLE
    place = f"fixtures/{example.fixture}/{example.path}"
    after = f"After, with --target {example.target}" if rewrites else "After, by hand"
    together = step_of(rule.CODE, choose_target(example.target, None)).codes
    opt_out = (
        f"`# titan-migrate: ignore[{rule.CODE}]` at the end of a line, or "
        f"--ignore {','.join(together)} for a whole run"
        f"{', which are refused one without the other' if together[1:] else ''}."
    )
    return "\n\n".join(
        (
            f"{rule.CODE}  {rule.TITLE}  ({kind})",
            _prose("What", rule.WHAT),
            _prose("Why", rule.WHY),
            _code(f"Before, in {place}", example.before),
            _code(after, example.after),
            _prose("Upstream", rule.UPSTREAM),
            _prose("What could go wrong", rule.RISK),
            _prose("How verify shows it", rule.PROOF),
            _prose("How to opt out", opt_out),
        )
    )


def _prose(heading: str, text: str) -> str:
    columns = shutil.get_terminal_size(fallback=(_WIDTH, 24)).columns
    filled = textwrap.fill(
        " ".join(text.split()),
        min(columns, _WIDTH),
        initial_indent=_MARGIN,
        subsequent_indent=_MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{heading}\n{filled}"


def _code(heading: str, excerpt: str) -> str:
    lines = textwrap.dedent(excerpt).rstrip("\n")
    return f"{heading}\n{textwrap.indent(lines, _MARGIN)}"


def _ranges() -> str:
    """``TM101 to TM107, TM201 and TM203 to TM218``: what lies between is there."""
    found: list[list[str]] = []
    for code in sorted(rule.CODE for rule in all_rules()):
        if found and int(code[2:]) == int(found[-1][-1][2:]) + 1:
            found[-1].append(code)
        else:
            found.append([code])
    *named, last = [f"{one[0]} to {one[-1]}" if one[1:] else one[0] for one in found]
    return f"{', '.join(named)} and {last}"


if __name__ == "__main__":
    print(markdown_table())
