"""TM224: parameters that replicate cannot wrap."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import functions, inside_modules, is_block, is_model
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
# one dimension; checkpoints have [] in its place
nn.Parameter(torch.tensor(1.0).reshape(1))
""",
)

_MAKERS = {"ones", "zeros", "empty", "rand", "randn", "full"}
_OF_NUMBERS = {"tensor", "scalar_tensor", "as_tensor"}
_REDUCES = {"sum", "mean", "max", "min", "prod", "std", "norm", "amax", "amin"}
_KEEPS_SHAPE = {
    *("clone", "detach", "to", "cuda", "cpu", "float", "double", "half", "bfloat16"),
    *(
        "log",
        "exp",
        "sqrt",
        "abs",
        "neg",
        "requires_grad_",
        "mul",
        "div",
        "add",
        "log_",
    ),
    *("fill_", "normal_", "uniform_", "zero_", "sigmoid", "logit", "contiguous"),
}
_COUNTS = re.compile(r"^((math|np|numpy)\.\w+|float|int|abs|min|max)$")
"""What gives a number."""

_HOLDERS = {"Parameter", "ParameterList", "ParameterDict"}

_TURNS = {"t", "transpose", "permute", "expand", "swapaxes", "movedim", "expand_as"}
_TURNED = {"T", "mT", "H", "mH"}
_OTHER_DTYPES = {"bfloat16", "float16", "half", "float64", "double"}
_CASTS = {"float", "half", "bfloat16", "double"}
_STATEMENT = re.compile(
    rb"^[ \t]*[\w.\[\]\"']+\.(float|half|bfloat16|double)\(\)", re.MULTILINE
)


def find(facts: Facts) -> Iterator[Finding]:
    words = [f"{holder}(" for holder in sorted(_HOLDERS)]
    for file in facts.in_training(*words, *(f".{cast}()" for cast in _CASTS)):
        holds = any(file.mentions(word.encode()) for word in words)
        if holds or file.found(_STATEMENT):
            yield from file.all(_in_file)


def _in_file(file: SourceFile) -> tuple[Finding, ...]:
    found: list[Finding] = []
    inside = inside_modules(file.syntax)
    for node in nodes(file.syntax):
        if isinstance(node, ast.Call):
            for made in _held(node):
                found += _parameter(file, node, made)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found += _cast(file, node.value, id(node) in inside)
    return tuple(found)


def _held(call: ast.Call) -> list[ast.expr]:
    """The tensors that a call makes parameters of."""
    name = spelled(call.func).rpartition(".")[2]
    named = {word.arg: word.value for word in call.keywords}
    first = call.args[0] if call.args else named.get("data", named.get("values"))
    if name not in _HOLDERS or first is None:
        return []
    if name == "Parameter":
        return [first]
    if isinstance(first, ast.Dict):
        return first.values
    if isinstance(first, ast.ListComp | ast.GeneratorExp):
        return [first.elt]
    if isinstance(first, ast.DictComp):
        return [first.value]
    return first.elts if isinstance(first, ast.List | ast.Tuple) else []


def _parameter(file: SourceFile, call: ast.Call, made: ast.expr) -> Iterator[Finding]:
    shown = spelled(made)
    if is_scalar(file, call, made):
        whole = f"({shown})" if isinstance(made, ast.BinOp | ast.UnaryOp) else shown
        yield Finding(
            file.path,
            call.lineno,
            CODE,
            f"{shown} has no dimensions: replicate raises ValueError on such a parameter",
            "hazard",
            "# one dimension; checkpoints have [] in its place\n"
            f"nn.Parameter({whole}.reshape(1))",
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


@dataclass(frozen=True)
class _Sight:
    """What names stand for at a place of a file."""

    file: SourceFile
    place: ast.Call
    depth: int = 0

    def of(self, name: str) -> list[ast.expr | None]:
        """What a name is assigned or annotated as, around the place; None is not known."""
        around = [
            function
            for function in functions(self.file.syntax)
            if function.lineno <= self.place.lineno <= (function.end_lineno or 0)
        ]
        for scope in sorted(around, key=lambda function: -function.lineno):
            found = list(_assigned(scope, name))
            found += _given(scope.args, name)
            if found:
                return found
        top = [n for n in self.file.syntax.body if isinstance(n, _ASSIGNS)]
        return [value for node in top for value in _assigned(node, name)]


_ASSIGNS = ast.Assign | ast.AnnAssign
_SOME_NUMBER = ast.Constant(0.0)


def _given(arguments: ast.arguments, name: str) -> list[ast.expr | None]:
    """What a parameter of that name is by its annotation or its default."""
    every = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(every) - len(arguments.defaults)) + arguments.defaults
    pairs = [
        *zip(every, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [
        _SOME_NUMBER
        if argument.annotation and spelled(argument.annotation) in ("float", "int")
        else default
        for argument, default in pairs
        if argument.arg == name
    ]


def _assigned(tree: ast.AST, name: str) -> Iterator[ast.expr | None]:
    for node in nodes(tree):
        if isinstance(node, _ASSIGNS):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                yield node.value


def is_scalar(file: SourceFile, place: ast.Call, made: ast.expr) -> bool:
    """Whether an expression at a place gives a tensor without dimensions.

    Args:
        file: whose.
        place: a call around it or beside it.
        made: the expression.
    """
    return _is_scalar(_Sight(file, place), made)


def _is_scalar(sight: _Sight, made: ast.expr) -> bool:
    if isinstance(made, ast.UnaryOp):
        return _is_scalar(sight, made.operand)
    if isinstance(made, ast.BinOp):
        one, other = _is_scalar(sight, made.left), _is_scalar(sight, made.right)
        if one and other:
            return True
        rest = made.right if one else made.left
        return (one or other) and _is_number(sight, rest, loosely=True)
    if isinstance(made, ast.Name):
        values = sight.of(made.id) if sight.depth < _DEPTH else []
        deeper = replace(sight, depth=sight.depth + 1)
        return bool(values) and all(
            value is not None and _is_scalar(deeper, value) for value in values
        )
    if isinstance(made, ast.Subscript):
        return _is_element(made)
    if isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute):
        return _is_scalar_call(sight, made, made.func)
    return False


_DEPTH = 4


def _is_element(made: ast.Subscript) -> bool:
    """``torch.zeros(1)[0]``."""
    key, of = made.slice, made.value
    number = isinstance(key, ast.Constant) and isinstance(key.value, int)
    return (
        number
        and isinstance(of, ast.Call)
        and spelled(of.func).removeprefix("torch.") in _MAKERS
        and len(of.args) == 1
        and not isinstance(of.args[0], ast.List | ast.Tuple | ast.Starred)
    )


def _is_scalar_call(sight: _Sight, made: ast.Call, function: ast.Attribute) -> bool:
    named = {word.arg: word.value for word in made.keywords}
    name, on = function.attr, function.value
    if spelled(on) != "torch":
        if name in ("reshape", "view"):
            return bool(made.args) and _is_empty(made.args[0])
        if name in _REDUCES and not made.args and not made.keywords:
            return _is_tensor(on)
        if name == "squeeze" and not made.args and isinstance(on, ast.Call):
            return spelled(on).partition("(")[2] in ("1)", "1, 1)") and _is_tensor(on)
        return name in _KEEPS_SHAPE and _is_scalar(sight, on)
    first = made.args[0] if made.args else named.get("size", named.get("data"))
    if first is None:
        return False
    if name in _MAKERS:
        return _is_empty(first)
    if name in _OF_NUMBERS:
        return _is_number(sight, first)
    return name in _KEEPS_SHAPE and _is_scalar(sight, first)


def _is_empty(size: ast.expr) -> bool:
    """``()``, ``[]``, ``torch.Size([])``."""
    if isinstance(size, ast.Call) and spelled(size.func) in ("torch.Size", "tuple"):
        return not size.args or _is_empty(size.args[0])
    return isinstance(size, ast.List | ast.Tuple) and not size.elts


def _is_tensor(node: ast.expr) -> bool:
    """Whether it is made by torch in sight, so that a reduction of it has no dimensions."""
    return isinstance(node, ast.Call) and spelled(node.func).startswith("torch.")


def _is_number(sight: _Sight, node: ast.expr, loosely: bool = False) -> bool:
    """Whether an expression is a number; loosely also where nothing is known of a name."""
    if isinstance(node, ast.UnaryOp):
        return _is_number(sight, node.operand, loosely)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.BinOp):
        sides = node.left, node.right
        sure = any(_is_number(sight, side) for side in sides)
        return sure and all(_is_number(sight, side, loosely=True) for side in sides)
    if isinstance(node, ast.Call):
        return _COUNTS.match(spelled(node.func)) is not None
    if isinstance(node, ast.Attribute):
        return loosely or spelled(node) in ("math.pi", "math.e", "np.pi")
    if isinstance(node, ast.Name):
        values = sight.of(node.id) if sight.depth < _DEPTH else []
        deeper = replace(sight, depth=sight.depth + 1)
        known = [v for v in values if v is not None]
        if not known:
            return loosely
        return all(_is_number(deeper, v, loosely) for v in known) and (
            loosely or len(known) == len(values)
        )
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
