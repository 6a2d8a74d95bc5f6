"""The fixed function for a checkout that has no ``apply_fsdp`` to derive it from."""

import ast
from collections.abc import Iterator, Sequence

from codemods import layout
from codemods.mirror import Parameter, Plan
from codemods.names import Definition
from codemods.nodes import nodes, spelled
from codemods.plans.naming import replicate_name
from codemods.plans.records import Facts
from codemods.plans.sites import folder_of, standalone
from codemods.plans.wishes import log_statement, returns_model, summed
from codemods.source import SourceFile
from codemods.survey import CallSite

_BODY = """\
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    replicate_config = {{"{mesh}": dp_mesh, "mp_policy": mp_policy}}

    for transformer_block in model.layers.children():
        {replicate}(transformer_block, **replicate_config)
    {replicate}(model, **replicate_config)"""


def _parameters(or_none: str = "") -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name, f"{name}: {kind}", True)
        for name, kind in (
            ("model", "nn.Module"),
            ("dp_mesh", "DeviceMesh"),
            ("param_dtype", f"torch.dtype{or_none}"),
            ("reduce_dtype", f"torch.dtype{or_none}"),
        )
    )


_CHOICES = ("output_dtype", "cast_forward_inputs", "ignored_params")
"""What ``fully_shard`` and its policy may be given that changes what is trained."""

_EFFECTS = {
    *("set_gradient_divide_factor", "requires_grad_", "float", "to", "half", "eval"),
}


def not_in_template(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """What code that shards does to what is trained and the template does not."""
    calls = [c for s in statements for c in nodes(s) if isinstance(c, ast.Call)]
    given = {word.arg for call in calls for word in call.keywords}
    yield from (name for name in _CHOICES if name in given)
    policies = {
        spelled(c) for c in calls if spelled(c.func).endswith("PrecisionPolicy")
    }
    if len(policies) > 1:
        yield f"{len(policies)} policies of precision"
    for call in calls:
        name = spelled(call.func).rpartition(".")[2]
        if name in _EFFECTS or name.startswith("register_"):
            yield f"`{spelled(call).splitlines()[0]}`"


def usual_plan(facts: Facts) -> Plan:
    """The signature that the new function usually has, for advice."""
    name = facts.target.function_name
    return Plan(name, _parameters(), "", False, (), mesh="dp_mesh")


def wraps_layers(
    facts: Facts, definition: Definition, sites: Sequence[CallSite]
) -> bool:
    """Whether the models that come to an ``apply_ddp`` are seen to have ``layers``.

    Either a class in the folder of each call sets them, or the plan goes through them
    elsewhere, for activation checkpointing say.
    """
    places = {site.reference.path for site in sites} or {definition.path}
    for place in places:
        near = [facts.survey.files[place]]
        if folder_of(place):
            near += [
                file
                for path, file in facts.survey.files.items()
                if path.startswith(f"{folder_of(place)}/")
            ]
        if not any(_has_layers(file) for file in near):
            return False
    return True


def _has_layers(file: SourceFile) -> bool:
    if not file.mentions(b".layers"):
        return False
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "layers"
        and isinstance(node.value, ast.Name)
        and (node.value.id == "model" or isinstance(node.ctx, ast.Store))
        for node in nodes(file.syntax)
    )


def template(
    facts: Facts, definition: Definition, name: str, sites: Sequence[CallSite] = ()
) -> Plan:
    """Blocks, then the root: what takes the place of one ``apply_ddp``.

    Args:
        facts: about the checkout.
        definition: of that ``apply_ddp``.
        name: of the new function.
        sites: the calls that will use it.
    """
    parameters = _parameters(
        " | None" if any(standalone(facts, site) for site in sites) else ""
    )
    head = layout.bracketed(
        f"def {name}(",
        [p.text for p in parameters],
        "):",
        exploded=True,
    )
    called = replicate_name(facts, definition.path)
    body = _BODY.format(mesh=facts.target.mesh_keyword, replicate=called)
    text = [head, body]
    sums = summed(facts, definition, name, sites)
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
    if returns_model(facts, definition, sites):
        text.append("    return model")
    return Plan(
        name,
        parameters,
        "\n".join(text),
        sums,
        ("transformer_block", "model"),
        mesh="dp_mesh",
    )
