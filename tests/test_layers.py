"""Each room imports only what lies below it, and no module imports itself by way of others."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IN_RANK = "migrator.verify.train.in_rank"
IN_WORLD = "migrator.verify.rehearse.in_world"
APART = (IN_RANK, IN_WORLD)
"""What runs in a fork's own environment, so that it imports nothing of ours but itself."""
# Bottom to top; a module belongs to the longest of these that its name begins with.
LAYERS = f"""
    codemods
    migrator.version migrator.errors migrator.signals migrator.terminal migrator.patch
    migrator.place migrator.caches migrator.config migrator.pins migrator.releases migrator.torchtitans
    migrator.dependency migrator.checkout migrator.changeset migrator.apply migrator.kept
    migrator.explain migrator.render migrator.series
    migrator.verify.errors migrator.verify.groups
    migrator.verify.choose {IN_RANK} migrator.verify.train migrator.verify.keep
    {IN_WORLD} migrator.verify.rehearse migrator.verify.judge migrator.verify.show
    migrator.verify.rehearsal migrator.verify.job migrator.verify.run migrator.verify
    migrator.review migrator.sweep migrator.demo migrator.options migrator.cli
    migrator.__main__ migrator.installed
""".split()


def layer(module: str) -> int:
    """The place of a module in LAYERS; raises ValueError for a room that has none."""
    rooms = [name for name in LAYERS if f"{module}.".startswith(f"{name}.")]
    return LAYERS.index(max(rooms, key=len, default=module))


def imported(root: Path) -> dict[str, set[str]]:
    """The modules of codemods and migrator that each of theirs imports anywhere in it, functions and TYPE_CHECKING too."""
    paths = {}
    for path in (
        p for room in ("codemods", "migrator") for p in root.glob(f"{room}/**/*.py")
    ):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts).removesuffix(".__init__")] = path
    found: dict[str, set[str]] = {module: set() for module in paths}
    for module, path in paths.items():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names = [(alias.name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = path.relative_to(root).parts[: -node.level or None]
                start = [*package, node.module] if node.level else [node.module]
                source = ".".join(filter(None, start))
                names = [(f"{source}.{alias.name}", source) for alias in node.names]
            else:
                continue
            found[module] |= {name if name in paths else of for name, of in names}
        found[module] &= paths.keys() - {module}
    return found


def upward(graph: dict[str, set[str]]) -> list[str]:
    """The imports of what lies above, and of anything of ours in the ranks, as "module imports module"."""
    return [
        f"{module} imports {other}"
        for module, others in sorted(graph.items())
        for other in sorted(others)
        if layer(other) > layer(module)
        or any(module.startswith(a) and not other.startswith(a) for a in APART)
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_each_room_imports_only_what_lies_below_it():
    assert upward(imported(ROOT)) == []


def test_no_module_imports_itself_by_way_of_others():
    assert circle(imported(ROOT)) == []


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("codemods.a", "def f():\n    import migrator.cli"),
        ("migrator.render.a", "from migrator import cli"),
        ("migrator.verify.judge.a", "from migrator.verify.show.b import c"),
        ("migrator.verify.train.a", "from ..show import b"),
        ("migrator.verify.train.in_rank.a", "from migrator import errors"),
        ("migrator.verify.rehearse.in_world.a", "from migrator import errors"),
    ],
)
def test_an_import_of_what_lies_above_is_seen(tmp_path, module, statement):
    made = {module: statement}
    made |= {"migrator.cli": "", "migrator.errors": "", "migrator.verify.show.b": ""}
    for name, text in made.items():
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (found,) = upward(imported(tmp_path))
    assert found.startswith(f"{module} imports migrator.")


def test_a_circle_is_seen(tmp_path):
    (tmp_path / "migrator").mkdir()
    (tmp_path / "migrator" / "errors.py").write_text("from . import cli")
    (tmp_path / "migrator" / "cli.py").write_text(
        "def f():\n    import migrator.errors"
    )
    assert set(circle(imported(tmp_path))) == {"migrator.errors", "migrator.cli"}
