"""TM224: parameters that replicate cannot wrap."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import inside_modules, is_block, is_model
from codemods.nodes import nodes, spelled
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM224"
TITLE = "parameters that replicate refuses"
SEVERITY: Severity = "loud"
WHAT = "A parameter is a scalar, is not contiguous, or has a dtype of its own."
WHY = """\
DDP takes any parameter. replicate raises ValueError on one without dimensions,
NotImplementedError on one that is not contiguous, and AssertionError at the first forward
where the parameters of one group have two dtypes.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13: DDP trains all three.
"""
RISK = """\
The model is not wrapped, or fails in its first step. A scalar that becomes a tensor of one
element has another shape in checkpoints.
"""
PROOF = """\
Where the model is one that torchtitan's trainer builds, a rank of the migrated tree "failed
with" it in `dp`; name the model by --model.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/head.py",
    before="""\
        self.temperature = nn.Parameter(torch.tensor(1.0))
""",
    after="""\
nn.Parameter(torch.ones(1))  # one dimension; checkpoints have [] in its place
""",
)

_TURNS = {"t", "transpose", "permute", "expand", "swapaxes", "movedim", "expand_as"}
_TURNED = {"T", "mT", "H", "mH"}
_OTHER_DTYPES = {"bfloat16", "float16", "half", "float64", "double"}
_CASTS = {"float", "half", "bfloat16", "double"}
_STATEMENT = re.compile(
    rb"^[ \t]*[\w.\[\]\"']+\.(float|half|bfloat16|double)\(\)", re.MULTILINE
)


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training("Parameter(", *(f".{cast}()" for cast in _CASTS)):
        if not file.mentions(b"Parameter(") and not file.found(_STATEMENT):
            continue
        inside = inside_modules(file.syntax)
        for node in nodes(file.syntax):
            if isinstance(node, ast.Call) and node.args:
                if spelled(node.func).rpartition(".")[2] == "Parameter":
                    yield from _parameter(file, node)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                yield from _cast(file, node.value, id(node) in inside)


def _parameter(file: SourceFile, call: ast.Call) -> Iterator[Finding]:
    made = call.args[0]
    shown = spelled(made)
    if _is_scalar(made):
        yield Finding(
            file.path,
            call.lineno,
            CODE,
            f"{shown} has no dimensions: replicate raises ValueError on such a parameter",
            "hazard",
            "nn.Parameter(torch.ones(1))  # one dimension; checkpoints have [] in its place",
        )
    elif _is_turned(made):
        yield Finding(
            file.path,
            call.lineno,
            CODE,
            f"{shown} is not contiguous: replicate raises NotImplementedError on such a "
            "parameter",
            "hazard",
            f"nn.Parameter({shown}.contiguous())",
        )
    else:
        for dtype in _dtypes(made):
            yield Finding(
                file.path,
                call.lineno,
                CODE,
                f"a parameter in {dtype} of its own: replicate raises AssertionError where the "
                "others of its group have another dtype",
                "hazard",
                "# let mp_policy choose what is computed in, or wrap what holds it by itself:\n"
                "# replicate(module, **replicate_config), before the block around it",
            )


def _is_scalar(made: ast.expr) -> bool:
    if isinstance(made, ast.BinOp):
        return _is_scalar(made.left) and (
            isinstance(made.right, ast.Constant | ast.Attribute | ast.Name)
            or _is_scalar(made.right)
        )
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Attribute):
        return False
    if spelled(made.func.value) != "torch" or not made.args:
        return False
    first = made.args[0]
    if made.func.attr in ("ones", "zeros", "empty", "rand", "randn", "full"):
        return isinstance(first, ast.List | ast.Tuple) and not first.elts
    if made.func.attr in ("tensor", "scalar_tensor"):
        while isinstance(first, ast.UnaryOp):
            first = first.operand
        number = isinstance(first, ast.Constant) and isinstance(
            first.value, int | float
        )
        return number or spelled(first).startswith(("math.", "np.log", "float("))
    return False


def _is_turned(made: ast.expr) -> bool:
    """Whether a view of another layout is the last that was made of it."""
    if isinstance(made, ast.Attribute):
        return made.attr in _TURNED
    if isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute):
        if made.func.attr in ("clone", "detach", "data"):
            return _is_turned(made.func.value)
        return made.func.attr in _TURNS and spelled(made.func.value) != "torch"
    return False


def _dtypes(made: ast.expr) -> Iterator[str]:
    if isinstance(made, ast.Call):
        for keyword in made.keywords:
            shown = spelled(keyword.value)
            if keyword.arg == "dtype" and shown.removeprefix("torch.") in _OTHER_DTYPES:
                yield shown


def _cast(file: SourceFile, call: ast.Call, in_module: bool) -> Iterator[Finding]:
    """``block.router.float()`` as a statement: a module's parameters get another dtype."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _CASTS:
        return
    on = call.func.value
    if not isinstance(on, ast.Attribute) or is_model(on):
        return
    mine = in_module and spelled(on.value) == "self"
    if mine or is_model(on.value) or is_block(on.value):
        yield Finding(
            file.path,
            call.lineno,
            CODE,
            f"{spelled(call)} gives these parameters a dtype of their own: replicate "
            "raises AssertionError where the others of their group have another",
            "hazard",
            f"replicate({spelled(on)}, **replicate_config)  # a group of its own, before "
            "the block around it",
        )
