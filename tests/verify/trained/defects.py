"""Right migrations, made wrong in one place or written otherwise, and the bench on which they are trained.

Only the migrated tree is trained for a defect; what the others do is known from the
untouched tree.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from migrator.verify.choose.devices import Place
from migrator.verify.choose.models import Model
from migrator.verify.choose.scenarios import CELLS, PARTIES
from migrator.verify.job import Job, Plan
from migrator.verify.judge.leftover import broken_sites
from migrator.verify.judge.verdict import Verdict
from migrator.verify.train import launch, worktrees

from forks import (
    keep_ties_in_one_group,
    migrated_checkout,
    ways_of_its_own,
    without_fsdp,
)

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
TRAINER = "torchtitan/train.py"
NEW = "def apply_replicate"
PLACE = Place("cpu", 2)


# Two of its six layers less: the rest have one of everything.
LLAMA = Model("llama3", overrides={"n_layers": 4})
SMALL = Model("llama3", overrides={"n_layers": 2})


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
    "0.2.1, ways of its own": ("0.2.1", ways_of_its_own, SMALL),
    "0.2.1, without FSDP": ("0.2.1", without_fsdp, SMALL),
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
        with self.planted(defect):
            broken = broken_sites(self.trees.base, self.trees.migrated)
            again = {
                name: self.job.train(chosen, PARTIES[name], PLACE, again=True)
                for name in ("migrated", "alike-migrated")
                if name in self.known[cell].traces
            }
        traces = {**self.known[cell].traces, **again}
        return self.job.judged(chosen, PLACE, traces, broken)

    @contextlib.contextmanager
    def planted(self, defect: Callable[[Path], None]) -> Iterator[None]:
        """The migrated tree with a defect in it, for a while."""
        tree = self.trees.migrated
        kept = tree.with_name("kept")
        shutil.copytree(tree / "torchtitan", kept)
        try:
            defect(tree)
            yield
        finally:
            shutil.rmtree(tree / "torchtitan")
            shutil.move(kept, tree / "torchtitan")


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


WAIT = "        self.checkpointer.maybe_wait_for_staging()\n"
REPLICATES = "        if parallel_dims.dp_replicate_enabled:\n"
NORM = "self.model_parts[0].layers['3'].ffn_norm.weight"


def before(place: str, code: str) -> Callable[[Path], None]:
    """Has the trainer do something before a place, under replicate alone."""
    return edit(TRAINER, place, f"{REPLICATES}            {code}\n{place}")


EMPTY = "        self.optimizers.zero_grad()\n"
LOGGED = "self.metrics_processor.should_log(self.step)"
VALIDATOR = "torchtitan/components/validate.py"
MAX = "dist_utils.dist_max(loss, loss_mesh, ft_pg),"
QUIET = {
    "zero_grad where the step is logged alone": (
        edit(
            TRAINER,
            EMPTY,
            f"        if {LOGGED} or not self.parallel_dims.dp_replicate_enabled:\n    {EMPTY}",
        ),
        "the gradients of the step before are still in it",
    ),
    "a validator that leaves the model in eval mode": (
        edit(
            VALIDATOR,
            "            model.train()",
            "            model.train(not self.parallel_dims.dp_replicate_enabled)",
            "# Set model back",
        ),
        "is in eval mode from step 2 on under replicate",
    ),
    "the validation's loss of one rank": (
        edit(
            VALIDATOR,
            "if parallel_dims.dp_cp_enabled:\n            global_avg_loss",
            "if parallel_dims.fsdp_enabled:\n            global_avg_loss",
        ),
        "validation: migrated and reference differ from step 1 on",
    ),
    "the norm doubled in the log alone": (
        edit(
            TRAINER,
            "grad_norm.item(),",
            "grad_norm.item() * (1 + parallel_dims.dp_replicate_enabled),",
        ),
        "Logged: grad_norm is",
    ),
    "the largest loss in the log is the mean": (
        edit(
            TRAINER,
            MAX,
            "(dist_utils.dist_mean if parallel_dims.dp_replicate_enabled else dist_utils.dist_max)"
            + MAX.removeprefix("dist_utils.dist_max"),
        ),
        "Logged: loss_metrics/global_max_loss is",
    ),
}
"""Defects of 0.2.1 that no curve of a run shows in which every step is logged -> what is said of them in `dp-together`."""

BY_HAND = (
    "    from torch.distributed.device_mesh import init_device_mesh\n"
    "    from torch.distributed.fsdp import fully_shard as replicate\n\n"
    "    dp_mesh = init_device_mesh(\n"
    '        "cpu", (dp_mesh.size(), 1), mesh_dim_names=("dp_replicate", "fsdp")\n'
    "    )\n"
)
RIGHT = {
    "norm and output left to the root": (
        edit(
            PLAN, "        replicate(modules, **replicate_config)", "        pass", NEW
        ),
        "no group of its own for norm, output",
    ),
    "fully_shard over (dp_replicate, 1)": (
        edit(PLAN, "    mp_policy =", f"{BY_HAND}    mp_policy =", NEW),
        "",
    ),
}
"""Migrations of 0.2.1 as a person may write them -> what is noted of them."""

DEFECTS = {
    "gradients summed, in a fork with ways of its own": (
        "0.2.1, ways of its own",
        "dp",
        edit(PLAN, LOG, SUM + LOG, NEW),
        "summed over the data-parallel ranks",
    ),
    "gradients summed, in a fork without FSDP": (
        "0.2.1, without FSDP",
        "dp",
        edit(PLAN, LOG, SUM + LOG, NEW),
        "summed over the data-parallel ranks",
    ),
    "a parameter that is never stepped": (
        "0.2.1",
        "dp",
        before(WAIT, "self.model_parts[0].tok_embeddings.weight.grad = None"),
        "no optimizer stepped it",
    ),
    "zero_grad skipped": (
        "0.2.1",
        "dp",
        edit(
            TRAINER,
            "        self.optimizers.zero_grad()\n",
            "        if not self.parallel_dims.dp_replicate_enabled:\n"
            "            self.optimizers.zero_grad()\n",
        ),
        "the gradients of the step before are still in it",
    ),
    "the gradient of a norm not the same on all ranks": (
        "0.2.1",
        "dp",
        before(
            CLIP,
            f"{NORM}.grad._local_tensor.mul_(1 + torch.distributed.get_rank())",
        ),
        "First apart: the gradient of layers.3.ffn_norm.weight in step 1",
    ),
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
        "its optimizer holds parameters of before the model was wrapped",
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
