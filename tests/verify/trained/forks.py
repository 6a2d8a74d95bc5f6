"""Checkouts of real releases, migrated and broken at will."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from migrator.apply import apply_checkout
from migrator.demo import bundled_fixture
from migrator.verify import run_verify
from migrator.verify.judge.verdict import Verdict

from releases import release


def git(tree: Path, *arguments: str) -> str:
    """Runs git in `tree` and returns what it prints."""
    command = [
        "git",
        "-C",
        str(tree),
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.invalid",
        *arguments,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def checkout(version: str, tree: Path) -> Path:
    """A release in a git repository of its own, one commit, nothing migrated."""
    shutil.copytree(
        release(version) / "torchtitan",
        tree / "torchtitan",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tree / ".gitignore").write_text("__pycache__/\n")
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", f"torchtitan {version}")
    return tree


def small_checkout(tree: Path) -> Path:
    """The fixture that trains, in a git repository of its own: its ranks start in half the time."""
    shutil.copytree(bundled_fixture(), tree)
    (tree / ".gitignore").write_text("__pycache__/\n")
    # By this verify knows which models there are.
    models = tree / "torchtitan" / "models" / "__init__.py"
    models.write_text('_supported_models = frozenset(["llama3"])\n')
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "base")
    return tree


def migrated_checkout(
    version: str, tree: Path, change: Callable[[Path], None] = lambda tree: None
) -> Path:
    """A release with the migration in its working tree, not committed; `change` makes it a fork before."""
    checkout(version, tree)
    change(tree)
    git(tree, "commit", "--quiet", "--all", "--allow-empty", "--message", "fork")
    apply_checkout(tree, target="1d")
    return tree


def keep_ties_in_one_group(tree: Path) -> None:
    """Lets FSDP of 0.2.2 train tied embeddings on torch 2.12 and later, as upstream did after it."""
    plan = tree / "torchtitan/models/llama4/infra/parallelize.py"
    tied = "model.output.weight is model.tok_embeddings.weight"
    text = plan.read_text()
    at = text.index("if model.tok_embeddings is not None", text.index("def apply_fsdp"))
    end = at + len("if model.tok_embeddings is not None")
    text = f"{text[:end]} and not ({tied}){text[end:]}"
    plan.write_text(text)
    edit(
        plan,
        "[model.norm, model.output],",
        f"[model.norm, model.output] + ([model.tok_embeddings] if {tied} else []),",
    )


TRAINER = "torchtitan/train.py"
LLAMA3 = "torchtitan/models/llama3"


def ways_of_its_own(tree: Path) -> None:
    """A fork of 0.2.1 that clips with torch's function, logs on rank 0 alone and ends by itself.

    Its model has dropout, draws from Python's and numpy's random numbers as well, and has
    a frozen parameter, and a buffer that counts on each rank.
    """
    trainer, plan = tree / TRAINER, tree / LLAMA3 / "infra/parallelize.py"
    edit(trainer, "dist_utils.clip_grad_norm_(", "torch.nn.utils.clip_grad_norm_(")
    edit(
        trainer,
        '            pp_mesh=parallel_dims.get_optional_mesh("pp"),\n'
        "            ep_enabled=parallel_dims.ep_enabled,\n        )\n",
        "        )\n"
        '        if hasattr(grad_norm, "full_tensor"):\n'
        "            grad_norm = grad_norm.full_tensor()\n",
    )
    edit(
        trainer,
        "        self.metrics_processor.log(\n",
        "        if torch.distributed.get_rank() != 0:\n            return\n"
        "        self.metrics_processor.log(\n",
    )
    edit(
        trainer,
        "                # Run validation if",
        "                if self.step == 2:\n"
        "                    torch.distributed.barrier()\n"
        "                    os._exit(0)\n"
        "                # Run validation if",
    )
    model = tree / LLAMA3 / "model/model.py"
    activated = "self.w2(F.silu(self.w1(x)) * self.w3(x))"
    scale = "random.uniform(0.9, 1.1) * numpy.random.uniform(0.9, 1.1)"
    edit(model, activated, f"F.dropout({activated}, 0.1, self.training) * {scale}")
    edit(model, "import math\n", "import math\nimport random\n\nimport numpy\n")
    edit(
        model,
        "        self.register_buffer(\n",
        '        self.register_buffer("seen", torch.zeros(()))\n'
        "        self.register_buffer(\n",
    )
    edit(
        model,
        "        h = self.tok_embeddings(tokens)",
        '        if self.seen.device.type != "meta":\n'
        "            self.seen.add_(tokens.float().mean())\n"
        "        h = self.tok_embeddings(tokens)",
    )
    edit(
        plan,
        "    if parallel_dims.tp_enabled:\n        enable_float8",
        "    model.tok_embeddings.requires_grad_(False)\n"
        "    if parallel_dims.tp_enabled:\n        enable_float8",
    )


def without_fsdp(tree: Path) -> None:
    """A fork of 0.2.1 that refuses to shard."""
    edit(
        tree / LLAMA3 / "infra/parallelize.py",
        "    if parallel_dims.tp_enabled:\n        enable_float8",
        "    if parallel_dims.fsdp_enabled:\n"
        '        raise NotImplementedError("this fork does not shard")\n'
        "    if parallel_dims.tp_enabled:\n        enable_float8",
    )


def edit(path: Path, before: str, after: str) -> None:
    """Plants a defect: replaces the one place where `before` stands."""
    text = path.read_text()
    assert text.count(before) == 1, (
        f"{before!r} occurs {text.count(before)} times in {path}"
    )
    path.write_text(text.replace(before, after))


def verified(tree: Path, **options) -> tuple[dict[str, Verdict], str]:
    """The verdicts of the cells of one model, with a report beside the checkout, and what was printed."""
    console = Console(record=True, width=140, file=open(os.devnull, "w"))
    report = tree.parent / "report"
    # What training alone shows; the rehearsal before it has tests of its own.
    options = {"rehearsed": False, "cached": False, **options}
    verification = run_verify(tree, console=console, report_dir=report, **options)
    return verification.cells, console.export_text()
