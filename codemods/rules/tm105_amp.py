"""TM105: autocast leaves mixed precision to replicate."""

import ast
from collections.abc import Iterator

import libcst as cst

from codemods import edit, layout
from codemods.autocast import (
    FUNCTION,
    REPLICATED,
    WORDS,
    Choice,
    Kind,
    amp_outside,
    choices,
    imports_its_trainer,
    is_autocast,
    of_a_test,
    sets_amp,
    starts_its_trainer,
    trained_outside,
)
from codemods.example import Example
from codemods.findings import Finding, Severity, Status
from codemods.launches import launches
from codemods.names import surely_bound
from codemods.nodes import children, nodes, spelled
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM105"
TITLE = "maybe_enable_amp leaves mixed precision to replicate"
SEVERITY: Severity = "silent"
WHAT = "maybe_enable_amp, or the tree's own choice of autocast, is off where replicate casts by its policy."
WHY = """\
Under DDP mixed precision was autocast. replicate casts by a MixedPrecisionPolicy, so
autocast on top of it would cast twice, and the branch that switches mixed precision
off under tensor or pipeline parallelism would say something untrue. With replicate
norms and softmax run in param_dtype, as they do under FSDP; compare bf16 runs with
FSDP of the same version, and fp32 runs with DDP. A condition that leaves
autocast out for FSDP, in maybe_enable_amp or anywhere else, leaves it out for pure
dp_replicate too; where maybe_enable_amp comes from a torchtitan outside of the
checkout, the call is not made there. Where that torchtitan's Trainer makes it, the
checkout needs a trainer derived from it, which is left for a person to write and to
start. Autocast without such a condition stays: FSDP has it as well.
"""
UPSTREAM = """\
The reviewers of PR 1714 asked for mixed precision by the policy, and so for this
change; PR 2458 made it.
"""
RISK = """\
With autocast left on, a bf16 run may compute like neither FSDP nor DDP: autocast casts
what the policy has cast already. A model whose plan has no replicate branch loses its
autocast (TM207).
"""
PROOF = """\
`dp-bf16` says that the migrated tree "runs under autocast, and FSDP does not". The
other cells train in fp32 and do not show it.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/distributed/utils.py",
    before='''\
def maybe_enable_amp(
    parallel_dims: ParallelDims, mixed_precision_param: str, device_type: str
) -> contextlib.AbstractContextManager[None]:
    """What a forward pass runs under: autocast, or nothing."""
    if parallel_dims.fsdp_enabled:
        # the mixed-precision policy of fully_shard does the casts
        logger.info("Mixed precision training is handled by fully_shard")
        return contextlib.nullcontext()
''',
    after="""\
    if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:
        # the mixed-precision policy of fully_shard or replicate does the casts
        logger.info("Mixed precision training is handled by fully_shard or replicate")
        return contextlib.nullcontext()
""",
)

_LINES = f"if parallel_dims.{REPLICATED}:\n    return contextlib.nullcontext()"


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.functions:
        return
    yield from _bound_otherwise(facts)
    for file in _files(facts):
        found = list(choices(facts.checkout, file))
        for node, scope in _functions(file):
            inside = [c for c in found if _within(c.scope, scope)]
            yield _of_function(facts, file, node, inside)
        for choice in found:
            if FUNCTION not in choice.scope.split("."):
                yield _of_choice(file, choice)
    yield from _left_to_a_trainer_outside(facts)


def _files(facts: Facts) -> Iterator[SourceFile]:
    for file in facts.checkout.mentioning(*WORDS):
        if not of_a_test(file.path):
            yield file


def _functions(file: SourceFile) -> Iterator[tuple[ast.FunctionDef, str]]:
    """Every definition of maybe_enable_amp with its qualified name."""

    def within(node: ast.AST, scope: str) -> Iterator[tuple[ast.FunctionDef, str]]:
        for child in children(node):
            name = getattr(child, "name", None)
            here = scope
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                here = f"{scope}.{name}".lstrip(".")
            if isinstance(child, ast.FunctionDef) and name == FUNCTION:
                yield child, here
            elif not isinstance(child, ast.expr):
                yield from within(child, here)

    if file.mentions(FUNCTION.encode()):
        yield from within(file.syntax, "")


def _within(scope: str, outer: str) -> bool:
    return f"{scope}.".startswith(f"{outer}.")


def _of_function(
    facts: Facts, file: SourceFile, node: ast.FunctionDef, inside: list[Choice]
) -> Finding:
    states = {choice.state for choice in inside}
    status: Status
    if states == {"done"} or not (states or any(map(is_autocast, nodes(node)))):
        status = "done"
    elif file.opted_out(node.lineno, CODE):
        status = "opted-out"
    elif "open" not in states or "unclear" in states or not _have_property(facts):
        return _left(file, node)
    else:
        status = "rewrite"
    message = "replicate does mixed precision by its policy, so no autocast on top"
    return Finding(file.path, node.lineno, CODE, message, status)


def _of_choice(file: SourceFile, choice: Choice) -> Finding:
    if choice.state in ("partly", "unclear"):
        return _unclear(file, choice)
    message = (
        f"{FUNCTION} of a torchtitan outside of this checkout opens autocast under pure "
        "dp_replicate; replicate does mixed precision by its policy, so it is not asked there"
        if choice.kind in ("call", "use")
        else "autocast is left out where FSDP casts by its policy, and so it is for replicate"
    )
    status: Status = "done" if choice.state == "done" else "rewrite"
    if status == "rewrite" and file.opted_out(choice.line, CODE):
        status = "opted-out"
    return Finding(file.path, choice.line, CODE, message, status)


def _unclear(file: SourceFile, choice: Choice) -> Finding:
    suggestion = f"# no autocast where replicate casts\n{_LINES}"
    if choice.kind in ("call", "use"):
        verb = "make" if choice.kind == "call" else "call"
        message = (
            f"this {choice.kind} of {FUNCTION}, which a torchtitan outside of this checkout defines, "
            f"has a shape that is not followed: do not {verb} it under pure dp_replicate, where "
            "replicate does mixed precision"
        )
        made = choice.code
        if choice.kind == "use":
            made += "(parallel_dims, ...)"
        suggestion = (
            f"contextlib.nullcontext() if parallel_dims.{REPLICATED} else {made}"
        )
    else:
        if choice.kind == "enabled":
            suggestion = _enabled(choice.code)
        elif choice.kind == "flag":
            suggestion = f"({choice.code}) and not parallel_dims.{REPLICATED}"
        message = (
            "whether autocast is opened here goes by the kind of data parallelism, in a shape "
            "that is not followed: leave it out where replicate does mixed precision"
        )
    status: Status = "left" if choice.ours else "hazard"
    if file.opted_out(choice.line, CODE):
        status = "opted-out"
    return Finding(file.path, choice.line, CODE, message, status, suggestion)


def _enabled(code: str) -> str:
    """A call of autocast that is not enabled under replicate."""
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    off = ast.parse(f"not parallel_dims.{REPLICATED}", mode="eval").body
    for given in call.keywords:
        if given.arg == "enabled":
            given.value = ast.BoolOp(ast.And(), [given.value, off])
    return ast.unparse(call)


def _left(file: SourceFile, node: ast.stmt) -> Finding:
    return Finding(
        file.path,
        node.lineno,
        CODE,
        f"this {FUNCTION} has a shape that is not followed: return a null context "
        "where replicate does mixed precision",
        "left",
        _LINES,
    )


def _bound_otherwise(facts: Facts) -> Iterator[Finding]:
    """Modules that make the name stand for something that cannot be looked into."""
    for file in facts.checkout.mentioning(FUNCTION):
        for node in file.syntax.body:
            if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):
                bound = {ast.unparse(target) for target in node.targets}
                meant = [ast.unparse(node.value)]
            elif isinstance(node, ast.ImportFrom):
                bound = {n.asname or "" for n in node.names if n.name != FUNCTION}
                meant = [n.asname for n in node.names if n.asname == FUNCTION]
            else:
                continue
            if FUNCTION not in bound or file.opted_out(node.lineno, CODE):
                continue
            if any(c.line == node.lineno for c in choices(facts.checkout, file)):
                continue  # it is left there
            found = facts.checkout.resolve(file.path, "", meant[0])
            if found is None or not facts.checkout.defines(found):
                yield _left(file, node)


def _left_to_a_trainer_outside(facts: Facts) -> Iterator[Finding]:
    """The trainer of a torchtitan outside opens autocast, and nothing here asks it to."""
    if not facts.moves or amp_outside(facts.checkout) in ("off", "gone"):
        return
    found = trained_outside(facts.checkout)
    for file, line, derived in found:
        if derived is not None:
            if not sets_amp(facts.checkout, file, derived):
                yield _trainer(file, line, derived.name)
        elif imports_its_trainer(facts.checkout, file, line) or not any(
            _decides(facts, other) for other in _files(facts)
        ):
            yield _trainer(file, line, "MyTrainer")
            return
    name = next((node.name for _, _, node in found if node), "MyTrainer")
    for file, line, call in starts_its_trainer(facts.checkout) if found else ():
        yield _trainer(file, line, name, f"`{spelled(call)}` starts {_ITSELF}")
    if facts.checkout.holds_torchtitan:
        return
    started = launches(facts.checkout, facts.texts.values())
    if started:
        path, line = started[0]
        what = f"{path}:{line} starts"
        if started[1:]:
            what = f"{path}:{line} and {len(started) - 1} more start"
        what += f" {_ITSELF}"
        yield _trainer(*_in_python(facts, started[0], found), name, what)


_ITSELF = "the trainer of a torchtitan outside of this checkout itself"


def _in_python(
    facts: Facts,
    started: tuple[str, int],
    found: list[tuple[SourceFile, int, ast.ClassDef | None]],
) -> tuple[SourceFile, int]:
    """The line of Python that stands for what a script starts: it can opt out at its end."""
    path, line = started
    if path in facts.survey.files:
        return facts.survey.files[path], line
    if found:
        return found[0][:2]
    sites = [call.site.reference for call in facts.calls]
    path, line = min((site.path, site.line) for site in sites) if sites else ("", 1)
    path = path or min(function.definition.path for function in facts.written())
    return facts.survey.files[path], line


def _trainer(file: SourceFile, line: int, name: str, started: str = "") -> Finding:
    opted_out = file.opted_out(line, CODE)
    what = "the trainer is that of a torchtitan outside of this checkout"
    return Finding(
        file.path,
        line,
        CODE,
        f"{started or what}, and it opens autocast "
        "under pure dp_replicate on top of replicate's mixed-precision policy: switch it off "
        "in a trainer derived from it, and start that, or accept it with "
        '`ignore = ["TM105"]`',
        "opted-out" if opted_out else "left",
        f"{_imports(file)}class {name}(Trainer):\n"
        "    def __init__(self, job_config):\n"
        "        super().__init__(job_config)\n"
        f"        if self.parallel_dims.{REPLICATED}:\n"
        "            self.maybe_enable_amp = contextlib.nullcontext()\n"
        '            if hasattr(self, "validator"):\n'
        "                self.validator.maybe_enable_amp = self.maybe_enable_amp",
    )


def _imports(file: SourceFile) -> str:
    """What a file has to import besides for a trainer of its own."""
    known = {local.split(".")[0] for local in file.names.top.imports}
    needed = {
        "contextlib": "import contextlib\n",
        "Trainer": "from torchtitan.train import Trainer\n",
    }
    lacking = "".join(text for name, text in needed.items() if name not in known)
    return f"{lacking}\n\n" if lacking else ""


def _decides(facts: Facts, file: SourceFile) -> bool:
    """Whether a file calls, defines or sets maybe_enable_amp, instead of only naming it."""
    if any(c.kind in ("call", "use") for c in choices(facts.checkout, file)):
        return True
    for node in nodes(file.syntax):
        if isinstance(node, ast.FunctionDef) and node.name == FUNCTION:
            return True
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if getattr(target, "attr", getattr(target, "id", "")) == FUNCTION:
                return True
    return False


def _have_property(facts: Facts) -> bool:
    """Whether ParallelDims can be asked if dp_replicate is on, as in every release."""
    return any(True for _ in facts.checkout.mentioning(REPLICATED))


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    file = facts.survey.files[path]
    wanted = [
        choice
        for choice in choices(facts.checkout, file)
        if choice.state == "open" and not file.opted_out(choice.line, CODE)
    ]
    scopes = {choice.scope for choice in wanted} | {s for _, s in _functions(file)}
    null = "contextlib.nullcontext()"
    bound = surely_bound(file.syntax.body)
    if "nullcontext" in bound & file.names.top.imports.keys():
        null = "nullcontext()"
    tree = tree.visit(_Amp(tree, scopes, wanted, null))
    if any(choice.kind == "call" for choice in wanted) and "." in null:
        if "contextlib" not in bound:
            tree = edit.add_import(tree, "contextlib", None, own=facts.own_packages)
    return tree


class _Amp(edit.ScopedTransformer):
    """Extends conditions to replicate, and the words in the branch with them."""

    def __init__(
        self, tree: cst.Module, scopes: set[str], wanted: list[Choice], null: str
    ) -> None:
        super().__init__(tree, scopes)
        self.null = null
        self.wanted = {(c.kind, c.scope, c.code): c for c in wanted}
        self.places = {key[:2] for key in self.wanted}
        self._rewording = 0

    def _choice(self, kind: Kind, node: cst.CSTNode | None) -> Choice | None:
        """The choice that a node is, if it is one that is wanted."""
        if node is None or (kind, self.scope) not in self.places:
            return None
        return self.wanted.get((kind, self.scope, layout.normal(self.code(node))))

    def _inside(self) -> bool:
        return self.scope.rpartition(".")[2] == FUNCTION

    # Statements

    def visit_If_body(self, node: cst.If) -> None:
        choice = self._choice("if", node)
        self._rewording += choice is not None and choice.operator == "or"

    def leave_If_body(self, node: cst.If) -> None:
        choice = self._choice("if", node)
        self._rewording -= choice is not None and choice.operator == "or"

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.If:
        choice = self._choice("if", original_node)
        if choice is None:
            return updated_node
        return updated_node.with_changes(test=self._condition(choice))

    def _condition(self, choice: Choice) -> cst.BaseExpression:
        text = layout.joined(choice.terms, choice.operator)
        return edit.expression(self.tree, text)

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> cst.With:
        """A condition in the head of a ``with`` in brackets, which black does not add."""
        items = [
            new.with_changes(item=_in_brackets(new.item))
            if isinstance(new.item, cst.IfExp) and new.item is not old.item
            else new
            for old, new in zip(original_node.items, updated_node.items)
        ]
        return updated_node.with_changes(items=items)

    # Expressions

    def leave_IfExp(
        self, original_node: cst.IfExp, updated_node: cst.IfExp
    ) -> cst.BaseExpression:
        choice = self._choice("expression", original_node)
        if choice is None:
            return updated_node
        return updated_node.with_changes(test=self._condition(choice))

    def leave_Call(
        self, original_node: cst.Call, updated_node: cst.Call
    ) -> cst.BaseExpression:
        choice = self._choice("call", original_node)
        if choice is not None:
            null = edit.expression(self.tree, self.null)
            return cst.IfExp(self._condition(choice), null, updated_node)
        choice = self._choice("enabled", original_node)
        if choice is not None:
            value = self._condition(choice)
            args = [
                arg.with_changes(value=value)
                if arg.keyword is not None and arg.keyword.value == "enabled"
                else arg
                for arg in updated_node.args
            ]
            return updated_node.with_changes(args=args)
        return updated_node

    # Words

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.SimpleString:
        value = updated_node.value
        if self._rewording:
            value = _of_both(value)
        elif self._inside():
            value = value.replace(
                "FSDP/HSDP/CP is enabled", "FSDP/HSDP/CP or replicate is enabled"
            )
        return updated_node.with_changes(value=value)

    def leave_EmptyLine(
        self, original_node: cst.EmptyLine, updated_node: cst.EmptyLine
    ) -> cst.EmptyLine:
        comment = updated_node.comment
        if comment is None:
            return updated_node
        value = comment.value
        if self._rewording:
            value = _of_both(value)
        elif self._inside():
            value = value.replace("DDP or single", "single")
        return updated_node.with_changes(comment=comment.with_changes(value=value))


def _in_brackets(choice: cst.IfExp) -> cst.IfExp:
    if choice.lpar:
        return choice
    return choice.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _of_both(words: str) -> str:
    """What is said of FSDP, said of replicate too."""
    if "replicate" in words:
        return words
    for one in ("fully_shard", "FSDP2", "FSDP"):
        if one in words:
            return words.replace(one, f"{one} or replicate", 1)
    return words
