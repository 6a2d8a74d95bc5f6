"""What is trained: the three parties, and the job configuration that each of them gets.

torchtitan renames its settings from release to release (`training.seed` became
`debug.seed`, `checkpoint.enable_checkpoint` became `checkpoint.enable`). What a
checkout knows is read from its own configuration classes, without importing
them, and only what it knows is written.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from migrator.verify.errors import VerifyError

SEED = 42
LOCAL_BATCH = 2
SEQUENCE_LENGTH = 256
MAX_NORM = 1.0

Settings = dict[str, dict[str, object]]


@dataclass(frozen=True)
class Party:
    """One of the runs that are compared.

    tree: "base" or "migrated". sharded: FSDP, else DDP or replicate. who: in
    words. nudged: the rounding of its gradients is changed. starts_from: the
    party whose checkpoint it loads; the seed checkpoint where None. alone: on one
    rank. alike: every rank reads the same data. briefly: for one step.
    """

    name: str
    tree: str
    sharded: bool
    who: str
    nudged: bool = False
    starts_from: str | None = None
    alone: bool = False
    alike: bool = False
    briefly: bool = False


PARTIES = {
    party.name: party
    for party in (
        Party("baseline", "base", False, "base revision, DDP"),
        Party("migrated", "migrated", False, "migrated tree, replicate"),
        Party("control", "base", True, "base revision, FSDP"),
        Party("reference", "migrated", True, "migrated tree, FSDP"),
        Party("nudged", "base", True, "base revision, FSDP rounded otherwise", True),
        Party(
            "resumed",
            "migrated",
            False,
            "replicate goes on from DDP's checkpoint",
            starts_from="baseline",
        ),
        Party(
            "resumed-reference",
            "migrated",
            True,
            "FSDP goes on from DDP's checkpoint",
            starts_from="baseline",
        ),
        Party(
            "resumed-nudged",
            "migrated",
            True,
            "FSDP goes on from DDP's checkpoint, rounded otherwise",
            nudged=True,
            starts_from="baseline",
        ),
        Party(
            "returned",
            "base",
            False,
            "DDP goes on from replicate's checkpoint",
            starts_from="migrated",
        ),
        Party(
            "reloaded",
            "migrated",
            False,
            "replicate loads what it exported",
            starts_from="migrated",
        ),
        Party("planted", "migrated", False, "migrated tree with a small error"),
        Party(
            "alone",
            "base",
            True,
            "base revision, one rank",
            alone=True,
            alike=True,
            briefly=True,
        ),
        Party(
            "alike-baseline",
            "base",
            False,
            "base revision, DDP on the data of one rank",
            alike=True,
            briefly=True,
        ),
        Party(
            "alike-control",
            "base",
            True,
            "base revision, FSDP on the data of one rank",
            alike=True,
            briefly=True,
        ),
        Party(
            "single",
            "base",
            True,
            "base revision, one rank for all steps",
            alone=True,
            alike=True,
        ),
        Party(
            "single-nudged",
            "base",
            True,
            "base revision, one rank rounded otherwise",
            nudged=True,
            alone=True,
            alike=True,
        ),
        Party(
            "alike-migrated",
            "migrated",
            False,
            "migrated tree, replicate on the data of one rank",
            alike=True,
        ),
    )
}
"""Every run that a cell may have, by name."""

ON_ONE_RANK = ("alone", "alike-baseline", "alike-control")
"""The runs that tell who is right where the gradients of DDP and FSDP differ by a factor.

Where every rank reads the same data, the gradient of the mean is that of one rank.
"""

WITHOUT_FSDP = ("single", "single-nudged", "alike-migrated")
"""The runs that stand in for a reference where the base revision has no FSDP that trains."""


@dataclass(frozen=True)
class Cell:
    """One way of training in which the parties are compared.

    what: in a few words. kind: how it is judged: "parity" (as DDP and as FSDP),
    "combination" (as FSDP), "fresh", "unchanged", "resumed" or "exported". tensor,
    pipeline: degrees beside the data-parallel one. settings: what its job
    configuration has besides, in the spelling of every release. needs: settings
    without which it cannot run, alternatives in one string. parties: who
    trains, in order. hybrid: shards over two ranks beside replicating (HSDP).
    context: degree of context parallelism, over which torchtitan shards. experts:
    only a model that has experts can run it. packages: that it imports.
    noise_of: the cell whose noise, where it is known, is as good as its own: the
    model and the reduction over data-parallel ranks are the same. shorter: half the
    steps show what it is for, as long as they are five.
    """

    name: str
    what: str
    kind: str = "combination"
    tensor: int = 1
    pipeline: int = 1
    settings: Settings = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    parties: tuple[str, ...] = (
        *("baseline", "migrated", "control", "reference", "nudged"),
    )
    hybrid: bool = False
    context: int = 1
    experts: bool = False
    packages: tuple[str, ...] = ()
    noise_of: str = ""
    shorter: bool = False

    @property
    def compiled(self) -> bool:
        """Whether its model goes through torch.compile."""
        return "compile" in self.settings

    @property
    def other_ranks(self) -> int:
        """Ranks for each rank of the data-parallel dimension that is replicated over."""
        others = self.tensor * self.pipeline * self.context
        return others * (2 if self.hybrid else 1)

    def degrees(self, party: Party, dp: int) -> tuple[int, int]:
        """(replicate, shard) degrees of a party over `dp` data-parallel ranks."""
        if self.hybrid:
            return dp, 2
        if self.context > 1:
            return dp, 1
        return (1, dp) if party.sharded else (dp, 1)

    def reason_not_to_run(
        self, known: dict[str, set[str]], torch: str, steps: int
    ) -> str | None:
        """Why this cell cannot run on a checkout with these settings under this torch; None if it can."""
        for alternatives in self.needs:
            spelled = [name.split(".") for name in alternatives.split(" ")]
            if not any(key in known.get(section, ()) for section, key in spelled):
                return f"this torchtitan has no setting {alternatives.replace(' ', ' or ')}"
        release = tuple(int(part) for part in torch.split("+")[0].split(".")[:2])
        if self.pipeline > 1 and release < (2, 10):
            return "the replicate of torch 2.9 does not go with pipeline parallelism"
        if self.kind == "resumed" and steps < 3:
            return f"{steps} steps have no halfway to resume from: ask for 3 or more"
        return self.lacks()

    def lacks(self) -> str | None:
        """Which package or program its runs need and this environment has not, and how to get it; None if it has all."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"it needs the package {package}, which is missing here: pip install {package} adds it"
        if self.compiled and not any(map(shutil.which, ("g++", "clang++", "c++"))):
            return (
                "torch.compile needs a C++ compiler on the PATH, and there is none: g++ of your system's packages"
                " (apt-get install g++, dnf install gcc-c++) adds it"
            )
        return None


def steps_of(cell: Cell | None, steps: int) -> int:
    """The last step of a cell's runs, where `steps` are asked for."""
    return max(min(steps, 5), steps // 2) if cell and cell.shorter else steps


def halfway(steps: int) -> int:
    """The step behind which a checkpoint is written to be resumed."""
    return steps // 2


_FRESH: Settings = {"checkpoint": {"enable": False, "enable_checkpoint": False}}
_ACCUMULATE: Settings = {"training": {"global_batch_size": -2}}
_RECOMPUTE: Settings = {"activation_checkpoint": {"mode": "full"}}
_VALIDATE: Settings = {
    "validation": {
        "enable": True,
        "dataset": "c4_test",
        "local_batch_size": LOCAL_BATCH,
        "freq": 2,
        "steps": 2,
    }
}

CELLS = {
    cell.name: cell
    for cell in (
        Cell(
            "dp",
            "data parallel",
            kind="parity",
        ),
        Cell("dp+tp", "with tensor parallelism over 2 ranks", tensor=2, noise_of="dp"),
        Cell(
            "dp+pp",
            "with pipeline parallelism over 2 stages",
            pipeline=2,
            noise_of="dp",
        ),
        Cell(
            "dp-bf16",
            "data parallel, parameters cast to bf16",
            settings={"training": {"mixed_precision_param": "bfloat16"}},
            shorter=True,
        ),
        Cell(
            "dp-together",
            "accumulation, activation checkpointing and the validator together, every other step logged",
            # What a trainer does only where it logs would show nowhere else.
            settings={
                **_ACCUMULATE,
                **_RECOMPUTE,
                **_VALIDATE,
                "metrics": {"log_freq": 2},
            },
            noise_of="dp",
            shorter=True,
        ),
        Cell(
            "dp-fresh",
            "one step without the seed checkpoint",
            kind="fresh",
            settings=_FRESH,
            parties=("baseline", "migrated"),
        ),
        Cell(
            "dp-unseeded",
            "the same without a seed in the configuration",
            kind="fresh",
            settings={**_FRESH, "training": {"seed": None}, "debug": {"seed": None}},
            parties=("baseline", "migrated"),
        ),
        Cell(
            "dp-accumulate",
            "gradients accumulated over 2 micro-batches",
            settings=_ACCUMULATE,
            needs=("training.global_batch_size",),
        ),
        Cell(
            "dp-compile",
            "torch.compile of the model",
            settings={"training": {"compile": True}, "compile": {"enable": True}},
            needs=("training.compile compile.enable",),
        ),
        Cell(
            "dp-recompute",
            "activation checkpointing of every block",
            settings=_RECOMPUTE,
            needs=("activation_checkpoint.mode",),
            noise_of="dp",
        ),
        Cell(
            "dp-selective",
            "activation checkpointing of some operations",
            settings={"activation_checkpoint": {"mode": "selective"}},
            needs=("activation_checkpoint.mode",),
            noise_of="dp",
        ),
        Cell(
            "dp-fused",
            "the fused optimizer",
            settings={"optimizer": {"implementation": "fused"}},
            needs=("optimizer.implementation",),
        ),
        Cell(
            "dp-foreach",
            "the foreach optimizer",
            settings={"optimizer": {"implementation": "foreach"}},
            needs=("optimizer.implementation",),
        ),
        Cell(
            "dp-early",
            "optimizers that step within the backward pass",
            settings={"optimizer": {"early_step_in_backward": True}},
            needs=("optimizer.early_step_in_backward",),
        ),
        Cell(
            "dp-bfloat16",
            "parameters and optimizer in bf16",
            settings={
                "training": {"dtype": "bfloat16", "mixed_precision_param": "bfloat16"}
            },
            needs=("training.dtype",),
        ),
        Cell(
            "dp-float8",
            "linear layers in float8",
            settings={"model": {"converters": ["float8"]}},
            needs=("model.converters",),
            packages=("torchao",),
        ),
        Cell(
            "dp+tp+pp",
            "with tensor and pipeline parallelism over 2 ranks each",
            tensor=2,
            pipeline=2,
            noise_of="dp",
        ),
        Cell(
            "dp-checkpoint",
            "replicate resumes DDP's checkpoint, and DDP replicate's",
            kind="resumed",
            parties=(
                "baseline",
                "migrated",
                "resumed",
                "resumed-reference",
                "resumed-nudged",
                "returned",
            ),
        ),
        Cell(
            "dp-validate",
            "the validator runs during training",
            settings=_VALIDATE,
            needs=("validation.enable",),
        ),
        Cell(
            "fsdp",
            "FSDP, which must not change",
            kind="unchanged",
            parties=("control", "reference"),
        ),
        Cell(
            "hsdp",
            "HSDP, which must not change",
            kind="unchanged",
            parties=("control", "reference"),
            hybrid=True,
        ),
        Cell(
            "cp",
            "context parallelism, which must not change",
            kind="unchanged",
            parties=("control", "reference"),
            needs=("parallelism.context_parallel_degree",),
            context=2,
        ),
        Cell(
            "ep",
            "expert parallelism, which must not change",
            kind="unchanged",
            settings={"parallelism": {"expert_parallel_degree": 2}},
            needs=("parallelism.expert_parallel_degree",),
            parties=("control", "reference"),
            hybrid=True,
            experts=True,
        ),
        Cell(
            "export",
            "the last checkpoint in Hugging Face format",
            kind="exported",
            needs=("checkpoint.last_save_in_hf", "checkpoint.initial_load_in_hf"),
            packages=("safetensors",),
            parties=("baseline", "migrated", "reloaded"),
        ),
    )
}
"""Every cell by name, in the order in which they run."""

QUICK = ("dp", "dp+tp", "dp+pp", "dp-bf16", "dp-together", "dp-fresh", "dp-unseeded")
"""What `verify` runs by default."""


def known_settings(tree: Path) -> dict[str, set[str]]:
    """Reads the sections of a checkout's JobConfig and the keys of each, by parsing alone.

    Raises VerifyError where its file does not parse, and where there is no
    JobConfig: those generations of torchtitan (2024, and after 0.2.2) configure
    their trainer in other ways.
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
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        shown = f"{path}:{line}" if line else f"{path}"
        reason = getattr(error, "msg", error)
        raise VerifyError(
            f"{shown} cannot be parsed ({reason}), so verify cannot read how to configure the trainer: mend it first."
        ) from None
    classes = {
        node.name: node for node in module.body if isinstance(node, ast.ClassDef)
    }
    if "JobConfig" not in classes:
        raise VerifyError(
            f"{path} defines no JobConfig: verify does not know how this trainer is configured;"
            " compare its losses before and after by hand."
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
    flavor: str,
    precision: str,
    steps: int,
    cell: Cell,
    party: Party | None,
    dp: int,
    assets: Path,
    dump: Path,
    start: Path | None,
    timeout: float,
) -> Settings:
    """The job configuration of one run; `party` None makes the seed checkpoint under `dump` instead.

    precision: dtype that parameters are cast to, unless the cell says which.
    dp: data-parallel ranks. start: the checkpoint that the run begins from.
    Raises VerifyError where the checkout knows none of the names by which a
    release spells a setting that the comparison cannot do without.
    """
    limit = max(30, int(timeout))
    replicate, shard = cell.degrees(party, dp) if party else (1, 1)
    wanted: Settings = {
        "job": {"dump_folder": str(dump), "description": "titan-migrate verify"},
        "metrics": {"log_freq": 1, "disable_color_printing": True},
        "model": {
            "name": model,
            "flavor": flavor,
            "hf_assets_path": str(assets / "tokenizer"),
        },
        # A short warm-up, so that few steps move the weights; for-loop, so
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
            "mixed_precision_param": precision,
            "mixed_precision_reduce": "float32",
            "seed": SEED,
            "deterministic": True,
        },
        "debug": {"seed": SEED, "deterministic": True},
        "activation_checkpoint": {"mode": "none"},
        "comm": {"init_timeout_seconds": limit, "train_timeout_seconds": limit},
        "checkpoint": _checkpoint_settings(cell, party, steps, start),
        "parallelism": {
            "data_parallel_replicate_degree": replicate,
            "data_parallel_shard_degree": shard,
            "tensor_parallel_degree": cell.tensor if party else 1,
            "pipeline_parallel_degree": cell.pipeline if party else 1,
            "context_parallel_degree": cell.context if party else 1,
        },
    }
    if party:
        for section, values in cell.settings.items():
            wanted.setdefault(section, {}).update(values)
        if "global_batch_size" in wanted["training"]:
            # Two micro-batches on every data-parallel rank.
            ranks = replicate * shard
            wanted["training"]["global_batch_size"] = 2 * LOCAL_BATCH * ranks
        if "validation" in wanted:
            wanted["validation"]["seq_len"] = SEQUENCE_LENGTH
    if "hf_assets_path" not in known.get("model", ()):
        wanted["model"]["tokenizer_path"] = str(assets / "tokenizer.model")

    for what, names in _INDISPENSABLE.items():
        if not any(key in known.get(section, ()) for section, key in names):
            spelled = " or ".join(".".join(name) for name in names)
            raise VerifyError(
                f"The checkout's JobConfig has no setting for {what} (looked for {spelled})."
            )
    return {
        section: {
            key: value
            for key, value in values.items()
            if key in known[section] and value is not None
        }
        for section, values in wanted.items()
        if section in known
    }


def _checkpoint_settings(
    cell: Cell, party: Party | None, steps: int, start: Path | None
) -> dict[str, object]:
    """What a run saves and what it starts from; names of all releases."""
    settings: dict[str, object] = {
        "enable": True,
        "enable_checkpoint": True,
        "interval": 10**6,
        "last_save_model_only": True,
        "last_save_model_weights_only": True,
    }
    if party is None:
        return settings | {"create_seed_checkpoint": True}
    settings["initial_load_path"] = str(start)
    if cell.kind == "resumed" and party.starts_from:
        settings |= {"load_only": True, "load_step": halfway(steps)}
    elif cell.kind == "resumed":
        settings["interval"] = halfway(steps)
    elif cell.kind == "exported" and party.starts_from:
        settings |= {"load_only": True, "initial_load_in_hf": True}
    elif cell.kind == "exported":
        settings["last_save_in_hf"] = True
    else:
        settings["load_only"] = True
    return settings


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
