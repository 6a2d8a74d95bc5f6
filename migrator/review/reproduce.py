"""How a reader sees each claim again: what to type, and what it shows."""

import shlex
from collections.abc import Iterator, Sequence

from codemods.selection import Selection
from codemods.targets import Target
from migrator.review.compare import Compared
from migrator.review.model import Claim, File, Verified, plural, visible

CHECKOUT, BEFORE, TORCHTITAN = "CHECKOUT", "BEFORE", "TORCHTITAN"
"""Stand for the reader's folders: no path of the machine that this was made on is in it."""


def claims(
    compared: Compared, files: Sequence[File], verified: Verified | str
) -> Iterator[Claim]:
    """The claims of a review, each with the commands that show it."""
    outcome = compared.outcome
    options = _options(outcome.target, outcome.selection)
    if compared.checkout.torchtitan:
        options += f" --torchtitan {TORCHTITAN}"
    base = f" --base {compared.base}" if compared.base else ""
    if outcome.changes:
        counted = not any(file.by_hand or file.notes for file in files)
        lines = f", {_sum(files)}" if counted else ""
        before = (
            f"git -C {CHECKOUT} worktree add --detach {BEFORE} {compared.base}"
            if compared.base
            else ""
        )
        yield Claim(
            "The tool makes the changes that are not marked as made by hand.",
            (
                *filter(None, (before,)),
                f"titan-migrate diff {BEFORE if before else CHECKOUT}{options} --stat",
            ),
            f"{plural(len(outcome.changes), 'file')} changed{lines}",
        )
    yield Claim(
        "Nothing else has to be migrated, and these are the places for a person.",
        (f"titan-migrate check {CHECKOUT}{options}",),
        "exit status 1 until it is migrated, and 0 from then on"
        if compared.now.to_do
        else "exit status 0, and the hazards that are still there",
    )
    if (
        isinstance(verified, Verified)
        and verified.ours is not False
        and verified.command
    ):
        words = [visible(word, "") for word in verified.command]
        yield Claim(
            "The verdicts.",
            (shlex.join([*words[:2], CHECKOUT, *words[2:]]),),
            "the same verdicts, with figures that may differ in their last digits",
        )
    elif outcome.changes:
        yield Claim(
            "That it trains as before has yet to be shown.",
            (f"titan-migrate verify {CHECKOUT}{base}",),
            "PASSED in every cell that ran, if it does",
        )
    yield Claim(
        "This review.",
        (f"titan-migrate report {CHECKOUT}{base}{options} --html FILE",),
        "all of this as one page",
    )


def _options(target: Target, selection: Selection) -> str:
    words = ["--target", target.mesh, "--function-name", target.function_name]
    if target.keep_precision:
        words.append("--keep-precision")
    for name in ("select", "ignore"):
        given = getattr(selection, name)
        if given:
            words += [f"--{name}", ",".join(given)]
    for pattern in selection.exclude:
        words += ["--exclude", pattern]
    return " " + " ".join(shlex.quote(visible(word, "")) for word in words)


def _sum(files: Sequence[File]) -> str:
    added, removed = sum(f.added for f in files), sum(f.removed for f in files)
    return f"{plural(added, 'insertion')}(+), {plural(removed, 'deletion')}(-)"
