"""The fixed function for a checkout that has no ``apply_fsdp`` to derive it from."""

from collections.abc import Sequence

from codemods import layout
from codemods.mirror import Parameter, Plan
from codemods.names import Definition
from codemods.plans.records import Facts
from codemods.plans.sites import standalone
from codemods.plans.wishes import log_statement, returns_model
from codemods.survey import CallSite

_BODY = """\
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    replicate_config = {{"{mesh}": dp_mesh, "mp_policy": mp_policy}}

    for transformer_block in model.layers.children():
        replicate(transformer_block, **replicate_config)
    replicate(model, **replicate_config)"""


def template(
    facts: Facts, definition: Definition, sites: Sequence[CallSite] = ()
) -> Plan:
    """Blocks, then the root: what takes the place of one ``apply_ddp``.

    Args:
        facts: about the checkout.
        definition: of that ``apply_ddp``.
        sites: the calls that will use the new function.
    """
    or_none = " | None" if any(map(standalone, sites)) else ""
    parameters = tuple(
        Parameter(name, f"{name}: {kind}", True)
        for name, kind in (
            ("model", "nn.Module"),
            ("dp_mesh", "DeviceMesh"),
            ("param_dtype", f"torch.dtype{or_none}"),
            ("reduce_dtype", f"torch.dtype{or_none}"),
        )
    )
    head = layout.bracketed(
        f"def {facts.target.function_name}(",
        [p.text for p in parameters],
        "):",
        depth=0,
        exploded=True,
    )
    text = [head, _BODY.format(mesh=facts.target.mesh_keyword)]
    sums = bool(facts.survey.global_tokens)
    if sums:
        text.append(
            "\n    # The training loop divides by the global token count\n"
            "    for module in model.modules():\n"
            "        if isinstance(module, FSDPModule):\n"
            "            module.set_gradient_divide_factor(1.0)"
        )
    log = log_statement(facts, definition)
    if log:
        text.append(f"\n    {log}")
    if returns_model(facts, definition):
        text.append("    return model")
    return Plan(
        facts.target.function_name,
        parameters,
        "\n".join(text),
        sums,
        ("transformer_block", "model"),
    )
