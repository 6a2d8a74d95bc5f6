"""The one mesh of the new function, wherever ``apply_fsdp`` has its meshes from.

Under pure replication every mesh that ``fully_shard`` is given, for dense parts and
for experts, stands for the same ranks: those of the data-parallel replicas.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from codemods.mirror.names import names_in
from codemods.mirror.nodes import AnyNode, Block, Dict, Plain, Wrap, walk
from codemods.mirror.records import CannotMirror

_UNTRUE = re.compile(r"fsdp|shard|_cp$|_ep$|ep_|expert|moe|hsdp")
USUAL = "dp_mesh"


@dataclass(frozen=True)
class OneMesh:
    """Where the mesh of the new function comes from.

    Args:
        name: of the parameter, None where the function looks it up itself.
        given: it is a parameter of ``apply_fsdp`` already.
        sources: the names that it was looked up from, where it was not given.
        replaced: the names of other meshes, which nothing may read any more.
    """

    name: str | None
    given: bool = True
    sources: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()


def one_mesh(
    nodes: list[AnyNode],
    model: str,
    parameters: Collection[str],
    keyword: str,
    is_right: Callable[[str], bool],
    optional: Collection[str] = (),
) -> tuple[list[AnyNode], OneMesh]:
    """The nodes with one mesh for every group, and where it comes from.

    Args:
        nodes: of the whole function; changed in place.
        model: the parameter that is the model.
        parameters: of ``apply_fsdp``.
        keyword: what replicate calls its mesh.
        is_right: whether an expression is the mesh to replicate over as it stands.
        optional: the parameters that are None where nothing is passed.

    Raises:
        CannotMirror: it is not known what it wraps on.
    """
    every = [mesh for node in walk(nodes) for mesh in _meshes(node, keyword)]
    if not every:
        raise CannotMirror("the mesh it wraps on is none of its parameters")
    main = _of_root(nodes, model, keyword) or every[0]
    assigned = _assigned(nodes, main)
    if len(assigned) == 1 and assigned[0] in parameters:
        main, assigned = assigned[0], []  # another name for a parameter
    if main in parameters:
        return _given(nodes, main, every, keyword, optional)
    if main.isidentifier() and not assigned:
        raise CannotMirror("the mesh it wraps on is none of its parameters")
    looked_up = assigned or [main]
    if all(map(is_right, looked_up)) and set(every) == {main}:
        return nodes, OneMesh(None)
    sources = frozenset(n for text in looked_up for n in names_in(text))
    return _looked_up(nodes, main, every, keyword, optional, sources)


def _given(
    nodes: list[AnyNode],
    main: str,
    every: Sequence[str],
    keyword: str,
    optional: Collection[str],
) -> tuple[list[AnyNode], OneMesh]:
    """A mesh that is a parameter, under whatever other names it is passed."""
    others = frozenset(m for m in every if m.isidentifier()) - {main}
    aliases = {m for m in others if _assigned(nodes, m) == [main]}
    _replace(nodes, keyword, {m: main for m in every if m not in aliases})
    others -= aliases
    gone = others
    if _assigned(nodes, main):
        gone |= {main}  # a slice of what is passed: now the slice is passed
    nodes = _without(nodes, gone, optional)
    if main in gone and any(
        f"{main}[" in text for n in walk(nodes) for text in _texts(n)
    ):
        raise CannotMirror(f"it slices {main} in several ways")
    return nodes, OneMesh(main, replaced=others)


def _looked_up(
    nodes: list[AnyNode],
    main: str,
    every: Sequence[str],
    keyword: str,
    optional: Collection[str],
    sources: frozenset[str],
) -> tuple[list[AnyNode], OneMesh]:
    """A mesh that becomes a parameter, and is looked up no more."""
    taken = {name for node in walk(nodes) for name in _names(node)} - set(every)
    name = main if main.isidentifier() and not _UNTRUE.search(main) else USUAL
    if name in taken:
        raise CannotMirror(f"it has something else called {name}")
    _replace(nodes, keyword, dict.fromkeys(every, name))
    others = frozenset(m for m in every if m.isidentifier())
    nodes = _without(nodes, others | {main}, optional)
    return nodes, OneMesh(name, False, sources, others - {name})


def refuse_other_uses(nodes: Sequence[AnyNode], mesh: OneMesh) -> None:
    """Raise where a mesh that is gone serves something else, its size say.

    Raises:
        CannotMirror: naming it.
    """
    for node in walk(nodes):
        found = _names(node) & mesh.replaced
        if found:
            raise CannotMirror(f"it uses {min(found)} for more than wrapping")


def _meshes(node: AnyNode, keyword: str) -> Iterator[str]:
    """The expressions that a node passes as a mesh, or puts into a dict for it."""
    if isinstance(node, (Dict, Wrap)):
        for item in node.items if isinstance(node, Dict) else node.arguments:
            found = _item(item, keyword)
            if found:
                yield found[2]
    if isinstance(node, Plain):
        found = _subscript(node.text, keyword)
        if found:
            yield found[2]


def _item(item: str, keyword: str) -> re.Match[str] | None:
    return re.fullmatch(rf'("?{keyword}"?\s*[:=]\s*)(.+)', item, re.DOTALL)


def _subscript(text: str, keyword: str) -> re.Match[str] | None:
    return re.fullmatch(rf'(\w+\["{keyword}"\] = )(.+)', text, re.DOTALL)


def _of_root(nodes: Sequence[AnyNode], model: str, keyword: str) -> str | None:
    """The mesh of the last group, which is the model itself."""
    for wrap in [n for n in walk(nodes) if isinstance(n, Wrap)][::-1]:
        if wrap.modules != [model]:
            continue
        for passed in _meshes(wrap, keyword):
            return passed
        by_star = {a.removeprefix("**") for a in wrap.arguments if a.startswith("**")}
        held = [
            mesh
            for node in walk(nodes)
            if isinstance(node, (Dict, Plain)) and node.target in by_star
            for mesh in _meshes(node, keyword)
        ]
        if held:
            return held[-1]
    return None


def _assigned(nodes: Sequence[AnyNode], name: str) -> list[str]:
    """What a local variable is set to, each time that it is."""
    found = []
    for node in walk(nodes):
        if isinstance(node, Plain) and node.target == name:
            value = re.fullmatch(
                rf"{re.escape(name)}(?::[^=]+)? = (.+)", node.text, re.DOTALL
            )
            if value:
                found.append(value[1])
    return found


def _replace(nodes: Sequence[AnyNode], keyword: str, fresh: dict[str, str]) -> None:
    """Write another mesh wherever one of these is passed."""

    def item(text: str) -> str:
        found = _item(text, keyword)
        return found[1] + fresh.get(found[2], found[2]) if found else text

    for node in walk(nodes):
        if isinstance(node, Dict):
            node.items = [item(text) for text in node.items]
        elif isinstance(node, Wrap):
            node.arguments = [item(text) for text in node.arguments]
        elif isinstance(node, Plain):
            found = _subscript(node.text, keyword)
            if found:
                node.text = found[1] + fresh.get(found[2], found[2])


def _without(
    nodes: Sequence[AnyNode], gone: Collection[str], optional: Collection[str]
) -> list[AnyNode]:
    """The nodes without what sets these meshes or asks whether there is one.

    A mesh that need not be passed is one for experts, and replicas have none.
    """
    kept: list[AnyNode] = []
    for node in nodes:
        if isinstance(node, Block):
            node.body = _without(node.body, gone, optional)
            node.orelse = _without(node.orelse, gone, optional)
            kept += _decided(node, gone, optional)
        elif not (isinstance(node, Plain) and node.target in gone) or _is_item(node):
            kept.append(node)
    return kept


def _decided(
    node: Block, gone: Collection[str], optional: Collection[str]
) -> list[AnyNode]:
    """A block less those of its conditions that are known."""
    if node.keyword != "if":
        return [node]
    known = {
        f"{mesh} is {word}None": (word == "not ") != (mesh in optional)
        for mesh in gone
        for word in ("", "not ")
    }
    verdicts = [known.get(term) for term in node.terms]
    if False in verdicts:
        return node.orelse
    node.terms = [term for term in node.terms if known.get(term) is None]
    return [node] if node.terms else node.body


def _is_item(node: Plain) -> bool:
    """Whether a statement sets an item of its target, not the target itself."""
    return node.target is not None and node.text.startswith(f"{node.target}[")


def _names(node: AnyNode) -> set[str]:
    """The names in a node itself, not in what it holds."""
    return {name for text in _texts(node) for name in names_in(text)}


def _texts(node: AnyNode) -> list[str]:
    if isinstance(node, Wrap):
        return [f"f({text})" for text in (*node.modules, *node.arguments)]
    if isinstance(node, Dict):
        return [f"{node.head}{', '.join(node.items)}{node.tail}"]
    if isinstance(node, Plain):
        return [node.text]
    head = [] if node.keyword == "if" else [f"{node.keyword}: pass"]
    return [*node.terms, *head]
