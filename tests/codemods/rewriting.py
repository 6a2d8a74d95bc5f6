"""Files with a call to rewrite, before and after."""

from support import (
    APPLY_DDP,
    APPLY_FSDP,
    GLOBAL_TOKENS,
    HERE,
    IMPORT,
    PLAN,
    PLAN_IMPORTS,
    outcome,
    text,
)

LOOP = {"torchtitan/train.py": GLOBAL_TOKENS}

# In BASE apply_fsdp wants dtypes. Where these are beside the point, a test takes this.
PLAIN = {
    PLAN: f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)


{APPLY_DDP}"""
}
FILES = PLAIN

BEFORE = text(
    f"""
    {IMPORT} apply_ddp


    def parallelize(model, world_mesh, job_config):
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        apply_ddp(model, world_mesh, job_config.compile)
        return model
    """
)
AFTER = text(
    f"""
    {IMPORT} apply_replicate


    def parallelize(model, world_mesh, job_config):
        apply_replicate(model, world_mesh["dp_replicate"])
        return model
    """
)


def rewritten(before: bytes) -> bytes:
    result = outcome({**FILES, HERE: before})
    assert result.problems == ()
    return result.changes[HERE]


CALLER = f"""
    {IMPORT} apply_ddp, apply_fsdp


    def parallelize(model, world_mesh, job_config):
        if job_config.shard:
            apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
        else:
            apply_ddp(model, world_mesh, enable_compile=job_config.compile)
"""
UNCLEAR = CALLER.replace("apply_ddp(model, world_mesh,", "apply_ddp(model, self.mesh,")


def plan(apply_fsdp=APPLY_FSDP, apply_ddp=APPLY_DDP, imports=PLAN_IMPORTS):
    return (
        "\n\n\n".join(
            text(part).rstrip("\n") for part in (imports, apply_fsdp, apply_ddp) if part
        )
        + "\n"
    )


def wrapped(lines, files=(), target="1d"):
    """A function with these lines, before (and hopefully after)."""
    before = f"{IMPORT} apply_ddp\n\n\ndef parallelize(model, world_mesh, parallel_dims, config):\n"
    before += "".join(f"    {line}\n" for line in text(lines).splitlines())
    return before, {**PLAIN, **dict(files)}, target
