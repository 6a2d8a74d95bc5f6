"""Call sites that a run of one model would never reach, checked without running them.

Training llama3 says nothing about a qwen3 plan that still imports the
`apply_ddp` that is gone. So every use of a function that the migration renamed,
removed or gave other parameters is followed to its definition, by parsing alone.
This is done here apart from the codemods, so that one does not repeat the
other's mistake.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Function:
    """A module-level function's parameters."""

    positional: tuple[str, ...]
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    variadic: bool
    keywords: bool


def broken_sites(base: Path, migrated: Path) -> tuple[str, ...]:
    """Sentences about uses, anywhere under `migrated`/torchtitan, of changed functions that no longer fit.

    `base` and `migrated` are the folders that hold the `torchtitan` package.
    """
    before, after = _functions(base), _functions(migrated)
    changed = {
        name
        for root, one, other in ((base, before, after), (migrated, after, before))
        for module in one
        for name, function in one[module].items()
        if other.get(module, {}).get(name) != function
        and _wraps_by_replicate(root, module, name)
    }
    if not changed:
        return ()
    found: list[str] = []
    for path in sorted((migrated / "torchtitan").rglob("*.py")):
        source = path.read_bytes()
        if any(name.encode() in source for name in changed):
            shown = path.relative_to(migrated).as_posix()
            try:
                module = ast.parse(source)
            except (SyntaxError, ValueError) as error:
                found.append(f"{shown} cannot be parsed: {error}.")
                continue
            found += _in_file(
                module, shown, _module_name(path, migrated), changed, after
            )
    return tuple(found)


def _in_file(
    tree: ast.Module, shown: str, own: str, changed: set[str], after: dict
) -> Iterator[str]:
    bound: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = _resolve(node, own, is_package=shown.endswith("/__init__.py"))
            for alias in node.names:
                if alias.name not in changed:
                    continue
                bound[alias.asname or alias.name] = (source, alias.name)
                if (
                    source in after
                    and alias.name not in after[source]
                    and not _reexports(after, source, alias.name)
                ):
                    yield f"{shown}:{node.lineno} imports {alias.name} from {source}, which no longer defines it."
    for name in after.get(own, {}):
        if name in changed:
            bound[name] = (own, name)
    stored = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    stored |= {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)
            and node.id in changed
        ):
            if node.id not in bound and node.id not in stored:
                yield f"{shown}:{node.lineno} uses {node.id}, which is not defined there any more."
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in bound
        ):
            source, name = bound[node.func.id]
            function = after.get(source, {}).get(name)
            misfit = _misfit(node, function) if function else None
            if misfit:
                yield f"{shown}:{node.lineno} calls {name} {misfit}."


def _misfit(call: ast.Call, function: _Function) -> str | None:
    """Why a call does not fit a function's parameters; None where it does, or where * and ** hide the answer."""
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(
        k.arg is None for k in call.keywords
    ):
        return None
    if len(call.args) > len(function.positional) and not function.variadic:
        return f"with {len(call.args)} positional arguments, of which it takes {len(function.positional)}"
    given = set(function.positional[: len(call.args)])
    for keyword in call.keywords:
        if (
            keyword.arg not in (*function.positional, *function.keyword_only)
            and not function.keywords
        ):
            return f"with {keyword.arg}=, which it does not take any more"
        given.add(keyword.arg)
    missing = sorted(function.required - given)
    return f"without {', '.join(missing)}" if missing else None


def _functions(root: Path) -> dict[str, dict[str, _Function]]:
    """Module-level functions of every module of the package that mentions replicate or apply_ddp, by module name."""
    found: dict[str, dict[str, _Function]] = {}
    for path in (root / "torchtitan").rglob("*.py"):
        source = path.read_bytes()
        if b"replicate" not in source and b"apply_ddp" not in source:
            continue
        try:
            module = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        found[_module_name(path, root)] = {
            node.name: _signature(node)
            for node in module.body
            if isinstance(node, ast.FunctionDef)
        }
    return found


def _signature(node: ast.FunctionDef) -> _Function:
    arguments = node.args
    positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    optional = (
        positional[len(positional) - len(arguments.defaults) :]
        if arguments.defaults
        else []
    )
    keyword_only = [a.arg for a in arguments.kwonlyargs]
    required = {name for name in positional if name not in optional}
    required |= {
        a.arg
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults)
        if default is None
    }
    return _Function(
        tuple(positional),
        tuple(keyword_only),
        frozenset(required),
        arguments.vararg is not None,
        arguments.kwarg is not None,
    )


def _wraps_by_replicate(root: Path, module: str, name: str) -> bool:
    """Whether a function wraps a model by data parallelism: it calls `replicate` (old or new) or DistributedDataParallel."""
    path = root.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
            called = {
                f.id if isinstance(f, ast.Name) else getattr(f, "attr", "")
                for f in calls
            }
            return bool(called & {"replicate", "DistributedDataParallel", "DDP"})
    return False


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _resolve(node: ast.ImportFrom, own: str, *, is_package: bool) -> str:
    """The absolute name of the module that an import statement of module `own` reads from."""
    if not node.level:
        return node.module or ""
    parts = own.split(".")
    kept = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _reexports(after: dict, module: str, name: str) -> bool:
    """A package's __init__ may pass a name on; its own import is then checked where it stands."""
    return not after[module]
