"""What is trained: the three parties, and the job configuration that each of them gets.

torchtitan renames its settings from release to release (`training.seed` became
`debug.seed`, `checkpoint.enable_checkpoint` became `checkpoint.enable`). What a
checkout knows is read from its own configuration classes, without importing
them, and only what it knows is written.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from .errors import VerifyError

SEED = 42
LOCAL_BATCH = 2
SEQUENCE_LENGTH = 256
MAX_NORM = 1.0

Settings = dict[str, dict[str, object]]


@dataclass(frozen=True)
class Party:
    """One of the runs that are compared.

    `tree` is "base" or "migrated"; the degrees are numbers of ranks.
    """

    name: str
    tree: str
    replicate: int
    shard: int


def parties(nproc: int) -> tuple[Party, Party, Party]:
    """Baseline (DDP), migrated (replicate) and reference (FSDP of the migrated tree), over `nproc` ranks each."""
    return (
        Party("baseline", "base", replicate=nproc, shard=1),
        Party("migrated", "migrated", replicate=nproc, shard=1),
        Party("reference", "migrated", replicate=1, shard=nproc),
    )


def known_settings(tree: Path) -> dict[str, set[str]]:
    """Reads the sections of a checkout's JobConfig and the keys of each, by parsing alone.

    Raises VerifyError where there is no JobConfig: those generations of
    torchtitan (2024, and after 0.2.2) configure their trainer in other ways.
    """
    package = tree / "torchtitan"
    for path in (package / "config" / "job_config.py", package / "config_manager.py"):
        if path.is_file():
            break
    else:
        raise VerifyError(
            f"{package} has no JobConfig (config/job_config.py or config_manager.py): verify trains"
            " torchtitan 0.1.0 to 0.2.2 and forks of them; compare the losses of other generations by hand."
        )
    classes = {
        node.name: node
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.ClassDef)
    }
    if "JobConfig" not in classes:
        raise VerifyError(
            f"{path} defines no JobConfig: verify does not know how this trainer is configured."
        )

    def annotated(node: ast.ClassDef) -> dict[str, ast.expr]:
        return {
            item.target.id: item.annotation
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }

    known: dict[str, set[str]] = {}
    for section, annotation in annotated(classes["JobConfig"]).items():
        if isinstance(annotation, ast.Name) and annotation.id in classes:
            known[section] = set(annotated(classes[annotation.id]))
    return known


def job_settings(
    known: dict[str, set[str]],
    *,
    model: str,
    steps: int,
    party: Party | None,
    assets: Path,
    dump: Path,
    seed_checkpoint: Path | None,
    timeout: float,
) -> Settings:
    """The job configuration of one run; `party` None makes the seed checkpoint under `dump` instead.

    Raises VerifyError where the checkout knows none of the names by which a
    release spells a setting that the comparison cannot do without.
    """
    limit = max(30, int(timeout))
    wanted: Settings = {
        "job": {"dump_folder": str(dump), "description": "titan-migrate verify"},
        "metrics": {"log_freq": 1, "disable_color_printing": True},
        "model": {
            "name": model,
            "flavor": "debugmodel",
            "hf_assets_path": str(assets / "tokenizer"),
        },
        # A short warm-up, so that five steps move the weights; for-loop, so
        # that the optimizer does the same arithmetic on plain and distributed tensors.
        "optimizer": {"name": "AdamW", "lr": 8e-4, "eps": 1e-8, "implementation": "for-loop"},
        "lr_scheduler": {"warmup_steps": 2},
        "training": {
            "dataset": "c4_test",
            "local_batch_size": LOCAL_BATCH,
            "seq_len": SEQUENCE_LENGTH,
            "max_norm": MAX_NORM,
            "steps": steps,
            "mixed_precision_param": "float32",
            "mixed_precision_reduce": "float32",
            "seed": SEED,
            "deterministic": True,
        },
        "debug": {"seed": SEED, "deterministic": True},
        "activation_checkpoint": {"mode": "none"},
        "comm": {"init_timeout_seconds": limit, "train_timeout_seconds": limit},
        "checkpoint": {
            "interval": 10**6,
            "last_save_model_only": True,
            "last_save_model_weights_only": True,
        },
        "parallelism": {
            "data_parallel_replicate_degree": party.replicate if party else 1,
            "data_parallel_shard_degree": party.shard if party else 1,
        },
    }
    if "hf_assets_path" not in known.get("model", ()):
        wanted["model"]["tokenizer_path"] = str(assets / "tokenizer.model")
    checkpoint = wanted["checkpoint"]
    checkpoint.update({"enable": True, "enable_checkpoint": True})
    if party is None:
        checkpoint["create_seed_checkpoint"] = True
    else:
        checkpoint["load_only"] = True
        checkpoint["initial_load_path"] = str(seed_checkpoint)

    for what, names in _INDISPENSABLE.items():
        if not any(key in known.get(section, ()) for section, key in names):
            spelled = " or ".join(".".join(name) for name in names)
            raise VerifyError(
                f"The checkout's JobConfig has no setting for {what} (looked for {spelled})."
            )
    return {
        section: {key: value for key, value in values.items() if key in known[section]}
        for section, values in wanted.items()
        if section in known
    }


_INDISPENSABLE = {
    "the seed": (("debug", "seed"), ("training", "seed")),
    "a seed checkpoint": (("checkpoint", "create_seed_checkpoint"),),
    "enabling checkpoints": (("checkpoint", "enable"), ("checkpoint", "enable_checkpoint")),
    "the replicate degree": (("parallelism", "data_parallel_replicate_degree"),),
    "the shard degree": (("parallelism", "data_parallel_shard_degree"),),
    "the precision": (("training", "mixed_precision_param"),),
}


def loads_from_elsewhere(known: dict[str, set[str]]) -> bool:
    """Whether a run can be told which checkpoint to start from; else it has to lie where the run saves its own."""
    return "initial_load_path" in known.get("checkpoint", ())


def to_toml(settings: Settings) -> str:
    """Settings as TOML; the values that occur here are spelled as JSON spells them."""
    lines: list[str] = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
        ]
        lines.append("")
    return "\n".join(lines)
