"""Where a torchtitan outside of the checkout is started as a program: in scripts, jobs and code."""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from codemods.autocast import of_a_test
from codemods.bindings import Checkout
from codemods.nodes import nodes
from codemods.source import SourceFile
from codemods.texts import TextFile

_RUNS = {"run_module", "run_path", "import_module"}


def launches(checkout: Checkout, texts: Iterable[TextFile]) -> list[tuple[str, int]]:
    """Path and line of the first place of each file that starts torchtitan's own trainer.

    Args:
        checkout: its Python files, in which commands are strings.
        texts: the files that are not Python's; what people read is passed over.
    """
    if checkout.holds_torchtitan:
        return []
    found: list[tuple[str, Iterator[int]]] = [
        (
            text.path,
            (n for n, line in enumerate(text.lines, 1) if _starts(checkout, line)),
        )
        for text in texts
        if text.is_config or text.is_script
    ]
    found += [
        (file.path, _in_code(checkout, file))
        for file in checkout.mentioning(f"{checkout.package}.train", "torchtitan/")
        if not of_a_test(file.path)
    ]
    return [(path, line) for path, lines in found for line in islice(lines, 1)]


def _starts(checkout: Checkout, line: str) -> bool:
    """Whether a line names the module or the file of that trainer, and is no comment."""
    if line.lstrip().startswith("#"):
        return False
    package = re.escape(checkout.package)
    if re.search(rf"(?<![\w./-]){package}\.train(er)?\b", line):
        return checkout.is_of_torchtitan(f"{checkout.package}.train")
    named = re.findall(
        r"[\w./-]*(?<![\w.-])torchtitan/(?:train\.py|run_train\.sh)\b", line
    )
    return any(_is_elsewhere(checkout, path.lstrip("./")) for path in named)


def _is_elsewhere(checkout: Checkout, path: str) -> bool:
    return not any(f"/{own}".endswith(f"/{path}") for own in checkout.own)


def _in_code(checkout: Checkout, file: SourceFile) -> Iterator[int]:
    """The lines of the strings that are a command, or a part of one, and start it."""
    for node in nodes(file.syntax):
        given: Iterable[ast.expr] = ()
        if isinstance(node, (ast.List, ast.Tuple)):
            given = node.elts
        elif isinstance(node, ast.Call):
            named = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = node.args[:1] if named in _RUNS else ()
        elif isinstance(node, ast.Constant) and "-m " in str(node.value):
            given = [node]
        for each in given:
            if isinstance(each, ast.Constant) and _starts(checkout, str(each.value)):
                yield each.lineno
