"""What is said of DDP in prose, and how the same is said of replicate."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from codemods import layout

About = Literal["compute", "reduce", "method"]
"""What a sentence of the help is about: the dtype to compute in, the one to reduce in,
or which kind of data parallelism is used."""

_LONG = r"Distributed[ -]?Data[ -]?Parallel(?:ism)?"
NAME = re.compile(
    rf"\b(?:{_LONG}\s*\(DDP\)|DDP\s*\({_LONG}\)|DistributedDataParallel|DDP)(?!\w)"
)
"""Each way in which DDP is named."""


def of_replicate(words: str) -> str:
    """A sentence on DDP, said of replicate."""
    return NAME.sub("replicate", words).replace("(replicate) replicate", "replicate")


@dataclass(frozen=True)
class Sentence:
    """A sentence of the configuration's help that is not so under replicate.

    Args:
        about: what it says something of.
        loose: it, in whatever words.
        exact: those of its words for which others can be put; a space is any white space.
        fresh: these others.
        besides: (words, others) to put in the same text then.
        instead: what to say, for a person.
    """

    about: About
    loose: re.Pattern[str]
    exact: re.Pattern[str]
    fresh: str
    besides: tuple[re.Pattern[str], str] | None
    instead: str


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(" ", r"\s+"))


# As they stand in torchtitan's configuration from 2024 to 0.3.0.
SENTENCES = (
    Sentence(
        "compute",
        re.compile(r"via\s+torch\.autocast\b.{0,200}?\bDDP\b", re.S),
        _words(
            r"via torch\.autocast when [^.;]*?i\.e\. under DDP or single-device training"
        ),
        "via replicate when data_parallel_replicate_degree > 1 without sharding, and via "
        "torch.autocast when no parallelism is enabled, i.e. under single-device training",
        (
            _words(r"via fully_shard or torch\.autocast"),
            "via fully_shard, replicate or torch.autocast",
        ),
        "This feature takes effect via fully_shard or replicate under any data parallelism, "
        "and via torch.autocast on a single device.",
    ),
    Sentence(
        "reduce",
        re.compile(
            r"only\s+takes?\s+effect\s+when\s+data_parallel_shard_degree\s*>\s*1"
        ),
        _words(r"only takes effect when data_parallel_shard_degree > 1(?! and\b)"),
        "takes effect when data_parallel_shard_degree > 1 or data_parallel_replicate_degree > 1",
        (
            _words(r"mixed precision via FSDP\b"),
            "mixed precision via FSDP or replicate",
        ),
        "This feature takes effect under any data parallelism, via fully_shard or replicate.",
    ),
    Sentence(
        "method",
        re.compile(r"parallelism\s+method\s+used\s+is\s+DDP\b[^.\n]*"),
        _words(rf"parallelism method used is DDP\b(?: \({_LONG}\))?"),
        "parallelism method used is replicate (composable replication, built on FSDP2)",
        None,
        "Otherwise, the parallelism method used is replicate.",
    ),
)


def reworded(raw: str, about: Collection[About], room: int = layout.WIDTH) -> str:
    """A string literal with its sentences made true.

    Args:
        raw: as it is written, in its quotes, with ``\\n`` as line ends.
        about: which sentences.
        room: columns that a line may take; those that are there already may be longer.
    """
    for sentence in SENTENCES:
        found = sentence.exact.search(raw)
        if sentence.about not in about or found is None:
            continue
        raw = _put(raw, found, sentence.fresh, room)
        if sentence.besides:
            pattern, fresh = sentence.besides
            more = pattern.search(raw)
            raw = _put(raw, more, fresh, room) if more else raw
    return raw


def _put(raw: str, found: re.Match[str], fresh: str, room: int) -> str:
    """``fresh`` in the place of a match, broken where lines get too long."""
    start = raw.rfind("\n", 0, found.start()) + 1
    end = raw.find("\n", found.end())
    end = len(raw) if end < 0 else end
    if "\n" not in raw:
        return raw[: found.start()] + fresh + raw[found.end() :]
    # The first line of a literal stands behind what it is the value of: the next tells.
    sample = raw[start:] if start else raw[raw.index("\n") + 1 :]
    indent = re.match(r"[ \t]*", sample)
    margin = indent[0] if indent else ""
    room = max(room, *map(len, raw[start:end].split("\n")))
    first, tail = raw[start : found.start()].rstrip(" "), raw[found.end() : end]
    shift = 0 if start else len(margin)
    lines = _filled(first, fresh + tail, margin, room, shift)
    # What no longer fits goes on in the line after, up to the end of the sentence.
    while len(lines) > 1 and not tail.rstrip().endswith((".", ":", ";")):
        after = raw.find("\n", end + 1)
        line = raw[end + 1 : after] if after >= 0 else ""
        if not line.strip(" \t\"'"):
            break
        tail, end = f"{tail} {line.strip()}", after
        lines = _filled(first, fresh + tail, margin, room, shift)
    return raw[:start] + "\n".join(lines) + raw[end:]


def _filled(first: str, words: str, margin: str, room: int, shift: int) -> list[str]:
    """Words in lines, the first of which begins with something and stands ``shift`` further on."""
    lines = [first]
    # "> 1" stays whole.
    for word in re.split("(?<!>) (?!>)", words):
        spaced = f"{lines[-1]} {word}" if lines[-1].strip() else margin + word
        if len(spaced) + (shift if len(lines) == 1 else 0) <= room:
            lines[-1] = spaced
        else:
            lines.append(margin + word)
    return lines
