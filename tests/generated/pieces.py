"""What the programs are made of: texts in our own words, in the ways that forks write them.

A line that begins with ``~`` may go, with the comments at it; one that begins with ``+``
is rewritten, and the comments at it stay. Every other line has to be left as it is.
"""

CONFIG = """\
import torch

TORCH_DTYPE_MAP = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""

LOGGING = """\
import logging

logger = logging.getLogger()
"""

_DIMS_HEAD = """\
from dataclasses import dataclass

from torch.distributed.device_mesh import init_device_mesh


@dataclass
class ParallelDims:
    dp_replicate: int
    dp_shard: int
    cp: int
    tp: int
    pp: int
    ep: int
    world_size: int

    @property
    def dp_enabled(self):
        return self.dp_replicate > 1 or self.dp_shard > 1

    @property
    def dp_replicate_enabled(self):
        return self.dp_replicate > 1

    @property
    def dp_shard_enabled(self):
        return self.dp_shard > 1

    @property
    def fsdp_enabled(self):
        return self.dp_shard > 1 or self.cp > 1

    @property
    def tp_enabled(self):
        return self.tp > 1

    @property
    def pp_enabled(self):
        return self.pp > 1

"""

_BUILT = """\
    def build_mesh(self, device_type):
        dims = []
        names = []
        for degree, name in zip(
            [self.pp, self.dp_replicate, self.dp_shard, self.cp, self.tp],
            ["pp", "dp_replicate", "dp_shard", "cp", "tp"],
        ):
+            if degree > 1:
                dims.append(degree)
                names.append(name)
        mesh = init_device_mesh(device_type, tuple(dims), mesh_dim_names=tuple(names))
        sharded = [name for name in names if name in ("dp_shard", "cp")]
        if sharded:
            mesh[tuple(sharded)]._flatten(mesh_dim_name="dp_shard_cp")
        return mesh
"""

DIMS = {
    "argument": _DIMS_HEAD + _BUILT,
    "attribute": _DIMS_HEAD
    + _BUILT
    + """\

    @property
    def world_mesh(self):
        return self.build_mesh("cuda")
""",
    "get_mesh": _DIMS_HEAD
    + """\
    def build_mesh(self):
        self._world = init_device_mesh("cuda", (self.world_size,), mesh_dim_names=("world",))
        sizes = {
            "pp": self.pp,
            "dp_replicate": self.dp_replicate,
            "fsdp": self.dp_shard * self.cp,
            "tp": self.tp,
        }
        self._dense = self._world._unflatten(0, tuple(sizes.values()), tuple(sizes))
        self._sizes = sizes
        return self._world

    def get_mesh(self, dims):
        self.build_mesh()
        names = [dims] if isinstance(dims, str) else list(dims)
        if not all(self._sizes[name] > 1 for name in names):
            raise ValueError(f"mesh {names} is not in use")
        return self._dense[tuple(names)]

    @property
    def world_mesh(self):
        return self.build_mesh()
""",
}
"""ParallelDims by how a plan gets its mesh from it."""

AMP = (
    """\
def maybe_enable_amp(parallel_dims, mixed_precision_param, device_type):
+    if parallel_dims.fsdp_enabled:
+        logger.info("Mixed precision training is handled by fully_shard")
        return contextlib.nullcontext()
    if parallel_dims.tp > 1 or parallel_dims.pp > 1:
        logger.warning("No mixed precision: TP or PP needs FSDP for it")
        return contextlib.nullcontext()
    return torch.autocast(device_type, dtype=TORCH_DTYPE_MAP[mixed_precision_param])
""",
    """\
def maybe_enable_amp(parallel_dims, mixed_precision_param, device_type):
+    if parallel_dims.fsdp_enabled:
        return contextlib.nullcontext()
    on = not (parallel_dims.tp_enabled or parallel_dims.pp_enabled)
    dtype = TORCH_DTYPE_MAP[mixed_precision_param]
    return torch.autocast(device_type, dtype=dtype, enabled=on)
""",
)

SUMMED = """\
class Loop:
    def step(self, batch):
        loss = self.loss_fn(self.model(batch)) / self.global_valid_tokens
        loss.backward()
"""
"""A training loop for which gradients have to be summed."""

TRAIN = """\
import torch

from PACKAGE.distributed.utils import maybe_enable_amp


class Trainer:
    def __init__(self, job_config, model, parallel_dims):
        self.model = model
        self.context = maybe_enable_amp(
            parallel_dims, job_config.training.mixed_precision_param, "cuda"
        )

    def train_step(self, inputs, labels):
        self.optimizers.zero_grad()
        with self.context:
            loss = self.loss_fn(self.model(inputs), labels)
        loss.backward()
        self.optimizers.step()
        return loss
"""

# In apply_fsdp: {shard} wraps a module, {last} one that stays gathered.
EMBEDDINGS = (
    "",
    "if model.tok_embeddings is not None:\n    {shard:model.tok_embeddings}\n",
    "{shard:model.tok_embeddings}\n",
)
VISION = (
    "",
    "for block in model.vision_encoder.blocks:\n    {shard:block}\n",
    "for block in model.vision_encoder.layers.values():\n    {shard:block}\n{shard:model.vision_encoder}\n",
    'if getattr(model, "vision_encoder", None) is not None:\n    {shard:model.vision_encoder}\n',
)
EXPERTS = (
    "",
    "if transformer_block.moe_enabled:\n    {shard:transformer_block.moe.experts}\n",
    'if hasattr(transformer_block, "moe"):\n    experts = transformer_block.moe.experts\n    {shard:experts}\n',
)
BLOCKS = (
    "for layer_id, transformer_block in model.layers.items():\n",
    "for transformer_block in model.layers.values():\n",
    "for _, transformer_block in model.layers.named_children():\n",
    "for transformer_block in model.layers:\n",
    "for index, transformer_block in enumerate(model.layers.values()):\n",
    "layers = list(model.layers.values())\nfor transformer_block in layers:\n",
    "for transformer_block in reversed(list(model.layers.values())):\n",
)
MTP = (
    "",
    "for head in model.mtp_heads:\n    {shard:head}\n",
    'if getattr(model, "mtp_layers", None) is not None:\n    for layer in model.mtp_layers.values():\n        {shard:layer}\n',
)
LAST = (
    "",
    "if model.norm is not None and model.output is not None:\n    {last:[model.norm, model.output]}\n",
    "{last:[model.norm, model.output]}\n",
    "tail = [m for m in (model.norm, model.output) if m is not None]\nif tail:\n    {last:tail}\n",
    "if model.output is not None:\n    {last:model.output}\n",
)
DIVISION = """\
def disable_fsdp_gradient_division(model):
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
"""

DDP = (
    """\
~def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, enable_compile: bool):
~    if enable_compile:
~        torch._dynamo.config.optimize_ddp = "ddp_optimizer"
~    REPLICATE(model, device_mesh=dp_mesh, bucket_cap_mb=100)
~    logger.info("Applied DDP to the model")
""",
    """\
~def apply_ddp(
~    model: nn.Module,
~    dp_mesh: DeviceMesh,
~    enable_compile: bool,
~    enable_compiled_autograd: bool = False,
~):
~    if enable_compile:
~        if enable_compiled_autograd:
~            torch._dynamo.config.optimize_ddp = "python_reducer_without_compiled_forward"
~        else:
~            torch._dynamo.config.optimize_ddp = "ddp_optimizer"
~
~    REPLICATE(model, device_mesh=dp_mesh, bucket_cap_mb=100)
~
~    logger.info("Applied DDP to the model")
""",
    """\
~def apply_ddp(model, dp_mesh, *, enable_compile=False):
~    # every rank has all of it
~    torch._dynamo.config.optimize_ddp = "ddp_optimizer" if enable_compile else False
~    return REPLICATE(model, device_mesh=dp_mesh, bucket_cap_mb=100)
""",
    """\
~def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, enable_compile: bool) -> None:
~    '''
~    Replicate the model.
~    '''
~    options = {"bucket_cap_mb": 100}
~    REPLICATE(model, device_mesh=dp_mesh, **options)
""",
)

IN_DDP = (
    "",
    "",
    """\
~    if dp_mesh.ndim > 1:
~        raise RuntimeError("DDP has not supported > 1D parallelism")
""",
    """\
~    assert dp_mesh.ndim == 1, "DDP has not supported > 1D parallelism"
""",
)
"""A guard at the beginning of apply_ddp."""

_REFUSED = '"DDP has not supported > 1D parallelism"'

GUARDS = (
    "",
    f"~if {{test}}:\n~    raise RuntimeError({_REFUSED})\n",
    f"~if {{test}}:\n~    raise RuntimeError(\n~        {_REFUSED}\n~    )\n",
    f"~if {{test}}: raise RuntimeError({_REFUSED})\n",
    f"~if {{test}}:\n~    logger.error({_REFUSED})\n~    raise NotImplementedError\n",
    f"~if {{test}}:\n~    message = {_REFUSED}\n~    raise RuntimeError(message)\n",
    f"~assert not ({{test}}), {_REFUSED}\n",
    f"~refused = {{test}}\n~if refused:\n~    raise RuntimeError({_REFUSED})\n",
    f"~if not ({{test}}):\n~    pass\n~else:\n~    raise RuntimeError({_REFUSED})\n",
    f"~torch._check(not ({{test}}), lambda: {_REFUSED})\n",
)

SHAPES = (
    f"~if TEST:\n~    raise RuntimeError({_REFUSED})\n~else:\n{{further}}",
    f"~if not (TEST):\n{{further}}~else:\n~    raise RuntimeError({_REFUSED})\n",
    f"~if TEST:\n~    raise RuntimeError({_REFUSED})\n~elif True:\n{{further}}",
)
"""A guard with the call in one of its branches."""

TESTS = {
    "argument": ("world_mesh.ndim > 1", "world_mesh.ndim != 1", "1 < world_mesh.ndim",
        "parallel_dims.tp_enabled or parallel_dims.pp_enabled",
        "len(world_mesh.mesh_dim_names) > 1"),
    "attribute": ("parallel_dims.world_mesh.ndim > 1", "parallel_dims.tp > 1 or parallel_dims.pp > 1",
        "parallel_dims.tp_enabled or parallel_dims.pp_enabled",
        "parallel_dims.world_mesh.size() != parallel_dims.dp_replicate"),
    "get_mesh": ("parallel_dims.world_size != parallel_dims.dp_replicate",
        "parallel_dims.tp_enabled or parallel_dims.pp_enabled"),
}  # fmt: skip
"""What a guard asks, by how the plan gets its mesh."""

OF_DP_MESH = ("dp_mesh.ndim > 1", "dp_mesh is not None and dp_mesh.ndim > 1")
"""What it asks where it holds the mesh as ``dp_mesh``."""

MESHES = {
    "argument": ("world_mesh", 'world_mesh["dp_replicate"]', 'world_mesh["dp_replicate",]'),
    "attribute": ("parallel_dims.world_mesh", 'parallel_dims.world_mesh["dp_replicate"]'),
    "get_mesh": ('parallel_dims.get_mesh("dp_replicate")', 'parallel_dims.get_mesh(["dp_replicate"])'),
}  # fmt: skip
"""What DDP gets, by how the plan gets its mesh."""

SHARDED = {
    "argument": 'world_mesh[("dp_replicate", "dp_shard_cp") if parallel_dims.dp_replicate_enabled else ("dp_shard_cp",)]',
    "attribute": 'parallel_dims.world_mesh[("dp_replicate", "dp_shard_cp") if parallel_dims.dp_replicate_enabled else ("dp_shard_cp",)]',
    "get_mesh": 'parallel_dims.get_mesh(["dp_replicate", "fsdp"] if parallel_dims.dp_replicate_enabled else ["fsdp"])',
}
"""What FSDP gets."""

BRANCHES = (
    "if FSDP:\n    {fsdp}\nelif DDP:\n    {ddp}\n",
    "if FSDP:\n    {fsdp}\nelse:\n    if DDP:\n        {ddp}\n",
    "if FSDP:\n    {fsdp}\n    return model\nif DDP:\n    {ddp}\n",
    "if parallel_dims.dp_enabled or parallel_dims.cp > 1:\n    if FSDP:\n        {fsdp}\n    else:\n        {ddp}\n",
    "if FSDP:\n    {fsdp}\nif DDP and not FSDP:\n    {ddp}\n",
    "use_fsdp = FSDP\nif use_fsdp:\n    {fsdp}\nelif DDP:\n    {ddp}\n",
    "if not FSDP:\n    if DDP:\n        {ddp}\nelse:\n    {fsdp}\n",
    "if FSDP:\n    {fsdp}\nelif not DDP:\n    pass\nelse:\n    {ddp}\n",
    "if FSDP:\n    {fsdp}\n    return model\nif not DDP:\n    return model\n{ddp}\n",
    "try:\n    if FSDP:\n        {fsdp}\n    elif DDP:\n        {ddp}\nexcept KeyError as error:\n    raise ValueError(str(error)) from error\n",
    "with torch.no_grad():\n    if FSDP:\n        {fsdp}\n    elif DDP:\n        {ddp}\n",
)

FIRST = (
    "",
    "if parallel_dims.tp_enabled:\n    apply_tp(model, parallel_dims.tp)\n",
    'if job_config.activation_checkpoint.mode != "none":\n    apply_ac(model, job_config)\n',
)
"""What a plan does before."""

THEN = (
    "",
    'logger.info("the plan is made")\n',
    "model.requires_grad_(True)\n",
)
"""What it does after."""

HELPERS = """\
def apply_tp(model, degree):
    for block in model.layers.values():
        block.parallelize(degree)


def apply_ac(model, job_config):
    model.checkpointed = True
"""
