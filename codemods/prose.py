"""What documentation says of DDP, and whether it is about this checkout."""

import re
from collections.abc import Iterator

from codemods.survey import OLD
from codemods.texts import TextFile
from codemods.wording import NAME, SENTENCES, of_replicate

_WORDS = (b"DDP", b"DistributedDataParallel", b"apply_ddp", b"data_parallel_shard")

# Only torchtitan has these, so that a section which names one is about it.
_OURS = re.compile(
    r"data_parallel_replicate_degree|dp_replicate|(?<![.\w])apply_ddp\b|\bapply_fsdp\b|"
    r"\bmaybe_enable_amp\b|\bParallelDims\b"
)
_KINDS = r"(?:FSDP2?|HSDP|TP|PP|CP|EP|fully_shard)"
_JOINT = r"\s*(?:,|/|\+|\||&|\band\b|\bor\b|, (?:and|or))\s*"
_AMONG_OTHERS = re.compile(rf"\b{_KINDS}{_JOINT}DDP\b|\bDDP{_JOINT}{_KINDS}\b")
_OF_OTHERS = re.compile(
    r"Megatron|DeepSpeed|Accelerate|Lightning|Horovod|Hugging ?Face|\bHF\b|FairScale|"
    r"fairseq|vLLM|DiLoCo|torchft|TorchFT|SimpleFSDP|simple_fsdp|OLMo|Composer|nanoGPT|"
    r"arxiv|\bpaper\b|et al\.|docs\.pytorch\.org|pytorch\.org/(?:docs|tutorials)",
    re.I,
)
_LIMITS = re.compile(
    r"\bnot\b|n't\b|\bonly\b|cannot|\bno\b|unsupported|incompatib|\b1-?D\b|without",
    re.I,
)
_WRAPS = re.compile(
    r"bucket|reducer|\bwhole\b|entire|\bhook|find_unused|no_sync|static_graph", re.I
)
_AUTOCAST = re.compile(r"autocast|\bAMP\b")
_STARTS = re.compile(r"\s*(?:[-*+|>#]|\d+[.)]\s|```)")

_COMPOSES = "replicate composes with tensor and pipeline parallelism."
_GROUPS = (
    "replicate wraps the model in the groups in which apply_fsdp does; it has no buckets, "
    "hooks or reducer of DDP's."
)
_CASTS = (
    "Under replicate mixed precision comes by its policy, as under FSDP; autocast is for a "
    "single device."
)


def lies(file: TextFile, function_name: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not so after the migration, each with what to write.

    Args:
        file: documentation, or a guide.
        function_name: what ``apply_ddp`` is called then.
    """
    if not any(word in file.raw for word in _WORDS):
        return
    for section in _sections(file.lines):
        ours = any(_OURS.search(text) for _, text in section)
        for block in _blocks(section):
            yield from _of_block(block, ours, function_name)


Lines = list[tuple[int, str]]


def _sections(lines: list[str]) -> Iterator[Lines]:
    """The lines with their numbers, cut at headings."""
    section: Lines = []
    fenced = False
    for number, text in enumerate(lines, 1):
        if text.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        if not fenced and re.match(r"#{1,6}\s", text):
            yield section
            section = []
        section.append((number, text))
    yield section


def _blocks(section: Lines) -> Iterator[Lines]:
    """Paragraphs, items of lists and rows of tables."""
    block: Lines = []
    for number, text in section:
        if not text.strip() or _STARTS.match(text):
            yield block
            block = []
        block.append((number, text))
    yield block


def _of_block(
    block: Lines, ours: bool, function_name: str
) -> Iterator[tuple[int, str]]:
    whole = "\n".join(text for _, text in block)
    for sentence in SENTENCES:
        found = sentence.loose.search(whole)
        if found:
            yield block[whole[: found.start()].count("\n")][0], sentence.instead
            return
    if not NAME.search(whole) and not re.search(rf"(?<![.\w]){OLD}\b", whole):
        return
    gone = function_name != OLD and re.search(rf"(?<![.\w]){OLD}\b", whole)
    about_us = ours or _AMONG_OTHERS.search(whole)
    if not gone and (not about_us or _OF_OTHERS.search(whole)):
        return
    # Of what else a sentence says, more may be untrue than the name.
    advice = next(
        (
            said
            for pattern, said in (
                (_AUTOCAST, _CASTS),
                (_WRAPS, _GROUPS),
                (_LIMITS, _COMPOSES),
            )
            if NAME.search(whole) and pattern.search(whole)
        ),
        None,
    )
    if advice is None and function_name == OLD:
        return  # as this fork goes on to call it
    for number, text in block:
        fresh = re.sub(rf"(?<![.\w]){OLD}\b", function_name, of_replicate(text.strip()))
        if fresh != text.strip():
            yield number, advice or fresh
