"""Wrong migrations of a fixture, and whether executing them before and after tells.

    PYTHONPATH=. python tests/mutants.py

prints a table: each rewrite of TM101 to TM106 undone or altered, ``killed`` where a
difference is found, and whether ``apply`` would have found it, which asks less.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codemods.bindings import Checkout
from codemods.engine import WorkedOut, migrate
from codemods.execute.migration import executed
from codemods.execute.records import Verdict
from codemods.plans import Facts, decide
from codemods.source import SourceFile
from codemods.targets import Mesh, choose_target

TOP = Path(__file__).parents[1]

_MODELS = "torchtitan/models"
LLAMA3 = f"{_MODELS}/llama3/infra/parallelize.py"
VLM = f"{_MODELS.replace('models', 'experiments')}/vlm/infra/parallelize.py"
DEEPSEEK = f"{_MODELS}/deepseek_v3/infra/parallelize.py"
QWEN3 = f"{_MODELS}/qwen3/infra/parallelize.py"
TRAINER = "torchtitan/experiments/rl/unified/actors/trainer.py"
UTILS = "torchtitan/distributed/utils.py"
ADAPTER = f"{_MODELS}/utils.py"
DIMS = "torchtitan/distributed/parallel_dims.py"

_BLOCKS = """\
    for layer_id, transformer_block in model.layers.items():
        replicate(transformer_block, **replicate_config)
"""
_ROOT = "    replicate(model, **replicate_config)\n"
_HEAD = "        replicate(modules, **replicate_config)\n"
_PARAM = "param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]"
_REDUCE = "reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce]"
_POLICY = "MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)"
_MESH = '        replica_mesh = parallel_dims.get_mesh("dp_replicate")\n'
_GUARD = '        if %s:\n            raise RuntimeError("DDP has not supported > 1D parallelism")\n'
_CHOICE = "parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled"


@dataclass(frozen=True)
class Mutant:
    """One wrong migration.

    Args:
        rule: the rewrite that is undone or altered.
        what: what is wrong with it.
        path: the file.
        old: a text of the migrated file, which may be a part of one line; "" for all.
        new: what stands there instead.
        fixture: of which tree.
        mesh: the target.
    """

    rule: str
    what: str
    path: str
    old: str
    new: str
    fixture: str = "v0_2_2"
    mesh: Mesh = "1d"

    def __str__(self) -> str:
        return f"{self.rule} {self.what}"


MUTANTS = [
    Mutant("TM101", "dtypes swapped in the policy", LLAMA3, _POLICY, "MixedPrecisionPolicy(param_dtype=reduce_dtype, reduce_dtype=param_dtype)"),
    Mutant("TM101", "a field of the policy lost", LLAMA3, _POLICY, "MixedPrecisionPolicy(param_dtype=param_dtype)"),
    Mutant("TM101", "the policy lost", LLAMA3, '{"mesh": dp_mesh, "mp_policy": mp_policy}\n\n    # Tied', '{"mesh": dp_mesh}\n\n    # Tied'),
    Mutant("TM101", "a field of the policy more", LLAMA3, _POLICY + '\n    replicate', _POLICY.replace("e)", "e, output_dtype=param_dtype)") + "\n    replicate"),
    Mutant("TM101", "the blocks in no group of their own", LLAMA3, _BLOCKS, ""),
    Mutant("TM101", "the blocks of the encoder in no group", VLM, "    for block in model.encoder.layers.values():\n        replicate(block, **replicate_config)\n", ""),
    Mutant("TM101", "the root in no group", LLAMA3, f"{_HEAD}\n{_ROOT}", _HEAD),
    Mutant("TM101", "the root first", LLAMA3, "    # Tied weights", f"{_ROOT}    # Tied weights"),
    Mutant("TM101", "norm and output apart", VLM, "        replicate([model.norm, model.output], **replicate_config)\n", "        replicate(model.norm, **replicate_config)\n        replicate(model.output, **replicate_config)\n"),
    Mutant("TM101", "only the last block", LLAMA3, _BLOCKS, _BLOCKS.replace("        replicate", "        pass\n    replicate")),
    Mutant("TM101", "a part wrapped that a pipeline stage lacks", VLM, "    if model.tok_embeddings is not None:\n        replicate(model.tok_embeddings, **replicate_config)\n", "    replicate(model.tok_embeddings, **replicate_config)\n"),
    Mutant("TM101", "the division of gradients left on", LLAMA3, "    if not average_gradients:\n        # the loss is scaled by the training loop\n        disable_fsdp_gradient_division(model)\n", ""),
    Mutant("TM101", "the division of gradients off before wrapping", VLM, f"{_ROOT}\n    disable_fsdp_gradient_division(model)\n", f"    disable_fsdp_gradient_division(model)\n{_ROOT}"),
    Mutant("TM101", "the flag of the division turned round", LLAMA3, "if not average_gradients:", "if average_gradients:"),
    Mutant("TM101", "tied weights in two groups", LLAMA3, "is not None and not weights_tied:", "is not None:"),
    Mutant("TM101", "a tied embedding in no group", LLAMA3, "            modules = [model.tok_embeddings, *modules]\n", "            pass\n"),
    Mutant("TM101", "the keyword of the other target", LLAMA3, '{"mesh": dp_mesh, "mp_policy": mp_policy}\n\n    # Tied', '{"device_mesh": dp_mesh, "mp_policy": mp_policy}\n\n    # Tied'),
    Mutant("TM101", "it still imports DDP's replicate", LLAMA3, "_composable.replicate_with_fsdp import", "_composable.replicate import"),
    Mutant("TM101", "it shards", LLAMA3, f"{_HEAD}\n{_ROOT}", f"{_HEAD}\n    fully_shard(model, mesh=dp_mesh)\n"),
    Mutant("TM101", "it says nothing", LLAMA3, '    logger.info("Applied replicate to the model")\n', ""),
    Mutant("TM102", "dtypes swapped in the call", LLAMA3, f"            replica_mesh,\n            {_PARAM},\n            {_REDUCE},\n", f"            replica_mesh,\n            {_PARAM.replace('_param]', '_reduce]')},\n            {_REDUCE.replace('_reduce]', '_param]')},\n"),
    Mutant("TM102", "fp32 in the call", DEEPSEEK, f"            dp_mesh,\n            {_PARAM},\n            {_REDUCE},\n", "            dp_mesh,\n            param_dtype=None,\n            reduce_dtype=None,\n"),
    Mutant("TM102", "the mesh of another dimension", LLAMA3, _MESH, _MESH.replace('"dp_replicate"', '"tp"')),
    Mutant("TM102", "the mesh of the whole world", DEEPSEEK, "            dp_mesh,\n            param", "            parallel_dims.world_mesh,\n            param"),
    Mutant("TM102", "a part of the model", DEEPSEEK, "apply_replicate(\n            model,", "apply_replicate(\n            model.layers,"),
    Mutant("TM102", "the function that shards", QWEN3, "        apply_replicate(\n", "        apply_fsdp(\n"),
    Mutant("TM102", "no call", LLAMA3, f"        apply_replicate(\n            model,\n            replica_mesh,\n            {_PARAM},\n            {_REDUCE},\n        )\n", ""),
    Mutant("TM102", "a keyword that it does not take", LLAMA3, "            replica_mesh,\n            param", "            replica_mesh,\n            enable_compile=True,\n            param"),
    Mutant("TM102", "the call as it was", DEEPSEEK, f"            dp_mesh,\n            {_PARAM},\n            {_REDUCE},\n", "            dp_mesh,\n            enable_compile=True,\n"),
    Mutant("TM102", "gradients summed in a loop of its own", TRAINER, "            average_gradients=True,\n", ""),
    Mutant("TM102", "another branch changed", LLAMA3, "apply_fsdp(\n            model,", "apply_fsdp(\n            model.layers,"),
    Mutant("TM103", "the guard kept: sizes", LLAMA3, _MESH, _MESH + _GUARD % "parallel_dims.world_size != replica_mesh.size()"),
    Mutant("TM103", "the guard kept: names", LLAMA3, _MESH, _MESH + _GUARD % "parallel_dims.tp_enabled or parallel_dims.pp_enabled"),
    Mutant("TM103", "the guard kept as an assertion", LLAMA3, _MESH, f"{_MESH}        assert parallel_dims.world_size == replica_mesh.size()\n"),
    Mutant("TM103", "a mesh that goes with the guard", LLAMA3, _MESH, ""),
    Mutant("TM103", "the guard turned round", LLAMA3, _MESH, _MESH + _GUARD % "parallel_dims.world_size == replica_mesh.size()"),
    Mutant("TM104", "no dimension of degree 1", DIMS, ' or (dim == "dp_shard" and self.dp_replicate > 1)', "", "v0_2_0", "2d"),
    Mutant("TM104", "the meshes undone", DIMS, "", "", "v0_2_0", "2d"),
    Mutant("TM104", "a dimension of degree 1 always", DIMS, ' or (dim == "dp_shard" and self.dp_replicate > 1)', ' or dim == "dp_shard"', "v0_2_0", "2d"),
    Mutant("TM104", "a dimension of degree 1 of another name", DIMS, '(dim == "dp_shard" and', '(dim == "cp" and', "v0_2_0", "2d"),
    Mutant("TM104", "a mesh of one dimension in the call", DEEPSEEK, 'world_mesh["dp_replicate", "dp_shard"]', 'world_mesh["dp_replicate"]', "v0_2_0", "2d"),
    Mutant("TM104", "the dimensions in the other order", DEEPSEEK, 'world_mesh["dp_replicate", "dp_shard"]', 'world_mesh["dp_shard", "dp_replicate"]', "v0_2_0", "2d"),
    Mutant("TM105", "autocast left on", UTILS, _CHOICE, "parallel_dims.fsdp_enabled"),
    Mutant("TM105", "the choice of autocast undone", UTILS, "", ""),
    Mutant("TM105", "autocast off always", UTILS, _CHOICE, "True"),
    Mutant("TM105", "autocast off only with replicas and shards", UTILS, _CHOICE, _CHOICE.replace(" or ", " and ")),
    Mutant("TM105", "autocast on under FSDP", UTILS, _CHOICE, "parallel_dims.dp_replicate_enabled"),
    Mutant("TM106", "a Replicate asked for its dim", ADAPTER, "not placement.is_replicate() and placement.dim", "placement.dim"),
    Mutant("TM106", "a Replicate taken for a shard", ADAPTER, "not placement.is_replicate() and placement.dim", "placement.is_replicate() or placement.dim"),
    Mutant("TM106", "a Replicate left to the next branch", ADAPTER, "placement.is_replicate() or placement.dim", "not placement.is_replicate() and placement.dim"),
    Mutant("TM106", "the adapter undone", ADAPTER, "", ""),
    Mutant("TM106", "no experts without a shard", ADAPTER, "start_index, end_index = 0, dim_size", "start_index, end_index = None, None"),
]  # fmt: skip


@dataclass(frozen=True)
class Migration:
    """A fixture migrated."""

    facts: Facts
    outcome: WorkedOut
    files: Mapping[str, SourceFile]


@cache
def migration(root: Path, mesh: Mesh) -> Migration:
    """A tree migrated; what a mutant changes is the text, not this."""
    files = {}
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        files[name] = SourceFile(name, path.read_bytes())
    target = choose_target(mesh, None)
    outcome = migrate(files, target)
    facts = decide(outcome.survey, target)
    return Migration(facts, outcome, files)


def shown(mutant: Mutant, *, flips: bool) -> Verdict:
    """What executing a mutant shows.

    Args:
        mutant: which.
        flips: ask every question both ways, which ``apply`` does not.
    """
    made = migration(TOP / "fixtures" / mutant.fixture, mutant.mesh)
    changed = {p: raw.decode() for p, raw in made.outcome.changes.items()}
    text = changed[mutant.path]
    assert mutant.old in text, f"{mutant}: there is no {mutant.old!r}"
    if mutant.old:
        changed[mutant.path] = text.replace(mutant.old, mutant.new)
    else:
        changed[mutant.path] = made.files[mutant.path].text
    files = {path: SourceFile(path, code.encode()) for path, code in changed.items()}
    after = Checkout({**made.files, **files})
    return executed(made.facts, after, made.outcome.findings, flips=flips)


def main() -> int:
    alive = 0
    print(f"{'rule':6}  {'mutant':52} {'tests':7} apply")
    for mutant in MUTANTS:
        found = [bool(shown(mutant, flips=flips).mismatches) for flips in (True, False)]
        words = ["killed" if one else "alive" for one in found]
        print(f"{mutant.rule:6}  {mutant.what:52} {words[0]:7} {words[1]}")
        alive += not found[0]
    print(f"{len(MUTANTS) - alive} of {len(MUTANTS)} killed")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
