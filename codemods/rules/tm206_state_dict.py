"""TM206: a state dict that leaves for another process."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.plans import Facts, standalone

CODE = "TM206"
TITLE = "state dicts that now hold DTensors"
SEVERITY: Severity = "loud"
WHAT = "A trainer of its own takes a state dict, which now holds DTensors."
WHY = """\
Under DDP state_dict() held plain tensors; under replicate it holds DTensors. Torch's
distributed checkpoint takes both. Code that hands the dict to another process, or to
a library that knows no DTensor, needs full tensors first.
"""
UPSTREAM = """\
None. The RL trainer of 0.2.1 and 0.2.2 hands its state dict to another process.
"""
RISK = """\
The process that receives it may have no such mesh: loading fails there, far from the
cause.
"""
PROOF = """\
It does not: only torchtitan's own trainer is run. `dp-checkpoint` and `export` (not in
--quick) show that its checkpoints are read as before. Run the receiving process.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/experiments/rl/unified/actors/trainer.py",
    before="""\
        titan_state = self.model.state_dict()
        return {name.replace("tok_", ""): w for name, w in titan_state.items()}
""",
    after="""\
# from torch.distributed.tensor import DTensor
state = {
    name: value.full_tensor() if isinstance(value, DTensor) else value
    for name, value in self.model.state_dict().items()
}
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    for site in facts.survey.call_sites:
        if not standalone(site) or not site.node.args:
            continue
        path = site.reference.path
        model = ast.unparse(site.node.args[0])
        syntax = facts.survey.files[path].syntax
        cured = _cured(syntax)
        for node in nodes(syntax):
            if id(node) not in cured and (
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


def _cured(syntax: ast.Module) -> set[int]:
    """The ids of all nodes in statements that ask for full tensors themselves."""
    return {
        id(node)
        for statement in nodes(syntax)
        if isinstance(
            statement, (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr, ast.For)
        )
        if "full_tensor()" in ast.unparse(statement)
        for node in nodes(statement)
    }
