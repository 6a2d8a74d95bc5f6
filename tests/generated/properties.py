"""What has to hold of the migration of every program."""

import re
import subprocess
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fakes import REPLICAS, SHARDS, run
from programs import Program

from codemods.engine import WorkedOut, migrate
from codemods.source import SourceFile
from codemods.targets import choose_target
from migrator.changeset import file_diff

_PLACE = re.compile(r"[\w/]+\.py:\d+: ")
_SHARDING_ONLY = ("offload_policy", "reshard_after_forward", "mesh", "device_mesh")
_PARALLEL = ({}, {"tp": 2, "pp": 5})
"""What replication goes with."""

_ELSEWHERE = (
    {},
    {"dp_shard": SHARDS},
    {"dp_shard": SHARDS, "tp": 2},
    {"dp_replicate": REPLICAS, "dp_shard": SHARDS},
)


def planned(program: Program, files: Mapping[str, bytes]) -> WorkedOut:
    """What the tool would do with these files of a program."""
    sources = {path: SourceFile(path, raw) for path, raw in files.items()}
    return migrate(sources, choose_target(program.mesh, None))


@dataclass(frozen=True)
class Judged:
    """What was found of a program.

    Args:
        failures: everything that does not hold.
        left: why nothing is written, where a person is told that.
        template: a template stands in where apply_fsdp is not followed.
    """

    failures: Sequence[str]
    left: Sequence[str] = ()
    template: bool = False


def judged(program: Program, *, order: bool = True, patch: bool = True) -> Judged:
    """What holds of a program, and what does not.

    Args:
        program: the checkout.
        order: also migrate its files in another order.
        patch: also apply the difference with git.
    """
    outcome = planned(program, program.files)
    if outcome.problems or not outcome.changes:
        return Judged([*_left(outcome)], outcome.problems)
    after = {**program.files, **outcome.changes}
    # A template stands in where apply_fsdp is not followed, and a person is told.
    template = any(finding.code == "TM210" for finding in outcome.findings)
    found = [
        *(() if template else _unconfirmed(outcome)),
        *executed(program, after, template),
        *twice(program, after),
        *survives(program, after),
    ]
    if order:
        turned = planned(program, dict(reversed(program.files.items())))
        if (turned.changes, turned.findings) != (outcome.changes, outcome.findings):
            found.append("the order of the files matters")
    if patch:
        found += _applied(program.files, outcome.changes)
    return Judged(found, (), template)


def _left(outcome: WorkedOut) -> Iterator[str]:
    """What is wrong with writing nothing: no place that is left, or another reason."""
    said = [f.message for f in outcome.findings if f.status == "left"]
    if not outcome.problems:
        yield "nothing is written and nothing said"
    for problem in outcome.problems:
        if not _PLACE.match(problem):
            yield f"left without a place: {problem}"
        elif not any(problem.endswith(message) for message in said):
            yield f"refused: {problem}"


def _unconfirmed(outcome: WorkedOut) -> Iterator[str]:
    for place, why in outcome.unconfirmed.items():
        yield f"not confirmed: {place[1]}: {why}"


def executed(
    program: Program, after: Mapping[str, bytes], template: bool
) -> Iterator[str]:
    """What executing the plans shows, before and after."""
    keyword = "device_mesh" if program.mesh == "2d" else "mesh"
    sizes = [REPLICAS, 1] if program.mesh == "2d" else [REPLICAS]
    for plan in program.plans:
        for others in _PARALLEL:
            degrees = {"dp_replicate": REPLICAS, **others}
            wanted, ended = run(program.files, plan, {"dp_shard": REPLICAS, **others})
            got, failed = run(after, plan, degrees)
            if ended:
                yield f"{plan[1]} {others}: FSDP itself raises {ended}"
            elif failed:
                yield f"{plan[1]} {degrees}: raises {failed}"
            elif not template and (one := [*_shown(wanted)]) != (
                other := [*_shown(got)]
            ):
                yield f"{plan[1]}: differs: {_first(one, other)} with {degrees}"
            for event in got:
                mesh = event[2].get(keyword) if len(event) > 2 and event[0] == "replicate" else None  # fmt: skip
                if mesh and [int(n) for n in re.findall(r": (\d+)", mesh)] != sizes:
                    yield f"{plan[1]} {degrees}: replicates over {mesh}"
            if any(event[0] in ("ddp", "fully_shard") for event in got):
                yield f"{plan[1]} {degrees}: wraps in another way"
            if not any(event[0] == "replicate" for event in got):
                yield f"{plan[1]} {degrees}: does not replicate"
        for degrees in _ELSEWHERE:
            before, now = (
                run(files, plan, degrees) for files in (program.files, after)
            )
            if before != now and degrees != {} or [e for e in now[0] if e[0] == "replicate"]:  # fmt: skip
                yield f"{plan[1]}: differs elsewhere: {_first(before[0], now[0])} {now[1]} {before[1]} with {degrees}"


def _first(one: Iterable[object], other: Iterable[object]) -> str:
    """Where two lists part."""
    for left, right in zip_longest(one, other):
        if left != right:
            return f"it does {right}, where {left}"
    return "it ends otherwise"


def _shown(events: Iterable[tuple[Any, ...]]) -> Iterator[object]:
    """Groups, without their mesh and what only FSDP takes, and how gradients are divided."""
    for kind, *rest in events:
        if kind in ("fully_shard", "replicate", "ddp"):
            given = {k: v for k, v in rest[1].items() if k not in _SHARDING_ONLY}
            yield ("group", rest[0], given)
        elif kind == "call" and "gradient" in rest[0]:
            yield rest[0]


def twice(program: Program, after: Mapping[str, bytes]) -> Iterator[str]:
    again = planned(program, after)
    if again.changes or again.problems:
        yield f"a second time {[*again.changes] or again.problems}"
    for finding in again.to_do:
        yield f"a second time {finding.path}:{finding.line}: {finding.message}"


def survives(program: Program, after: Mapping[str, bytes]) -> Iterator[str]:
    """Lines and comments outside of what is rewritten, byte for byte."""
    for path, kept in program.kept.items():
        eol = b"\r\n" if b"\r\n" in program.files[path] else b"\n"
        have = iter(after[path].removeprefix(BOM_UTF8).split(eol))
        for line in kept:
            if not any(line == other for other in have):
                yield f"{path}: it loses {line.decode()!r}"
                break
        for comment in program.comments[path]:
            if comment not in after[path]:
                yield f"{path}: it loses the comment {comment.decode()!r}"
        if eol == b"\r\n" and b"\n" in after[path].replace(b"\r\n", b""):
            yield f"{path}: its lines end in two ways"
        if program.files[path].startswith(BOM_UTF8) > after[path].startswith(BOM_UTF8):
            yield f"{path}: it loses its mark of the order of bytes"
        if program.files[path].endswith(b"\n") != after[path].endswith(b"\n"):
            yield f"{path}: its last line ends otherwise"


def _applied(
    before: Mapping[str, bytes], changes: Mapping[str, bytes]
) -> Iterator[str]:
    """Whether git makes of the difference what would be written."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in changes:
            place = Path(scratch, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(before[path])
        patch = b"".join(file_diff(p, before[p], raw) for p, raw in changes.items())
        done = subprocess.run(
            ["git", "-c", "core.autocrlf=false", "apply", "-"],
            input=patch, capture_output=True, cwd=scratch,
        )  # fmt: skip
        if done.returncode:
            yield f"git does not apply it: {done.stderr.decode()}"
        for path, raw in changes.items():
            if Path(scratch, path).read_bytes() != raw:
                yield f"{path}: git makes something else of the difference"
