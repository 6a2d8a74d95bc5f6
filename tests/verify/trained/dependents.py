"""Trains the migrated fixture that uses torchtitan as a package: what one rank does.

    torchrun ... dependents.py TREE TORCHTITAN OUT

Each model is trained under replicate and under FSDP, from the same weights, on the same data,
with bf16 parameters; and under replicate with the autocast that the dependency would open, which
is what a migration without TM105 does. OUT receives a line of JSON: model -> way -> what was seen.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from migrator.verify.train.in_rank.cpu import prepare_cpu

WAYS = {"replicate": (2, 1), "fsdp": (1, 2), "autocast": (2, 1)}


def main(tree: str, torchtitan: str, out: str) -> None:
    prepare_cpu()
    sys.path[:0] = [tree, torchtitan]
    from lab.config import Job
    from lab.train import Trainer
    from torchtitan.distributed import utils

    dist.init_process_group("gloo")
    found: dict[str, dict[str, object]] = {}
    for model in ("tower", "fan"):
        for way, (replicas, shards) in WAYS.items():
            job = Job(model=model)
            job.parallelism.data_parallel_replicate_degree = replicas
            job.parallelism.data_parallel_shard_degree = shards
            trainer = Trainer(job)
            if way == "autocast":
                trainer.maybe_enable_amp = utils.maybe_enable_amp(
                    trainer.parallel_dims, "bfloat16", "cpu"
                )
            seen: list[bool] = []
            trainer.model.register_forward_pre_hook(
                lambda *_, seen=seen: seen.append(torch.is_autocast_enabled("cpu"))
            )
            losses = trainer.train()
            weights = {
                name: p.full_tensor() if hasattr(p, "full_tensor") else p
                for name, p in trainer.model.named_parameters()
            }
            found.setdefault(model, {})[way] = {
                "losses": [loss.hex() for loss in losses],
                "first": losses[0],
                "last": losses[-1],
                "weights": {
                    n: w.double().sum().item().hex() for n, w in weights.items()
                },
                "autocast": sorted(set(seen)),
                "groups": sorted(
                    name
                    for name, module in trainer.model.named_modules()
                    if type(module).__name__.startswith(("Replicate", "FSDP"))
                ),
            }
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
