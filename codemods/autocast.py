"""Where a checkout chooses between autocast and none, and what it goes by."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from codemods import layout
from codemods.bindings import Checkout
from codemods.names import Import
from codemods.nodes import Visitor, dotted, nodes, of_kind, spelled
from codemods.once import once
from codemods.source import SourceFile

FUNCTION = "maybe_enable_amp"
WORDS = ("autocast", FUNCTION, "_amp = ", ".amp = ")
"""One of these is in every file that chooses."""

SHARDED = ("fsdp_enabled", "dp_shard_enabled")
REPLICATED = "dp_replicate_enabled"

Kind = Literal["if", "expression", "enabled", "flag", "call", "use"]
State = Literal["open", "done", "partly", "unclear"]

_ABOUT = r"fsdp|dp_shard|dp_replicate|\bddp|ddp\b"
_ABOUT_DATA_PARALLELISM = re.compile(_ABOUT, re.I)
_ABOUT_DEGREES = re.compile(rf"{_ABOUT}|data_parallel_(shard|replicate|degree)", re.I)
_OF_PARALLEL_DIMS = re.compile(
    r"parallel_?dims|dp_shard|dp_replicate|_enabled\b|data_parallel_(shard|replicate|degree)"
)
_FLAG = re.compile(r"(use_|enable_)?(autocast|amp)")
_HOLDER = re.compile(
    r"(^|[._])(m|net|network|module|model\w*|part\w*|args|config|cfg)(\[.*)?$"
)
"""What a flag is set on that a forward asks: a model, or its arguments."""

_SWITCHES = {"autocast", "set_autocast_enabled", "set_autocast_cpu_enabled"}
_CHOOSING = {"nullcontext", "autocast", "enter_context", "get", "print", "warn"}
_SAYING = {"debug", "info", "warning"}
_DEGREE = r"[\w.]*\b(dp_replicate|data_parallel_replicate_degree)"
_PRODUCT = rf"([\w.]+ \* )*{_DEGREE}( \* [\w.]+)*"
_REPLICAS = re.compile(rf"{_PRODUCT} (> 1|!= 1|>= 2)")
_NO_REPLICAS = re.compile(rf"{_PRODUCT} (== 1|<= 1|< 2)")
_TRAINERS = (".train", ".trainer")
_SPECS = ("TrainSpec", "get_train_spec", "register_train_spec")


@dataclass(frozen=True)
class Choice:
    """A condition by which autocast is opened or not.

    Args:
        line: of the statement, from 1.
        scope: qualified name of the function or class around it.
        kind: an ``if``, a conditional expression, ``enabled=`` of autocast, an attribute
            that another file may open autocast by, or a call or other use of a
            ``maybe_enable_amp`` that is not in this checkout.
        code: the whole of it as ``layout.normal`` writes it, by which it is found again.
        state: ``open``: autocast is on under pure dp_replicate, and ``terms`` switches
            it off. ``done``: it is off there. ``partly``: it is off there if something
            else holds too. ``unclear``: it cannot be told.
        operator: what joins the terms, ``or`` or ``and``.
        terms: the condition as it has to be.
        ours: an unclear one asks ParallelDims, or is in maybe_enable_amp.
    """

    line: int
    scope: str
    kind: Kind
    code: str
    state: State
    operator: str = "or"
    terms: tuple[str, ...] = ()
    ours: bool = True


def is_autocast(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether a node is a call of autocast, by any of its names, that may switch it on."""
    if not isinstance(node, ast.Call) or _last(node.func) not in _SWITCHES:
        return False
    given = [k.value for k in node.keywords if k.arg == "enabled"]
    if _last(node.func) != "autocast":
        given += node.args[-1:]
    return not any(isinstance(v, ast.Constant) and v.value is False for v in given)


@once
def mixed_precision(checkout: Checkout) -> Literal["here", "outside", "none"]:
    """Who opens autocast under DDP: this checkout, a torchtitan that it uses, or nobody.

    Args:
        checkout: unit tests in it do not count.
    """
    files = [f for f in checkout.mentioning("autocast") if not of_a_test(f.path)]
    if any(is_autocast(node) for file in files for node in nodes(file.syntax)):
        return "here"
    if any(
        choice.kind in ("call", "use")
        for file in checkout.mentioning(FUNCTION)
        for choice in choices(checkout, file)
    ):
        return "outside"
    return "outside" if trained_outside(checkout) else "none"


@once
def amp_outside(checkout: Checkout) -> Literal["open", "off", "gone", "unknown"]:
    """What the maybe_enable_amp of the torchtitan that a checkout uses does under replicate.

    ``open``: it opens autocast under pure dp_replicate. ``off``: it leaves casting to the
    policy, as for one month of upstream's main. ``gone``: there is none, as from PR 2900
    on. ``unknown``: that torchtitan is not at hand.
    """
    if not checkout.dependency:
        return "unknown"
    states: set[State] = set()
    for file in checkout.providing(f"def {FUNCTION}("):
        inside = [c for c in choices(checkout, file) if FUNCTION in c.scope.split(".")]
        states |= {choice.state for choice in inside} or {"unclear"}
    if not states:
        return "gone"
    return "off" if states == {"done"} else "open"


def trained_outside(
    checkout: Checkout,
) -> list[tuple[SourceFile, int, ast.ClassDef | None]]:
    """Where the trainer of a torchtitan outside of this checkout comes in.

    Returns:
        File, line and class of all that derives from it. Without any, the first place that
        imports that trainer or uses a train spec, which it trains whatever loop
        is here too; else the first use of that torchtitan if nothing here trains.
    """
    if checkout.holds_torchtitan:
        return []
    mentioning = checkout.mentioning(checkout.package)
    files = [file for file in mentioning if not of_a_test(file.path)]
    used = [(file, found) for file in files for found in _of_torchtitan(checkout, file)]
    derived: list[tuple[SourceFile, int, ast.ClassDef | None]] = [
        (file, node.lineno, node)
        for file in files
        for node in nodes(file.syntax)
        if isinstance(node, ast.ClassDef) and _is_trainer(checkout, file, node)
    ]
    return derived or [(file, line, None) for file, line in _handed(checkout, used)]


def imports_its_trainer(checkout: Checkout, file: SourceFile, line: int) -> bool:
    """Whether a line imports the trainer of that torchtitan, and not only what it trains."""
    return any(
        found.line == line and _of_its_trainer(checkout, found)
        for found in _of_torchtitan(checkout, file)
    )


def sets_amp(checkout: Checkout, file: SourceFile, node: ast.ClassDef) -> bool:
    """Whether a class derived from that Trainer sees to its autocast under replicate.

    It does if a method sets ``self.maybe_enable_amp``, whenever dp_replicate is on, to a
    null context or to a choice that is judged by itself.
    """
    return any(
        method.name == FUNCTION or _Finder(checkout, file).sets_amp(method)
        for method in node.body
        if isinstance(method, ast.FunctionDef)
    )


def starts_its_trainer(
    checkout: Checkout,
) -> Iterator[tuple[SourceFile, int, ast.Call]]:
    """Where the Trainer of a torchtitan outside itself is made, or handed to what makes it.

    Returns:
        File, line and call: ``Trainer(config)``, ``main(Trainer)``.
    """
    for file in checkout.mentioning("Trainer"):
        if of_a_test(file.path):
            continue
        meant = {
            id(use.node)
            for use in file.names.uses
            if _is_its_trainer(checkout, file, use.scope, use.spelling)
        }
        for node in nodes(file.syntax) if meant else ():
            if isinstance(node, ast.Call) and _last(node.func) not in _ASKING:
                given = [node.func, *node.args, *(k.value for k in node.keywords)]
                if any(id(one) in meant for one in given):
                    yield file, node.lineno, node


_ASKING = {"isinstance", "issubclass", "cast", "hasattr", "getattr", "super"}


def _handed(
    checkout: Checkout, used: list[tuple[SourceFile, Import]]
) -> list[tuple[SourceFile, int]]:
    """The first place that shows that a torchtitan outside trains, at most one."""
    imported = [(file, found.line) for file, found in used]
    trainers = [
        (file, found.line) for file, found in used if _of_its_trainer(checkout, found)
    ]
    files = dict.fromkeys(file.path for file, _ in used)
    specs = [
        (checkout.files[path], line)
        for path in files
        for line in _specs(checkout, checkout.files[path])
    ]
    return (trainers or specs or ([] if trains(checkout) else imported))[:1]


def trains(checkout: Checkout) -> bool:
    """Whether the checkout has a training loop of its own, tests apart."""
    return any(not of_a_test(f.path) for f in checkout.mentioning(".backward("))


def _of_torchtitan(checkout: Checkout, file: SourceFile) -> list[Import]:
    """What a file imports from a torchtitan outside, wherever in it."""
    return [
        found
        for scope in file.names.scopes.values()
        for found in (*scope.imports.values(), *scope.stars)
        if checkout.is_of_torchtitan(found.module)
    ]


def _is_trainer(checkout: Checkout, file: SourceFile, node: ast.ClassDef) -> bool:
    """Whether a class derives from the Trainer of a torchtitan outside, by any name."""
    return any(
        _is_its_trainer(checkout, file, "", dotted(base) or "") for base in node.bases
    )


def _is_its_trainer(
    checkout: Checkout, file: SourceFile, scope: str, spelling: str
) -> bool:
    """Whether a name stands for the Trainer of a torchtitan outside."""
    full = checkout.external(file.path, scope, spelling) or ""
    return checkout.is_of_torchtitan(full) and full.endswith(".Trainer")


def _of_its_trainer(checkout: Checkout, found: Import) -> bool:
    """Whether an import is of the module with torchtitan's trainer, or from it."""
    full = f"{found.module}.{found.name or ''}."
    return full.startswith(tuple(f"{checkout.package}{name}." for name in _TRAINERS))


def _specs(checkout: Checkout, file: SourceFile) -> Iterator[int]:
    """The lines that use, and not only import, what registers a model with torchtitan."""
    for use in file.names.uses:
        found = checkout.external(file.path, use.scope, use.spelling) or ""
        if checkout.is_of_torchtitan(found) and found.rpartition(".")[2] in _SPECS:
            yield use.node.lineno


def of_a_test(path: str) -> bool:
    """Whether a file is a test, or helps tests."""
    *folders, name = path.split("/")
    return name.startswith("test_") or bool({"test", "tests"} & set(folders))


@once
def choices(checkout: Checkout, file: SourceFile) -> tuple[Choice, ...]:
    """Every condition of a file by which autocast is opened or not.

    Conditions that have nothing to do with data parallelism are none: they choose for
    FSDP and replicate alike.
    """
    if not any(file.mentions(word.encode()) for word in WORDS):
        return ()
    finder = _Finder(checkout, file)
    finder.visit(file.syntax)
    return tuple(finder.found)


_BASE = re.compile(rb"(?<![\w\x80-\xff])([\w\x80-\xff]+)\.%s\b" % REPLICATED.encode())


@once
def bases(checkout: Checkout) -> set[str]:
    """The names of what the checkout asks for ``dp_replicate_enabled``, ``parallel_dims`` first."""
    found = {b"parallel_dims"}
    for file in checkout.mentioning(f".{REPLICATED}"):
        found |= set(file.found(_BASE)) - {b"self"}
    return {name.decode(errors="replace") for name in found}


class _Finder(Visitor):
    def __init__(self, checkout: Checkout, file: SourceFile) -> None:
        self.checkout, self.file = checkout, file
        self.bases = bases(checkout)
        self.found: list[Choice] = []
        self._path: list[str] = []
        self._around: list[ast.Module | ast.FunctionDef] = [file.syntax]
        self._statement: ast.stmt = ast.Pass(lineno=1)
        self._off: set[int] = set()
        self._called: set[int] = set()

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self._statement = node
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._path.append(node.name)
        self._around.append(node)
        self.generic_visit(node)
        self._around.pop()
        self._path.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._path.append(node.name)
        self.generic_visit(node)
        self._path.pop()

    def visit_If(self, node: ast.If) -> None:
        self._switched_off(node.test, node.body, node.orelse)
        if _holds(node.body, "autocast"):
            self._negative(node, "if", node.test, _only_chooses(node.body))
        elif _holds(node.body, "nullcontext") and _holds(
            self._around[-1].body, "autocast"
        ):
            fits = _only_chooses(node.body) and (
                isinstance(node.body[-1], ast.Return) or _only_chooses(node.orelse)
            )
            self._positive(node, "if", node.test, fits)
        elif _holds(node.orelse, "autocast") and not _holds(node.body, "autocast"):
            self._positive(node, "if", node.test, False)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._switched_off(node.test, [node.body], [node.orelse])
        if _holds([node.body], "autocast"):
            fits = not _holds([node.orelse], "autocast")
            self._negative(node, "expression", node.test, fits)
        elif _holds([node.orelse], "autocast"):
            fits = _holds([node.body], "nullcontext")
            self._positive(node, "expression", node.test, fits)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        flags = [t for t in node.targets if isinstance(t, ast.Attribute)]
        if any(map(self._is_flag, flags)) and not _holds([node.value], "autocast"):
            if not isinstance(node.value, ast.Call | ast.IfExp):
                self._negative(node.value, "flag", node.value, False)
        self.generic_visit(node)

    def _is_flag(self, target: ast.Attribute) -> bool:
        """Whether an attribute says that autocast is on, to another file."""
        said = _FLAG.fullmatch(target.attr) and _HOLDER.search(spelled(target.value))
        return bool(said) and not any(
            node.attr == target.attr and isinstance(node.ctx, ast.Load)
            for node in of_kind(self.file.syntax, ast.Attribute)
        )

    def visit_Call(self, node: ast.Call) -> None:
        for given in node.keywords if is_autocast(node) else ():
            if given.arg == "enabled":
                self._negative(node, "enabled", given.value, True)
        spelling = dotted(node.func)
        if spelling and self._is_outside(spelling):
            self._called.add(id(node.func))
            self._outside(node)
        elif spelling == FUNCTION and self._by_star():
            self._called.add(id(node.func))
            self._use(node, "call")
        elif self._gets(node):
            self._use(node)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            self._called.add(id(node.left))  # is it there at all
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """One that is handed on under another name, and not used here."""
        used = {use.spelling for use in self.file.names.uses}
        for alias in node.names:
            local = alias.asname or FUNCTION
            if local != FUNCTION and local not in used and self._is_outside(local):
                self._use(ast.Name(local, ast.Load()))

    def visit_Name(self, node: ast.Name | ast.Attribute) -> None:
        spelling = dotted(node)
        if id(node) in self._called or not isinstance(node.ctx, ast.Load):
            return
        if spelling is None:
            self.generic_visit(node)
        elif self._is_outside(spelling) or (spelling == FUNCTION and self._by_star()):
            self._use(node)

    visit_Attribute = visit_Name

    def sets_amp(self, method: ast.FunctionDef) -> bool:
        """Whether a method sets what its trainer runs under, whenever replicate is on."""
        self._around.append(method)
        return self._sets(method.body)

    def _sets(self, body: Sequence[ast.stmt]) -> bool:
        for node in body:
            if isinstance(node, ast.If):
                if self._sets_under(node):
                    return True
                if self._may_end(node):
                    return False
            elif isinstance(node, ast.With):
                if self._sets(node.body):
                    return True
            elif isinstance(node, ast.Assign):
                named = {spelled(target) for target in node.targets}
                if f"self.{FUNCTION}" in named:
                    return self._leaves_casting(node.value)
        return False

    def _sets_under(self, node: ast.If) -> bool:
        here, otherwise = self._sets(node.body), self._sets(node.orelse)
        return (
            (here and otherwise)
            or (here and any(map(_replicates, self._alternatives(node.test))))
            or (otherwise and any(map(_replicates, self._excluded(node.test))))
        )

    def _may_end(self, node: ast.If) -> bool:
        """Whether a branch that replicate may take leaves the method."""
        ends = any(isinstance(inner, ast.Return) for inner in nodes(node))
        return ends and not any(map(_replicates, self._excluded(node.test)))

    def _leaves_casting(self, value: ast.expr) -> bool:
        """Whether a context is a null one under replicate, or a choice judged by itself."""
        meant = self._meant(value)
        if isinstance(meant, ast.IfExp) and any(
            map(_replicates, self._alternatives(meant.test))
        ):
            meant = meant.body
        if isinstance(meant, ast.Call) and _last(meant.func) in (
            "nullcontext",
            FUNCTION,
        ):
            return self._is_bound((dotted(meant.func) or "").split(".")[0])
        judged = {choice.code for choice in choices(self.checkout, self.file)}
        return any(spelled(inner) in judged for inner in nodes(meant))

    def _is_bound(self, name: str) -> bool:
        """Whether a name stands for something in this file: ``self``, an import, a function."""
        scopes = self.file.names.scopes.values()
        return name == "self" or any(
            name in scope.bound or any(name == i.split(".")[0] for i in scope.imports)
            for scope in scopes
        )

    def _is_outside(self, spelling: str) -> bool:
        """Whether a name is of a maybe_enable_amp that this checkout imports from elsewhere."""
        scope = ".".join(self._path)
        if scope not in self.file.names.scopes:
            return False
        full = self.checkout.external(self.file.path, scope, spelling) or ""
        module, _, name = full.rpartition(".")
        own = self.checkout.own_path_of(module)
        if own is None:
            return name == FUNCTION
        # A file of this checkout that only hands it on.
        home = self.checkout.files[own]
        if not home.mentions(FUNCTION.encode()):
            return False
        handed = home.exported(name).origin
        return (
            handed is not None
            and handed[1] == FUNCTION
            and self.checkout.own_path_of(handed[0]) is None
        )

    def _by_star(self) -> bool:
        """Whether maybe_enable_amp can only be what a star import from elsewhere brings."""
        names, scope = self.file.names, ".".join(self._path)
        bound = any(
            FUNCTION in names.scopes[s].bound for s in {"", scope} & {*names.scopes}
        )
        return (
            not bound
            and scope in names.scopes
            and names.lookup(FUNCTION, scope) is None
            and any(
                self.checkout.is_of_torchtitan(star.module) for star in names.top.stars
            )
        )

    def _gets(self, node: ast.Call) -> bool:
        """Whether a call is getattr of it, of a module that is elsewhere."""
        if dotted(node.func) != "getattr" or len(node.args) < 2:
            return False
        of, name = node.args[:2]
        if not (isinstance(name, ast.Constant) and name.value == FUNCTION):
            return False
        spelling = dotted(of)
        if spelling is None:
            return f"{self.checkout.package}." in spelled(of)
        return self._is_outside(f"{spelling}.{FUNCTION}")

    def _is_settled(self, node: ast.expr) -> bool:
        """Whether what opens autocast elsewhere does not do so here under replicate."""
        within = len(self._around) > 1 and self._left_out(None)
        off = amp_outside(self.checkout) in ("off", "gone")
        return off or within or id(node) in self._off

    def _use(self, node: ast.expr, kind: Kind = "use") -> None:
        self._add(node, kind, "done" if self._is_settled(node) else "unclear")

    def _outside(self, node: ast.Call) -> None:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        first = node.args[0] if node.args else given.get("parallel_dims")
        base = dotted(first) if first is not None else None
        held = self._statement
        alone = (
            isinstance(held, (ast.Assign, ast.AnnAssign, ast.Return))
            and held.value is node
        ) or (
            isinstance(held, ast.With)
            and [item.context_expr for item in held.items] == [node]
            and held.items[0].optional_vars is None
        )
        if self._is_settled(node):
            self._add(node, "call", "done")
        elif base and alone and "#" not in self.file.segment(node):
            self._add(node, "call", "open", base=base)
        else:
            self._add(node, "call", "unclear")

    def _switched_off(
        self, test: ast.expr, body: Sequence[ast.AST], orelse: Sequence[ast.AST]
    ) -> None:
        """Note what is not run under replicate."""
        if any(map(_replicates, self._alternatives(test))):
            self._off |= {id(inner) for node in orelse for inner in nodes(node)}
        if any(map(_replicates, self._excluded(test))):
            self._off |= {id(inner) for node in body for inner in nodes(node)}

    def _positive(
        self, node: ast.If | ast.IfExp, kind: Kind, test: ast.expr, fits: bool
    ) -> None:
        """A condition under which autocast stays off."""
        terms = self._alternatives(test)
        asked = any(map(_replicates, map(self._compared, terms)))
        if asked or (self._is_about(test) and self._left_out(node)):
            self._add(node, kind, "done")
            return
        base = self._base(terms)
        if base is not None and fits and self._has_no_comment(test):
            self._add(node, kind, "open", "or", _operands(test, ast.Or), base)
        elif self._is_about(test):
            parts = _operands(test, ast.And)
            partly = any(_asks(part, (REPLICATED,)) for part in parts)
            self._add(node, kind, "partly" if partly else "unclear", test=test)

    def _negative(
        self,
        node: ast.If | ast.expr,
        kind: Kind,
        test: ast.expr,
        fits: bool,
    ) -> None:
        """A condition under which autocast is on."""
        excluded = self._excluded(test)
        parts = _operands(self._meant(test), ast.And)
        if isinstance(node, ast.If) and isinstance(node.body[0], ast.If):
            # One in the other, and nothing beside.
            parts = [*parts, node.body[0].test] if len(node.body) == 1 else parts
        asked = any(map(_replicates, map(self._compared, excluded))) or any(
            _NO_REPLICAS.fullmatch(spelled(self._compared(self._meant(part))))
            for part in parts
        )
        if asked or (self._is_about(test) and self._left_out(node)):
            self._add(node, kind, "done")
            return
        base = self._base(excluded)
        # For pure DDP alone: to go on asking for replication would be a contradiction.
        wanted = any(_asks(self._meant(part), (REPLICATED,)) for part in parts)
        if base is not None and fits and not wanted and self._has_no_comment(test):
            self._add(node, kind, "open", "and", _operands(test, ast.And), base)
        elif self._is_about(test):
            self._add(node, kind, "unclear", test=test)

    def _add(
        self,
        node: ast.If | ast.expr,
        kind: Kind,
        state: State,
        operator: str = "or",
        terms: Sequence[ast.expr] = (),
        base: str = "",
        test: ast.expr | None = None,
    ) -> None:
        written = [self._written(term, operator) for term in terms]
        more = f"{base}.{REPLICATED}"
        fresh = (*written, more if operator == "or" else f"not {more}")
        asked = (
            REPLICATED
            if test is None
            else " ".join((spelled(self._meant(test)), *self._leaves(test)))
        )
        self.found.append(
            Choice(
                node.lineno if isinstance(node, ast.If) else self._statement.lineno,
                ".".join(self._path),
                kind,
                spelled(node),
                state,
                operator,
                fresh if base else (),
                bool(_OF_PARALLEL_DIMS.search(asked)) or FUNCTION in self._path,
            )
        )

    def _written(self, term: ast.expr, operator: str) -> str:
        text = layout.flatten(self.file.segment(term))
        weaker = isinstance(term, (ast.IfExp, ast.Lambda)) or (
            operator == "and"
            and isinstance(term, ast.BoolOp)
            and isinstance(term.op, ast.Or)
        )
        return f"({text})" if weaker else text

    def _has_no_comment(self, test: ast.expr) -> bool:
        return "#" not in self.file.segment(test)

    def _excluded(self, test: ast.expr) -> list[ast.expr]:
        """The terms none of which is true when a condition is, variables followed."""
        return [
            term
            for part in _operands(self._meant(test), ast.And)
            for meant in [self._meant(part)]
            if isinstance(meant, ast.UnaryOp) and isinstance(meant.op, ast.Not)
            for term in self._alternatives(meant.operand)
        ]

    def _alternatives(self, test: ast.expr) -> list[ast.expr]:
        """The terms any of which makes a condition true, variables followed."""
        found = []
        for term in _operands(test, ast.Or):
            meant = self._meant(term)
            found += [term] if meant is term else self._alternatives(meant)
        return found

    def _meant(self, node: ast.expr) -> ast.expr:
        """What a variable that is set once stands for; anything else is itself."""
        seen: set[str] = set()
        while True:
            name = spelled(node)
            if name in seen or not re.fullmatch(r"\w+|self\.\w+", name):
                return node
            seen.add(name)
            own = name.startswith("self.")
            around = self.file.syntax if own else self._around[-1]
            values = _assigned(around, name)
            if len(values) != 1 or values[0] is None:
                return node
            node = values[0]

    def _compared(self, term: ast.expr) -> ast.expr:
        """A comparison with what its left side is set to once in the place of that; anything else is itself."""
        if not isinstance(term, ast.Compare):
            return term
        return ast.Compare(self._meant(term.left), term.ops, term.comparators)

    def _base(self, terms: Sequence[ast.expr]) -> str | None:
        """The object that can be asked for dp_replicate_enabled as well."""
        for term in terms:
            if _asks(term, SHARDED) and isinstance(term, ast.Attribute):
                base = dotted(term.value) or ""
                root, _, last = base.rpartition(".")
                here = root.split(".")[0] == "self" or self._is_named(base)
                if last in self.bases and here:
                    return base
        return None

    def _is_named(self, base: str) -> bool:
        """Whether an object is one of the code around, and not of another method's."""
        root = base.split(".")[0]
        return any(
            root == getattr(node, "id" if isinstance(node, ast.Name) else "arg", None)
            for node in nodes(self._around[-1])
            if isinstance(node, (ast.Name, ast.arg))
        )

    def _is_about(self, test: ast.expr) -> bool:
        whole = spelled(self._meant(test))
        return bool(_ABOUT_DATA_PARALLELISM.search(whole)) or any(
            map(_ABOUT_DEGREES.search, self._leaves(test))
        )

    def _leaves(self, test: ast.expr) -> Iterator[str]:
        """What a condition asks one by one, names followed; not what it reckons with."""
        node = self._meant(test)
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from self._leaves(value)
        elif isinstance(node, ast.UnaryOp):
            yield from self._leaves(node.operand)
        elif isinstance(node, ast.Compare):
            if all(map(_is_plain, node.comparators)):
                yield from self._leaves(node.left)
        elif isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            yield spelled(node)

    def _left_out(self, node: ast.AST | None) -> bool:
        """Whether another branch, or one further down, leaves autocast out for replicate."""
        if any(
            leaves_it(other)
            for other in nodes(self._around[-1])
            if isinstance(other, ast.If) and other is not node
        ):
            return True
        while isinstance(node, ast.If) and len(node.orelse) == 1:
            node = node.orelse[0]
            if isinstance(node, ast.If) and _asks_for_replicate(node.test):
                return not _holds(node.body, "autocast")
        return False


def leaves_it(node: ast.If) -> bool:
    """Whether a branch is taken whenever replicate is on, and returns a null context."""
    last = node.body[-1]
    return (
        _asks_for_replicate(node.test)
        and isinstance(last, ast.Return)
        and last.value is not None
        and "nullcontext" in spelled(last.value)
    )


def _asks_for_replicate(test: ast.expr) -> bool:
    return any(map(_replicates, _operands(test, ast.Or)))


def _is_plain(node: ast.expr) -> bool:
    """Whether something is a number or a word, or several of them."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(map(_is_plain, node.elts))
    return isinstance(node, ast.Constant)


def _replicates(term: ast.expr) -> bool:
    """Whether a term is true whenever dp_replicate is on: by its property or its degree."""
    return _asks(term, (REPLICATED,)) or bool(_REPLICAS.fullmatch(spelled(term)))


def _asks(node: ast.expr, names: Sequence[str]) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in names


def _operands(node: ast.expr, operator: type[ast.boolop]) -> list[ast.expr]:
    """What ``and`` or ``or`` joins; the expression alone where it does not."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, operator):
        return node.values
    return [node]


def _assigned(scope: ast.Module | ast.FunctionDef, name: str) -> list[ast.expr | None]:
    """What a name, or ``self.name``, is set to each time; None where that cannot be told."""
    return _assignments(scope).get(name, [])


@once
def _assignments(
    scope: ast.Module | ast.FunctionDef,
) -> dict[str, list[ast.expr | None]]:
    plain: dict[int, ast.expr] = {}
    found: dict[str, list[ast.expr | None]] = {}
    for node in nodes(scope):  # what assigns comes before its target
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            plain[id(node.targets[0])] = node.value
        elif isinstance(node, (ast.Name, ast.Attribute)):
            if not isinstance(node.ctx, ast.Load):
                found.setdefault(spelled(node), []).append(plain.get(id(node)))
    return found


def _holds(of: Sequence[ast.AST], called: str) -> bool:
    """Whether a function of that name is called anywhere in the nodes."""
    return any(
        is_autocast(inner)
        if called == "autocast"
        else isinstance(inner, ast.Call) and _last(inner.func) == called
        for node in of
        for inner in nodes(node)
    )


def _last(node: ast.expr) -> str:
    return (dotted(node) or "").rpartition(".")[2]


def _only_chooses(body: Sequence[ast.stmt]) -> bool:
    """Whether statements choose a context and say so, and do nothing else."""
    return all(
        _last(node.func) in _CHOOSING | _SAYING
        for statement in body
        for node in nodes(statement)
        if isinstance(node, ast.Call)
    )
