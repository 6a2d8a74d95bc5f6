"""What the rules do and why, from the rule files themselves."""

from difflib import get_close_matches

from codemods.rules import all_rules

from migrator.errors import TitanMigrateError


def explanation(code: str) -> str:
    """The text of one rule.

    Raises:
        TitanMigrateError: there is no such code.
    """
    rules = {rule.CODE: rule for rule in all_rules()}
    rule = rules.get(code.upper())
    family = code.upper().rstrip("X")
    if rule is None and any(known.startswith(family) for known in rules):
        return overview(family)
    if rule is None:
        close = get_close_matches(code.upper(), rules, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise TitanMigrateError(
            f"there is no rule {code}.{hint} `titan-migrate explain` lists all."
        )
    kind = "rewrites" if hasattr(rule, "rewrite") else "hazard, left for a person"
    return f"{rule.CODE}  {rule.TITLE}  ({kind})\n\n{rule.WHY.strip()}"


def overview(family: str = "TM") -> str:
    """Every code of a family (``TM2``) with its title, hazards marked."""
    return "\n".join(
        f"{rule.CODE}  {'' if hasattr(rule, 'rewrite') else 'hazard: '}{rule.TITLE}"
        for rule in all_rules()
        if rule.CODE.startswith(family)
    )
