"""What was found, for people."""

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import groupby

from codemods.about import COPY
from codemods.findings import Finding, kind_of, worst_first
from codemods.rules import all_rules
from codemods.steps import SHARED, step_of
from migrator.changeset import Changeset

_WORDS = {
    "rewrite": "to rewrite",
    "done": "already done",
    "opted-out": "opted out",
    "left": "left for a person",
    "hazard": "hazards",
}


_PAST = (
    "pure replication is fully_shard over a mesh whose fsdp dimension has degree 1, as from "
    "PR 2900 on (release 0.3.0)."
)


_IDLE = "Nothing to do: "


def sentence(changeset: Changeset) -> str:
    """What this checkout is and what there is to do, in one sentence."""
    said, findings = _sentence(changeset), changeset.outcome.findings
    seen = [f for f in findings if f.status == "hazard" and f.severity != "note"]
    if not seen or not said.startswith(_IDLE):
        return said
    many = "a hazard is" if len(seen) == 1 else f"{len(seen)} hazards are"
    return f"Nothing to rewrite, and {many} for a person to look at: {said.removeprefix(_IDLE)}"


def _sentence(changeset: Changeset) -> str:
    about, outcome = changeset.outcome.about, changeset.outcome
    to_do = _places(outcome.to_do)
    if about.kind == "past":
        return _without_ddp(changeset)
    if about.kind == "dependent":
        return _dependent(changeset)
    mesh = f" ({about.migrated_to})" if about.migrated_to else ""
    known = inert(about.dependency.known)
    if outcome.for_other_target:
        return (
            f"This checkout already uses the composable replicate{mesh}, written for the other "
            f"target: {outcome.target.mesh} is asked for, and nothing is rewritten from one to "
            "the other."
        )
    if not outcome.to_do and not about.has_replicate:
        kept = [f for f in outcome.findings if f.status == "opted-out"]
        return "Nothing to rewrite, though DDP is here: " + (
            f"{_places(kept)} opted out or go with what did (-v shows them)."
            if kept
            else "what is left of it is not selected, or a hazard."
        )
    if not outcome.to_do:
        return f"{_IDLE}this checkout already uses the composable replicate{mesh}."
    if not about.has_ddp and about.has_replicate:
        return f"This checkout already uses the composable replicate{mesh}, but for {to_do}."
    if about.is_out_of_date and outcome.to_do:
        return _provided(changeset)
    if not about.has_ddp and about.is_unresolved:
        head = f"torchtitan is a dependency here{known}, and not part of this checkout"
        return f"{head}, and its apply_ddp is used, beside DDP in another place: {to_do} to see to."
    if not about.has_ddp:
        return f"DDP is here, but in no apply_ddp of torchtitan's: {to_do} to see to."
    if about.generation == COPY:
        beside = f", and torchtitan is a dependency{known}" if known else ""
        return f"A copy of torchtitan's DDP path{beside}: {to_do} to migrate."
    return (
        f"A torchtitan of generation {about.generation}, with DDP: {to_do} to migrate."
    )


def _without_ddp(changeset: Changeset) -> str:
    """Of a torchtitan that defines neither."""
    outcome = changeset.outcome
    what = "nor any other data-parallel path of torchtitan's"
    if outcome.about.keeps_fsdp_dimension:
        what = f"and {_PAST.removesuffix('.')}"
    if outcome.to_do:
        return (
            f"There is no apply_ddp here, {what}, but for {_places(outcome.to_do)} that still "
            "name it."
        )
    return f"{_IDLE}there is no apply_ddp here, {what}."


def _dependent(changeset: Changeset) -> str:
    """Of a checkout that uses a torchtitan which it does not hold."""
    outcome = changeset.outcome
    known = inert(outcome.about.dependency.known)
    head = f"torchtitan is a dependency here{known}, and not part of this checkout"
    if not outcome.about.uses and not outcome.to_do:
        return (
            _IDLE + "no data-parallel path of its own; torchtitan is a dependency"
            f"{known}."
        )
    if not outcome.to_do:
        kept = [f for f in outcome.findings if f.status == "opted-out"]
        if kept:
            return f"Nothing to rewrite: {head}; {_places(kept)} opted out."
        return f"{_IDLE}{head}; what is called of it is replicate's already."
    places = _places(outcome.to_do)
    if outcome.about.is_past:
        what = ""
        if outcome.about.keeps_fsdp_dimension:
            what = f" There {_PAST}"
        return f"{head}, and it has no apply_ddp any more: {places} to see to.{what}"
    if outcome.about.is_unresolved:
        return f"{head}, and its apply_ddp is used: {places} to see to."
    if not any(finding.status == "done" for finding in outcome.findings):
        return f"{head}: {places} to see to."
    return f"{head}; what is called of it is replicate's already, but for {places}."


def _provided(changeset: Changeset) -> str:
    """Of a checkout that calls what a torchtitan in reach defines."""
    outcome = changeset.outcome
    left = any(finding.status == "left" for finding in outcome.findings)
    uses = "its apply_ddp is used"
    if not outcome.about.is_provided:
        uses = "it has apply_replicate, which apply_ddp is still called for"
    return (
        f"torchtitan is a dependency here{inert(outcome.about.dependency.known)}, and "
        f"{uses}: {_places(outcome.to_do)} to {'see to' if left else 'migrate'}."
    )


def _places(findings: Collection[Finding]) -> str:
    places = f"{len(findings)} place{'' if len(findings) == 1 else 's'}"
    files = len({finding.path for finding in findings})
    return f"{places} in {files} file{'' if files == 1 else 's'}"


def target_line(changeset: Changeset) -> str:
    """Which target was taken and why."""
    target = changeset.outcome.target
    api = (
        "replicate(mesh=...) on a 1-D mesh"
        if target.mesh == "1d"
        else "replicate(device_mesh=...) on a 2-D mesh"
    )
    return inert(
        f"Target {target.mesh} ({target.reason}): {api}, function {target.function_name}."
    )


def selection_line(changeset: Changeset) -> str | None:
    """What was left out on request, or None."""
    outcome = changeset.outcome
    rules = ", ".join(_families(outcome.selection.left_out))
    parts = [f"rules {rules}"] if rules else []
    if outcome.selection.exclude:
        files = len(outcome.excluded)
        parts.append(f"{files} Python file{'' if files == 1 else 's'} by exclude")
        if not files:
            parts[-1] += f" (patterns count from {changeset.checkout.root})"
    return inert(f"Left out: {'; '.join(parts)}.") if parts else None


def _families(codes: tuple[str, ...]) -> Iterator[str]:
    """The codes, a whole family (TM2xx) as one."""
    for family, members in groupby(codes, key=lambda code: code[:3]):
        listed = list(members)
        whole = [rule for rule in all_rules() if rule.CODE.startswith(family)]
        yield from [f"{family}xx"] if len(listed) == len(whole) else listed


def text(changeset: Changeset, verbose: bool = False) -> Iterator[str]:
    """Every place that has to change, then hazards, with code to write.

    Args:
        changeset: what was found.
        verbose: show what is done already and what opted out too.
    """
    findings = changeset.findings
    shown = ("rewrite", "done", "opted-out") if verbose else ("rewrite",)
    for finding in findings:
        if finding.status in shown:
            yield from _place(finding)
    yield from hazards(changeset)
    yield from remarks(changeset)
    left = [finding for finding in findings if finding.status == "left"]
    if left:
        yield "Left for a person, with the code to write; nothing is written before:"
    for finding in left:
        yield from _place(finding)
    yield from besides(changeset)
    yield from totals(findings)


def besides(changeset: Changeset) -> Iterator[str]:
    """Why nothing would be written, where no finding says so already, under a line on it."""
    problems = problems_besides(changeset)
    if problems:
        yield "For a person to see to first; nothing is written before:"
    for problem in problems:
        yield f"  {inert(problem)}"


def totals(findings: Collection[Finding]) -> Iterator[str]:
    """How many places there are of each kind, in one line; none where there are none."""
    counts: Counter[str] = Counter(finding.status for finding in findings)
    if counts:
        words = {**_WORDS, "hazard": "hazard" if counts["hazard"] == 1 else "hazards"}
        told = [f"{counts[s]} {words[s]}" for s in words if counts[s]]
        yield ", ".join([*told[:-1], f"{told[-1]}{_severities(findings)}"]) + "."


def rewritten(
    changeset: Changeset, verbose: bool = False, heading: str = "Rewritten"
) -> Iterator[str]:
    """What was rewritten, file by file.

    Args:
        changeset: what was written.
        verbose: place by place instead.
        heading: what stands before how much it is.
    """
    done = [f for f in changeset.findings if f.status == "rewrite"]
    if done:
        yield f"{heading}: {_places(done)}."
    for path, places in groupby(done, key=lambda finding: finding.path):
        if verbose:
            for finding in places:
                yield inert(
                    f"  {path}:{finding.line}: {finding.code} {finding.message}"
                )
        else:
            codes = sorted({finding.code for finding in places})
            yield inert(f"  {path}: {', '.join(codes)}")
    yield from remarks(changeset)


def remarks(changeset: Changeset) -> Iterator[str]:
    """What was asked for, or could not be shown, and is to be known before it is merged."""
    yield from _alone(changeset)
    yield from _unconfirmed(changeset)


def _alone(changeset: Changeset) -> Iterator[str]:
    """What opted out although the rest of what it belongs to is rewritten."""
    codes = {f.code for f in changeset.findings if f.status == "rewrite"}
    for finding in changeset.findings:
        if finding.code not in SHARED or finding.status != "opted-out":
            continue
        if codes & set(step_of(finding.code, changeset.outcome.target).codes):
            yield inert(
                f"{finding.path}:{finding.line}: {finding.code} [opted out] and yet the rest "
                f"needs it: {finding.message}. Be sure that your code does so by itself."
            )


def _unconfirmed(changeset: Changeset) -> Iterator[str]:
    """What was written and could not be executed beside what was there."""
    found = changeset.outcome.unconfirmed
    if found:
        yield "Read by nobody but you: these could not be executed before and after."
    for (path, function), why in sorted(found.items()):
        yield inert(f"  {path}: {function}: {why}")


def hazards(changeset: Changeset) -> Iterator[str]:
    """The hazards together, under a line that says what they are."""
    found = [f for f in changeset.findings if f.status == "hazard"]
    if found:
        silent = any(finding.severity == "silent" for finding in found)
        yield (
            "Hazards, for a person to look at (`titan-migrate explain CODE` says more; a "
            "line that is fine opts out with `# titan-migrate: ignore[CODE]`)"
            + (
                ", silent ones first, where nothing raises and figures are wrong"
                * silent
            )
            + ":"
        )
    for finding in worst_first(found):
        yield from _place(finding)


def _severities(findings: Collection[Finding]) -> str:
    """`` (1 silent, 2 notes)``, of hazards; nothing where there are none."""
    counts = Counter(str(f.severity) for f in findings if f.status == "hazard")
    notes = "note" if counts["note"] == 1 else "notes"
    words = {"silent": "silent", "loud": "loud", "note": notes}
    told = [f"{counts[s]} {word}" for s, word in words.items() if counts[s]]
    return f" ({', '.join(told)})" if told else ""


def precision(changeset: Changeset) -> str | None:
    """What becomes of the precision of a job, in one sentence; None where nothing does."""
    for finding in changeset.findings:
        if finding.code == "TM214" and finding.status == "hazard":
            return inert(f"Precision: {finding.message}.")
    return None


def _place(finding: Finding) -> Iterator[str]:
    hazard = finding.status == "hazard"
    what = kind_of(finding.severity) if hazard else _WORDS[finding.status]
    yield inert(
        f"{finding.path}:{finding.line}: {finding.code} [{what}] {finding.message}"
    )
    if finding.suggestion:
        for line in finding.suggestion.split("\n"):
            yield "    | " + inert(line, keep="\t")


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
