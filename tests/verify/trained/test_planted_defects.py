"""Right migrations made wrong in one place: each has to fail, for the right reason.

Only the migrated tree is trained for a defect; what the others do is known from the
untouched tree. The table in the README says which cell catches what.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from migrator.verify.choose.devices import Place
from migrator.verify.choose.models import Model
from migrator.verify.choose.scenarios import CELLS, PARTIES
from migrator.verify.job import Job, Plan
from migrator.verify.judge import each
from migrator.verify.judge.leftover import broken_sites
from migrator.verify.judge.verdict import Verdict
from migrator.verify.train import launch, worktrees

from forks import keep_ties_in_one_group, migrated_checkout

pytestmark = pytest.mark.torchrun

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
TRAINER = "torchtitan/train.py"
NEW = "def apply_replicate"
PLACE = Place("cpu", 2)


# Two of its six layers less: the rest have one of everything.
LLAMA = Model("llama3", overrides={"n_layers": 4})


def sum_under_fsdp(tree: Path) -> None:
    """A fork whose apply_fsdp sums gradients, where its loss is a mean."""
    plan = tree / PLAN
    text = plan.read_text()
    wraps = text.index("fully_shard(model, **fsdp_config", text.index("def apply_fsdp"))
    end = text.index("\n", wraps) + 1
    plan.write_text(text[:end] + SUM.replace("\n\n", "\n") + text[end:])


FORKS = {
    "0.2.1, sums under FSDP": ("0.2.1", sum_under_fsdp, LLAMA),
    "0.2.1": ("0.2.1", lambda tree: None, LLAMA),
    "0.2.2": ("0.2.2", lambda tree: None, LLAMA),
    "0.2.2, tied": (
        "0.2.2",
        keep_ties_in_one_group,
        # Of the 36 million parameters of all eight layers none but the tied ones matter.
        Model("qwen3", overrides={"enable_weight_tying": True, "n_layers": 2}),
    ),
}


class Bench:
    """One release, its untouched verdicts, and a place to break its migrated tree."""

    def __init__(
        self,
        name: str,
        folder: Path,
        stack: contextlib.ExitStack,
        launcher: launch.Launcher,
    ) -> None:
        version, change, model = FORKS[name]
        fork = migrated_checkout(version, folder / "fork", change)
        scratch = folder / "scratch"
        scratch.mkdir()
        repo = worktrees.open_checkout(fork)
        base = worktrees.find_base(repo, "HEAD")
        self.trees = stack.enter_context(worktrees.trees(repo, fork, base, scratch))
        self.job = Job(
            self.trees,
            model,
            Plan(steps=3, nproc=2, timeout=300),
            scratch=scratch,
            report_dir=folder / "report",
            console=Console(quiet=True),
            launcher=launcher,
        )
        self.known: dict[str, Verdict] = {}

    def verdict(
        self, cell: str, defect: Callable[[Path], None] | None = None
    ) -> Verdict:
        """The verdict on the migrated tree with a defect in it."""
        chosen = CELLS[cell]
        if cell not in self.known:
            found = self.job.verdict(chosen)
            assert found.word == "passed", found.failures
            self.known[cell] = found
        if defect is None:
            return self.known[cell]
        tree = self.trees.migrated
        kept = tree.with_name("kept")
        shutil.copytree(tree / "torchtitan", kept)
        try:
            defect(tree)
            broken = broken_sites(self.trees.base, tree)
            migrated = self.job.train(chosen, PARTIES["migrated"], PLACE, again=True)
        finally:
            shutil.rmtree(tree / "torchtitan")
            shutil.move(kept, tree / "torchtitan")
        traces = {**self.known[cell].traces, "migrated": migrated}
        return self.job.judged(chosen, PLACE, traces, broken)


@pytest.fixture(scope="module")
def bench(tmp_path_factory, launcher) -> Iterator[Callable[[str], Bench]]:
    made: dict[str, Bench] = {}
    with contextlib.ExitStack() as stack:

        def get(version: str) -> Bench:
            if version not in made:
                folder = tmp_path_factory.mktemp(version)
                made[version] = Bench(version, folder, stack, launcher)
            return made[version]

        yield get


def edit(path: str, old: str, new: str, after: str = "") -> Callable[[Path], None]:
    """A defect: one place, the first behind ``after``, reads otherwise."""

    def plant(tree: Path) -> None:
        text = (tree / path).read_text()
        at = text.index(old, text.index(after))
        (tree / path).write_text(text[:at] + new + text[at + len(old) :])

    return plant


LOG = '    logger.info("Applied replicate to the model")'
SUM = (
    "    from torch.distributed.fsdp import FSDPModule\n\n"
    "    for module in model.modules():\n"
    "        if isinstance(module, FSDPModule):\n"
    "            module.set_gradient_divide_factor(1.0)\n"
)
POLICY = "MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)"
BLOCK = "        replicate(transformer_block, **replicate_config)"
STALE = (
    "        if parallel_dims.dp_replicate_enabled:\n"
    "            for optimizer in self.optimizers:\n"
    "                for group in optimizer.param_groups:\n"
    '                    group["params"] = [\n'
    '                        torch.nn.Parameter(p.detach().clone()) for p in group["params"]\n'
    "                    ]\n"
)
APART = (
    "        with torch.no_grad():\n"
    "            for part in self.model_parts:\n"
    "                for parameter in part.parameters():\n"
    "                    parameter.mul_(1 + 0.01 * torch.distributed.get_rank())\n"
)

SCHEDULERS = "        self.lr_schedulers = "
START = '        logger.info(f"Training starts at step'
EVALUATING = (
    "        if self.parallel_dims.dp_replicate_enabled:\n"
    "            self.model_parts[0].layers['2'].eval()\n"
)
MISSING = (
    "        if parallel_dims.dp_replicate_enabled:\n"
    "            for optimizer in self.optimizers:\n"
    '                optimizer.param_groups[0]["params"].pop()\n'
)
CLIP = "        grad_norm = dist_utils.clip_grad_norm_("


def of_one_gradient(what: str) -> Callable[[Path], None]:
    """Does something to the gradient of one norm, under replicate alone."""
    return edit(
        TRAINER,
        CLIP,
        "        if parallel_dims.dp_replicate_enabled:\n"
        f"            self.model_parts[0].layers['3'].ffn_norm.weight.grad{what}\n{CLIP}",
    )


DEFECTS = {
    "ranks that draw their first weights apart": (
        "0.2.1",
        "dp-fresh",
        edit(
            TRAINER,
            "            model.train()",
            "            torch.manual_seed(torch.distributed.get_rank())\n"
            "            with torch.no_grad():\n"
            "                model.init_weights(buffer_device=buffer_device)\n"
            "            model.train()",
            "            with torch.no_grad():",
        ),
        "before the first step",
    ),
    "one gradient of 57 halved": (
        "0.2.1",
        "dp",
        of_one_gradient(".mul_(0.5)"),
        "the gradient of layers.3.ffn_norm.weight in step 1 is 0.5 times",
    ),
    "one gradient of 57 off by 1e-5": (
        "0.2.1",
        "dp",
        of_one_gradient(".mul_(1 + 1e-5)"),
        "the gradient of layers.3.ffn_norm.weight in step 1 is 1.00001 times",
    ),
    "both ranks read the same data": (
        "0.2.1",
        "dp",
        edit(
            TRAINER,
            "dp_rank=batch_rank",
            "dp_rank=0 if parallel_dims.dp_replicate_enabled else batch_rank",
            "build_dataloader_fn(",
        ),
        "data-parallel ranks 0 and 1 read the same data in step 1",
    ),
    "the model is not in training mode": (
        "0.2.1",
        "dp",
        edit(TRAINER, START, EVALUATING + START),
        "layers.2 is in eval mode under replicate",
    ),
    "an optimizer that misses a parameter": (
        "0.2.1",
        "dp",
        edit(TRAINER, SCHEDULERS, MISSING + SCHEDULERS),
        "the group of output.weight says nothing under replicate",
    ),
    "sum where average is right": (
        "0.2.1",
        "dp",
        edit(PLAN, LOG, SUM + LOG, NEW),
        "summed over the data-parallel ranks",
    ),
    "average where sum is right": (
        "0.2.2",
        "dp",
        edit(PLAN, "disable_fsdp_gradient_division(model)", "pass", NEW),
        # Just what DDP did, and that was wrong.
        "divided by the data-parallel degree twice (as under DDP)",
    ),
    "autocast left on": (
        "0.2.1",
        "dp-bf16",
        edit(
            "torchtitan/distributed/utils.py",
            "parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled",
            "parallel_dims.fsdp_enabled",
        ),
        "runs under autocast",
    ),
    "policy without param_dtype": (
        "0.2.1",
        "dp-bf16",
        edit(PLAN, POLICY, "MixedPrecisionPolicy(reduce_dtype=reduce_dtype)", NEW),
        "param_dtype=None",
    ),
    "reduce in bf16": (
        "0.2.1",
        "dp",
        edit(
            PLAN,
            POLICY,
            POLICY.replace("reduce_dtype=reduce_dtype", "reduce_dtype=torch.bfloat16"),
            NEW,
        ),
        "reduce_dtype=torch.bfloat16",
    ),
    "only the root wrapped": (
        "0.2.1",
        "dp",
        edit(
            PLAN,
            "    # Tied weights",
            "    replicate(model, **replicate_config)\n    return\n    # Tied",
            NEW,
        ),
        "no group of its own for layers.0",
    ),
    "one block not wrapped": (
        "0.2.1",
        "dp",
        edit(PLAN, BLOCK, f'        if layer_id != "3":\n    {BLOCK}', NEW),
        "no group of its own for layers.3",
    ),
    "world mesh under TP": (
        "0.2.1",
        "dp+tp",
        edit(
            PLAN,
            'parallel_dims.get_mesh("dp_replicate")',
            "parallel_dims.world_mesh",
            "elif parallel_dims",
        ),
        "meshes",
    ),
    "DDP left behind a removed guard": (
        "0.2.1",
        "dp+tp",
        edit(
            PLAN,
            "    mp_policy =",
            "    from torch.distributed._composable.replicate import replicate as ddp\n\n"
            "    ddp(model, device_mesh=dp_mesh)\n    return\n    mp_policy =",
            NEW,
        ),
        "still trains under DDP",
    ),
    "tied weights wrapped apart": (
        "0.2.2, tied",
        "dp",
        edit(
            "torchtitan/models/llama4/infra/parallelize.py",
            "if model.output.weight is",
            "if False and model.output.weight is",
            NEW,
        ),
        "is shared with a parameter already managed",
    ),
    "an optimizer made before wrapping": (
        "0.2.1",
        "dp",
        edit(
            TRAINER,
            SCHEDULERS,
            STALE + SCHEDULERS,
        ),
        "differ",
    ),
    "one model's call site left behind": (
        "0.2.1",
        "dp",
        edit(
            "torchtitan/models/qwen3/infra/parallelize.py",
            "import apply_replicate",
            "import apply_ddp",
        ),
        "no longer defines it",
    ),
    "ranks starting from different weights": (
        "0.2.1",
        "dp",
        edit(
            TRAINER,
            START,
            APART + START,
        ),
        "is not the same on ranks",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_fails(bench, name):
    version, cell, defect, reason = DEFECTS[name]
    found = bench(version).verdict(cell, defect)
    assert found.word == "failed"
    assert any(reason in failure for failure in found.failures), found.failures


def test_0_2_2_says_that_ddp_divided_twice(bench):
    found = bench("0.2.2").verdict("dp")
    assert found.passed
    assert any("DDP divided the gradients twice" in note for note in found.notes)
    assert any("FSDP is right" in note for note in found.notes)
    norms = {name: trace.steps[0].grad_norm for name, trace in found.traces.items()}
    assert norms["migrated"] == pytest.approx(2 * norms["baseline"], rel=1e-6)
    assert norms["migrated"] == pytest.approx(norms["reference"], rel=1e-3)


def test_fsdp_that_is_wrong_is_not_followed(bench):
    """The migrated tree does what FSDP does, and DDP was right."""
    found = bench("0.2.1, sums under FSDP").job.verdict(CELLS["dp"])
    assert found.word == "failed"
    (said,) = [failure for failure in found.failures if "DDP was right" in failure]
    assert "FSDP's are 2 times those" in said


@pytest.mark.parametrize(
    "version, cell",
    sorted(
        {(version, cell) for version, cell, *_ in DEFECTS.values()}
        | {("0.2.1", "dp+pp")}
    ),
)
def test_the_untouched_tree_passes(bench, version, cell):
    found = bench(version).verdict(cell)
    assert found.word == "passed", found.failures


def test_the_smallest_error_that_a_verdict_claims_to_see_is_seen(bench, monkeypatch):
    at = bench("0.2.1")
    right = at.verdict("dp")
    claim = next(note for note in right.notes if note.startswith("An error of "))
    found = at.job.sensitive(CELLS["dp"], PLACE, right)
    said = found.notes[-1]
    assert found.passed and said.endswith(" was seen.")
    assert claim.split()[3] in said and float(claim.split()[3]) < 1e-5
    # A verdict that claims to see more than it does has failed.
    claimed = each.smallest
    monkeypatch.setattr(each, "smallest", lambda *of: replace(claimed(*of), error=1e-7))
    found = at.job.sensitive(CELLS["dp"], PLACE, right)
    assert "was not seen: this verdict shows less" in found.failures[-1]
