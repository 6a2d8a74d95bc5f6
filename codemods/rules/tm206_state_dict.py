"""TM206: a state dict that leaves for another process."""

import ast
from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM206"
TITLE = "state dicts that now hold DTensors"
WHY = """\
Under DDP state_dict() held plain tensors; under replicate it holds DTensors. Torch's
distributed checkpoint takes both. Code that hands the dict to another process, or to
a library that knows no DTensor, needs full tensors first.
"""


def find(facts: Facts) -> Iterator[Finding]:
    for call in facts.calls:
        if not call.standalone:
            continue
        path = call.site.reference.path
        model = call.arguments[0]
        for node in ast.walk(facts.survey.files[path].syntax):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "state_dict"
                and ast.unparse(node.func.value) == model
            ):
                yield Finding(
                    path,
                    node.lineno,
                    CODE,
                    f"{model}.state_dict() holds DTensors from now on; whoever receives it "
                    "outside of this process group needs full tensors",
                    "hazard",
                    "{\n"
                    "    name: value.full_tensor() if isinstance(value, DTensor) else value\n"
                    f"    for name, value in {model}.state_dict().items()\n"
                    "}",
                )
