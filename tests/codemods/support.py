"""Small checkouts, migrated in memory, for the tests of the rules.

A test drops the file it is about into ``BASE``, a checkout in the shape of torchtitan
and in words of our own, and compares what comes out with what should.
"""

import ast
import difflib
import re
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import dedent

import black
import pyflakes.api
import pyflakes.reporter
import usort

from codemods.engine import WorkedOut, migrate
from codemods.findings import Finding
from codemods.selection import Selection
from codemods.source import SourceFile
from codemods.targets import Target, choose_target
from codemods.texts import TextFile, is_text

PLAN = "torchtitan/models/llama3/parallelize.py"
"""The file of ``BASE`` that defines ``apply_fsdp`` and ``apply_ddp``."""

HERE = "torchtitan/models/mine/parallelize.py"
"""Where a test puts the file it is about, unless it says otherwise."""

IMPORT = "from torchtitan.models.llama3.parallelize import"

APPLY_FSDP = """\
def apply_fsdp(
    model: nn.Module,
    dp_mesh: DeviceMesh,
    param_dtype: torch.dtype,
    reduce_dtype: torch.dtype,
):
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
    for block in model.layers.values():
        fully_shard(block, **fsdp_config)
    fully_shard(model, **fsdp_config)
"""

APPLY_DDP = """\
def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, enable_compile: bool):
    if enable_compile:
        torch._dynamo.config.optimize_ddp = "ddp_optimizer"
    replicate(model, device_mesh=dp_mesh, bucket_cap_mb=100)
    logger.info("Applied DDP to the model")
"""

PLAN_IMPORTS = """\
import torch
import torch.nn as nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy

from torchtitan.tools.logging import logger
"""

LOOP_MESHES = """\
from torch.distributed.device_mesh import init_device_mesh


class ParallelDims:
    def build_mesh(self, device_type):
        dims, names = [], []
        degrees = [self.pp, self.dp_replicate, self.dp_shard, self.cp, self.tp]
        for d, name in zip(degrees, ["pp", "dp_replicate", "dp_shard", "cp", "tp"]):
            if d > 1:
                names.append(name)
                dims.append(d)
        return init_device_mesh(device_type, dims, mesh_dim_names=names)

    @property
    def dp_replicate_enabled(self):
        return self.dp_replicate > 1

    @property
    def fsdp_enabled(self):
        return self.dp_shard > 1 or self.cp > 1
"""
"""A ``ParallelDims`` as torchtitan had it up to 0.2.0."""

NAMED_MESHES = """\
class ParallelDims:
    def _mesh_exist(self, name, degree):
        if name == "efsdp":
            return self.ep > 1
        return degree > 1

    def get_mesh(self, names):
        return self._meshes[names]

    @property
    def dp_replicate_enabled(self):
        return self.dp_replicate > 1

    @property
    def fsdp_enabled(self):
        return self.dp_shard > 1 or self.cp > 1
"""
"""A ``ParallelDims`` as torchtitan has it from 0.2.1 on."""

APPLY_AC = """\
def apply_ac(model: nn.Module):
    for layer_id, block in model.layers.named_children():
        model.layers.register_module(layer_id, checkpoint_wrapper(block))
"""
"""Another part of a plan, from which it is seen that its models have ``layers``."""

GLOBAL_TOKENS = """\
class Trainer:
    def step(self, batch):
        loss = self.loss_fn(self.model(batch)) / self.global_valid_tokens
        loss.backward()
"""
"""A training loop that divides a sum loss by the tokens of all ranks."""

BASE = {
    "torchtitan/__init__.py": "",
    "torchtitan/config.py": "TORCH_DTYPE_MAP = {}\n",
    "torchtitan/tools/__init__.py": "",
    "torchtitan/tools/logging.py": "import logging\n\nlogger = logging.getLogger()\n",
    "torchtitan/distributed/__init__.py": "",
    "torchtitan/distributed/parallel_dims.py": LOOP_MESHES,
    "torchtitan/models/__init__.py": "",
    "torchtitan/models/llama3/__init__.py": "",
    PLAN: f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}\n\n{APPLY_DDP}",
    "torchtitan/models/mine/__init__.py": "",
}


def text(source: str) -> str:
    """A triple-quoted snippet without its margin and its first line end."""
    return dedent(source).removeprefix("\n")


def checkout(
    files: Mapping[str, str | bytes | None] | None = None,
) -> dict[str, SourceFile]:
    """``BASE`` with other files; None takes one out."""
    chosen = {**BASE, **(files or {})}
    return {
        path: SourceFile(
            path, content if isinstance(content, bytes) else text(content).encode()
        )
        for path, content in chosen.items()
        if content is not None
    }


def texts(files: Mapping[str, str]) -> dict[str, TextFile]:
    """Files that are not Python's; those that would not be read fail the test."""
    assert all(map(is_text, files))
    return {path: TextFile(path, text(said).encode()) for path, said in files.items()}


def aim(target: str = "1d", name: str | None = None) -> Target:
    return choose_target(target, None, name)


def outcome(
    files: Mapping[str, str | bytes | None] | None = None,
    target: str = "1d",
    name: str | None = None,
    said: Mapping[str, str] | None = None,
    selection: Selection = Selection(),
) -> WorkedOut:
    """What a migration of ``checkout(files)`` would do, with the texts beside them."""
    aimed = aim(target, name)
    return migrate(checkout(files), aimed, selection, lambda: texts(said or {}))


def migrated(
    files: Mapping[str, str | bytes | None] | None = None,
    target: str = "1d",
    name: str | None = None,
) -> dict[str, str]:
    """Every file that changes, as text. Fails where something keeps it from changing."""
    result = outcome(files, target, name)
    assert result.problems == ()
    before = checkout(files)
    after = {path: SourceFile(path, raw) for path, raw in result.changes.items()}
    again = migrate({**before, **after}, aim(target, name))
    assert (again.changes, again.to_do) == ({}, ()), "migrating twice is not once"
    return {path: file.text for path, file in after.items()}


def findings(
    files: Mapping[str, str | bytes | None] | None = None,
    target: str = "1d",
    *,
    code: str | None = None,
    path: str | None = None,
) -> list[Finding]:
    """What is found in a checkout, of one rule and in one file if asked for."""
    return [
        finding
        for finding in outcome(files, target).findings
        if code in (None, finding.code) and path in (None, finding.path)
    ]


def assert_rewrites(
    before: str,
    after: str,
    *,
    path: str = HERE,
    target: str = "1d",
    name: str | None = None,
    files: Mapping[str, str | bytes | None] | None = None,
) -> None:
    """``before``, dropped into the base checkout, becomes ``after``, and stays that.

    ``before`` has to be as the formatter leaves it; then ``after`` has to be so too.
    """
    everything = {**(files or {}), path: before}
    result = migrated(everything, target, name)
    assert result.get(path, text(before)) == text(after)
    assert_formatted(path, text(before))
    for changed, fresh in result.items():
        assert_formatted(changed, fresh)
        assert_nothing_unused(checkout(everything)[changed].text, fresh)


def assert_noop(
    before: str,
    *,
    path: str = HERE,
    target: str = "1d",
    files: Mapping[str, str | bytes | None] | None = None,
) -> None:
    """``before`` stays as it is while the rest of the checkout is migrated."""
    result = migrated({**(files or {}), path: before}, target)
    assert path not in result
    assert result, "nothing was migrated, so this shows nothing"


def assert_left(
    before: str,
    reason: str,
    *,
    path: str = HERE,
    target: str = "1d",
    files: Mapping[str, str | bytes | None] | None = None,
) -> Finding:
    """``before`` holds a place that is left for a person, so nothing is written."""
    result = outcome({**(files or {}), path: before}, target)
    assert result.changes == {}
    left = [f for f in result.findings if f.status == "left" and f.path == path]
    assert len(left) == 1, result.findings
    assert re.search(reason, left[0].message), left[0].message
    if left[0].code != "TM104":  # whose code is the head of a statement
        ast.parse(left[0].suggestion or "")  # raises
    assert any(p.startswith(f"{path}:{left[0].line}: ") for p in result.problems)
    return left[0]


def formatted(path: str, source: str) -> str:
    """``source`` as torchtitan's pre-commit leaves it: usort, then black."""
    known = {**usort.Config().known, "torchtitan": usort.config.CAT_FIRST_PARTY}
    config = usort.Config(known=known)
    done = usort.usort(source.encode(), config, Path(path))
    if done.error:
        raise done.error
    sorted_ = done.output.decode()
    try:
        return black.format_file_contents(sorted_, fast=True, mode=black.Mode())
    except black.NothingChanged:
        return sorted_


def assert_formatted(path: str, source: str) -> None:
    """black and usort, of the versions that torchtitan pins, would change nothing."""
    wanted = formatted(path, source)
    changes = difflib.unified_diff(
        source.splitlines(), wanted.splitlines(), lineterm=""
    )
    assert source == wanted, "\n".join(changes)


def unused(source: str) -> set[str]:
    """What pyflakes has to say, without line numbers, of either name as of one."""
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        pyflakes.api.check(source, "x.py", pyflakes.reporter.Reporter(said, said))
    return {
        line.split(" ", 1)[1].replace("apply_replicate", "apply_ddp")
        for line in said.getvalue().splitlines()
    }


def assert_nothing_unused(before: str, after: str) -> None:
    """pyflakes finds no unused import or variable, nor anything unbound, that is new."""
    assert unused(after) - unused(before) == set()


def function(source: str, name: str) -> str:
    """The text of one function of a module, with a final line end."""
    node = next(
        n
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.FunctionDef) and n.name == name
    )
    return "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno]) + "\n"


def mirrored(
    apply_fsdp: str,
    *,
    target: str = "1d",
    name: str | None = None,
    imports: str = PLAN_IMPORTS,
    files: Mapping[str, str | bytes | None] | None = None,
) -> str:
    """What ``apply_ddp`` becomes beside this ``apply_fsdp``; held against black too."""
    plan = f"{imports}\n\n{text(apply_fsdp)}\n\n{APPLY_DDP}"
    result = migrated({**(files or {}), PLAN: plan}, target, name)
    assert_formatted(PLAN, plan)
    assert_formatted(PLAN, result[PLAN])
    assert_nothing_unused(plan, result[PLAN])
    return function(result[PLAN], aim(target, name).function_name)


def assert_mirrors(apply_fsdp: str, expected: str, **options) -> None:
    """The function derived from ``apply_fsdp`` is ``expected``."""
    assert mirrored(apply_fsdp, **options) == text(expected)
