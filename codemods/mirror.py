"""Derive ``apply_replicate`` from a checkout's own ``apply_fsdp``.

``apply_fsdp`` already says how this checkout wraps its models: which modules form a
group, with which mixed-precision policy, whether gradients are divided. The derived
function is that plan with ``replicate`` for ``fully_shard`` and nothing to reshard,
offload or prefetch. What only serves sharding goes: parameters of those names are
taken at their default and the branches that follow from it are folded.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import libcst as cst

from codemods import layout

_SHARDING_PARAMETER = re.compile(
    r"reshard|offload|^pp_|pipeline|expert|(^|_)ep(_|$)|^edp_|efsdp|^dp_mod_|prefetch"
    r"|divide_factor"
)
"""Parameters that say how to shard, offload or lay out experts: no use here."""

_SHARDING_KEYWORDS = {"reshard_after_forward", "shard_placement_fn", "offload_policy"}
"""Arguments of ``fully_shard`` that replicate does not take or has no use for."""

_SHARDING_CALL = re.compile(
    r"^set_modules_to_\w+_prefetch$|^set_reshard_|^set_unshard_|^register_fsdp_|^_set_unshard"
)

_SHARDING_COMMENT = re.compile(
    r"shard|prefetch|fsdp|gather|offload|(forward|backward) pass", re.IGNORECASE
)
_PRAGMA = re.compile(r"#\s*(pyrefly|type|noqa|pyre|mypy|pylint)\b")
_DIVISION_OFF = re.compile(r"disable_\w*gradient_division$")


class CannotMirror(Exception):
    """This ``apply_fsdp`` has a shape that the derivation does not follow."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the derived function, as it is written."""

    name: str
    text: str
    required: bool


@dataclass(frozen=True)
class Plan:
    """A derived function.

    Args:
        name: of the function.
        parameters: in order; the first is the model, the second the mesh.
        text: the whole function, at module level, without a final newline.
        sums_gradients: it switches off replicate's division of gradients.
        as_apply_fsdp: the ``apply_fsdp`` it mirrors does the same.
        wraps: the module expressions it wraps, in order.
    """

    name: str
    parameters: tuple[Parameter, ...]
    text: str
    sums_gradients: bool
    wraps: tuple[str, ...]
    as_apply_fsdp: bool = True

    def same_wrapping(self, other: "Plan") -> bool:
        """Whether both do the same, whatever their comments and annotations say."""
        names = [parameter.name for parameter in self.parameters]
        same_names = names == [parameter.name for parameter in other.parameters]
        return same_names and _bare(self.text) == _bare(other.text)


@dataclass(frozen=True)
class Wishes:
    """What the derived function must do beyond mirroring.

    Args:
        name: of the derived function.
        mesh_keyword: ``mesh`` or ``device_mesh``, as replicate calls it.
        fully_shard: how ``fully_shard`` is spelled where ``apply_fsdp`` is defined.
        sum_gradients: the training loop has divided by the global token count.
        division_helper: a function of the checkout that switches division off, to
            be called where ``apply_fsdp`` itself does not.
        averaging_option: one call site is outside that loop and must keep averaging.
        ties: pairs of module attributes that share their weight in some model.
        log: the statement that logs success, or None.
        returns_model: ``apply_ddp`` returned its model, so callers may rely on it.
    """

    name: str
    mesh_keyword: str
    fully_shard: frozenset[str]
    sum_gradients: bool
    division_helper: str | None = None
    averaging_option: bool = False
    ties: tuple[tuple[str, str], ...] = ()
    log: str | None = None
    returns_model: bool = False


@dataclass
class _Node:
    comments: list[str]
    blank: bool


@dataclass
class _Wrap(_Node):
    modules: list[str]
    is_list: bool
    arguments: list[str]
    variable: str | None = None


@dataclass
class _Plain(_Node):
    text: str
    target: str | None = None
    effect: bool = False


@dataclass
class _Dict(_Node):
    head: str
    target: str
    items: list[str]
    tail: str


@dataclass
class _Block(_Node):
    keyword: str
    terms: list[str]
    body: list["_AnyNode"] = field(default_factory=list)
    orelse: list["_AnyNode"] = field(default_factory=list)


_AnyNode = _Wrap | _Plain | _Dict | _Block

_CALL = "__the_new_replicate"
"""Stands for the new function until local variables of its name are renamed."""


def derive(tree: cst.Module, apply_fsdp: cst.FunctionDef, wishes: Wishes) -> Plan:
    """The plan that mirrors ``apply_fsdp``.

    Args:
        tree: the module that defines it.
        apply_fsdp: its definition.
        wishes: what else the new function must do.

    Raises:
        CannotMirror: it wraps nothing, or in a way this does not follow.
    """
    return _Mirror(tree, apply_fsdp, wishes).plan()


class _Mirror:
    def __init__(
        self, tree: cst.Module, apply_fsdp: cst.FunctionDef, wishes: Wishes
    ) -> None:
        self.tree, self.function, self.wishes = tree, apply_fsdp, wishes
        self.params = [
            *apply_fsdp.params.posonly_params,
            *apply_fsdp.params.params,
            *apply_fsdp.params.kwonly_params,
        ]
        if len(self.params) < 2:
            raise CannotMirror("it takes no mesh")
        self.model = self.params[0].name.value
        self.constants = self._constants()
        self.stopped = False
        self.divides_off = False
        self.sums = wishes.sum_gradients
        self.quotes = ('"""', '"""')

    def plan(self) -> Plan:
        body = list(_body(self.function.body))
        docstring = self._own_docstring()
        if self.function.get_docstring() is not None:
            body = body[1:]
        nodes = self._statements(body)
        wraps = list(_all_wraps(nodes))
        if not wraps:
            raise CannotMirror("it never calls fully_shard")
        mesh = self._mesh_parameter(nodes)
        nodes = _live(nodes)
        for left, right in self.wishes.ties:
            nodes = self._tied(nodes, left, right)
        self.sums = self.wishes.sum_gradients or self.divides_off
        nodes += self._gradient_division(nodes)
        returned = [
            n for n in nodes if isinstance(n, _Plain) and n.text.startswith("return")
        ]
        nodes = [node for node in nodes if node not in returned]
        if self.wishes.log:
            nodes.append(_Plain([], True, self.wishes.log, effect=True))
        if self.wishes.returns_model and not returned:
            returned = [_Plain([], True, f"return {self.model}", effect=True)]
        nodes += returned
        if nodes:
            nodes[0].blank = False
        renames = self._renames(nodes)
        lines = "\n".join(_emit(nodes, 1)).split("\n")
        for keyword in _SHARDING_KEYWORDS:
            if any(keyword in line for line in lines):
                raise CannotMirror(f"it passes {keyword} in a way that is not followed")
        lines = _renamed(lines, renames)
        used = _names("\n".join(layout.indented(line, 0) for line in ["if 1:", *lines]))
        parameters = [
            Parameter(
                name=param.name.value,
                text=self._param_text(param),
                required=param.default is None,
            )
            for index, param in enumerate(self.params)
            if index == 0 or param.name.value == mesh or param.name.value in used
        ]
        if self._optional_averaging:
            parameters.append(
                Parameter("average_gradients", "average_gradients: bool = False", False)
            )
        returns = (
            f") -> {self._code(self.function.returns.annotation)}:"
            if self.function.returns
            else "):"
        )
        head = layout.bracketed(
            f"def {self.wishes.name}(",
            [parameter.text for parameter in parameters],
            returns,
            depth=0,
            exploded=_has_trailing_comma(self.function.params),
        )
        text = [head]
        if docstring is not None:
            text += self._docstring(docstring, {p.name for p in parameters})
        return Plan(
            name=self.wishes.name,
            parameters=tuple(parameters),
            text="\n".join([*text, *lines]),
            sums_gradients=self.sums,
            as_apply_fsdp=self.sums == self.divides_off,
            wraps=tuple(module for wrap in wraps for module in wrap.modules),
        )

    # Reading apply_fsdp

    def _code(self, node: cst.CSTNode) -> str:
        return self.tree.code_for_node(node).strip()

    def _param_text(self, param: cst.Param) -> str:
        text = self.tree.code_for_node(
            param.with_changes(comma=cst.MaybeSentinel.DEFAULT)
        )
        return layout.flatten(text.strip())

    def _constants(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for param in self.params:
            if param.default is None or not _SHARDING_PARAMETER.search(
                param.name.value
            ):
                continue
            try:
                found[param.name.value] = ast.literal_eval(self._code(param.default))
            except ValueError:
                continue
        return found

    def _mesh_parameter(self, nodes: Sequence[_AnyNode]) -> str:
        """The parameter that ``fully_shard`` gets as its mesh."""
        names = {param.name.value for param in self.params}
        keyword = self.wishes.mesh_keyword
        for node in _walk(nodes):
            items = (
                node.items
                if isinstance(node, _Dict)
                else node.arguments
                if isinstance(node, _Wrap)
                else []
            )
            for item in items:
                found = re.fullmatch(rf'"?{keyword}"?\s*[:=]\s*(\w+)', item)
                if found and found[1] in names:
                    return found[1]
            if isinstance(node, _Plain):
                found = re.search(rf'\["{keyword}"\] = (\w+)$', node.text)
                if found and found[1] in names:
                    return found[1]
        raise CannotMirror("the mesh it wraps on is none of its parameters")

    def _statements(self, statements: Iterable[cst.BaseStatement]) -> list[_AnyNode]:
        nodes: list[_AnyNode] = []
        for statement in statements:
            if self.stopped:
                break
            nodes += self._statement(statement)
        return nodes

    def _statement(self, statement: cst.BaseStatement) -> list[_AnyNode]:
        comments, blank = _leading(statement)
        if isinstance(statement, cst.SimpleStatementLine):
            nodes = [self._simple(small) for small in statement.body]
            kept = [node for node in nodes if node is not None]
            if kept:
                kept[0].comments, kept[0].blank = comments, blank
                if statement.trailing_whitespace.comment and isinstance(
                    kept[-1], _Plain
                ):
                    comment = statement.trailing_whitespace.comment.value
                    kept[-1].text += f"  {comment}"
            return kept
        if isinstance(statement, cst.If):
            return self._if(statement, comments, blank)
        if isinstance(statement, cst.For):
            if statement.orelse is not None:
                raise CannotMirror("it has a loop with an else")
            head = (
                f"for {self._code(statement.target)} in "
                f"{layout.flatten(self._code(statement.iter))}"
            )
            body = self._statements(_body(statement.body))
            return [_Block(comments, blank, head, [], body)]
        if isinstance(statement, cst.With):
            items = ", ".join(self._code(item).rstrip(",") for item in statement.items)
            body = self._statements(_body(statement.body))
            return [_Block(comments, blank, f"with {items}", [], body)]
        if self._wraps_inside(statement):
            kind = type(statement).__name__
            raise CannotMirror(f"it calls fully_shard inside a {kind} block")
        if isinstance(statement, cst.Match):
            # Only what it assigns could matter; nothing that replicate needs is
            # chosen by a match in any torchtitan, so it must turn out dead.
            targets = _assigned(self._code(statement))
            return [
                _Plain([], False, self._code(statement), target=name)
                for name in sorted(targets)
            ]
        raise CannotMirror(f"it holds a {type(statement).__name__} block")

    def _if(
        self, statement: cst.If, comments: list[str], blank: bool
    ) -> list[_AnyNode]:
        terms, verdict = self._fold(statement.test)
        if verdict is True:
            nodes = self._statements(_body(statement.body))
            if nodes:
                nodes[0].comments, nodes[0].blank = comments, blank
            return nodes
        orelse: list[_AnyNode] = []
        if isinstance(statement.orelse, cst.If):
            orelse = self._if(statement.orelse, *_leading(statement.orelse))
        elif isinstance(statement.orelse, cst.Else):
            orelse = self._statements(_body(statement.orelse.body))
        if verdict is False:
            return orelse
        body = self._statements(_body(statement.body))
        if self.stopped:
            raise CannotMirror("it returns early on a condition")
        return [_Block(comments, blank, "if", terms, body, orelse)]

    def _fold(self, test: cst.BaseExpression) -> tuple[list[str], bool | None]:
        """The terms of a condition that do not follow from defaults; its value if known."""
        if isinstance(test, cst.BooleanOperation) and isinstance(
            test.operator, cst.And
        ):
            left, left_value = self._fold(test.left)
            right, right_value = self._fold(test.right)
            if False in (left_value, right_value):
                return [], False
            terms = [
                term
                for terms, value in ((left, left_value), (right, right_value))
                for term in terms
                if value is not True
            ]
            return terms, None if terms else True
        code = self._code(test)
        names = _names(code)
        if names and names <= set(self.constants):
            try:
                value = eval(
                    compile(_plain_condition(code), "<default>", "eval"),
                    {"__builtins__": {}},
                    dict(self.constants),
                )
            except (CannotMirror, TypeError):
                return [layout.flatten(code)], None
            return [], bool(value)
        return [layout.flatten(code)], None

    def _simple(self, small: cst.BaseSmallStatement) -> _AnyNode | None:
        if isinstance(small, cst.Return):
            self.stopped = True
            if small.value is None:
                return None
            return _Plain([], False, self._code(small), effect=True)
        if isinstance(small, (cst.Pass, cst.Assert)):
            return None
        if isinstance(small, cst.Expr) and isinstance(small.value, cst.Call):
            return self._call(small.value)
        if isinstance(small, (cst.Assign, cst.AnnAssign)):
            if isinstance(small.value, cst.Call) and self._is_wrap(small.value):
                return self._wrap(small.value)
            self._refuse_hidden_wraps(small)
            return self._assign(small)
        self._refuse_hidden_wraps(small)
        if isinstance(small, cst.Expr):
            return None
        return _Plain([], False, self._code(small), effect=True)

    def _call(self, call: cst.Call) -> _AnyNode | None:
        name = self._code(call.func)
        last = name.rpartition(".")[2]
        if self._is_wrap(call):
            return self._wrap(call)
        self._refuse_hidden_wraps(call)
        if _SHARDING_CALL.match(last) or name.split(".")[0] in ("logger", "logging"):
            return None
        if _DIVISION_OFF.search(last) or last == self.wishes.division_helper:
            self.divides_off = True
            return _Plain([], False, self._code(call), effect=True)
        if last == "set_gradient_divide_factor":
            if call.args and self._code(call.args[0].value) in ("1", "1.0"):
                self.divides_off = True
                return _Plain([], False, self._code(call), effect=True)
            # Any other factor is applied twice by replicate when reductions are
            # forced to SUM; unset, replicate averages, which is what it meant.
            return None
        return _Plain([], False, self._code(call), effect=True)

    def _is_wrap(self, call: cst.Call) -> bool:
        name = self._code(call.func)
        return name in self.wishes.fully_shard or name.split(".")[-1] == "fully_shard"

    def _refuse_hidden_wraps(self, node: cst.CSTNode) -> None:
        """Nothing that shards may be taken over, by whatever way it does."""
        names = _names(self._code(node))
        for function in self.tree.body:
            if not isinstance(function, cst.FunctionDef):
                continue
            if function.name.value in names and self._wraps_inside(function):
                raise CannotMirror(f"it wraps through {function.name.value}")
        if names & self.wishes.fully_shard or "fully_shard" in names:
            raise CannotMirror("it passes fully_shard on")

    def _wrap(self, call: cst.Call) -> _Wrap:
        modules: list[str] = []
        is_list = False
        arguments = []
        for index, arg in enumerate(call.args):
            keyword = arg.keyword.value if arg.keyword else None
            if (index == 0 and not arg.star and keyword is None) or keyword == "module":
                if isinstance(arg.value, (cst.List, cst.Tuple)):
                    is_list = True
                    modules = [self._code(item.value) for item in arg.value.elements]
                else:
                    modules = [self._code(arg.value)]
                continue
            if keyword in _SHARDING_KEYWORDS:
                continue
            value = layout.flatten(self._code(arg.value))
            if arg.star:
                arguments.append(f"{arg.star}{value}")
            elif keyword == "mesh":
                arguments.append(f"{self.wishes.mesh_keyword}={value}")
            else:
                arguments.append(f"{keyword}={value}" if keyword else value)
        if not modules:
            raise CannotMirror("a call of fully_shard names no module")
        return _Wrap([], False, modules, is_list, arguments)

    def _assign(self, small: cst.Assign | cst.AnnAssign) -> _AnyNode | None:
        if isinstance(small, cst.Assign):
            if len(small.targets) != 1:
                return _Plain([], False, self._code(small), effect=True)
            target, value = small.targets[0].target, small.value
            head = f"{self._code(target)} = "
        else:
            target, value = small.target, small.value
            head = f"{self._code(target)}: {self._code(small.annotation.annotation)} = "
        if isinstance(target, cst.Subscript):
            if any(keyword in self._code(target) for keyword in _SHARDING_KEYWORDS):
                return None
            base = self._code(target.value)
            text = re.sub(
                r"""\[["']mesh["']\] = """,
                f'["{self.wishes.mesh_keyword}"] = ',
                self._code(small),
            )
            return _Plain([], False, text, target=base)
        if not isinstance(target, cst.Name):
            return _Plain([], False, self._code(small), effect=True)
        if isinstance(value, cst.Dict):
            items = [self._dict_item(item) for item in value.elements]
            return _Dict(
                [], False, f"{head}{{", target.value, [*filter(None, items)], "}"
            )
        if isinstance(value, cst.Call) and self._code(value.func) == "dict":
            items = [self._dict_argument(arg) for arg in value.args]
            kept = [*filter(None, items)]
            return _Dict([], False, f"{head}dict(", target.value, kept, ")")
        return _Plain([], False, self._code(small), target=target.value)

    def _dict_item(self, item: cst.BaseDictElement) -> str | None:
        if not isinstance(item, cst.DictElement):
            return f"**{self._code(item.value)}"
        key = self._code(item.key).strip("\"'")
        if key in _SHARDING_KEYWORDS:
            return None
        key = self.wishes.mesh_keyword if key == "mesh" else key
        return f'"{key}": {layout.flatten(self._code(item.value))}'

    def _dict_argument(self, arg: cst.Arg) -> str | None:
        value = layout.flatten(self._code(arg.value))
        if arg.keyword is None:
            return f"{arg.star}{value}"
        key = arg.keyword.value
        if key in _SHARDING_KEYWORDS:
            return None
        return f"{self.wishes.mesh_keyword if key == 'mesh' else key}={value}"

    def _wraps_inside(self, statement: cst.CSTNode) -> bool:
        return any(
            name in self.wishes.fully_shard or name == "fully_shard"
            for name in _names(self._code(statement))
        )

    # Writing apply_replicate

    @property
    def _optional_averaging(self) -> bool:
        return self.sums and self.wishes.averaging_option

    def _gradient_division(self, nodes: list[_AnyNode]) -> list[_AnyNode]:
        """Take the switching-off out of ``nodes`` and give it back as it must be."""
        _take_out_of_wrapping(nodes)
        off = [node for node in nodes if _switches_division_off(node)]
        for node in off:
            nodes.remove(node)
        if not self.sums:
            return []
        if not off:
            if self.wishes.division_helper:
                call = f"{self.wishes.division_helper}({self.model})"
                off = [_Plain([], True, call, effect=True)]
            else:
                setting = _Plain(
                    [], False, "module.set_gradient_divide_factor(1.0)", effect=True
                )
                test = _Block(
                    [], False, "if", ["isinstance(module, FSDPModule)"], [setting]
                )
                head = f"for module in {self.model}.modules()"
                comment = "# The training loop divides by the global token count"
                off = [_Block([comment], True, head, [], [test])]
        if not self.wishes.averaging_option:
            return off
        blank, off[0].blank = off[0].blank, False
        return [_Block([], blank, "if", ["not average_gradients"], off)]

    def _tied(self, nodes: list[_AnyNode], left: str, right: str) -> list[_AnyNode]:
        """One group for two modules that may share their weight.

        Apart, torch from 2.12 on raises at the first forward and earlier versions
        silently untie them.
        """
        pair = [f"{self.model}.{left}", f"{self.model}.{right}"]
        places = [
            (index, wrap)
            for index, node in enumerate(nodes)
            for wrap in _all_wraps([node])
            if set(wrap.modules) & set(pair) and wrap.variable is None
        ]
        if len(places) != 2 or places[0][0] == places[1][0]:
            return nodes
        (early, first), (late, last) = places
        if _holder(nodes[early], first) is None or _holder(nodes[late], last) is None:
            return nodes
        guarded = "\n".join(_emit(nodes, 0))
        one = next(module for module in pair if module in first.modules)
        other = next(module for module in pair if module in last.modules)
        terms = [
            f"{m} is not None" for m in (one, other) if f"{m} is not None" in guarded
        ]
        condition = layout.conjunction(
            "weights_tied = ", [*terms, f"{other}.weight is {one}.weight"], "", depth=1
        )
        flag = _Plain(
            ["# Tied weights are one parameter, so their modules form one group"],
            nodes[early].blank,
            condition,
            target="weights_tied",
        )
        apart = nodes[early]
        if isinstance(apart, _Block) and apart.keyword == "if" and not apart.orelse:
            apart.terms = [*apart.terms, "not weights_tied"]
        else:
            comments, apart.comments, apart.blank = apart.comments, [], False
            apart = _Block(comments, False, "if", ["not weights_tied"], [apart])
        apart.blank = False
        group = [
            _Plain([], last.blank, f"modules = [{', '.join(last.modules)}]", "modules"),
            _Block(
                [],
                False,
                "if",
                ["weights_tied"],
                [
                    _Plain(
                        [],
                        False,
                        f"modules = [{', '.join(first.modules)}, *modules]",
                        "modules",
                    )
                ],
            ),
            replace(last, variable="modules", blank=False),
        ]
        holder = nodes[late]
        if isinstance(holder, _Block):
            at = holder.body.index(last)
            holder.body[at : at + 1] = group
            tail: list[_AnyNode] = [holder]
        else:
            group[0].comments, last.comments = last.comments, []
            tail = group
        return [
            *nodes[:early],
            flag,
            apart,
            *nodes[early + 1 : late],
            *tail,
            *nodes[late + 1 :],
        ]

    def _renames(self, nodes: list[_AnyNode]) -> dict[str, str]:
        """Local variables named after FSDP -> the same named after replicate."""
        locals_ = {
            node.target
            for node in _walk(nodes)
            if isinstance(node, (_Plain, _Dict)) and node.target
        }
        renames: dict[str, str] = {}
        for name in sorted(locals_):
            fresh = re.sub("fsdp", "replicate", name)
            while fresh in locals_ - {name} or fresh == "replicate":
                fresh += "_"
            if fresh != name:
                renames[name] = fresh
        return renames

    def _docstring(self, docstring: str, parameters: set[str]) -> list[str]:
        """The docstring of ``apply_fsdp``, less what is not a parameter any more."""
        lines = _summary_of_replicate(docstring).split("\n")
        kept: list[str] = []
        entries_at: int | None = None
        keeping = True
        for line in lines:
            indent = len(line) - len(line.lstrip())
            if line.strip() in ("Args:", "Arguments:", "Parameters:"):
                entries_at = indent + 4
            elif line.strip() and entries_at is not None and indent < entries_at:
                entries_at, keeping = None, True
            elif entries_at is not None and indent == entries_at:
                entry = re.match(r"\s*\*{0,2}(\w+)", line)
                keeping = bool(entry) and entry[1] in parameters
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
        text = "\n".join(kept)
        text = re.sub(r"\n(\s*\n)+(\s*)$", r"\n\2", text)
        text = re.sub(r"\bFSDP2?\b|\bfully_shard\b", "replicate", text)
        return [f"    {self.quotes[0]}{text}{self.quotes[1]}"]

    def _own_docstring(self) -> str | None:
        """The docstring as it is written, without its quotes."""
        body = _body(self.function.body)
        first = body[0] if body else None
        node = first.body[0] if isinstance(first, cst.SimpleStatementLine) else None
        value = node.value if isinstance(node, cst.Expr) else None
        if not isinstance(value, cst.SimpleString):
            return None
        self.quotes = (value.prefix + value.quote, value.quote)
        return value.raw_value


def _summary_of_replicate(docstring: str) -> str:
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


def _leading(statement: cst.CSTNode) -> tuple[list[str], bool]:
    """The comments above a statement that still hold, and whether a blank line is."""
    lines = statement.leading_lines  # type: ignore[attr-defined]
    comments = [line.comment.value for line in lines if line.comment]
    blank = any(line.comment is None for line in lines)
    prose = " ".join(c for c in comments if not _PRAGMA.match(c))
    if _SHARDING_COMMENT.search(prose) and "gradient division" not in prose:
        comments = [comment for comment in comments if _PRAGMA.match(comment)]
    return comments, blank


def _body(suite: cst.BaseSuite) -> Sequence[cst.BaseStatement]:
    if isinstance(suite, cst.SimpleStatementSuite):
        return [cst.SimpleStatementLine(body=suite.body)]
    return suite.body  # type: ignore[return-value]


def _has_trailing_comma(params: cst.Parameters) -> bool:
    every = [*params.posonly_params, *params.params, *params.kwonly_params]
    return bool(every) and isinstance(every[-1].comma, cst.Comma)


def _plain_condition(code: str) -> str:
    """``code`` if it only compares literals and names, so that it is safe to run."""
    allowed = (
        ast.Expression,
        ast.Compare,
        ast.BoolOp,
        ast.UnaryOp,
        ast.Name,
        ast.Constant,
        ast.boolop,
        ast.unaryop,
        ast.cmpop,
        ast.expr_context,
    )
    if all(
        isinstance(node, allowed) for node in ast.walk(ast.parse(code, mode="eval"))
    ):
        return code
    raise CannotMirror(code)


def _parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse(f"({text})")


def _names(text: str) -> set[str]:
    return {n.id for n in ast.walk(_parsed(text)) if isinstance(n, ast.Name)}


def _assigned(text: str) -> set[str]:
    return {
        node.id
        for node in ast.walk(_parsed(text))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _walk(nodes: Iterable[_AnyNode]) -> Iterable[_AnyNode]:
    for node in nodes:
        yield node
        if isinstance(node, _Block):
            yield from _walk(node.body)
            yield from _walk(node.orelse)


def _all_wraps(nodes: Iterable[_AnyNode]) -> Iterable[_Wrap]:
    return (node for node in _walk(nodes) if isinstance(node, _Wrap))


def _holder(node: _AnyNode, wrap: _Wrap) -> _AnyNode | None:
    """``node`` if it is the wrap or an ``if`` that holds it directly."""
    if node is wrap:
        return node
    if isinstance(node, _Block) and node.keyword == "if" and wrap in node.body:
        return node
    return None


def _take_out_of_wrapping(nodes: list[_AnyNode]) -> None:
    """Switching division off inside a loop that wraps: it is written after, for all."""
    for node in nodes:
        if isinstance(node, _Block) and any(True for _ in _all_wraps([node])):
            for block in _walk([node]):
                if isinstance(block, _Block):
                    block.body = [n for n in block.body if not _is_division(n)]
                    block.orelse = [n for n in block.orelse if not _is_division(n)]


def _is_division(node: _AnyNode) -> bool:
    return isinstance(node, _Plain) and _switches_division_off(node)


def _switches_division_off(node: _AnyNode) -> bool:
    return any(
        isinstance(inner, _Plain)
        and inner.effect
        and (
            "set_gradient_divide_factor" in inner.text
            or "gradient_division" in inner.text
        )
        for inner in _walk([node])
    )


def _live(nodes: list[_AnyNode]) -> list[_AnyNode]:
    """What wrapping, and everything with an effect, depends on."""
    used: set[str] = set()
    while True:
        before = set(used)
        for node in _walk(nodes):
            if isinstance(node, _Wrap):
                for text in (*node.modules, *node.arguments):
                    used |= _names(f"f({text})")
            elif isinstance(node, _Plain) and (node.effect or node.target in used):
                used |= _names(node.text)
            elif isinstance(node, _Dict) and node.target in used:
                used |= _names(f"{node.head}{', '.join(node.items)}{node.tail}")
            elif isinstance(node, _Block) and _kept([node], used):
                head = node.keyword if node.keyword != "if" else ""
                for term in node.terms:
                    used |= _names(term)
                if head:
                    used |= _names(f"{head}: pass")
        if used == before:
            return _kept(nodes, used)


def _kept(nodes: list[_AnyNode], used: set[str]) -> list[_AnyNode]:
    kept: list[_AnyNode] = []
    for node in nodes:
        if isinstance(node, _Block):
            body, orelse = _kept(node.body, used), _kept(node.orelse, used)
            if body or orelse:
                kept.append(replace(node, body=body, orelse=orelse))
        elif (
            isinstance(node, _Wrap)
            or (isinstance(node, _Plain) and node.effect)
            or node.target in used
        ):
            kept.append(node)
    return kept


def _emit(nodes: Sequence[_AnyNode], depth: int) -> list[str]:
    lines: list[str] = []
    for index, node in enumerate(nodes):
        if node.blank and index:
            lines.append("")
        lines += [layout.indented(comment, depth) for comment in node.comments]
        if isinstance(node, _Wrap):
            modules = ", ".join(node.modules)
            shown = node.variable or (f"[{modules}]" if node.is_list else modules)
            text = layout.bracketed(
                f"{_CALL}(", [shown, *node.arguments], ")", depth=depth
            )
            lines.append(layout.indented(text, depth))
        elif isinstance(node, _Dict):
            text = layout.bracketed(node.head, node.items, node.tail, depth=depth)
            lines.append(layout.indented(text, depth))
        elif isinstance(node, _Plain):
            lines.append(layout.indented(node.text, depth))
        else:
            lines += _emit_block(node, depth, node.keyword)
    return lines


def _emit_block(node: _Block, depth: int, keyword: str) -> list[str]:
    if node.terms:
        head = layout.conjunction(f"{keyword} ", node.terms, ":", depth=depth)
    else:
        head = f"{keyword}:"
    body: list[_AnyNode] = node.body or [_Plain([], False, "pass")]
    lines = [layout.indented(head, depth), *_emit(body, depth + 1)]
    if len(node.orelse) == 1:
        only = node.orelse[0]
        if isinstance(only, _Block) and only.keyword == "if" and not only.comments:
            return [*lines, *_emit_block(only, depth, "elif")]
    if node.orelse:
        lines += [layout.indented("else:", depth), *_emit(node.orelse, depth + 1)]
    return lines


def _renamed(lines: list[str], renames: dict[str, str]) -> list[str]:
    """The lines with local variables renamed: names alone, no strings, no keywords."""
    renames = {**renames, _CALL: "replicate"}
    tree = ast.parse("\n".join(["if 1:", *lines]))
    places = [
        (node.lineno - 2, node.col_offset, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in renames
    ]
    renamed = [line.encode() for line in lines]
    for number, column, name in sorted(places, reverse=True):
        line = renamed[number]
        end = column + len(name.encode())
        renamed[number] = line[:column] + renames[name].encode() + line[end:]
    return [line.decode() for line in renamed]


def _bare(text: str) -> str:
    """The code of a function, whatever its comments, annotations and local names."""
    function = ast.parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    read = {n.id for n in ast.walk(function) if _is_name(n, ast.Load)}

    class Strip(ast.NodeTransformer):
        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            if node.value is None:
                return node
            return ast.Assign(targets=[node.target], value=node.value, lineno=0)

        def visit_arg(self, node: ast.arg) -> ast.AST:
            node.annotation = None
            return node

        def visit_For(self, node: ast.For) -> ast.AST:
            self.generic_visit(node)
            if isinstance(node.target, ast.Tuple) and len(node.target.elts) == 2:
                key, value = node.target.elts
                walked = ast.unparse(node.iter)
                if walked.endswith(".items()") and _is_name(key) and key.id not in read:
                    # `for _, block in x.items()` walks what `for block in x.values()` does.
                    node.target = value
                    values = f"{walked.removesuffix('.items()')}.values()"
                    node.iter = ast.parse(values, mode="eval").body
            return node

    function.returns = None
    function = Strip().visit(function)
    numbers: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.arg) or _is_name(node, ast.Store):
            name = node.arg if isinstance(node, ast.arg) else node.id
            numbers.setdefault(name, f"_{len(numbers)}")
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.arg = numbers[node.arg]
        elif _is_name(node):
            node.id = numbers.get(node.id, node.id)
    return ast.dump(function)


def _is_name(node: ast.AST, context: type = object) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, context)
