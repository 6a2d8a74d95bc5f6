"""All that was found, for programs."""

import json
from collections.abc import Mapping
from typing import Any

from migrator.changeset import Changeset
from migrator.render.statistics import by_code
from migrator.render.ways import as_data, without


def as_json(
    changeset: Changeset,
    written: bool,
    statistics: bool = False,
    made: Mapping[str, Any] = {},
) -> str:
    """The findings and what they are about.

    Args:
        changeset: what was found.
        written: whether the changes are on disk.
        statistics: count the findings of each rule too.
        made: what else was made: branch, commits, patches.
    """
    outcome = changeset.outcome
    data: dict[str, Any] = {
        "root": str(changeset.checkout.root),
        "kind": outcome.about.kind,
        "generation": outcome.about.generation,
        "mesh_api": outcome.about.mesh_api,
        "torchtitan": {
            "name": outcome.about.dependency.name,
            "pinned": outcome.about.dependency.pinned,
        },
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
                "severity": finding.severity,
                "message": finding.message,
                "suggestion": finding.suggestion,
            }
            for finding in outcome.findings
        ],
        "left_out": {
            "rules": list(outcome.selection.left_out),
            "files": sorted(outcome.excluded),
        },
        "changed": sorted(outcome.changes),
        "problems": list(outcome.problems),
        "rest_without": as_data(without(changeset)),
        "written": written,
        **made,
    }
    if statistics:
        data["statistics"] = by_code(changeset)
    return json.dumps(data, indent=2)
