"""Small checkouts that were migrated wrongly, or not, and each stands for its kind.

They are cut down from public forks, in words of our own. A test is named after what its
checkout does otherwise than torchtitan; the tests of the rules have the kind's variants.
"""

import ast

import pytest

from codemods.engine import WorkedOut, migrate
from codemods.source import SourceFile
from codemods.survey import survey

from support import aim, assert_nothing_unused, text

OPEN = pytest.mark.xfail(strict=True, reason="not yet")

DIMS = """\
from torch.distributed.device_mesh import init_device_mesh


class ParallelDims:
    def __init__(self, dp_replicate, dp_shard, tp):
        self.dp_replicate, self.dp_shard, self.tp = dp_replicate, dp_shard, tp

    def build_mesh(self, device_type):
        dims, names = [], []
        degrees = [self.dp_replicate, self.dp_shard, self.tp]
        for degree, name in zip(degrees, ["dp_replicate", "dp_shard", "tp"]):
            if degree > 1:
                dims.append(degree)
                names.append(name)
        return init_device_mesh(device_type, dims, mesh_dim_names=names)
"""

IMPORTS = """\
import torch
from torch.distributed._composable.fsdp import fully_shard, MixedPrecisionPolicy
from torch.distributed._composable.replicate import replicate
from pkg.config import TORCH_DTYPE_MAP
"""

PARALLELIZE = """\
def parallelize(model, world_mesh, parallel_dims, job_config):
    if parallel_dims.dp_shard_enabled:
        apply_fsdp(
            model,
            world_mesh["dp_shard"],
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
        )
    elif parallel_dims.dp_replicate_enabled:
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        apply_ddp(model, world_mesh, enable_compile=False)
"""

APPLY_FSDP = """\
def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype):
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
    for block in model.layers.values():
        fully_shard(block, **fsdp_config)
    fully_shard(model, **fsdp_config)
"""

APPLY_DDP = """\
def apply_ddp(model, dp_mesh, enable_compile):
    replicate(model, device_mesh=dp_mesh, bucket_cap_mb=100)
"""

CALL = """\
        apply_replicate(
            model,
            world_mesh["dp_replicate"],
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
        )
"""

PLAN = "pkg/parallelize.py"


def plan(
    *changes: tuple[str, str], fsdp: str = APPLY_FSDP, ddp: str = APPLY_DDP
) -> str:
    """The usual plan with a few texts changed; each has to be there."""
    whole = "\n\n".join([IMPORTS, PARALLELIZE, fsdp, ddp]).rstrip() + "\n"
    for old, new in changes:
        assert old in whole, old
        whole = whole.replace(old, new)
    return whole


def run(files: dict[str, str], target: str = "1d", usual: bool = True) -> WorkedOut:
    base = {"pkg/config.py": "TORCH_DTYPE_MAP = {}\n", "pkg/parallel_dims.py": DIMS}
    chosen = {**(base if usual else {}), **files}
    return migrate(
        {
            path: SourceFile(path, text(source).encode())
            for path, source in chosen.items()
        },
        aim(target),
    )


def written(files: dict[str, str], path: str = PLAN, **options) -> str:
    """A file as it comes out; whatever changes stays as it is when migrated again."""
    result = run(files, **options)
    assert result.problems == ()
    after = {changed: raw.decode() for changed, raw in result.changes.items()}
    again = run({**files, **after}, **options)
    assert (again.changes, again.to_do) == ({}, ())
    for changed, fresh in after.items():
        assert_nothing_unused(text(files[changed]) if changed in files else DIMS, fresh)
    return after.get(path, files[path])


def left(
    files: dict[str, str], path: str = PLAN, **options
) -> list[tuple[int, str, str]]:
    """(line, message, code to write) of what is left in a file; nothing is written."""
    result = run(files, **options)
    assert result.changes == {}
    found = [f for f in result.findings if f.status == "left" and f.path == path]
    assert found, result.findings
    for finding in found:
        ast.parse(finding.suggestion or "")  # raises
    assert all(f.suggestion for f in found)
    return [(f.line, f.message, f.suggestion or "") for f in found]


def test_the_usual_plan():
    """What the others differ from."""
    after = written({PLAN: plan()})
    assert CALL in after and "ndim" not in after


# Meshes


def test_D_mesh_named_dp():
    dims = DIMS.replace(
        "                names.append(name)\n",
        """\
                if (name == "dp_replicate" and self.dp_shard == 1) or (
                    name == "dp_shard" and self.dp_replicate == 1
                ):
                    names.append("dp")
                else:
                    names.append(name)
""",
    )
    after = written({PLAN: plan(), "pkg/parallel_dims.py": dims})
    assert CALL.replace('"dp_replicate"', '"dp"') in after


TWO_MESHES = """\
def apply_fsdp(model, dp_mesh, moe_mesh, param_dtype, reduce_dtype):
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
    for block in model.layers.values():
        if block.is_moe:
            fully_shard(block.experts, mesh=moe_mesh, mp_policy=mp_policy)
        fully_shard(block, **fsdp_config)
    fully_shard(model, **fsdp_config)
"""


def test_G_two_meshes():
    changed = plan(
        ("    if parallel_dims.dp_shard_enabled:\n", '    if parallel_dims.dp_shard_enabled:\n        moe_dim = "dp_shard_mod_ep"\n'),
        ('            world_mesh["dp_shard"],\n', '            world_mesh["dp_shard"],\n            world_mesh[moe_dim],\n'),
        fsdp=TWO_MESHES,
    )  # fmt: skip
    after = written({PLAN: changed})
    assert CALL in after
    assert "def apply_replicate(model, dp_mesh, param_dtype, reduce_dtype):" in after
    assert (
        "            replicate(block.experts, mesh=dp_mesh, mp_policy=mp_policy)\n"
        in after
    )


def test_F_template_layers():
    """apply_fsdp looks its mesh up by itself: that mesh is the parameter."""
    fsdp = APPLY_FSDP.replace("dp_mesh, param", "parallel_dims, param").replace(
        "    mp_policy",
        '    dp_mesh = parallel_dims.mesh["dp_shard"]\n    mp_policy',
        1,
    )
    changed = plan(
        ('            world_mesh["dp_shard"],\n', "            parallel_dims,\n"),
        ("model.layers.values()", "model.lm_layers"),
        fsdp=fsdp,
    )
    after = written({PLAN: changed})
    assert CALL in after
    assert "def apply_replicate(model, dp_mesh, param_dtype, reduce_dtype):" in after
    assert (
        "    for block in model.lm_layers:\n        replicate(block, **replicate_config)"
        in after
    )


# Guards


def test_V_unresolved_call_behind_removed_guard():
    mine = """\
        from torchtitan.models.llama3.infra.parallelize import apply_ddp

        def parallelize(model, parallel_dims):
            dp_mesh = parallel_dims.get_mesh("dp_replicate")
            if dp_mesh.ndim > 1:
                raise RuntimeError("DDP has not supported > 1D parallelism")
            apply_ddp(model, dp_mesh, enable_compile=False)
    """
    llama3 = """\
        from torch.distributed._composable.replicate_with_fsdp import replicate

        def apply_replicate(model, dp_mesh, param_dtype, reduce_dtype):
            replicate(model, mesh=dp_mesh)
    """
    files = {
        "mine/parallelize.py": mine,
        "torchtitan/models/llama3/parallelize.py": llama3,
        "torchtitan/distributed/parallel_dims.py": "class ParallelDims:\n    pass\n",
    }
    first, call = left(files, "mine/parallelize.py", usual=False)
    assert first[0] == 1
    assert "imports apply_ddp from torchtitan.models.llama3.infra" in first[1]
    assert (
        first[2] == "from torchtitan.models.llama3.parallelize import apply_replicate"
    )
    assert call[0] == 7 and call[2].startswith("apply_replicate(model, dp_mesh, ")
    assert not any(f.code == "TM103" for f in run(files, usual=False).findings)


def test_N_guard_without_call():
    backend = """\
        import torch
        from torch.distributed._composable.replicate import replicate

        class Backend:
            def apply_ddp(self, model, mesh):
                apply_ddp(model, mesh["dp_replicate"])

        def apply_ddp(model, dp_mesh):
            replicate(model, device_mesh=dp_mesh, bucket_cap_mb=100)
    """
    trainer = """\
        def prepare(backend, model):
            if backend.data_replication_enabled:
                if backend.get_mesh().ndim > 1:
                    raise ValueError("DDP not supported for > 1D parallelism")
                backend.apply_ddp(model, backend.get_mesh())
    """
    files = {"pkg/backend.py": backend, "pkg/trainer.py": trainer}
    result = run(files, usual=False)
    assert "pkg/trainer.py" not in result.changes
    assert not any(f.code == "TM103" and f.status == "rewrite" for f in result.findings)
    ((line, message, code),) = left(files, "pkg/trainer.py", usual=False)
    assert line == 5 and "backend.apply_ddp" in message and "line 3" in message


def test_M_migrated_dependent_dead_guard():
    mine = """\
        from torchtitan.config import TORCH_DTYPE_MAP
        from torchtitan.models.llama3.parallelize import apply_replicate

        def parallelize(model, *, parallel_dims, training):
            if parallel_dims.dp_replicate_enabled:
                dp_mesh = parallel_dims.get_mesh("dp_replicate")
                if dp_mesh.ndim > 1:
                    raise RuntimeError("DDP has not supported > 1D parallelism")
                apply_replicate(
                    model,
                    dp_mesh,
                    param_dtype=TORCH_DTYPE_MAP[training.mixed_precision_param],
                    reduce_dtype=TORCH_DTYPE_MAP[training.mixed_precision_reduce],
                )
    """
    after = written({PLAN: mine}, usual=False)
    assert run({PLAN: after}, usual=False).survey.kind == "dependent"
    assert "ndim" not in after and "        apply_replicate(\n" in after


GUARD = """\
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
"""


@pytest.mark.parametrize(
    "guard",
    [
        pytest.param(
            '        assert world_mesh.ndim == 1, "DDP does not support > 1D parallelism"\n',
            id="K3_assert_guard",
        ),
        pytest.param(
            """\
        if world_mesh.ndim > 1:
            msg = "DDP has not supported > 1D parallelism"
            raise RuntimeError(msg)
""",
            id="K4_msg_guard",
        ),
    ],
)
def test_guards(guard):
    assert written({PLAN: plan((GUARD, guard))}) == written({PLAN: plan()})


# Which function, which plan


def test_E_fsdp_of_a_part():
    """A plan that wraps a part and then the root: never the part's keywords for the root."""
    fsdp = APPLY_FSDP.replace(
        "reduce_dtype):", "reduce_dtype, shard_root=True):", 1
    ).replace("    fully_shard(model", "    if shard_root:\n        fully_shard(model")
    changed = plan(
        ("            model,\n            world", "            model.language_model,\n            world"),
        ("mixed_precision_reduce],\n        )\n", 'mixed_precision_reduce],\n            shard_root=False,\n        )\n        fully_shard(model, mesh=world_mesh["dp_shard"])\n'),
        fsdp=fsdp,
    )  # fmt: skip
    after = written({PLAN: changed})
    part = CALL.replace(
        "            model,", "            model.language_model,"
    ).replace(
        "reduce],\n        )", "reduce],\n            shard_root=False,\n        )"
    )
    root = '        replicate(model, mesh=world_mesh["dp_replicate"])\n'
    assert part + root in after


def test_X_fsdp_other_name():
    changed = plan(("apply_fsdp", "apply_vla_fsdp"))
    assert CALL in written({PLAN: changed})
    assert not any(f.code == "TM210" for f in run({PLAN: changed}).findings)


def test_K_renamed():
    changed = plan(("apply_fsdp", "enable_fsdp"), ("apply_ddp", "enable_ddp"))
    after = written({PLAN: changed})
    assert CALL in after and "enable_ddp" not in after


def test_J_inline():
    changed = plan(
        ("apply_ddp(model, world_mesh, enable_compile=False)", "replicate(model, device_mesh=world_mesh, bucket_cap_mb=100)"),
        ddp="",
    )  # fmt: skip
    after = written({PLAN: changed})
    assert CALL in after and "def apply_replicate(" in after


def test_Z_method():
    model = """\
        import torch.nn as nn

        class Transformer(nn.Module):
            def apply_fsdp(self, dp_mesh, param_dtype=None, reduce_dtype=None):
                from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

                policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
                for block in self.blocks.values():
                    fully_shard(block, mesh=dp_mesh, mp_policy=policy)
                fully_shard(self, mesh=dp_mesh, mp_policy=policy)

            def apply_ddp(self, dp_mesh=None, compile_enabled=False):
                from torch.distributed._composable.replicate import replicate

                replicate(self, device_mesh=dp_mesh, bucket_cap_mb=100)
    """
    ((line, message, code),) = left({"pkg/model.py": model}, "pkg/model.py")
    assert line == 15
    assert (
        "    for block in self.blocks.values():\n        replicate(block, mesh" in code
    )
    assert "outside of any apply_ddp" not in message
    assert "method" in message and "Transformer.apply_ddp" in message


# Mixed precision


TRAIN = """\
from torchtitan.distributed import ParallelDims, utils as dist_utils

def main(model, parallel_dims, job_config, batch, device_type):
    maybe_enable_amp = dist_utils.maybe_enable_amp(
        parallel_dims, job_config.training.mixed_precision_param, device_type
    )
    with maybe_enable_amp:
        loss = model(batch)
    loss.backward()
"""


def test_C_amp_in_dependency():
    changed = plan(
        ("from pkg.config", "from torchtitan.distributed import ParallelDims\nfrom torchtitan.config_manager")
    )  # fmt: skip
    files = {PLAN: changed, "pkg/train.py": TRAIN}
    after = written(files, "pkg/train.py", usual=False)
    assert after.startswith("import contextlib\n")
    assert (
        """\
    maybe_enable_amp = (
        contextlib.nullcontext()
        if parallel_dims.dp_replicate_enabled
        else dist_utils.maybe_enable_amp(
            parallel_dims, job_config.training.mixed_precision_param, device_type
        )
    )
    with maybe_enable_amp:
"""
        in after
    )


OWN_AUTOCAST = """\
import contextlib
import torch

def step(model, parallel_dims, batch, dtype):
    context = (
        contextlib.nullcontext()
        if parallel_dims.dp_shard_enabled
        else torch.autocast("cuda", dtype=dtype)
    )
    with context:
        loss = model(batch)
    loss.backward()
"""


def test_U_autocast_own():
    files = {PLAN: plan(), "pkg/train.py": OWN_AUTOCAST}
    either = "dp_shard_enabled or parallel_dims.dp_replicate_enabled\n"
    after = written(files, "pkg/train.py")
    assert after == OWN_AUTOCAST.replace("dp_shard_enabled\n", either)


def test_U_autocast_without_a_condition_stays():
    train = 'import torch\n\ndef step(model, batch, dtype):\n    with torch.autocast("cuda", dtype=dtype):\n        return model(batch)\n'
    assert written({PLAN: plan(), "pkg/train.py": train}, "pkg/train.py") == train


# What surrounds the call


def test_S_mock_string():
    test = """\
        from unittest.mock import patch

        def test_p():
            with patch("pkg.parallelize.apply_ddp") as ddp:
                assert ddp is not None
    """
    after = written({PLAN: plan(), "tests/test_p.py": test}, "tests/test_p.py")
    assert 'patch("pkg.parallelize.apply_replicate")' in after


def test_Y_log_left():
    changed = plan(
        ("import torch\n", "import torch\nimport logging\nlogger = logging.getLogger()\n"),
        ("enable_compile=False)\n", 'enable_compile=False)\n        logger.info("Applied DDP to the model")\n'),
    )  # fmt: skip
    after = written({PLAN: changed})
    assert '        logger.info("Applied replicate to the model")\n' in after


def test_AA_empty_branch():
    fsdp = APPLY_FSDP.replace(
        """\
    for block in model.layers.values():
        fully_shard(block, **fsdp_config)
""",
        """\
    blocks = getattr(model, "layers", None)
    if blocks is None:
        print("no blocks for FSDP")
    else:
        for block in blocks.values():
            fully_shard(block, **fsdp_config)
""",
    )
    after = written({PLAN: plan(fsdp=fsdp)})
    assert "        pass\n" not in after


# torchtitan as a package


def test_A_import():
    changed = plan(
        ("from pkg.config", "from torchtitan.models.llama3.infra.parallelize import apply_ddp\nfrom torchtitan.config"),
        ddp="",
    )  # fmt: skip
    first, call = left({PLAN: changed}, usual=False)
    assert run({PLAN: changed}, usual=False).survey.kind == "dependent"
    assert "apply_ddp from torchtitan, which this checkout does not hold" in first[1]
    assert APPLY_FSDP.splitlines()[0].replace("fsdp", "replicate") in first[2]
    assert text(CALL.rstrip()) == call[2]


def test_B_lazy():
    mine = """\
        def parallelize(model, parallel_dims, job_config):
            if getattr(parallel_dims, "dp_replicate_enabled", False):
                from torchtitan.models.llama3.infra.parallelize import apply_ddp

                apply_ddp(model, parallel_dims.world_mesh, enable_compile=False)
    """
    first, call = left({"pkg/m.py": mine}, "pkg/m.py", usual=False)
    assert (first[0], call[0]) == (3, 5)
    assert 'parallel_dims.world_mesh["dp_replicate"]' in call[2]


def test_T_monkeypatch_dependency():
    patches = """\
        import torchtitan.models.llama3.infra.parallelize as llama3

        def my_apply_ddp(model, dp_mesh, enable_compile):
            pass

        llama3.apply_ddp = my_apply_ddp
    """
    files = {
        "pkg/dims.py": "class ParallelDims:\n    pass\n",
        "pkg/patches.py": patches,
    }
    ((line, message, code),) = left(files, "pkg/patches.py", usual=False)
    assert line == 6 and message.startswith("sets apply_ddp of torchtitan, which")
    assert "def my_apply_ddp(model, dp_mesh, enable_compile):\n" in code
    assert code.endswith("llama3.apply_ddp = my_apply_ddp")


def test_kinds_are_told_apart():
    assert survey({}).kind == "foreign"
