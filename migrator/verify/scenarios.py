"""What is trained: the three parties, and the job configuration that each of them gets.

torchtitan renames its settings from release to release (`training.seed` became
`debug.seed`, `checkpoint.enable_checkpoint` became `checkpoint.enable`). What a
checkout knows is read from its own configuration classes, without importing
them, and only what it knows is written.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Cell:
    """One way of training in which the parties are compared.

    what: in a few words. tensor, pipeline: degrees beside the data-parallel one.
    settings: what its job configuration has besides. parties: who trains, in
    order. hybrid: shards over two ranks beside replicating (HSDP).
    """

    name: str
    what: str
    tensor: int = 1
    pipeline: int = 1
    settings: Settings = field(default_factory=dict)
    parties: tuple[str, ...] = ("baseline", "migrated", "reference")
    hybrid: bool = False

    @property
    def bf16(self) -> bool:
        """Whether its parameters are cast to bf16."""
        return (
            self.settings.get("training", {}).get("mixed_precision_param") == "bfloat16"
        )

    def ranks(self, nproc: int) -> int:
        """Processes of a run over `nproc` data-parallel ranks."""
        return nproc * self.tensor * self.pipeline * (2 if self.hybrid else 1)

    def party(self, name: str, nproc: int) -> Party:
        """One of its runs: DDP, replicate, or FSDP of the migrated tree or (control) of the base."""
        tree = "base" if name in ("baseline", "control") else "migrated"
        if self.hybrid:
            return Party(name, tree, replicate=nproc, shard=2)
        sharded = name in ("reference", "control")
        replicate, shard = (1, nproc) if sharded else (nproc, 1)
        return Party(name, tree, replicate, shard)

    def reason_not_to_run(self, known: dict[str, set[str]], torch: str) -> str | None:
        """Why this cell cannot run on a checkout with these settings under this torch; None if it can."""
        for section, values in self.settings.items():
            for key in values:
                if key not in known.get(section, ()):
                    return f"this torchtitan has no setting {section}.{key}"
        release = tuple(int(part) for part in torch.split("+")[0].split(".")[:2])
        if self.pipeline > 1 and release < (2, 10):
            return "the replicate of torch 2.9 does not go with pipeline parallelism"
        return None


CELLS = {
    cell.name: cell
    for cell in (
        Cell(
            "dp",
            "data parallel, fp32",
            parties=("baseline", "migrated", "control", "reference"),
        ),
        Cell("dp+tp", "with tensor parallelism over 2 ranks", tensor=2),
        Cell("dp+pp", "with pipeline parallelism over 2 stages", pipeline=2),
        Cell(
            "dp-bf16",
            "data parallel, parameters cast to bf16",
            settings={"training": {"mixed_precision_param": "bfloat16"}},
        ),
        Cell(
            "dp-accumulate",
            "gradients accumulated over 2 micro-batches",
            settings={"training": {"global_batch_size": -2}},
        ),
        Cell(
            "hsdp",
            "HSDP, which must not change",
            parties=("control", "reference"),
            hybrid=True,
        ),
    )
}
"""Every cell by name, in the order in which they run."""

QUICK = ("dp", "dp+tp", "dp+pp")
"""What `verify` runs by default."""


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
    cell: Cell,
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
        "optimizer": {
            "name": "AdamW",
            "lr": 8e-4,
            "eps": 1e-8,
            "implementation": "for-loop",
        },
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
            "tensor_parallel_degree": cell.tensor if party else 1,
            "pipeline_parallel_degree": cell.pipeline if party else 1,
        },
    }
    if party:
        for section, values in cell.settings.items():
            wanted.setdefault(section, {}).update(values)
        if "global_batch_size" in wanted["training"]:
            # Two micro-batches on every data-parallel rank.
            ranks = party.replicate * party.shard
            wanted["training"]["global_batch_size"] = 2 * LOCAL_BATCH * ranks
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
    "enabling checkpoints": (
        ("checkpoint", "enable"),
        ("checkpoint", "enable_checkpoint"),
    ),
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
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in values.items()
        ]
        lines.append("")
    return "\n".join(lines)
