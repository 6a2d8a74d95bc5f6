"""The fixed function for a checkout that has no ``apply_fsdp`` to derive it from."""

from codemods import layout
from codemods.mirror import Parameter, Plan
from codemods.names import Definition
from codemods.plans.records import Facts
from codemods.plans.wishes import log_statement, returns_model

_BODY = """\
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    replicate_config = {{"{mesh}": dp_mesh, "mp_policy": mp_policy}}

    for transformer_block in model.layers.children():
        replicate(transformer_block, **replicate_config)
    replicate(model, **replicate_config)"""


def template(facts: Facts, definition: Definition) -> Plan:
    """Blocks, then the root: what takes the place of one ``apply_ddp``."""
    parameters = tuple(
        Parameter(name, f"{name}: {kind}", True)
        for name, kind in (
            ("model", "nn.Module"),
            ("dp_mesh", "DeviceMesh"),
            ("param_dtype", "torch.dtype"),
            ("reduce_dtype", "torch.dtype"),
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
