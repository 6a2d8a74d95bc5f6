"""The README's table of what `verify` catches, measured: plants every kind of defect that is known and writes a row for each.

    python tests/verify/trained/kinds.py [NAME ...]

Rehearses each defect as a verify does before it trains, and trains the migrated tree
with it, whether or not the rehearsal has told. Ranks are warm, so the seconds are of
training, not of importing. Half an hour on two cores; `test_kinds.py` holds the README to
the names and cells that are here.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# The top last, so that it is looked in first: tests/ has a folder codemods too.
for _folder in ("../..", "..", ".", "../../.."):
    sys.path.insert(0, str(Path(__file__).resolve().parent / _folder))

from migrator.verify.choose.models import Model  # noqa: E402
from migrator.verify.choose.scenarios import CELLS  # noqa: E402
from migrator.verify.rehearse import layouts  # noqa: E402
from migrator.verify.rehearse.launch import Theatre  # noqa: E402
from migrator.verify.rehearse.run import Asked, rehearse  # noqa: E402
from migrator.verify.train import launch  # noqa: E402

from defects import (  # noqa: E402
    BLOCK,
    CLIP,
    DEFECTS,
    FORKS,
    LLAMA,
    LOG,
    NEW,
    PLAN,
    POLICY,
    QUIET,
    REPLICATES,
    START,
    SUM,
    TRAINER,
    WAIT,
    Bench,
    before,
    edit,
    of_one_gradient,
)

Kind = tuple[str, str, Callable[[Path], None] | None, str]
"""Fork, cell, defect (none: the fork has it, and DDP does not mind), what the culprit is called."""

RECOMPUTED = (
    "    def _other_input(block, args):\n"
    "        again = torch._C._current_graph_task_id() != -1\n"
    "        return (args[0] * 1.01, *args[1:]) if again else args\n\n"
    "    for block in model.layers.values():\n"
    '        inner = getattr(block, "_checkpoint_wrapped_module", block)\n'
    "        inner.register_forward_pre_hook(_other_input)\n"
)
VALIDATE = (
    "                        self.validator.validate(self.model_parts, self.step)\n"
)
CLAMP = (
    "                    with torch.no_grad():\n"
    "                        for part in self.model_parts:\n"
    "                            for parameter in part.parameters():\n"
    "                                parameter.clamp_(-0.03, 0.03)\n"
)
EACH = "for name, p in self.model_parts[0].named_parameters():\n"
RANK = "torch.distributed.get_rank()"
LOCAL_NORM = (
    "            squares = sum(p.grad._local_tensor.square().sum() for p in self.model_parts[0].parameters())\n"
    "            factor = self.job_config.training.max_norm / squares.sqrt()\n"
    "            for p in self.model_parts[0].parameters():\n"
    "                p.grad.mul_(min(1.0, float(factor)))\n"
)

RESUMED = (
    "        if self.step and 'ReplicateModule' in str(type(self.model_parts[0]).__mro__):\n"
    "            for optimizer in self.optimizers:\n"
    "                for state in optimizer.state.values():\n"
    "                    state['exp_avg'].mul_(1.001)\n"
)
ROPE = (
    "        if self.parallel_dims.dp_replicate_enabled:\n"
    "            self.model_parts[0].freqs_cis = self.model_parts[0].freqs_cis.to(torch.complex128)\n"
)

FORKS |= {
    "0.2.1, another state after a resume": (
        "0.2.1",
        edit(TRAINER, START, RESUMED + START),
        LLAMA,
    ),
    "0.2.1, llama4": (
        "0.2.1",
        lambda tree: None,
        Model("llama4", overrides={"n_layers": 2}),
    ),
    "0.2.1, clamps after validation": (
        "0.2.1",
        edit(TRAINER, VALIDATE, VALIDATE + CLAMP),
        LLAMA,
    ),
}

MORE: dict[str, Kind] = {
    "gradients reduced twice": (
        "0.2.1",
        "dp",
        before(
            CLIP,
            f"{EACH}                torch.distributed.all_reduce(p.grad._local_tensor)",
        ),
        "reduced once more by a sum",
    ),
    "a block left out of the reduction": (
        "0.2.1",
        "dp",
        edit(
            PLAN,
            LOG,
            f"    model.layers['3'].set_requires_gradient_sync(False)\n{LOG}",
            NEW,
        ),
        "the gradient of layers.3.ffn_norm.weight in step 1 is 0 times",
    ),
    "a parameter left out of the reduction": (
        "0.2.1",
        "dp",
        edit(
            PLAN,
            BLOCK,
            BLOCK.replace(
                "(transformer_block,",
                "(transformer_block, ignored_params={transformer_block.ffn_norm.weight},",
            ),
            NEW,
        ),
        "ffn_norm.weight",
    ),
    "clipping by a local norm": (
        "0.2.1",
        "dp+tp",
        edit(TRAINER, CLIP, REPLICATES + LOCAL_NORM + CLIP),
        "the gradient of output.weight in step 1",
    ),
    "the loss mis-scaled under accumulation only": (
        "0.2.1",
        "dp-together",
        edit(
            TRAINER,
            "self.loss_fn, self.gradient_accumulation_steps",
            "self.loss_fn, 1 if parallel_dims.dp_replicate_enabled else self.gradient_accumulation_steps",
        ),
        "the loss is scaled otherwise",
    ),
    "the gradient of a norm not reduced over tensor ranks": (
        "0.2.1",
        "dp+tp",
        before(
            CLIP,
            "self.model_parts[0].layers['3'].ffn_norm.weight.grad._local_tensor"
            f".mul_(1 + 0.5 * ({RANK} % 2))",
        ),
        "layers.3.ffn_norm.weight",
    ),
    "router gradients not reduced": (
        "0.2.1, llama4",
        "dp",
        before(
            CLIP,
            f"{EACH}                if 'router' in name and p.grad is not None:\n"
            f"                    p.grad._local_tensor.mul_(1 + 0.5 * {RANK})",
        ),
        "router",
    ),
    "recomputation that sees another input": (
        "0.2.1",
        "dp-together",
        edit(PLAN, LOG, RECOMPUTED + LOG, NEW),
        "recomputed from another input",
    ),
    "a corrupted broadcast of one gradient": (
        "0.2.1",
        "dp",
        before(
            CLIP,
            "self.model_parts[0].layers['3'].ffn_norm.weight.grad._local_tensor"
            f".view(-1)[0] += 1e-3 * {RANK}",
        ),
        "First apart: the gradient of layers.3.ffn_norm.weight in step 1",
    ),
    "a divisor that is right on 2 ranks by chance": (
        "0.2.1",
        "dp",
        edit(PLAN, LOG, SUM.replace("1.0", "2.0") + LOG, NEW),
        "the gradient divide factor is 2.0 here, and unset in FSDP",
    ),
    "a step left out from step 3 on": (
        "0.2.1",
        "dp",
        before(
            WAIT,
            "if self.step > 2:\n"
            "                self.model_parts[0].tok_embeddings.weight.grad = None",
        ),
        "tok_embeddings.weight in step 3",
    ),
    "one gradient of 57 halved": (
        "0.2.1",
        "dp",
        of_one_gradient(".mul_(0.5)"),
        "the gradient of layers.3.ffn_norm.weight in step 1 is 0.5 times",
    ),
    "policy without param_dtype": (
        "0.2.1",
        "dp-bf16",
        edit(PLAN, POLICY, "MixedPrecisionPolicy(reduce_dtype=reduce_dtype)", NEW),
        "param_dtype=None",
    ),
    "one block not wrapped": (
        "0.2.1",
        "dp",
        edit(PLAN, BLOCK, f'        if layer_id != "3":\n    {BLOCK}', NEW),
        "no group of its own for layers.3",
    ),
    "embedding and head untied": (
        "0.2.2, tied",
        "dp",
        edit(
            "torchtitan/models/llama4/infra/parallelize.py",
            "    mp_policy =",
            "    model.output.weight = nn.Parameter(model.output.weight.detach().clone())\n    mp_policy =",
            NEW,
        ),
        "output.weight",
    ),
    "stale weights after validation": (
        "0.2.1, clamps after validation",
        "dp-together",
        None,
        "the weight of layers.3.ffn_norm.weight in step 2",
    ),
    "ranks that seed apart where no seed is set": (
        "0.2.1",
        "dp-unseeded",
        edit(
            "torchtitan/distributed/utils.py",
            "    assert isinstance(seed, int)",
            "    seed += torch.distributed.get_rank()\n    assert isinstance(seed, int)",
        ),
        "before the first step",
    ),
}
MORE |= {
    "an optimizer's state off by 1e-3 after a resume": (
        "0.2.1, another state after a resume",
        "dp-checkpoint",
        None,
        "Migrated tree, resuming DDP's checkpoint: exp_avg of",
    ),
    "RoPE in another dtype": (
        "0.2.1",
        "dp",
        edit(TRAINER, START, ROPE + START),
        "buffer freqs_cis is complex128, and was complex64 before",
    ),
}
KINDS: dict[str, Kind] = {
    **DEFECTS,
    **MORE,
    **{
        name: ("0.2.1", "dp-together", defect, culprit)
        for name, (defect, culprit) in QUIET.items()
    },
}


def rehearsed(
    bench: Bench, defect: Callable[[Path], None], cell: str, model: Model
) -> tuple[str, float]:
    """(what the rehearsal says of a defect, in two replicas and in the layout of the cell, seconds); nothing where it says nothing."""
    tensor = CELLS[cell].tensor
    asked = [(model, (layouts.layout(dp_replicate=2, tp=tensor),))]
    with bench.planted(defect), tempfile.TemporaryDirectory() as scratch:
        if _changed(bench.trees.migrated) == [TRAINER]:
            # No trainer is rehearsed.
            return "", 0.0
        began = time.monotonic()
        with Theatre(Path(scratch)) as theatre:
            found = rehearse(
                bench.trees,
                asked,
                theatre,
                Asked(until_failed=True),
                lambda scene: None,
            )
        said = " ".join(s for scene in found.failed for s in scene.failures)
        return said, time.monotonic() - began


def _changed(tree: Path) -> list[str]:
    """What a defect has changed in a tree."""
    kept = tree.with_name("kept")
    return [
        path.relative_to(tree).as_posix()
        for path in sorted((tree / "torchtitan").rglob("*.py"))
        if path.read_bytes()
        != (kept / path.relative_to(tree / "torchtitan")).read_bytes()
    ]


def row(name: str, bench: Bench) -> str:
    """The row of a kind: which stages tell it, after how many seconds each, and what names the culprit."""
    fork, cell, defect, culprit = KINDS[name]
    model = FORKS[fork][2]
    stages, told = [], ""
    if defect is not None:
        bench.verdict(cell)
        said, seconds = rehearsed(bench, defect, cell, model)
        if said:
            stages.append(f"rehearsal ({seconds:.0f} s)")
            told += said
    began = time.monotonic()
    found = bench.verdict(cell, defect) if defect else bench.job.verdict(CELLS[cell])
    if found.word == "failed":
        stages.append(f"`{cell}` ({time.monotonic() - began:.0f} s)")
        told += " ".join(found.failures)
    named = culprit if culprit in told else "no"
    return f"| {name} | {', '.join(stages) or 'nothing'} | {named} |"


def main(names: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        caches = folder / "caches"
        caches.mkdir()
        launcher = stack.enter_context(launch.Launcher(caches))
        made: dict[str, Bench] = {}
        for name in names or KINDS:
            fork = KINDS[name][0]
            if fork not in made:
                place = folder / str(len(made))
                place.mkdir()
                made[fork] = Bench(fork, place, stack, launcher)
            print(row(name, made[fork]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
