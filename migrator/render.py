"""What was found, for people and for programs."""

import json
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
            yield from (f"    | {line}" for line in finding.suggestion.split("\n"))
    counts = Counter(finding.status for finding in changeset.findings)
    if counts:
        if counts["hazard"] == 1:
            words["hazard"] = "hazard"
        listed = ", ".join(f"{counts[s]} {words[s]}" for s in words if counts[s])
        yield f"{listed}."


def _line(finding: Finding, words: dict[str, str]) -> str:
    status = "hazard" if finding.status == "hazard" else words[finding.status]
    return f"{finding.path}:{finding.line}: {finding.code} [{status}] {finding.message}"


def as_json(changeset: Changeset, written: bool) -> str:
    """The same for programs.

    Args:
        changeset: what was found.
        written: whether the changes are on disk.
    """
    outcome = changeset.outcome
    data = {
        "root": str(changeset.checkout.root),
        "kind": outcome.survey.kind,
        "generation": outcome.survey.generation,
        "mesh_api": outcome.survey.mesh_api,
        "target": {
            "mesh": outcome.target.mesh,
            "function_name": outcome.target.function_name,
            "reason": outcome.target.reason,
        },
        "findings": [
            {
                "path": finding.path,
                "line": finding.line,
                "code": finding.code,
                "status": finding.status,
                "message": finding.message,
                "suggestion": finding.suggestion,
            }
            for finding in outcome.findings
        ],
        "changed": sorted(outcome.changes),
        "problems": list(outcome.problems),
        "written": written,
    }
    return json.dumps(data, indent=2)
