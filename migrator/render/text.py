"""What was found, for people."""

from collections import Counter
from collections.abc import Iterator

from codemods.findings import Finding

from migrator.changeset import Changeset

_WORDS = {
    "rewrite": "to rewrite",
    "done": "already done",
    "opted-out": "opted out",
    "left": "left for a person",
    "hazard": "hazards",
}


def sentence(changeset: Changeset) -> str:
    """What this checkout is and what there is to do, in one sentence."""
    survey, outcome = changeset.outcome.survey, changeset.outcome
    if survey.kind == "past":
        return (
            "Nothing to do: there is no apply_ddp here. This torchtitan wraps everything "
            "with fully_shard (PR 2900, release 0.3.0) or has no data-parallel path."
        )
    if not outcome.to_do and not survey.migrated:
        return "Nothing that is rewritten: what is left of DDP here is opted out or a hazard."
    if not outcome.to_do:
        return "Nothing to do: this checkout already uses the composable replicate."
    return (
        f"A torchtitan of generation {survey.generation}, with DDP: "
        f"{len(outcome.to_do)} places in {len({f.path for f in outcome.to_do})} files to migrate, "
        "besides hazards."
    )


def target_line(changeset: Changeset) -> str:
    """Which target was taken and why."""
    target = changeset.outcome.target
    api = (
        "replicate(mesh=...) on a 1-D mesh"
        if target.mesh == "1d"
        else "replicate(device_mesh=...) on a 2-D mesh"
    )
    return f"Target {target.mesh} ({target.reason}): {api}, function {target.function_name}."


def text(changeset: Changeset, verb: str = "to rewrite") -> Iterator[str]:
    """Every finding with its place, hazards and places left with code to write.

    Args:
        changeset: what was found.
        verb: what happens to a place that the tool rewrites.
    """
    words = {**_WORDS, "rewrite": verb}
    for finding in changeset.findings:
        yield _line(finding, words)
        if finding.suggestion:
            for line in finding.suggestion.split("\n"):
                yield "    | " + inert(line, keep="\t")
    counts = Counter(finding.status for finding in changeset.findings)
    if counts:
        if counts["hazard"] == 1:
            words["hazard"] = "hazard"
        listed = ", ".join(f"{counts[s]} {words[s]}" for s in words if counts[s])
        yield f"{listed}."


def _line(finding: Finding, words: dict[str, str]) -> str:
    status = "hazard" if finding.status == "hazard" else words[finding.status]
    message = (
        f"{finding.path}:{finding.line}: {finding.code} [{status}] {finding.message}"
    )
    return inert(message)


def problems_besides(changeset: Changeset) -> tuple[str, ...]:
    """Why nothing would be written, where no finding says so already."""
    if any(finding.status == "left" for finding in changeset.findings):
        return ()
    return changeset.outcome.problems


def inert(text: str, keep: str = "") -> str:
    """A text that no terminal and no log of a CI acts upon.

    Line ends, control characters and what cannot be encoded are written as escapes, and
    ``##[`` too, which GitHub takes for a command wherever it stands.

    Args:
        text: names, messages or code out of the checkout.
        keep: characters to leave as they are.
    """
    shown = "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
    return shown.replace("##[", "#\\x23[")
