"""TM214: what the model computes in changes with the move to a policy."""

import re
from collections.abc import Iterator

from codemods.autocast import choices, mixed_precision
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.launches import launches
from codemods.plans import Facts, NewCall
from codemods.plans.sites import first_that_moves

CODE = "TM214"
TITLE = "another precision than under DDP"
SEVERITY: Severity = "note"
WHAT = "Mixed precision comes by a policy now: fp32 under DDP becomes bf16, or autocast ends."
WHY = """\
apply_replicate passes the dtypes of apply_fsdp to a MixedPrecisionPolicy. Where nothing
opened autocast, a job under DDP computed in the dtype of its parameters, fp32, whatever
mixed_precision_param said; migrated it computes in mixed_precision_param, bfloat16 by
default. Where there was autocast, norms, softmax and what goes from block to block
were fp32, and are in mixed_precision_param now, as under FSDP. Set
mixed_precision_param to float32, or migrate a fork without autocast with
--keep-precision, to keep fp32.
"""
UPSTREAM = """\
PR 2458 went over to the policy. Before June 2025 torchtitan trained DDP in fp32, since
then under autocast.
"""
RISK = """\
A run is not comparable with earlier ones of the same configuration: losses part ways
from the first step on, and a job that was tuned in fp32 may not converge in bf16.
"""
PROOF = """\
`dp` trains in fp32, where DDP and replicate agree. `dp-bf16` compares the migrated tree
with FSDP in bf16, and shows by how much DDP was something else.
"""
EXAMPLE = Example(
    fixture="legacy",
    path="torchtitan/parallelisms/parallelize_llama.py",
    before='''\
def apply_ddp(
    model: nn.Module,
    dp_mesh: DeviceMesh,
    enable_compiled_autograd: bool,
    enable_compile: bool,
):
    """Give every rank of the mesh the whole model, and average gradients."""
''',
    after="""\
[training]
mixed_precision_param = "float32"
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    if facts.target.keep_precision:
        yield from _not_kept(facts)
        return
    changing = [call for call in facts.calls if _casts(call)]
    place = first_that_moves(facts)
    if not changing or place is None:
        return
    amp = mixed_precision(facts.checkout)
    if amp == "none" and not launches(facts.checkout, facts.texts.values()):
        message = (
            "no autocast is opened in this checkout, so DDP computed in the dtype of the "
            f"parameters; replicate computes in what {_option(changing)} says"
            f"{_default(facts)}: set it to float32, or pass --keep-precision, to stay in fp32"
        )
        suggestion = '[training]\nmixed_precision_param = "float32"'
    elif amp == "here" and not _chosen(facts):
        message = (
            "autocast stays on as for FSDP, and besides it replicate casts by its policy to "
            f"what {_option(changing)} says: compare bf16 runs with FSDP"
        )
        suggestion = '# fp32 as before\n[training]\nmixed_precision_param = "float32"'
    else:
        message = (
            "autocast, which kept norms and softmax in fp32, becomes a policy, under "
            f"which they are in what {_option(changing)} says: compare bf16 runs with FSDP of "
            "this version, not with DDP"
        )
        suggestion = '# for all in fp32\n[training]\nmixed_precision_param = "float32"'
    yield Finding(*place, CODE, message, "hazard", suggestion)


def _not_kept(facts: Facts) -> Iterator[Finding]:
    """Calls whose precision cannot be kept by what they pass."""
    for call in facts.calls:
        named = {parameter.name for parameter in call.function.plan.parameters}
        if _casts(call) and not {"param_dtype", "reduce_dtype"} <= named:
            yield Finding(
                call.site.reference.path,
                call.site.reference.line,
                CODE,
                f"{call.spelling} makes its mixed-precision policy itself, so no call can "
                "keep the precision: migrate without --keep-precision",
                "left",
                '[training]\nmixed_precision_param = "float32"',
            )


def _casts(call: NewCall) -> bool:
    """Whether a call makes replicate cast, as far as can be told from the call."""
    dtypes = [a.partition("=")[2] for a in call.arguments if re.match(r"\w*dtype=", a)]
    if dtypes:
        return not set(dtypes) <= {"None", "torch.float32"}
    return "MixedPrecisionPolicy(" in call.function.plan.text


def _option(calls: list[NewCall]) -> str:
    """The option that names the dtype, as the calls ask for it."""
    for call in calls:
        for argument in call.arguments:
            found = re.search(r"(?:training\.)?mixed_precision_param\b", argument)
            if found:
                return found[0]
    return "the mixed-precision policy"


def _default(facts: Facts) -> str:
    """What the option is by default, where the checkout says so."""
    for file in facts.checkout.mentioning("mixed_precision_param"):
        found = re.search(
            r"mixed_precision_param\b[^=\n]*=\s*\"(\w+)\"|"
            r"mixed_precision_param\",\s*\n(?:.*\n)??\s*default=\"(\w+)\"",
            file.text,
        )
        if found:
            return f", {found[1] or found[2]} by default"
    return ""


def _chosen(facts: Facts) -> bool:
    """Whether autocast is opened by a condition, and so not for FSDP."""
    return any(
        True
        for file in facts.checkout.mentioning("autocast")
        for _ in choices(facts.checkout, file)
    )
