"""TM210: the new function comes from a fixed template."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts

CODE = "TM210"
TITLE = "written from a template"
SEVERITY: Severity = "note"
WHAT = "The new function is a fixed template: no apply_fsdp could be followed."
WHY = """\
Where a checkout has no apply_fsdp, or one that wraps in a way that cannot be followed,
there is nothing to mirror. The template wraps every child of model.layers and then the
root, and is written only where models are seen to have layers; elsewhere the function
is left for a person. That trains rightly; embedding and output then communicate with
the root, later than they could. Compare the groups with how your model is built.
Where the apply_fsdp that is not followed has more to it, another output dtype, parameters
that it leaves alone, a policy for some modules, what it freezes, the template has not: that
is silent.
"""
UPSTREAM = """\
The reviewers of PR 1714 asked for wrapping per layer, which is what the template does.
"""
RISK = """\
A model without .layers does not start. Blocks that lie elsewhere, an encoder's say,
communicate with the root and overlap with nothing.
"""
PROOF = """\
`dp` fails where apply_fsdp wraps more: replicate "has no group of its own for" such a
module. Of a model without .layers a rank "failed with" an AttributeError. Without any
FSDP "there is no reference", and the cell is listed as not run.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/stork/infra/parallelize.py",
    before="""\
    while blocks:
        fully_shard(blocks[:2], **fsdp_config)
        blocks = blocks[2:]
    fully_shard(model, **fsdp_config)


def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh):
    replicate(model, device_mesh=dp_mesh, bucket_cap_mb=25)
""",
    after="""\
    for transformer_block in model.layers.children():
        replicate(transformer_block, **replicate_config)
    replicate(model, **replicate_config)
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    yield from facts.reported(CODE)
