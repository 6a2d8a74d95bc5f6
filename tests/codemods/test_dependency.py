"""A checkout that uses a torchtitan which it does not hold, migrated by what that defines."""

import ast
from functools import cache

import pytest

from codemods.dependency import UNKNOWN, Dependency
from codemods.engine import WorkedOut, migrate
from codemods.selection import Selection
from codemods.source import SourceFile

from places import FIXTURES
from support import aim, texts

FAR = "torchtitan.models.llama3.infra.parallelize"
HEAD = f"""\
from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy
from torchtitan.config import TORCH_DTYPE_MAP
from {FAR} import apply_ddp, apply_fsdp
"""
PLAN = """\


def parallelize(model, parallel_dims, job_config):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(
            model,
            parallel_dims.get_mesh("fsdp"),
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
            pp_enabled=False,
        )
    elif parallel_dims.dp_replicate_enabled:
        mesh = parallel_dims.get_mesh("dp_replicate")
        apply_ddp(model, mesh, enable_compile=False)
    return model
"""
OWN = """\


def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype, pp_enabled):
    policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    for blade in model.blades:
        fully_shard(blade, mesh=dp_mesh, mp_policy=policy)
    fully_shard(model, mesh=dp_mesh, mp_policy=policy)
"""
LOOP = {"lab/loop.py": "def step(loss):\n    loss.backward()\n"}
CALL = """\
        apply_replicate(
            model,
            mesh,
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
        )
"""


def titan(texts: dict[str, bytes], name: str) -> Dependency:
    files = {
        f"titan/{path}": SourceFile(
            f"titan/{path}", raw, dependency="torchtitan", root="titan/"
        )
        for path, raw in texts.items()
    }
    return Dependency(name, files=files)


@cache
def of_fixture() -> dict[str, bytes]:
    root = FIXTURES / "v0_2_2"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.py")}


@cache
def ddp() -> Dependency:
    return titan(of_fixture(), "torchtitan 0.2.2")


@cache
def replicating() -> Dependency:
    """What this tool makes of it."""
    files = {path: SourceFile(path, raw) for path, raw in of_fixture().items()}
    return titan({**of_fixture(), **migrate(files, aim()).changes}, "third_party/titan")


@cache
def past() -> Dependency:
    """As from PR 2900 on: neither function, no choice of autocast, fsdp kept at degree 1."""
    texts = {}
    for path, raw in of_fixture().items():
        tree = ast.parse(raw)
        gone = ("apply_ddp", "maybe_enable_amp", "parallelize_llama")
        tree.body = [n for n in tree.body if getattr(n, "name", "") not in gone]
        texts[path] = ast.unparse(tree).encode()
    far = "torchtitan/models/llama3/infra/parallelize.py"
    texts["torchtitan/models/llama3/parallelize.py"] = texts.pop(far)
    dims = "torchtitan/distributed/parallel_dims.py"
    kept = b'if name in ("efsdp", "fsdp"):\n            return True'
    texts[dims] = texts[dims].replace(
        b"if name == 'efsdp':\n            return self.ep > 1", kept
    )
    assert kept in texts[dims]
    return titan(texts, "torchtitan 0.3.0")


def run(
    files: dict[str, str], dependency: Dependency = UNKNOWN, target: str = "1d", **more
) -> WorkedOut:
    tree = {
        path: SourceFile(path, text.encode())
        for path, text in {**LOOP, **files}.items()
    }
    return migrate(tree, aim(target), dependency=dependency, **more)


def written(files: dict[str, str], dependency: Dependency) -> dict[str, str]:
    """The files that change; a second run finds nothing more to do."""
    result = run(files, dependency)
    assert result.problems == ()
    # What that torchtitan does not have any more cannot be executed, as it was before.
    unclear = [*result.unconfirmed.values()]
    assert all(why.startswith("there is no ") for why in unclear)
    assert unclear == [] or dependency is not ddp()
    after = {path: raw.decode() for path, raw in result.changes.items()}
    again = run({**files, **after}, dependency)
    assert (again.changes, again.to_do) == ({}, ())
    return after


def left(result: WorkedOut) -> list[tuple[str, int]]:
    assert result.changes == {}
    found = [f for f in result.findings if f.status == "left"]
    assert all(f.suggestion for f in found)
    return [(f.path, f.line) for f in found]


def left_at(result: WorkedOut) -> list[tuple[str, int]]:
    return [(f.path, f.line) for f in result.findings if f.status == "left"]


# It defines apply_ddp


def test_the_function_is_new_beside_its_one_call():
    after = written({"lab/plan.py": HEAD + PLAN}, ddp())
    assert list(after) == ["lab/plan.py"]
    plan = after["lab/plan.py"]
    assert CALL in plan and "apply_ddp" not in plan
    assert plan.index("def parallelize(") < plan.index("def apply_replicate(")
    for line in ("disable_fsdp_gradient_division,", "replicate(model.tok_embeddings"):
        assert line in plan
    assert "from torchtitan.tools.logging import logger\n" in plan


@pytest.mark.parametrize(
    "lines, mesh",
    [
        ("", "parallel_dims.world_mesh"),
        ("        world_mesh = parallel_dims.world_mesh\n", "world_mesh"),
        ("        mesh = parallel_dims.world_mesh\n", "mesh"),
    ],
)
def test_a_flat_mesh_of_all_ranks_is_not_asked_for_a_dimension(lines, mesh):
    """Where there is get_mesh, the world mesh has the names "world" and "loss_mesh"."""
    call = 'parallel_dims.get_mesh("dp_replicate")'
    assert PLAN.count(call) == 1 and "        apply_ddp(" in PLAN
    plan = PLAN.replace(call, mesh).replace(
        "        apply_ddp(", f"{lines}        apply_ddp("
    )
    plan = written({"lab/plan.py": HEAD + plan}, ddp())["lab/plan.py"]
    assert call in plan and '["dp_replicate"]' not in plan


@pytest.mark.parametrize(
    "own", ["replicate = 3\n", "def replicate(x, n):\n    return [x] * n\n"]
)
def test_a_name_that_the_file_gives_away_itself_is_left_to_it(own):
    plan = written({"lab/plan.py": f"{HEAD}{PLAN}\n\n{own}"}, ddp())["lab/plan.py"]
    assert "    replicate as replicate_with_fsdp,\n" in plan
    assert "    replicate_with_fsdp(model, **replicate_config)\n" in plan


def test_a_name_that_the_file_imports_from_elsewhere_is_left_to_it():
    own = "from lab.tools import replicate\n\nX = replicate(3)\n"
    plan = written({"lab/plan.py": f"{HEAD}{own}{PLAN}"}, ddp())["lab/plan.py"]
    assert "from lab.tools import replicate\n" in plan
    assert "    replicate as replicate_with_fsdp,\n" in plan


@pytest.mark.parametrize(
    "own", ["def nn(x):\n    pass\n", "from flax import linen as nn\n"]
)
def test_another_name_that_is_given_away_is_refused_with_the_reason(own):
    result = run({"lab/plan.py": f"{HEAD}{own}{PLAN}"}, ddp())
    assert result.changes == {}
    assert "apply_replicate needs nn of torch.nn" in result.problems[0]


@pytest.mark.parametrize(
    "own",
    [
        "from loguru import logger\n",
        "import logging\n\nlogger = logging.getLogger()\n",
        "from torch import nn\n",
    ],
)
def test_what_does_as_well_is_taken(own):
    plan = written({"lab/plan.py": f"{HEAD}{own}{PLAN}"}, ddp())["lab/plan.py"]
    assert own.splitlines()[-1] in plan
    assert plan.count("nn\n") < 2 and plan.count("import logger\n") < 2


def test_several_plans_share_a_file_of_their_package():
    plans = {f"lab/plans/{name}/plan.py": HEAD + PLAN for name in "ab"}
    after = written({**plans, "lab/__init__.py": ""}, ddp())
    assert sorted(after) == sorted([*plans, "lab/plans/replicate.py"])
    shared = after["lab/plans/replicate.py"]
    assert shared.count("def apply_replicate(") == 1 and shared.endswith('model")\n')
    assert (
        shared.startswith('"""Data parallelism') and '"""\n\nimport torch\n' in shared
    )
    for plan in plans:
        assert "from lab.plans.replicate import apply_replicate\n" in after[plan]
        assert CALL in after[plan]


def test_a_folder_that_is_no_package_is_not_imported_from():
    plans = {f"src/lab/plans/{name}.py": HEAD + PLAN for name in "ab"}
    plans["src/lab/train.py"] = "from lab.plans.a import parallelize\n"
    after = written(plans, ddp())
    assert "from lab.plans.replicate import" in after["src/lab/plans/a.py"]


def test_without_a_package_in_common_the_first_file_has_it():
    plans = {"a/plan.py": HEAD + PLAN, "b/plan.py": HEAD + PLAN}
    after = written({**plans, "train.py": "from a.plan import parallelize\n"}, ddp())
    assert "def apply_replicate(" in after["a/plan.py"]
    assert "from a.plan import apply_replicate\n" in after["b/plan.py"]


@pytest.mark.parametrize("folder", ["my-models", "models", "class"])
def test_what_nobody_is_seen_to_import_is_not_imported_from(folder):
    plans = {f"{folder}/{name}/plan.py": HEAD + PLAN for name in "ab"}
    after = written(plans, ddp())
    assert sorted(after) == sorted(plans)
    assert all("def apply_replicate(" in text for text in after.values())


def test_a_workspace_of_packages():
    plans = {f"packages/lab/src/lab/{name}.py": HEAD + PLAN for name in "ab"}
    after = written({**plans, "packages/lab/src/lab/__init__.py": ""}, ddp())
    for plan in plans:
        assert "\nfrom lab.replicate import apply_replicate\n" in after[plan]


def test_packages_of_a_workspace_do_not_import_from_each_other():
    plans = {f"packages/{n}/src/{n}/plan.py": HEAD + PLAN for n in "ab"}
    packages = {path.replace("plan.py", "__init__.py"): "" for path in plans}
    use = {"packages/b/src/b/use.py": "from a.plan import parallelize\n"}
    after = written({**plans, **packages, **use}, ddp())
    assert sorted(after) == sorted(plans)
    assert all("def apply_replicate(" in text for text in after.values())


@pytest.mark.parametrize("written_as", ["sharding", ".sharding"])
def test_a_function_is_imported_as_the_one_that_it_mirrors(written_as):
    head = HEAD.replace("apply_ddp, apply_fsdp", "apply_ddp")
    files = {
        "my-models/plan.py": f"{head}from {written_as} import apply_fsdp\n{PLAN}",
        "my-models/sharding.py": HEAD.partition("\n")[0] + OWN,
    }
    after = written(files, ddp())["my-models/plan.py"]
    assert f"\nfrom {written_as} import apply_fsdp, apply_replicate\n" in after


NN = "import torch.nn as nn\n"


@pytest.mark.parametrize(
    "around",
    [
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    {}",
        "import sys\n\nif sys.argv:\n    {}",
        "import sys\n\nif sys.argv:\n    {}else:\n    pass\n",
        "try:\n    {}except ImportError:\n    pass\n",
    ],
)
def test_an_import_that_may_not_run_does_not_do(around):
    head = HEAD + around.format(NN)
    after = written({"lab/plan.py": head + PLAN}, ddp())["lab/plan.py"]
    assert f"\n{NN}" in after


@pytest.mark.parametrize(
    "around",
    [
        "import sys\n\nif sys.argv:\n    {}else:\n    nn = None\n",
        "try:\n    {}except ImportError:\n    nn = None\n",
        "try:\n    {}except ImportError as error:\n    raise KeyError from error\n",
        "try:\n    {}finally:\n    pass\n",
    ],
)
def test_an_import_in_every_case_does(around):
    head = HEAD + around.format(NN)
    after = written({"lab/plan.py": head + PLAN}, ddp())["lab/plan.py"]
    assert f"\n{NN}" not in after


def test_a_plan_with_groups_of_its_own_is_mirrored_beside_them():
    head = HEAD.replace("apply_ddp, apply_fsdp", "apply_ddp")
    after = written({"lab/plan.py": head + PLAN + OWN}, ddp())["lab/plan.py"]
    assert "for blade in model.blades:\n        replicate(blade" in after
    assert "tok_embeddings" not in after


def test_a_branch_that_shards_in_place_is_mirrored():
    plan = f"""\
from torch.distributed.fsdp import fully_shard
from {FAR} import apply_ddp


def parallelize(model, parallel_dims):
    if parallel_dims.fsdp_enabled:
        mesh = parallel_dims.get_mesh("fsdp")
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(
            model, parallel_dims.get_mesh("dp_replicate"), enable_compile=False
        )
"""
    after = written({"lab/plan.py": plan}, ddp())["lab/plan.py"]
    assert "for block in model.blocks:\n        replicate(block, mesh=" in after
    assert 'logger.info("Applied replicate to the model")' in after


@pytest.mark.parametrize(
    "imports, call",
    [
        (f"import {FAR} as par", "par.apply_ddp"),
        (f"from {FAR} import apply_ddp as wrap", "wrap"),
        ("from torchtitan.models.llama3.infra import parallelize", "parallelize.apply_ddp"),
        ("from lab.compat import wrap_ddp", "wrap_ddp"),
    ],
)  # fmt: skip
def test_every_way_to_reach_it(imports, call):
    head = f"from {FAR} import apply_fsdp\n{imports}\nfrom torchtitan.config import TORCH_DTYPE_MAP\n"
    compat = f"from {FAR} import apply_ddp as wrap_ddp\nX = 1\n"
    files = {"lab/plan.py": head + PLAN.replace("apply_ddp", call)}
    if "compat" in imports:
        files["lab/compat.py"] = compat
    after = written(files, ddp())
    assert CALL in after["lab/plan.py"] and call not in after["lab/plan.py"]
    if "compat" in imports:
        assert after["lab/compat.py"] == "X = 1\n"


def test_an_import_in_the_branch_goes_with_the_line_below_it():
    lazy = f"        from {FAR} import apply_ddp\n\n        mesh ="
    plan = HEAD.replace("apply_ddp, ", "") + PLAN.replace("        mesh =", lazy)
    after = written({"lab/plan.py": plan}, ddp())["lab/plan.py"]
    assert "dp_replicate_enabled:\n        mesh =" in after


def test_a_string_is_told_where_the_function_is_then():
    names = [f"{FAR}.apply_ddp", "lab.plan.apply_ddp"]
    test = f"from unittest import mock\n\nA = mock.patch({names[0]!r})\nB = mock.patch({names[1]!r})\n"
    result = run({"lab/plan.py": HEAD + PLAN, "tests/test_it.py": test}, ddp())
    said = [f.suggestion for f in result.findings if f.path == "tests/test_it.py"]
    assert said == ["'lab.plan.apply_replicate'"] * 2


@pytest.mark.parametrize(
    "plan, lines",
    [
        (f"from {FAR} import apply_ddp\n\nWRAP = dict(f=apply_ddp)\n", [3]),
        (f"from {FAR} import apply_ddp\n\n__all__ = ['apply_ddp']\n", [3]),
        (f"from {FAR} import apply_ddp\n", [1]),
        (f"try:\n    from {FAR} import apply_ddp\nexcept ImportError:\n    apply_ddp = None\n", [2]),
        (f"import {FAR} as par\n\npar.apply_ddp = print\n", [3]),
        (f"try:\n    from {FAR} import apply_ddp\nexcept ImportError:\n    from torchtitan.old import apply_ddp\n", [4]),
        (f"if VERSION:\n    from {FAR} import apply_ddp\nelse:\n    from torchtitan.old import apply_ddp\napply_ddp(1)\n", [4, 5]),
    ],
)  # fmt: skip
def test_what_is_left(plan, lines):
    result = run({"lab/plan.py": plan}, ddp())
    assert {line for _, line in left(result)} == set(lines)


def test_a_module_that_is_put_together_is_not_called_broken():
    plan = "from importlib import import_module\nimport torchtitan\nF = getattr(import_module(f'torchtitan.models.{X}.plan'), 'apply_ddp')\n"
    (said,) = run({"lab/plan.py": plan}, ddp()).findings
    assert said.status == "left" and "broken" not in said.message


def test_one_of_several_imports_is_not_called_broken():
    plan = f"if NEW:\n    from {FAR} import apply_ddp\nelse:\n    from torchtitan.old import apply_ddp\napply_ddp(1)\n"
    said = [f.message for f in run({"lab/plan.py": plan}, ddp()).findings]
    assert len(said) == 2 and all("several imports that are tried" in m for m in said)


def test_a_line_opts_out():
    plan = HEAD.replace("apply_fsdp\n", "apply_fsdp  # titan-migrate: ignore[TM102]\n")
    call = "enable_compile=False)  # titan-migrate: ignore[TM102]"
    result = run(
        {"lab/plan.py": plan + PLAN.replace("enable_compile=False)", call)}, ddp()
    )
    assert result.to_do == () and result.changes == {}


def test_the_2d_mesh_is_not_built_there():
    files = {"lab/plan.py": HEAD + PLAN, "lab/amp.py": AMP}
    result = run(files, ddp(), target="2d")
    (problem,) = result.problems
    assert "ParallelDims of torchtitan 0.2.2 builds none" in problem
    assert [f.code for f in result.findings] == ["TM104"]  # nothing is to be rewritten


def test_what_uses_its_apply_ddp_is_no_copy_of_it():
    assert run({"lab/plan.py": HEAD + PLAN}, ddp()).survey.generation == "a dependency"
    own = "from torch.distributed._composable.replicate import replicate\n\n\ndef apply_ddp(model, dp_mesh):\n    replicate(model)\n"
    copied = run({"lab/plan.py": HEAD + PLAN, "lab/copy.py": own}, ddp())
    assert copied.survey.generation.startswith("none: a copy")


def test_ddp_elsewhere_does_not_keep_a_plan_from_being_migrated():
    other = "from torch.distributed._composable.replicate import replicate\n\n\ndef wrap(m):\n    replicate(m)\n"
    result = run({"lab/plan.py": HEAD + PLAN, "lab/x.py": other}, ddp())
    assert list(result.changes) == ["lab/plan.py"]
    assert [f.status for f in result.findings if f.path == "lab/x.py"] == ["hazard"]


# Autocast

AMP = """\
from torchtitan.distributed import utils


class Loop:
    def __init__(self, parallel_dims):
        self.maybe_enable_amp = utils.maybe_enable_amp(parallel_dims, "bfloat16", "cuda")

    def step(self, loss):
        loss.backward()
"""


def test_autocast_of_the_dependency_is_not_asked_for():
    after = written({"lab/plan.py": HEAD + PLAN, "lab/amp.py": AMP}, ddp())
    assert (
        "contextlib.nullcontext()\n            if parallel_dims.dp_replicate"
        in after["lab/amp.py"]
    )


def test_autocast_that_is_off_there_is_left_as_it_is():
    after = written({"lab/plan.py": HEAD + PLAN, "lab/amp.py": AMP}, replicating())
    assert list(after) == ["lab/plan.py"]


def test_autocast_that_is_handed_on_is_left_unless_it_is_off_there():
    handed = AMP.replace("utils.maybe_enable_amp(", "print(utils.maybe_enable_amp, ")
    files = {"lab/plan.py": HEAD + PLAN, "lab/amp.py": handed}
    assert left(run(files, ddp())) == [("lab/amp.py", 6)]
    assert list(written(files, replicating())) == ["lab/plan.py"]


TRAINER = {
    "lab/loop.py": "from torchtitan.train import Trainer\n\n\nclass Mine(Trainer):\n    pass\n",
    "lab/plan.py": HEAD + PLAN,
}


def test_the_trainer_of_the_dependency_is_derived_from_or_accepted():
    result = run(TRAINER, ddp())
    assert left(result) == [("lab/loop.py", 4)]
    (found,) = [f for f in result.findings if f.status == "left"]
    assert found.code == "TM105" and "class Mine(Trainer):" in found.suggestion
    accepted = run(TRAINER, ddp(), selection=Selection(ignore=("TM105",)))
    assert list(accepted.changes) == ["lab/plan.py"]
    assert list(run(TRAINER, replicating()).changes) == ["lab/plan.py"]


@pytest.mark.parametrize(
    "line",
    [
        "    with torch.autocast('cuda', enabled=False):\n        return x.float()\n",
        "    with self.maybe_enable_amp:\n        return x.float()\n",
    ],
)
def test_the_trainer_is_seen_beside_what_only_names_autocast(line):
    rope = {"lab/rope.py": "import torch\n\n\ndef rope(self, x):\n" + line}
    assert left(run({**TRAINER, **rope}, ddp())) == [("lab/loop.py", 4)]


@pytest.mark.parametrize(
    "beside",
    [
        "vendor/torchtitan/models/llama3/model.py",
        "torchtitan/experiments/mine/__init__.py",
        "lab/torchtitan/train.py",
        "lab/torchtitan.py",
    ],
)
def test_what_is_called_torchtitan_here_does_not_hide_the_one_that_is_used(beside):
    files = {**TRAINER, "lab/__init__.py": "", beside: "x = 1\n"}
    for dependency in (ddp(), UNKNOWN):
        found = left_at(run(files, dependency))
        assert found == (
            [("lab/loop.py", 4)]
            if dependency.files
            else [("lab/plan.py", 3), ("lab/plan.py", 17)]
        )


def test_a_part_of_torchtitan_is_migrated_by_the_rest():
    path = "torchtitan/experiments/mine/plan.py"
    assert list(written({path: HEAD + PLAN}, ddp())) == [path]


def test_the_trainer_of_a_torchtitan_of_another_name_is_seen():
    named = {p.replace("titan/torchtitan", "titan"): f for p, f in ddp().files.items()}
    files = {
        path: SourceFile(
            path, file.raw.replace(b"torchtitan", b"titan"), dependency="titan"
        )
        for path, file in named.items()
    }
    own = {path: text.replace("torchtitan", "titan") for path, text in TRAINER.items()}
    known = Dependency("titan", files=files, package="titan")
    assert left(run(own, known)) == [("lab/loop.py", 4)]


SETTING = TRAINER["lab/loop.py"].replace(
    "    pass\n",
    "    def __init__(self, config):\n"
    "        super().__init__(config)\n"
    "        self.maybe_enable_amp = contextlib.nullcontext()\n",
)


def test_a_trainer_that_sets_its_own_context_is_done():
    loop = f"import contextlib\n\n{SETTING}"
    assert list(run({**TRAINER, "lab/loop.py": loop}, ddp()).changes) == ["lab/plan.py"]


def test_a_trainer_that_would_raise_for_an_import_is_not_done():
    result = run({**TRAINER, "lab/loop.py": SETTING}, ddp())
    assert left(result) == [("lab/loop.py", 4)]


@pytest.mark.parametrize(
    "start, is_done",
    [
        ("main(Mine)", True),
        ("main(Trainer)", False),
        ("Trainer(None).train()", False),
        ("assert isinstance(Mine(None), Trainer)", True),
    ],
)
def test_a_trainer_that_nobody_starts_is_not_done(start, is_done):
    loop = f"import contextlib\n\n{SETTING}\n\n{start}\n"
    result = run({**TRAINER, "lab/loop.py": loop}, ddp())
    line = loop.splitlines().index(start) + 1
    assert left_at(result) == ([] if is_done else [("lab/loop.py", line)])
    assert bool(result.changes) == is_done


@pytest.mark.parametrize(
    "text, line",
    [
        ("from torchtitan.train import main\n\nmain()\n", 1),
        ("def run():\n    from torchtitan.train import Trainer as T\n    T().train()\n", 2),
        ("from torchtitan.trainer import *\n", 1),
        ("from torchtitan import train\n", 1),
        ("from torchtitan.protocols.train_spec import register_train_spec as r\n\nr('lab', 1)\n", 3),
        ("import torchtitan.protocols.train_spec as ts\n\nSPEC = ts.TrainSpec()\n", 3),
        ("from torchtitan.protocols.train_spec import TrainSpec\n\ndef get_train_spec() -> TrainSpec:\n    pass\n", 3),
    ],
)  # fmt: skip
def test_a_loop_here_does_not_hide_the_trainer_of_the_dependency(text, line):
    files = {"lab/plan.py": HEAD + PLAN, "lab/run.py": text}
    assert left(run(files, ddp())) == [("lab/run.py", line)]


SPEC = (
    "from torchtitan.protocols import train_spec\n\ntrain_spec.register_train_spec(1)\n"
)


def test_a_loop_that_asks_for_autocast_does_not_hide_that_trainer():
    files = {"lab/plan.py": HEAD + PLAN, "lab/amp.py": AMP, "lab/spec.py": SPEC}
    assert left_at(run(files, ddp())) == []
    files["lab/run.py"] = "from torchtitan.train import main\n\nmain()\n"
    assert left_at(run(files, ddp())) == [("lab/run.py", 1)]


@pytest.mark.parametrize(
    "files, place",
    [
        ({"lab/amp.py": "AMP"}, ("lab/plan.py", 17)),
        ({"lab/amp.py": "AMP", "lab/spec.py": SPEC}, ("lab/spec.py", 3)),
        ({"lab/loop.py": "derived"}, ("lab/loop.py", 6)),
    ],
)  # fmt: skip
def test_what_a_script_starts_is_seen_whatever_is_set_here(files, place):
    known = {"AMP": AMP, "derived": derived(OFF)}
    files = {path: known.get(text, text) for path, text in files.items()}
    files["lab/plan.py"] = HEAD + PLAN
    assert left_at(run(files, ddp())) == []
    script = {"run.sh": "torchrun \\\n  -m torchtitan.train\n"}
    result = run(files, ddp(), texts=lambda: texts(script))
    assert left(result) == [place]
    (said,) = [f for f in result.findings if f.status == "left"]
    assert said.message.startswith(
        "run.sh:2 starts the trainer of a torchtitan outside"
    )
    assert "(Trainer):" in said.suggestion
    assert not any("no autocast is opened" in f.message for f in result.findings)
    off = run(files, replicating(), texts=lambda: texts(script))
    assert off.problems == ()
    files["lab/go.py"] = "import runpy\n\nrunpy.run_module('torchtitan.train')\n"
    assert ("lab/go.py", 3) in left_at(run(files, ddp()))


def test_a_loop_without_a_train_spec_is_the_trainer():
    written({"lab/plan.py": HEAD + PLAN, "lab/run.py": "import torchtitan\n"}, ddp())


def test_a_trainer_is_derived_from_under_another_name():
    loop = TRAINER["lab/loop.py"].replace("Trainer\n", "Trainer as T\n", 1)
    loop = loop.replace("(Trainer)", "(T)")
    assert left(run({**TRAINER, "lab/loop.py": loop}, ddp())) == [("lab/loop.py", 4)]


OFF = "self.maybe_enable_amp = contextlib.nullcontext()\n"


def derived(*bodies: str) -> str:
    text = "import contextlib\nfrom torchtitan.distributed import utils\nfrom torchtitan.train import Trainer\n"
    for number, body in enumerate(bodies):
        text += f"\n\nclass Mine{number}(Trainer):\n    def __init__(self, config):\n"
        text += "        super().__init__(config)\n"
        text += "".join(f"        {line}\n" for line in body.splitlines())
    return text


def test_each_class_that_derives_from_the_trainer_is_judged():
    text = derived(OFF, "", OFF, "self.validator." + OFF.removeprefix("self."))
    found = left(run({**TRAINER, "lab/loop.py": text}, ddp()))
    lines = [n for n, line in enumerate(text.splitlines(), 1) if "Mine" in line]
    assert found == [("lab/loop.py", lines[1]), ("lab/loop.py", lines[3])]


@pytest.mark.parametrize(
    "body",
    [
        f"if config.fp32:\n    {OFF}",
        f"if not self.parallel_dims.dp_replicate_enabled:\n    {OFF}",
        f"if self.parallel_dims.dp_replicate_enabled and config.fp32:\n    {OFF}",
        f"if config.fp32:\n    return\n{OFF}",
        "self.maybe_enable_amp = None",
        "if self.parallel_dims.fsdp_enabled:\n    self.maybe_enable_amp = contextlib.nullcontext()",
    ],
)
def test_a_trainer_that_switches_it_off_sometimes_is_left(body):
    result = run({**TRAINER, "lab/loop.py": derived(body)}, ddp())
    assert left(result) == [("lab/loop.py", 6)]


@pytest.mark.parametrize(
    "body",
    [
        f"if self.parallel_dims.dp_replicate_enabled:\n    {OFF}",
        f"if config.fp32 or self.parallel_dims.dp_replicate_enabled:\n    {OFF}",
        f"on = self.parallel_dims.dp_replicate_enabled\nif on:\n    {OFF}",
        f"if self.parallel_dims.dp_replicate > 1:\n    {OFF}",
        f"if not self.parallel_dims.dp_replicate_enabled:\n    return\n{OFF}",
        f"if config.fp32:\n    {OFF}else:\n    {OFF}",
        f"if not self.parallel_dims.dp_replicate_enabled:\n    pass\nelse:\n    {OFF}",
        "null = contextlib.nullcontext()\nself.maybe_enable_amp = null",
        "old = self.maybe_enable_amp\nself.maybe_enable_amp = contextlib.nullcontext() "
        "if self.parallel_dims.dp_replicate_enabled else old",
    ],
)
def test_a_trainer_that_switches_it_off_under_replicate_is_done(body):
    result = run({**TRAINER, "lab/loop.py": derived(body)}, ddp())
    assert list(result.changes) == ["lab/plan.py"]


def test_a_trainer_that_asks_that_torchtitan_again_is_rewritten():
    body = "self.maybe_enable_amp = utils.maybe_enable_amp(self.parallel_dims, 1, 2)"
    after = written({**TRAINER, "lab/loop.py": derived(body)}, ddp())
    assert sorted(after) == ["lab/loop.py", "lab/plan.py"]


# It has apply_replicate


def test_the_new_name_is_followed():
    after = written({"lab/plan.py": HEAD + PLAN}, replicating())["lab/plan.py"]
    assert f"from {FAR} import apply_fsdp, apply_replicate\n" in after
    assert CALL in after and "def apply_replicate" not in after


def test_the_new_name_is_followed_under_an_alias_and_through_another_file():
    files = {
        "lab/compat.py": f"from {FAR} import apply_ddp as wrap_ddp\n",
        "lab/plan.py": HEAD.replace("apply_ddp, ", "")
        + "from lab.compat import wrap_ddp\n"
        + PLAN.replace("apply_ddp", "wrap_ddp"),
    }
    after = written(files, replicating())
    compat, plan = after["lab/compat.py"], after["lab/plan.py"]
    assert compat.startswith(f"from {FAR} import apply_replicate as ")
    assert compat.split()[-1] in plan and "param_dtype=" in plan


@pytest.mark.parametrize(
    "imports, name",
    [
        (f"from {FAR} import apply_ddp", "apply_ddp"),
        (f"from {FAR} import apply_ddp as wrap", "wrap"),
        (f"import {FAR} as far", "far.apply_ddp"),
        ("from lab.compat import wrap", "wrap"),
    ],
)
def test_a_value_by_the_old_name_is_left_with_the_new_one(imports, name):
    files = {
        "lab/compat.py": f"from {FAR} import apply_ddp as wrap\n",
        "lab/plan.py": f"from functools import partial\n{imports}\n\nF = partial({name}, enable_compile=False)\n",
    }
    result = run(files, replicating())
    assert left(result) == [("lab/plan.py", 4)]
    (said,) = [f for f in result.findings if f.status == "left"]
    assert "passed on as a value" in said.message
    files["lab/plan.py"] = f"from {FAR} import apply_replicate as wrap\n\nF = [wrap]\n"
    assert run(files, replicating()).problems == ()


def test_groups_of_ones_own_are_not_those_of_the_dependency():
    head = HEAD.replace("apply_ddp, apply_fsdp", "apply_ddp")
    after = written({"lab/plan.py": head + PLAN + OWN}, replicating())["lab/plan.py"]
    assert "for blade in model.blades:\n        replicate(blade" in after
    assert "import apply_replicate" not in after


def test_what_calls_it_already_is_done():
    done = (HEAD + PLAN).replace("apply_ddp", "apply_replicate")
    done = done.replace(
        "enable_compile=False", "param_dtype=TORCH_DTYPE_MAP['a'], reduce_dtype=None"
    )
    result = run({"lab/plan.py": done}, replicating())
    assert result.to_do == () and "done" in {f.status for f in result.findings}


# It has neither


def test_what_is_gone_is_left_with_the_code_of_that_torchtitan():
    result = run({"lab/plan.py": HEAD + PLAN, "lab/amp.py": AMP}, past())
    assert left(result) == [("lab/amp.py", 6), ("lab/plan.py", 3), ("lab/plan.py", 17)]
    codes = {f.line: f.suggestion for f in result.findings if f.path == "lab/plan.py"}
    assert '["dp_replicate", "fsdp"] if parallel_dims.dp_replicate_enabled' in codes[17]
    assert "pp_enabled=False" in codes[17]
    assert "apply_replicate" not in "".join(codes.values())


@pytest.mark.parametrize(
    "line, status",
    [
        ("from torchtitan.models.llama3.infra.parallelize import apply_replicate", "left"),
        ("from torchtitan.parallelisms import ParallelDims", "left"),
        ("from torchtitan.no.such import thing", "hazard"),
        ("from torchtitan.tools.logging import no_such", "hazard"),
        ("import torchtitan.no_such", "hazard"),
        ("from torchtitan.tools.logging import logger", None),
        ("from torchtitan.tools import logging", None),
        ("try:\n    from torchtitan.no import x\nexcept ImportError:\n    x = None", None),
    ],
)  # fmt: skip
def test_an_import_that_it_does_not_have_is_never_done(line, status):
    result = run({"lab/plan.py": f"{line}\n"}, past())
    found = [f for f in result.findings if "broken import" in f.message.lower()]
    assert [f.status for f in found] == ([status] if status else [])


# It is not at hand


def test_a_user_of_torchtitan_without_a_path_of_its_own():
    spec = "from torchtitan.protocols.train_spec import TrainSpec\n"
    for dependency in (UNKNOWN, ddp()):
        result = run({"lab/spec.py": spec}, dependency)
        assert result.survey.kind == "dependent" and result.findings == ()


def test_the_pin_and_the_way_to_read_it_are_said_once_in_a_file():
    known = Dependency(pinned="requirements.txt:1, torchtitan==0.2.2", advice="do so")
    result = run({"lab/plan.py": HEAD + PLAN}, known)
    assert left(result) == [("lab/plan.py", 3), ("lab/plan.py", 17)]
    said = [f.message for f in result.findings]
    assert all("(requirements.txt:1, torchtitan==0.2.2)" in message for message in said)
    assert ["do so" in message for message in said] == [True, False]
