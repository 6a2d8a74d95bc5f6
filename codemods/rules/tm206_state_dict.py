"""TM206: a state dict that leaves for another process."""

import ast
from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts, standalone

CODE = "TM206"
TITLE = "state dicts that now hold DTensors"
WHY = """\
Under DDP state_dict() held plain tensors; under replicate it holds DTensors. Torch's
distributed checkpoint takes both. Code that hands the dict to another process, or to
a library that knows no DTensor, needs full tensors first.
"""


def find(facts: Facts) -> Iterator[Finding]:
    for site in facts.survey.call_sites:
        if not standalone(site) or not site.node.args:
            continue
        path = site.reference.path
        model = ast.unparse(site.node.args[0])
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
                    "# from torch.distributed.tensor import DTensor\n"
                    "state = {\n"
                    "    name: value.full_tensor() if isinstance(value, DTensor) else value\n"
                    f"    for name, value in {model}.state_dict().items()\n"
                    "}",
                )
