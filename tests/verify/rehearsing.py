"""A small torchtitan to rehearse, right and with something planted; what of it is the same is rehearsed once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.verify.rehearse.launch import Stage, Theatre
from migrator.verify.train.worktrees import Trees

from places import TOP

OPTIMIZER = '''
import torch


def build_optimizers(model_parts, optimizer_config, parallel_dims):
    """AdamW, which decays matrices alone."""
    found = [p for part in model_parts for p in part.parameters()]
    groups = [
        {"params": [p for p in found if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in found if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optimizer_config.lr)
'''


PIPELINE = '''
def pipeline(model, parallel_dims, parallelize_fn, job_config):
    """This rank's stage, with an equal share of the layers."""
    stage, stages = parallel_dims.get_mesh("pp").get_local_rank(), parallel_dims.pp
    layers = list(model.layers)
    for number, name in enumerate(layers):
        if number * stages // len(layers) != stage:
            del model.layers[name]
    if stage > 0:
        model.tok_embeddings = None
    if stage < stages - 1:
        model.norm = model.output = None
    parallelize_fn(model, parallel_dims, job_config)
    return None, [model], stage == 0, stage == stages - 1
'''


def edit(tree: Path, path: str, *changes: tuple[str, str]) -> None:
    """Replaces the last place of each text in a file below `torchtitan/`."""
    file = tree / "torchtitan" / path
    source = file.read_text()
    for old, new in changes:
        at = source.rindex(old)
        source = source[:at] + new + source[at + len(old) :]
    file.write_text(source)


def make_base(tree: Path) -> None:
    """A fixture whose models are registered, and whose llama3 has an optimizer and a pipeline of its own."""
    shutil.copytree(TOP / "fixtures" / "v0_2_2", tree)
    models = ["llama3", "qwen3", "llama4"]
    with (tree / "torchtitan/models/__init__.py").open("a") as registry:
        registry.write(f"_supported_models = frozenset({models})\n")
    (tree / "torchtitan/components/optimizer.py").write_text(OPTIMIZER)
    (tree / "torchtitan/distributed/pipeline.py").write_text(PIPELINE)
    edit(
        tree,
        "protocols/train_spec.py",
        (
            "    parallelize_fn: Callable\n",
            "    parallelize_fn: Callable\n    build_optimizers_fn: Callable | None = None\n"
            "    pipelining_fn: Callable | None = None\n",
        ),
    )
    edit(
        tree,
        "models/llama3/__init__.py",
        (
            "parallelize_fn=parallelize_llama,",
            "parallelize_fn=parallelize_llama, build_optimizers_fn=build_optimizers, pipelining_fn=pipeline,",
        ),
        (
            "from torchtitan.protocols",
            "from torchtitan.components.optimizer import build_optimizers\n"
            "from torchtitan.distributed.pipeline import pipeline\nfrom torchtitan.protocols",
        ),
    )


def make_migrated(base: Path, tree: Path) -> None:
    shutil.copytree(base, tree)
    plan(Checkout(tree, is_git=False), resolve_target("1d")).write()


def trees(base: Path, migrated: Path) -> Trees:
    return Trees(base, migrated, "", "", (), base.parent)


class Remembering(Stage):
    """A stage that is asked everything once, and stays open."""

    def __init__(self, stage: Stage) -> None:
        self.tree, self._stage = stage.tree, stage
        self._answers: dict[str, str] = {}

    def ask(self, request):
        key = json.dumps(request, sort_keys=True)
        if key not in self._answers:
            self._answers[key] = json.dumps(self._stage.ask(request))
        return json.loads(self._answers[key])

    def close(self) -> None:
        pass


class Repertory(Theatre):
    """A theatre in which some trees are rehearsed once for all that ask."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._kept: dict[Path, Stage] = {}

    def keep(self, tree: Path) -> None:
        self._kept[tree] = Remembering(super().open(tree))

    def open(self, tree: Path) -> Stage:
        return self._kept.get(tree) or super().open(tree)
