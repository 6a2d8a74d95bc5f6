"""Plans executed before and after their migration, with stand-ins for all around them."""

from pathlib import Path
from textwrap import indent

import pytest
from mutants import MUTANTS, migration, shown

from codemods.bindings import Checkout
from codemods.execute.confirm import Known, confirm
from codemods.execute.migration import executed
from codemods.execute.records import Verdict
from codemods.execute.worlds import all_degrees
from codemods.source import SourceFile

from places import FORKS, TOP
from support import (
    APPLY_DDP,
    APPLY_FSDP,
    BASE,
    HERE,
    IMPORT,
    PLAN,
    PLAN_IMPORTS,
    outcome,
    text,
)

LEFT = {("legacy_dp", "2d"), ("legacy_mid", "2d")}
"""Trees whose dimension of data parallelism no 2-D mesh can be made of."""

TEMPLATE = "a template stands in the place of what FSDP does"


def verdict_of(root: Path, mesh: str) -> Verdict:
    """What executing everything that the migration of a tree changes shows."""
    made = migration(root, mesh)
    changes = made.outcome.changes.items()
    after = {path: SourceFile(path, raw) for path, raw in changes}
    return executed(
        made.facts,
        Checkout({**made.files, **after}),
        made.outcome.findings,
        # The others are written for fewer dimensions, and what differs does so in 1-D.
        list(all_degrees()) if root.name == "v0_2_2" and mesh == "1d" else None,
        flips=mesh == "1d",
    )


def assert_confirmed(verdict: Verdict, but: dict[str, str]) -> None:
    assert [str(mismatch) for mismatch in verdict.mismatches] == []
    assert {name: why for (_, name), why in verdict.unclear.items()} == but
    assert verdict.confirmed


@pytest.mark.parametrize("mesh", ["1d", "2d"])
@pytest.mark.parametrize("name", FORKS)
def test_every_plan_of_the_fixtures(name, mesh):
    if (name, mesh) in LEFT:
        pytest.skip("nothing is written for it")
    but = {"parallelize_stork": TEMPLATE} if name == "fork_quirks" else {}
    assert_confirmed(verdict_of(TOP / "fixtures" / name, mesh), but)


@pytest.mark.parametrize("mutant", MUTANTS[::2], ids=str)
def test_a_wrong_migration_is_told(mutant):
    """Every other one; ``mutants.py`` prints them all."""
    assert any(shown(mutant, flips=flips).mismatches for flips in (False, True))


def compared(before: str, after: str) -> Verdict:
    """What executing a file that became another shows."""
    trees = [
        Checkout({"plan.py": SourceFile("plan.py", text(code).encode())})
        for code in (before, after)
    ]
    return confirm(*trees, Known("1d"))


TWO_BRANCHES = """
    from torch.distributed.fsdp import fully_shard
    IMPORT

    def parallelize(model, parallel_dims, job_config):
        if parallel_dims.fsdp_enabled:
            FIRST
            fully_shard(model, mesh=parallel_dims.get_mesh("fsdp"))
        elif parallel_dims.dp_replicate_enabled:
            CALL
        return model
"""
OLD = "from torch.distributed._composable.replicate import replicate"
NEW = "from torch.distributed._composable.replicate_with_fsdp import replicate"
MESH = 'parallel_dims.get_mesh("dp_replicate")'


def plan(new: str, call: str, first: str = "pass") -> str:
    filled = TWO_BRANCHES.replace("IMPORT", new).replace("CALL", call)
    return filled.replace("FIRST", first)


def one(call: str, first: str = "pass") -> tuple[list[str], list[str]]:
    """(what differs, what is not clear) where a call takes the place of DDP's."""
    verdict = compared(
        plan(OLD, f"replicate(model, device_mesh={MESH})", first),
        plan(NEW, call, first),
    )
    return [m.what for m in verdict.mismatches], [*verdict.unclear.values()]


def test_a_checkout_without_parallel_dims():
    """A stand-in takes its place, with what plans ask of torchtitan's."""
    assert one(f"replicate(model, mesh={MESH})") == ([], [])


def test_a_mesh_that_a_stand_in_does_not_have_is_not_judged():
    wrong, (unclear,) = one('replicate(model, mesh=parallel_dims.get_mesh("mine"))')
    assert wrong == [] and "mine" in unclear


def test_a_branch_that_is_not_reached_is_not_confirmed():
    """An answer that no question asks for: parallel_dims is never asked."""
    never = f"if job_config.a and not job_config.a:\n                replicate(model, mesh={MESH})"
    old = never.replace("mesh=", "device_mesh=") + "\n            pass"
    verdict = compared(plan(OLD, old), plan(NEW, never))
    assert list(verdict.unclear.values()) == ["its replicate is not reached"]


def test_what_differs_is_told_with_both_sides():
    wrong, unclear = one(f"replicate(model.layers, mesh={MESH})")
    assert unclear == []
    assert "shard([model.layers]" in wrong[0]
    assert "where FSDP has shard([model]" in wrong[0]


@pytest.mark.parametrize(
    "first",
    [
        "async def f():\n                pass\n            yield 1",
        "for part in job_config.torch():\n                del part.x",
    ],
)
def test_what_is_not_followed_is_not_confirmed(first):
    wrong, unclear = one(f"replicate(model, mesh={MESH})", first)
    assert wrong == [] and len(unclear) == 1


@pytest.mark.parametrize(
    "first",
    [
        "model = model if job_config.a else model",
        "for block in reversed(list(model.layers)):\n                job_config.f(block)",
        "[job_config.f(n, b) for n, b in model.named_children() if 'x' in n]",
        "with job_config.scope() as scope:\n                scope.enter(model)",
        "try:\n                job_config.f()\n            except ImportError:\n                pass",
        "first, *rest = model.layers\n            job_config.f(*rest, **{'x': first})",
        "match job_config.kind:\n                case 'a' | 'b':\n                    pass\n                case other:\n                    raise ValueError(other)",
        "n = 0\n            while n < 3:\n                n += 1",
        "setattr(model, 'seen', True)\n            assert hasattr(model, 'seen'), f'{model!r}'",
        "import functools\n            functools.partial(fully_shard, mesh=parallel_dims.get_mesh('fsdp'))",
    ],
)  # fmt: skip
def test_what_forks_write_is_followed(first):
    """In the branch that shards; it only has to be the same before and after."""
    verdict = compared(
        plan(OLD, f"replicate(model, device_mesh={MESH})", first),
        plan(NEW, f"replicate(model, mesh={MESH})", first),
    )
    assert verdict.unclear == {}


# Right migrations, which had been refused


GUARDED = """
    def parallelize(model, world_mesh, parallel_dims, job_config):
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
        elif parallel_dims.dp_replicate_enabled:
            BRANCH
            apply_ddp(model, world_mesh, job_config.compile)
        return model
"""


def written(branch: str = "pass\n", call: str = "world_mesh", **others: str) -> str:
    """The file of a plan once it is migrated; it is confirmed by executing it."""
    code = f"{IMPORT} apply_ddp, apply_fsdp\n\n\n" + text(GUARDED)
    code = code.replace("apply_ddp(model, world_mesh", f"apply_ddp(model, {call}")
    code = code.replace("        BRANCH\n", indent(text(branch), " " * 8))
    made = outcome({HERE: code, **others})
    assert made.problems == ()
    assert made.unconfirmed == {}
    return made.changes[HERE].decode()


def test_a_guard_in_parallel_dims():
    place = "torchtitan/distributed/parallel_dims.py"
    refuses = """\
    def __post_init__(self):
        if self.dp_replicate > 1 and self.dp_shard == 1 and self.tp > 1:
            raise ValueError("DDP cannot be combined with TP")

    def build_mesh"""
    dims = BASE[place].replace("    def build_mesh", refuses)
    assert "apply_replicate" in written(**{place: dims})


def test_the_number_of_ranks_in_a_message_is_another():
    after = written(
        'dp_mesh = world_mesh\nprint(f"replicating over {dp_mesh.size()} ranks")\n',
        "dp_mesh",
    )
    assert "replicating over" in after


def test_a_guard_that_asks_a_property_is_known_for_one():
    """Its place is that of its statement, and not of what it has gone into."""
    check = 'torch._check(not parallel_dims.tp_enabled, lambda: "DDP has not supported > 1D parallelism")\n'
    enabled = """
    @property
    def tp_enabled(self):
        return self.tp > 1
"""
    place = "torchtitan/distributed/parallel_dims.py"
    after = written("import torch\n" + check, **{place: BASE[place] + enabled})
    assert "_check" not in after


def test_all_that_a_person_is_told_of_may_go():
    told = APPLY_DDP.replace(
        "    replicate(",
        "    for p in model.parameters():\n        torch.distributed.broadcast(p, src=0)\n    replicate(",
    )
    assert written(**{PLAN: f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}\n\n{told}"})


def test_what_somebody_had_migrated_stays_as_he_wrote_it():
    """Its dtypes are not those of apply_fsdp, and only its guard goes."""
    refuses = """if world_mesh.ndim > 1:
    raise RuntimeError("DDP has not supported > 1D parallelism")
"""
    by_hand = APPLY_FSDP.replace("apply_fsdp", "apply_replicate").replace(
        "fully_shard", "replicate"
    )
    imports = PLAN_IMPORTS.replace(".replicate import", ".replicate_with_fsdp import")
    plan = text(GUARDED).replace("        BRANCH\n", indent(refuses, " " * 8))
    plan = plan.replace(
        "apply_ddp(model, world_mesh, job_config.compile)",
        'apply_replicate(model, world_mesh["dp_replicate"], torch.bfloat16, torch.float32)',
    )
    place = "torchtitan/models/qwen3/parallelize.py"
    made = outcome({place: f"{imports}\n\n{APPLY_FSDP}\n\n{by_hand}\n\n{plan}"})
    assert made.problems == ()
    assert made.unconfirmed == {}
    after = made.changes[place].decode()
    assert "> 1D" not in after and "torch.bfloat16, torch.float32)" in after
