"""The docstring of ``apply_fsdp``, made to speak of replicate."""

import re

import libcst as cst

_ENTRIES = ("Args:", "Arguments:", "Parameters:")


def docstring_of(apply_fsdp: cst.FunctionDef, parameters: set[str]) -> str | None:
    """The docstring of the new function, indented and with its quotes.

    Args:
        apply_fsdp: whose docstring it was.
        parameters: those that the new function has.
    """
    body = apply_fsdp.body.body
    first = body[0] if body else None
    if isinstance(apply_fsdp.body, cst.IndentedBlock):
        first = first.body[0] if isinstance(first, cst.SimpleStatementLine) else None
    value = first.value if isinstance(first, cst.Expr) else None
    if not isinstance(value, cst.SimpleString):
        return None
    text = _of_parameters(value.raw_value, parameters)
    text = re.sub(r"\n(\s*\n)+(\s*)$", r"\n\2", text)
    text = re.sub(r"\bFSDP2?\b|\bfully_shard\b", "replicate", text)
    return f"    {value.prefix}{value.quote}{text}{value.quote}"


def _of_parameters(docstring: str, parameters: set[str]) -> str:
    """A docstring less what is not a parameter any more, with what has become one."""
    kept: list[str] = []
    entries_at: int | None = None
    keeping = True
    for line in _of_replicate(docstring).split("\n"):
        indent = len(line) - len(line.lstrip())
        if line.strip() in _ENTRIES:
            entries_at = indent + 4
        elif line.strip() and entries_at is not None and indent < entries_at:
            entries_at, keeping = None, True
        elif entries_at is not None and indent == entries_at:
            entry = re.match(r"\s*\*{0,2}(\w+)", line)
            keeping = entry is not None and entry[1] in parameters
        if keeping or not line.strip():
            kept.append(line)
    if "average_gradients" in parameters and "Args:" in docstring:
        pad = re.search(r"^( *)(Args|Arguments|Parameters):", docstring, re.M)
        margin = (pad[1] if pad else "    ") + "    "
        at = max(i for i, line in enumerate(kept) if line.strip()) + 1
        kept.insert(
            at,
            f"{margin}average_gradients (bool, optional): Whether to average gradients "
            "over ranks. Defaults to False.",
        )
    return "\n".join(kept)


def _of_replicate(docstring: str) -> str:
    """A docstring that does not speak of sharding, in its summary or of its mesh."""
    found = re.search(r"\n\s*(Args|Arguments|Parameters):", docstring)
    at = found.start() if found else len(docstring)
    summary, rest = docstring[:at], docstring[at:]
    if re.search(r"\bshard|gather", summary, re.IGNORECASE):
        lead, tail = re.match(r"\s*", summary), re.search(r"\s*$", summary)
        assert lead and tail
        summary = (
            f"{lead[0]}Apply data parallelism (via replicate) to the model.{tail[0]}"
        )
    rest = re.sub(
        r"(\(DeviceMesh\): ).*(?:HSDP|[Ss]hard).*",
        r"\1The mesh to replicate over.",
        rest,
    )
    return summary + rest
