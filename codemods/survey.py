"""What torchtitan is this: one pass over its files, parsing only those that matter.

Everything here is found with the standard library's ``ast``; no file is executed.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from codemods.about import COPY, Kind, MeshApi
from codemods.autocast import trains
from codemods.bindings import Checkout
from codemods.dependency import PACKAGE, UNKNOWN, Dependency
from codemods.made_up_for import makes_up_for_all
from codemods.modules import PLAN_OF_A_SPEC, functions
from codemods.names import Definition, Use
from codemods.nodes import nodes, of_kind, spelled
from codemods.once import once
from codemods.order import Order
from codemods.outside import (
    Outside,
    find_broken,
    find_outside,
    is_lazy,
    uses_torchtitan,
)
from codemods.phases import phase
from codemods.reach import files_of_training
from codemods.shapes import (
    DDP_REPLICATE,
    is_ddp_by_shape,
    sharding_in,
    wraps_with_ddp,
    wraps_with_replicate,
)
from codemods.shapes import function_of as function_of
from codemods.siblings import Sibling, same_object, sibling_of
from codemods.source import SourceFile
from codemods.targets import Mesh
from codemods.trained import Place, trained

OLD = "apply_ddp"

_DEPENDENCY = "a dependency"

REPLICATES = "apply_replicate"
"""What ``apply_ddp`` is called in torchtitan once it wraps with replicate (PR 2458)."""

ReferenceKind = Literal["import", "call", "value", "export"]

_GLOBAL_TOKENS = re.compile(r"global\w*tokens|tokens\w*global")


@dataclass(frozen=True)
class Reference:
    """One place that names ``apply_ddp`` by import, call, value or ``__all__``.

    Args:
        path: of the file.
        line: from 1.
        kind: how it is named.
        scope: qualified name of the function or class around it, "" at module level.
        spelling: as written, ``llama_parallelize.apply_ddp``.
        definition: what it stands for.
        ordinal: the how-manieth of the same scope and spelling in this file.
        imported: of an import, the name that is asked for, whatever it is called here.
    """

    path: str
    line: int
    kind: ReferenceKind
    scope: str
    spelling: str
    definition: Definition
    ordinal: int = 0
    imported: str = ""

    @property
    def is_by_old_name(self) -> bool:
        """Whether it asks for ``apply_ddp`` where that is called otherwise now."""
        name = self.imported or self.spelling.rpartition(".")[2]
        return name == OLD != self.definition.name


@dataclass(frozen=True)
class CallSite:
    """A call of ``apply_ddp``, or of DDP's ``replicate``, with what stands around it.

    Args:
        reference: where it is.
        node: the call.
        function: the function it is in, or None at module level.
        sibling: what shards beside it.
    """

    reference: Reference
    node: ast.Call
    function: ast.FunctionDef | None
    sibling: Sibling = Sibling()

    @property
    def fsdp_call(self) -> ast.Call | None:
        """The call of ``apply_fsdp`` beside it, if any."""
        return self.sibling.call

    @property
    def fsdp_definition(self) -> Definition | None:
        """What that call stands for."""
        return self.sibling.definition


@dataclass(frozen=True)
class Tie:
    """``output.weight = tok_embeddings.weight``: two modules with one weight.

    ``by_method``: it is a call of ``tie_weights``, and the modules are a guess.
    """

    path: str
    line: int
    left: str
    right: str
    by_method: bool = False


@dataclass
class Survey:
    """What was found out about a checkout.

    Args:
        kind, generation, mesh_api: see ``About``.
        definitions: every module-level function that wraps its model with DDP, as
            ``apply_ddp`` does, under whatever name.
        migrated: every module-level function that already wraps with the composable
            replicate and that ``apply_ddp`` could have become.
        other_definitions: functions of that name that do neither.
        references: every place that names one of them.
        call_sites: the calls among these.
        inline: calls of DDP's replicate in a plan, beside a branch that shards.
        direct_uses: (path, line) of DDP's replicate anywhere else.
        class_uses: calls of DistributedDataParallel in a plan, beside a branch that
            shards, or in a function that is called there.
        outside: every place that names what no file here defines.
        dependency: the torchtitan that it uses and does not hold.
        provided: the definitions there that wrap with DDP.
        replicating: those there that wrap with the composable replicate.
        broken: imports of what that torchtitan does not have.
    """

    checkout: Checkout
    dependency: Dependency = UNKNOWN
    kind: Kind = "foreign"
    generation: str = "unknown"
    mesh_api: MeshApi = "world_mesh argument"
    definitions: list[Definition] = field(default_factory=list)
    migrated: list[Definition] = field(default_factory=list)
    other_definitions: list[Definition] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    call_sites: list[CallSite] = field(default_factory=list)
    inline: list[CallSite] = field(default_factory=list)
    direct_uses: list[tuple[str, int]] = field(default_factory=list)
    class_uses: list[CallSite] = field(default_factory=list)
    outside: list[Outside] = field(default_factory=list)
    provided: list[Definition] = field(default_factory=list)
    replicating: list[Definition] = field(default_factory=list)
    broken: list[Outside] = field(default_factory=list)

    @cached_property
    def global_tokens(self) -> tuple[str, ...]:
        """Files whose training loop divides the loss by the global token count.

        So that gradients must be summed, not averaged.
        """
        return tuple(
            file.path
            for file in _loops(self.checkout)
            if file.mentions(b".backward(") and file.all(divides_by_global_tokens)
        )

    @cached_property
    def ties(self) -> list[Tie]:
        """Where weights are tied."""
        return list(_find_ties(self.checkout))

    @property
    def replicates(self) -> list[Definition]:
        """Every function in reach that already wraps with the composable replicate."""
        return [*self.migrated, *self.replicating]

    @property
    def out_of_date(self) -> list[Reference]:
        """The places that name DDP's function of the dependency, or one that was it."""
        return [
            r
            for r in self.references
            if r.definition in self.provided
            or (r.definition in self.replicating and r.is_by_old_name)
        ]

    @property
    def is_past(self) -> bool:
        """Whether the torchtitan at hand has neither function, as from its PR 2900 on."""
        at_hand = bool(self.checkout.dependency)
        return at_hand and not (self.provided or self.replicating)

    @property
    def migrated_to(self) -> Mesh | None:
        """The API that all that is migrated is written for, None where that is unclear."""
        meshes = {mesh_of(self.checkout, definition) for definition in self.migrated}
        return meshes.pop() if len(meshes) == 1 else None

    @cached_property
    def trained_in(self) -> frozenset[str]:
        """The files that have to do with the model that is trained."""
        wrapped = (*self.call_sites, *self.inline, *self.class_uses)
        plans = {site.reference.path for site in wrapped}
        plans |= {definition.path for definition in (*self.definitions, *self.migrated)}
        plans |= {path for path, _ in self.direct_uses}
        called = self.checkout.mentioning(f"{PLAN_OF_A_SPEC}(")
        return files_of_training(self.checkout, {*plans, *(f.path for f in called)})

    @cached_property
    def order(self) -> Order:
        """What the functions of these files do, in which order."""
        return Order(self.checkout, self.trained_in)

    @cached_property
    def trained(self) -> list[Place]:
        """The functions that name the trained model, and what they call it."""
        return trained(self.checkout, self.order)

    @property
    def unresolved(self) -> list[Outside]:
        """Those of ``outside`` that stand for DDP."""
        return [use for use in self.outside if use.name == OLD]

    @property
    def files(self) -> Mapping[str, SourceFile]:
        return self.checkout.files


def survey(
    files: Mapping[str, SourceFile],
    new_name: str = "apply_replicate",
    dependency: Dependency = UNKNOWN,
) -> Survey:
    """Find out what a checkout is.

    Args:
        files: path -> file, for every Python file of the checkout.
        new_name: what ``apply_ddp`` is called once migrated.
        dependency: the torchtitan that it uses and does not hold.

    Raises:
        UnreadableSource: a file that matters cannot be decoded or parsed.
    """
    return _surveyed(Checkout({**files, **dependency.files}), new_name, dependency)


@phase
def _surveyed(checkout: Checkout, new_name: str, dependency: Dependency) -> Survey:
    found = Survey(checkout, dependency)
    _find_definitions(found, new_name)
    _find_provided(found, new_name)
    _find_references(found, new_name)
    _find_outside(found)
    _find_call_sites(found)
    _drop_unlikely(found)
    _find_direct_uses(found)
    _find_class_uses(found)
    found.mesh_api = _mesh_api(found.checkout)
    found.kind = _kind(found)
    found.generation = _generation(found)
    return found


def mesh_of(checkout: Checkout, definition: Definition) -> Mesh | None:
    """For which of the two APIs a function that wraps with replicate is written.

    ``device_mesh`` is the keyword of torch 2.9, and ``mesh`` that of torch 2.10 on. None
    where it says neither, or both.
    """
    node = function_of(checkout, definition)
    said: set[Mesh] = set()
    for inner in nodes(node) if node else ():
        words = [k.arg for k in getattr(inner, "keywords", ())]
        if isinstance(inner, ast.Dict):
            words += [k.value for k in inner.keys if isinstance(k, ast.Constant)]
        said |= {"2d" for word in words if word == "device_mesh"}
        said |= {"1d" for word in words if word == "mesh"}
    return said.pop() if len(said) == 1 else None


@once
def divides_by_global_tokens(file: SourceFile) -> bool:
    """Whether a training loop here divides its loss by a global token count.

    As torchtitan does from 0.2.2 on: a sum loss over the number of valid tokens of
    all ranks, so that gradients have to be summed over ranks. Not where it is multiplied
    by the number of ranks again, so that their average is right.
    """
    if not _GLOBAL_TOKENS.search(file.text):
        return False
    trained = {
        spelled(given)
        for node in of_kind(file.syntax, ast.Call)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
        for given in _trained(node.func.value, node)
    }
    quotients = {
        id(node.value): spelled(target)
        for node in of_kind(file.syntax, ast.Assign)
        for target in node.targets
    }
    for node, what, divisor in _divisions(file.syntax):
        if not _GLOBAL_TOKENS.search(divisor) or "loss" not in what:
            continue
        # Only what goes into the backward pass scales gradients; a metric does not.
        becomes = quotients.get(id(node), what)
        if becomes in trained or spelled(node) in trained:
            return not makes_up_for_all(file)
    return False


def _trained(receiver: ast.expr, call: ast.Call) -> list[ast.expr]:
    """What a backward pass begins with: also ``scaler.scale(loss)``, ``accelerator.backward(loss)``."""
    scaled = receiver.args if isinstance(receiver, ast.Call) else []
    return [receiver, *scaled, *call.args]


def _divisions(tree: ast.Module) -> Iterable[tuple[ast.AST, str, str]]:
    """Each division in any of its spellings, what it divides, and by what."""
    what: ast.expr
    for node in of_kind(tree, ast.BinOp, ast.AugAssign, ast.Call):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            what, divisor = node.left, node.right
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
            what, divisor = node.target, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in ("div", "div_", "divide", "true_divide"):
                continue
            what, divisor = node.func.value, node.args[-1] if node.args else node.func
            if len(node.args) > 1:
                what = node.args[0]
        else:
            continue
        yield node, spelled(what), spelled(divisor)


def _find_definitions(found: Survey, new_name: str) -> None:
    checkout = found.checkout
    fresh = {OLD, REPLICATES, new_name, f"_{new_name}"}
    for file in checkout.mentioning(*fresh, "_composable"):
        if not file.all(_may_define):
            continue
        for node in file.syntax.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            definition = Definition(file.path, node.name)
            # A target may keep the name; a second function follows its own style.
            styled = re.search("replicate|ddp", node.name) is not None
            if (node.name in fresh or styled) and wraps_with_replicate(
                checkout, file, node
            ):
                found.migrated.append(definition)
            elif _wraps_as_ddp(checkout, file, node):
                found.definitions.append(definition)
            elif node.name == OLD:
                found.other_definitions.append(definition)


_DEFINES = re.compile(rb"(?<!\w)replicate|def\s+%s\b" % OLD.encode())


def _may_define(file: SourceFile) -> bool:
    """Whether a file names a ``replicate``, whichever, or has a function of the old name."""
    return _DEFINES.search(file.raw) is not None


def _find_provided(found: Survey, new_name: str) -> None:
    """The functions of the dependency by those names, and what they wrap with."""
    checkout = found.checkout
    for file in checkout.providing(OLD, REPLICATES, new_name):
        for node in file.syntax.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            definition = Definition(file.path, node.name)
            if node.name in (OLD, REPLICATES, new_name) and wraps_with_replicate(
                checkout, file, node
            ):
                found.replicating.append(definition)
            elif node.name == OLD and wraps_with_ddp(checkout, file, node):
                found.provided.append(definition)


def _loops(checkout: Checkout) -> list[SourceFile]:
    """Where training may happen: the dependency's trainer counts where it is the one."""
    own = checkout.mentioning("tokens")
    if not checkout.dependency or trains(checkout):
        return own
    return [*own, *checkout.providing("tokens")]


def _drop_unlikely(found: Survey) -> None:
    """Definitions told by their shape alone that no plan uses are not meant."""
    beside = {
        site.reference.definition
        for site in found.call_sites
        if site.sibling.steps or site.fsdp_call
    }
    unlikely = {
        definition
        for definition in found.definitions
        if definition.name != OLD
        and definition not in beside
        and (
            "ddp" not in definition.name
            or sharding_in(found.checkout, definition.path) is None
        )
    }
    found.definitions = [d for d in found.definitions if d not in unlikely]
    found.references = [r for r in found.references if r.definition not in unlikely]
    found.call_sites = [
        s for s in found.call_sites if s.reference.definition not in unlikely
    ]


def _wraps_as_ddp(checkout: Checkout, file: SourceFile, node: ast.FunctionDef) -> bool:
    """Whether a function is an ``apply_ddp``: by its name, else by what it does."""
    if node.name == OLD:
        return wraps_with_ddp(checkout, file, node)
    return is_ddp_by_shape(checkout, file, node) and _among_plans(
        checkout, file, node.name
    )


def _among_plans(checkout: Checkout, file: SourceFile, name: str) -> bool:
    """Whether a function is defined or named where models are parallelized."""
    plans = (b"parallel_dims", b"ParallelDims", b"fully_shard")
    return any(
        other.mentions(word)
        for other in (file, *checkout.mentioning(name))
        for word in plans
    )


def _find_references(found: Survey, new_name: str) -> None:
    """Follow the name through imports until no new spelling turns up."""
    known = {
        *found.definitions,
        *found.migrated,
        *found.provided,
        *found.replicating,
    }
    words = {OLD, REPLICATES, new_name, *(definition.name for definition in known)}
    done: set[str] = set()
    while words - done:
        fresh = words - done
        done |= words
        for file in list(found.checkout.mentioning(*fresh)):
            if any(file.mentions(word.encode()) for word in done - fresh):
                continue
            for reference in _references_in(found, file, words, known, new_name):
                found.references.append(reference)
                last = reference.spelling.rpartition(".")[2]
                words.add(last)
    found.references.sort(key=lambda r: (r.path, r.line))


def _references_in(
    found: Survey,
    file: SourceFile,
    words: set[str],
    known: set[Definition],
    new_name: str,
) -> Iterable[Reference]:
    checkout = found.checkout
    names = checkout.names(file.path)

    def target(scope: str, spelling: str) -> Definition | None:
        definition = checkout.resolve(file.path, scope, spelling)
        if definition in known:
            return definition
        # An import of apply_ddp from a module that has only the new name left.
        if definition is not None and definition.name == OLD:
            renamed = Definition(definition.path, new_name)
            if renamed in known and not checkout.defines(definition):
                return renamed
        return None

    for scope in names.scopes.values():
        for local, imported in scope.imports.items():
            if imported.name is None:
                continue
            definition = target(scope.qualname, local)
            if definition is not None:
                yield Reference(
                    file.path,
                    imported.line,
                    "import",
                    scope.qualname,
                    local,
                    definition,
                    imported=imported.name,
                )
    imported_here = {
        local for scope in names.scopes.values() for local in scope.imports
    }
    counts: dict[tuple[str, str], int] = {}
    for use in names.uses:
        last = use.spelling.rpartition(".")[2]
        imports = names.scopes[use.scope].imports
        if last not in words and use.spelling not in imports:
            if last not in imported_here:
                continue
        key = (use.scope, use.spelling)
        if use.call is not None:
            counts[key] = counts.get(key, -1) + 1
        definition = None if use.shadowed else target(use.scope, use.spelling)
        if definition is None:
            continue
        ordinal = counts.get(key, 0)
        kind: ReferenceKind = "call" if use.call is not None else "value"
        yield Reference(
            file.path,
            use.node.lineno,
            kind,
            use.scope,
            use.spelling,
            definition,
            ordinal,
        )
    for line, name in exported(file):
        if name in words:
            definition = target("", name)
            if definition is not None:
                yield Reference(file.path, line, "export", "", name, definition)


def _find_outside(found: Survey) -> None:
    referred = {(r.path, r.line, r.spelling) for r in found.references}
    found.outside = [
        use
        for use in find_outside(found.checkout, {OLD, REPLICATES})
        if (use.path, use.line, use.spelling) not in referred
        # A name that is out of date is DDP's, or somebody else's affair.
        and (use.name == OLD or not use.held)
        # What a module makes when it is asked is DDP's where there is one to make.
        and (found.definitions or not is_lazy(found.checkout, use.module))
    ]
    named = {(use.path, use.line) for use in found.outside}
    named |= {(reference.path, reference.line) for reference in found.references}
    found.broken = [
        use for use in find_broken(found.checkout) if (use.path, use.line) not in named
    ]


def exported(file: SourceFile) -> list[tuple[int, str]]:
    """(line, name) of every string in ``__all__``."""
    found = []
    for node in file.syntax.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, (ast.AugAssign, ast.AnnAssign))
            else []
        )
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            for inner in nodes(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    found.append((inner.lineno, inner.value))
    return found


def _find_call_sites(found: Survey) -> None:
    for reference in found.references:
        if reference.kind != "call":
            continue
        names = found.checkout.names(reference.path)
        use = [
            use
            for use in names.uses
            if (use.scope, use.spelling) == (reference.scope, reference.spelling)
            and use.call is not None
        ][reference.ordinal]
        assert use.call is not None
        function = enclosing(found.files[reference.path].syntax, use.call)
        beside = sibling_of(found.checkout, reference.path, use.call, function)
        found.call_sites.append(CallSite(reference, use.call, function, beside))


def enclosing(tree: ast.Module, node: ast.expr) -> ast.FunctionDef | None:
    """The innermost function whose lines hold ``node``."""
    return enclosing_line(tree, node.lineno)


def enclosing_line(tree: ast.Module, line: int) -> ast.FunctionDef | None:
    """The innermost function that a line is in."""
    holding = [
        f
        for f in functions(tree)
        if isinstance(f, ast.FunctionDef) and f.lineno <= line <= (f.end_lineno or 0)
    ]
    return max(holding, key=lambda f: f.lineno, default=None)


def _find_direct_uses(found: Survey) -> None:
    """DDP's replicate called anywhere but in a definition of ``apply_ddp``."""
    for file in found.checkout.mentioning("_composable"):
        inside = [
            (f.lineno, f.end_lineno or f.lineno)
            for d in found.definitions
            if d.path == file.path
            for f in [function_of(found.checkout, d)]
            if f is not None
        ]
        counts: dict[tuple[str, str], int] = {}
        for use in found.checkout.names(file.path).uses:
            key, line = (use.scope, use.spelling), use.node.lineno
            if use.call is not None:
                counts[key] = counts.get(key, -1) + 1
            if any(first <= line <= last for first, last in inside):
                continue
            origin = found.checkout.external(file.path, use.scope, use.spelling)
            if origin not in DDP_REPLICATE:
                continue
            site = _inline(found.checkout, file, use, counts.get(key, 0))
            if site is not None:
                found.inline.append(site)
            else:
                found.direct_uses.append((file.path, line))


def _find_class_uses(found: Survey) -> None:
    """DistributedDataParallel where plans wrap their models."""
    checkout = found.checkout
    for file in checkout.mentioning("DistributedDataParallel"):
        for use in checkout.names(file.path).uses:
            origin = checkout.external(file.path, use.scope, use.spelling) or ""
            if use.call is None or not origin.endswith(".DistributedDataParallel"):
                continue
            function = enclosing(file.syntax, use.call)
            if function is None:
                continue
            beside = sibling_of(checkout, file.path, use.call, function)
            if not beside.steps:
                beside = _called_beside(checkout, Definition(file.path, function.name))
            if beside.steps:
                definition = Definition(file.path, use.spelling)
                line = use.node.lineno
                reference = Reference(
                    file.path, line, "call", use.scope, use.spelling, definition
                )
                site = CallSite(reference, use.call, function, beside)
                found.class_uses.append(site)


def _called_beside(checkout: Checkout, definition: Definition) -> Sibling:
    """What shards beside a call of a function, in the plan that calls it."""
    for file in checkout.mentioning(definition.name):
        for use in checkout.names(file.path).uses:
            if use.call is None or use.shadowed:
                continue
            if checkout.resolve(file.path, use.scope, use.spelling) != definition:
                continue
            function = enclosing(file.syntax, use.call)
            beside = sibling_of(checkout, file.path, use.call, function)
            if beside.steps:
                return beside
    return Sibling()


def _inline(
    checkout: Checkout, file: SourceFile, use: Use, ordinal: int
) -> CallSite | None:
    """The call of DDP's replicate in a plan whose sibling branch shards the same."""
    if use.call is None:
        return None
    function = enclosing(file.syntax, use.call)
    beside = sibling_of(checkout, file.path, use.call, function)
    about = any(same_object(step.call, use.call) for step in beside.steps)
    if function is None or not about:
        return None
    definition = Definition(file.path, use.spelling)
    reference = Reference(
        file.path, use.node.lineno, "call", use.scope, use.spelling, definition, ordinal
    )
    return CallSite(reference, use.call, function, beside)


def _find_ties(checkout: Checkout) -> Iterable[Tie]:
    for file in checkout.mentioning(".tie_weights("):
        yield from file.all(_tied_by_method)
    for file in checkout.mentioning(".weight = ", "setattr("):
        yield from file.all(_tied)


def _tied_by_method(file: SourceFile) -> tuple[Tie, ...]:
    return tuple(
        Tie(file.path, node.lineno, "output", "tok_embeddings", True)
        for node in of_kind(file.syntax, ast.Call)
        if isinstance(node.func, ast.Attribute)
        if node.func.attr == "tie_weights"
    )


def _tied(file: SourceFile) -> tuple[Tie, ...]:
    return tuple(
        Tie(file.path, value.lineno, left, right)
        for node in of_kind(file.syntax, ast.Assign, ast.Call)
        for left, value in _set_weights(node)
        for right in [_weight_of(value)]
        if right and left != right
    )


def _set_weights(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The modules whose weight a node sets, and to what: by ``=`` or by ``setattr``."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            left = _weight_of(target)
            if left:
                yield left, node.value
    elif isinstance(node, ast.Call) and spelled(node.func) == "setattr":
        if len(node.args) == 3 and isinstance(node.args[1], ast.Constant):
            weight = ast.Attribute(node.args[0], str(node.args[1].value))
            left = _weight_of(weight)
            if left:
                yield left, node.args[2]


def _weight_of(node: ast.expr) -> str | None:
    """``output`` for ``<anything>.output.weight``."""
    if (
        isinstance(node, ast.Attribute)
        and node.attr == "weight"
        and isinstance(node.value, ast.Attribute)
    ):
        return node.value.attr
    return None


@once
def parallel_dims_files(checkout: Checkout) -> list[tuple[SourceFile, ast.ClassDef]]:
    """Every definition of ParallelDims that is not derived from another; the dependency's last."""
    word = "class ParallelDims"
    return [
        (file, node)
        for file in (*checkout.mentioning(word), *checkout.providing(word))
        for node in file.all(_parallel_dims)
    ]


def _parallel_dims(file: SourceFile) -> tuple[ast.ClassDef, ...]:
    return tuple(
        node
        for node in file.syntax.body
        if isinstance(node, ast.ClassDef) and node.name == "ParallelDims"
    )


def _mesh_api(checkout: Checkout) -> MeshApi:
    for _, node in parallel_dims_files(checkout):
        methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        if "get_mesh" in methods:
            return "get_mesh"
        if "world_mesh" in methods:
            return "world_mesh property"
    return "world_mesh argument"


def _kind(found: Survey) -> Kind:
    if found.definitions or found.inline or found.direct_uses or found.class_uses:
        return "ddp"
    if found.out_of_date:
        return "ddp"
    dims = [
        file for file, _ in parallel_dims_files(found.checkout) if not file.dependency
    ]
    looks_like = dims or any(
        True for _ in found.checkout.mentioning("class JobConfig", "parallelize_llama")
    )
    imports = (f"from {PACKAGE}", f"import {PACKAGE}")
    if found.other_definitions and (
        looks_like or any(True for _ in found.checkout.mentioning(*imports))
    ):
        return "ddp"
    if found.migrated:
        return "migrated"
    if any(not use.held for use in found.outside):
        return "dependent"
    if uses_torchtitan(found.checkout):
        return "dependent"
    return "past" if looks_like else "foreign"


def _generation(found: Survey) -> str:
    if found.kind in ("past", "foreign", "dependent"):
        return {
            "past": "after PR 2900 (0.3.0)",
            "foreign": "no torchtitan",
            "dependent": _DEPENDENCY,
        }[found.kind]
    if not any(not f.dependency for f, _ in parallel_dims_files(found.checkout)):
        own = (*found.definitions, *found.migrated, *found.inline, *found.class_uses)
        return COPY if own or not found.out_of_date else _DEPENDENCY
    if found.checkout.has_path("parallelisms/"):
        return "2024"
    if found.mesh_api == "world_mesh argument":
        return "0.1"
    if found.mesh_api == "world_mesh property":
        return "0.2.0"
    if found.checkout.has_path(r"models/llama3/parallelize\.py$"):
        return "main, spring 2026"
    return "0.2.2" if found.global_tokens else "0.2.1"
