"""Plans executed before and after their migration, with stand-ins for all around them."""

from pathlib import Path

import pytest

from codemods.bindings import Checkout
from codemods.engine import migrate
from codemods.execute.confirm import Verdict, confirm
from codemods.execute.worlds import all_degrees, few_degrees
from codemods.source import SourceFile
from codemods.targets import choose_target

from places import TOP
from releases import VERSIONS, release

FIXTURES = sorted(p.name for p in (TOP / "fixtures").iterdir() if p.is_dir())

LEFT = {("legacy_dp", "2d"), ("legacy_mid", "2d")}
"""Trees whose dimension of data parallelism no 2-D mesh can be made of."""


def executed(root: Path, mesh: str) -> Verdict:
    """What executing everything that the migration of a tree changes shows."""
    files = {
        path.relative_to(root).as_posix(): SourceFile(
            path.relative_to(root).as_posix(), path.read_bytes()
        )
        for path in root.rglob("*.py")
    }
    outcome = migrate(files, choose_target(mesh, None))
    after = {p: SourceFile(p, raw) for p, raw in outcome.changes.items()}
    return confirm(
        Checkout(files),
        Checkout({**files, **after}),
        mesh,
        # The degrees that make a difference do so on either target.
        degrees=list(all_degrees()) if mesh == "1d" else few_degrees(),
        said={(f.path, f.line) for f in outcome.findings if f.code == "TM212"},
        templates={
            (f.path, outcome.target.function_name)
            for f in outcome.findings
            if f.code == "TM210"
        },
    )


def assert_confirmed(verdict: Verdict, but: dict[str, str]) -> None:
    """Every changed function is confirmed, but for those that a template stands in for."""
    assert [str(mismatch) for mismatch in verdict.mismatches] == []
    assert {name: why for (_, name), why in verdict.unclear.items()} == but
    assert verdict.confirmed


@pytest.mark.parametrize("mesh", ["1d", "2d"])
@pytest.mark.parametrize("name", FIXTURES)
def test_every_plan_of_the_fixtures(name, mesh):
    if (name, mesh) in LEFT:
        pytest.skip("nothing is written for it")
    template = "a template stands in the place of what FSDP does"
    but = {"parallelize_stork": template} if name == "fork_quirks" else {}
    assert_confirmed(executed(TOP / "fixtures" / name, mesh), but)


@pytest.mark.release
@pytest.mark.parametrize("mesh", ["1d", "2d"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_plan_of_the_releases(version, mesh):
    assert_confirmed(executed(release(version), mesh), {})
