"""Writes a verification down: in full as `report.md`, its curves as images, every figure as `report.json`."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from migrator.verify.judge.verdict import Verification
from migrator.verify.show import markdown, plots, rehearsal


def write(verification: Verification, folder: Path) -> None:
    """Writes `report.json`, `report.md` and the curves into `folder`; without matplotlib, the report without them.

    Each file is written whole or not at all (OSError).
    """
    plain = json.dumps(_plain(verification.to_dict()), indent=1, allow_nan=False)
    _write_whole(folder / "report.json", plain + "\n")
    figures, missing = _curves(verification, folder)
    rehearsed = verification.rehearsal and rehearsal.section(verification.rehearsal)
    text = markdown.render(verification, figures, missing, rehearsed or ())
    _write_whole(folder / "report.md", text)


def _write_whole(path: Path, text: str) -> None:
    staged = path.with_name(f"{path.name}.new")
    try:
        staged.write_text(text, encoding="utf-8")
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def _curves(verification: Verification, folder: Path) -> tuple[markdown.Plots, str]:
    """The curves of all cells, or none and why."""
    if not plots.installed():
        return {}, (
            "The curves were not drawn, for there is no matplotlib: `pip install matplotlib` adds it."
        )
    try:
        return plots.draw_all(verification, folder), ""
    except (
        Exception
    ) as error:  # the figures are worth minutes of training, the curves are not
        return {}, f"The curves could not be drawn: {type(error).__name__}: {error}"


def _plain(value: object) -> object:
    """Numbers that JSON has no word for become strings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
