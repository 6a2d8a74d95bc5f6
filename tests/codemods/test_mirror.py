"""The derivation by itself: what is folded, kept and dropped."""

import libcst as cst
import pytest

from codemods.mirror import CannotMirror, Wishes, derive

from support import text


def mirror(source, **wishes):
    tree = cst.parse_module(text(source))
    chosen = {
        "name": "apply_replicate",
        "mesh_keyword": "mesh",
        "fully_shard": frozenset({"fully_shard"}),
        "sum_gradients": False,
        **wishes,
    }
    return derive(tree, tree.body[0], Wishes(**chosen))


def body(lines, parameters="model, mesh", **wishes):
    """The lines of the new function for these lines of ``apply_fsdp``."""
    inner = "".join(f"    {line}\n" for line in text(lines).splitlines())
    plan = mirror(f"def apply_fsdp({parameters}):\n{inner}", **wishes)
    return text(plan.text.split("\n", 1)[1])


ROOT = "fully_shard(model, mesh=mesh)"
FRESH = "replicate(model, mesh=mesh)"


def test_plan_says_what_it_wraps_and_takes():
    plan = mirror(
        """
        def apply_fsdp(model, mesh, dtype, cpu_offload=False, pp_enabled=False):
            fully_shard([model.norm, model.output], mesh=mesh, mp_policy=dtype)
            fully_shard(model, mesh=mesh, mp_policy=dtype)
        """
    )
    assert plan.wraps == ("model.norm", "model.output", "model")
    assert [(p.name, p.required) for p in plan.parameters] == [
        ("model", True),
        ("mesh", True),
        ("dtype", True),
    ]


@pytest.mark.parametrize(
    "parameters, test, kept",
    [
        ("model, mesh, ep_degree=1", "ep_degree > 1", False),
        ("model, mesh, ep_degree=1", "ep_degree == 1", True),
        ("model, mesh, edp_mesh=None", "edp_mesh is not None", False),
        ("model, mesh, cpu_offload=False", "not cpu_offload", True),
        ("model, mesh, ep_degree=1", "ep_degree > 1 and model.moe", False),
        ("model, mesh, ep_degree=1", "model.moe and ep_degree > 1", False),
    ],
)
def test_conditions_that_follow_from_defaults_are_folded(parameters, test, kept):
    result = body(f"if {test}:\n    model.hook()\n{ROOT}", parameters)
    assert result == ("model.hook()\n" if kept else "") + FRESH


def test_conditions_over_several_lines_are_folded():
    lines = f"""
        if (
            ep_degree
            > 1
        ):
            model.a()
        if (ep_degree
            == 1 and model.moe is
                not None):
            model.b()
        if ep_degree > 1 and (
            model.moe
            or ep_degree
            == 2  # never
        ):
            model.c()
        {ROOT}
    """
    assert body(lines, "model, mesh, ep_degree=1") == (
        f"if model.moe is not None:\n    model.b()\n{FRESH}"
    )


def test_the_part_of_a_condition_that_is_open_stays():
    lines = f"if model.moe and ep_degree == 1:\n    model.hook()\n{ROOT}"
    assert body(lines, "model, mesh, ep_degree=1") == (
        f"if model.moe:\n    model.hook()\n{FRESH}"
    )


def test_a_disjunction_is_not_folded_wrongly():
    lines = f"if model.moe or ep_degree > 1:\n    model.hook()\n{ROOT}"
    result = body(lines, "model, mesh, ep_degree=1")
    assert "model.moe" in result and "model.hook()" in result


def test_else_branch_of_a_folded_condition():
    lines = f"if ep_degree > 1:\n    model.a()\nelse:\n    model.b()\n{ROOT}"
    assert body(lines, "model, mesh, ep_degree=1") == f"model.b()\n{FRESH}"


def test_elif_chain_stays_one():
    lines = f"""
        if model.a:
            fully_shard(model.a, mesh=mesh)
        elif model.b:
            fully_shard(model.b, mesh=mesh)
        else:
            fully_shard(model.c, mesh=mesh)
        {ROOT}
    """
    assert body(lines) == text(lines).replace("fully_shard", "replicate").rstrip("\n")


@pytest.mark.parametrize(
    "call",
    [
        "fully_shard(model, mesh=mesh, reshard_after_forward=True)",
        "fully_shard(model, mesh=mesh, shard_placement_fn=lambda p: None)",
        "fully_shard(model, mesh=mesh, offload_policy=CPUOffloadPolicy())",
        "fully_shard(module=model, mesh=mesh)",
        "fully_shard(model, mesh=mesh)  # pyrefly: ignore",
    ],
)
def test_what_only_shards_goes_from_a_call(call):
    assert body(call) == FRESH


def test_the_mesh_by_position():
    assert "mesh" in body("fully_shard(model, mesh)\nfully_shard(model, mesh=mesh)")


def test_comments_stay_where_they_still_hold():
    lines = f"# Every block is a group\nmodel.hook()\n# FSDP would prefetch\n{ROOT}"
    assert body(lines) == f"# Every block is a group\nmodel.hook()\n{FRESH}"


def test_a_local_named_replicate_is_not_captured():
    lines = "replicate = model.replicas\nfully_shard(model, mesh=mesh, x=replicate)"
    result = body(lines)
    assert "replicate_ = model.replicas" in result
    assert "replicate(model, mesh=mesh, x=replicate_)" in result


def test_a_renamed_local_does_not_meet_another():
    lines = """
        replicate_config = {"x": 1}
        fsdp_config = {"mesh": mesh}
        fully_shard(model, **fsdp_config, **replicate_config)
    """
    try:
        result = body(lines)
    except CannotMirror:
        return
    assert "**replicate_config, **replicate_config" not in result


@pytest.mark.parametrize(
    "source, reason",
    [
        ("def apply_fsdp(model): pass", "takes no mesh"),
        ("def apply_fsdp(model, mesh):\n    pass", "never calls fully_shard"),
        ("def apply_fsdp(model, mesh):\n    fully_shard(mesh=mesh)", "names no module"),
        (
            "def apply_fsdp(model, mesh):\n    try:\n        fully_shard(model, mesh=mesh)\n"
            "    finally:\n        pass",
            "Try",
        ),
        ("def apply_fsdp(model, m):\n    fully_shard(model, mesh=MESH)", "none of its"),
    ],
)
def test_what_cannot_be_mirrored(source, reason):
    with pytest.raises(CannotMirror, match=reason):
        mirror(source)


def test_a_function_on_one_line():
    plan = mirror(f"def apply_fsdp(model, mesh): {ROOT}")
    assert plan.text.endswith(f"\n    {FRESH}")


def test_same_wrapping_is_blind_to_words():
    first = mirror(
        'def f(model: Module, mesh: Mesh) -> None:\n    """Doc."""\n    # why\n    '
        + ROOT
    )
    second = mirror(f"def f(model, mesh):\n    {ROOT}")
    other = mirror(
        f"def f(model, mesh):\n    fully_shard(model.x, mesh=mesh)\n    {ROOT}"
    )
    assert first.same_wrapping(second) and not first.same_wrapping(other)


def test_division_inside_the_wrapping_loop_comes_after_all_wraps():
    lines = """
        for block in model.layers:
            fully_shard(block, mesh=mesh)
            block.set_gradient_divide_factor(1.0)
        fully_shard(model, mesh=mesh)
    """
    result = body(lines)
    assert result.index("replicate(block") < result.index("replicate(model")
    assert result.index("replicate(model") < result.index("set_gradient_divide_factor")
    assert "for module in model.modules():" in result


def test_names_in_strings_and_keywords_are_not_renamed():
    lines = """
        fsdp_modules = getattr(model, "fsdp_modules", [])
        for block in fsdp_modules:
            prepare(block, fsdp_modules=fsdp_modules)
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    """
    result = body(lines)
    assert 'replicate_modules = getattr(model, "fsdp_modules", [])' in result
    assert "prepare(block, fsdp_modules=replicate_modules)" in result


def test_a_parameter_that_only_looks_like_sharding_stays():
    lines = """
        if fsdp_module_names:
            for name in fsdp_module_names:
                fully_shard(model.get_submodule(name), mesh=mesh)
        fully_shard(model, mesh=mesh)
    """
    assert "get_submodule" in body(lines, "model, mesh, fsdp_module_names=None")


@pytest.mark.parametrize(
    "line",
    [
        "config.update(reshard_after_forward=True)",
        'config |= {"reshard_after_forward": True}',
        'config = config | {"reshard_after_forward": True}',
    ],
)
def test_sharding_that_stays_in_the_configuration_is_refused(line):
    lines = f"""
        config = {{"mesh": mesh}}
        {line}
        fully_shard(model, **config)
    """
    with pytest.raises(CannotMirror):
        body(lines)


@pytest.mark.parametrize(
    "line",
    [
        "[fully_shard(b, mesh=mesh) for b in model.layers]",
        "fully_shard(model.x, mesh=mesh) if model.x else None",
        "model.x and fully_shard(model.x, mesh=mesh)",
    ],
)
def test_wraps_in_expressions_are_refused(line):
    with pytest.raises(CannotMirror):
        body(f"{line}\nfully_shard(model, mesh=mesh)")


def test_a_docstring_keeps_its_quotes_and_backslashes():
    source = "def apply_fsdp(model, mesh):\n    r'''Has \\d and \"\"\" in it.'''\n    fully_shard(model, mesh=mesh)\n"
    assert "    r'''Has \\d and \"\"\" in it.'''\n" in mirror(source).text


def test_local_names_make_no_other_wrapping():
    one = mirror(
        "def apply_fsdp(model, mesh):\n    cfg = {'mesh': mesh}\n"
        "    for layer_id, block in model.layers.items():\n        fully_shard(block, **cfg)\n"
        "    fully_shard(model, **cfg)\n"
    )
    other = mirror(
        "def apply_fsdp(model, mesh):\n    config = {'mesh': mesh}\n"
        "    for layer in model.layers.values():\n        fully_shard(layer, **config)\n"
        "    fully_shard(model, **config)\n"
    )
    listed = mirror(
        "def apply_fsdp(model, mesh):\n    config = {'mesh': mesh}\n"
        "    for layer in model.layers:\n        fully_shard(layer, **config)\n"
        "    fully_shard(model, **config)\n"
    )
    assert one.same_wrapping(other)
    assert not one.same_wrapping(listed)


@pytest.mark.parametrize(
    "line",
    [
        'register_fsdp_forward_method(model.tower, "encode")',
        "[p.requires_grad_(False) for p in model.tower.parameters()]",
        "_ = [p.requires_grad_(False) for p in model.tower.parameters()]",
        "model.apply(fp32_norms) if model.moe else None",
        "frozen = freeze(model.tower)",
        "handle: Handle = model.register_forward_pre_hook(cast)",
        'assert freeze(model.tower) > 0, "nothing to freeze"',
        'logger.info("%d frozen", freeze(model.tower))',
        "list(map(lambda tower: tower.freeze(), model.towers)) and model.settle()",
    ],
)
def test_what_does_something_stays_however_it_is_written(line):
    assert body(f"{line}\n{ROOT}") == f"{line}\n{FRESH}"


@pytest.mark.parametrize(
    "lines",
    [
        "count = len(model.layers)\nlogger.info(count)",
        "policy = CPUOffloadPolicy()",
        "total = sum(p.numel() for p in model.parameters())",
        'size = mesh.size()\nlogger.info(f"over {size}")',
        "[b.set_reshard_after_backward(False) for b in model.layers]",
        "place = build_placement(model)\nfully_shard(model.a, mesh=mesh, shard_placement_fn=place)",
        'config["offload_policy"] = make_policy(model)',
        'assert isinstance(model, Model), "another model"',
        "...",
    ],
)
def test_what_gives_a_value_goes_where_nothing_reads_it(lines):
    kept = "replicate(model.a, mesh=mesh)\n" if "model.a" in lines else ""
    assert body(f"{lines}\n{ROOT}") == kept + FRESH


def test_what_is_asked_and_said_goes_on_being_done():
    lines = "if (n := freeze(model.tower)) > 0:\n    logger.info(n)"
    with pytest.raises(CannotMirror, match="does something where it is asked"):
        body(f"{lines}\n{ROOT}")
    kept = f"{lines}\n{FRESH}"
    assert body(f"{lines}\n{ROOT}", said=frozenset({"logger.info(n)"})) == kept
    with pytest.raises(CannotMirror, match="does something where it is asked"):
        body(f"for name in freeze(model):\n    logger.info(name)\n{ROOT}")


def test_a_match_may_only_assign():
    lines = """
        match policy:
            case "always":
                {}
            case _:
                raise ValueError(policy)
    """
    assigned = text(lines).format("reshard = True")
    assert body(f"{assigned}\n{ROOT}", "model, mesh, policy") == FRESH
    for done in ("model.tower.freeze()", "model.frozen = True"):
        with pytest.raises(CannotMirror, match="more than assign"):
            body(f"{text(lines).format(done)}\n{ROOT}", "model, mesh, policy")


@pytest.mark.parametrize(
    "name", ["pp_head_fp32", "freeze_ep_router", "offload_frozen", "expert_dtype"]
)
@pytest.mark.parametrize("done", ["model.head.float()", "{}(model.head, mesh=mesh)"])
def test_a_parameter_named_for_sharding_that_does_more_stays(name, done):
    lines = f"if {name}:\n    {done.format('fully_shard')}\n"
    kept = f"if {name}:\n    {done.format('replicate')}\n"
    assert body(lines + ROOT, f"model, mesh, {name}=False") == kept + FRESH
    other = "reshard = False\nelse:\n    reshard = True\n"
    assert body(f"if {name}:\n    {other}{ROOT}", f"model, mesh, {name}=False") == (
        FRESH
    )


def test_a_parameter_that_names_experts_is_taken_as_it_is():
    lines = f"if freeze_experts:\n    model.experts.freeze()\n{ROOT}"
    parameters = "model, mesh, freeze_experts=False"
    kept = f"if freeze_experts:\n    model.experts.freeze()\n{FRESH}"
    assert body(lines, parameters) == kept
    assert (
        body(
            lines.replace("freeze_experts", "experts_mesh"),
            parameters.replace("freeze_experts", "experts_mesh"),
        )
        == FRESH
    )


@pytest.mark.parametrize("factor", ["mesh.size()", 'mesh["dp"].size()', "world_size"])
def test_a_factor_that_is_the_number_of_ranks_goes(factor):
    assert body(f"{ROOT}\nmodel.set_gradient_divide_factor({factor})") == FRESH


@pytest.mark.parametrize("factor", ["mesh.size() * steps", "2.0", "model.top_k"])
def test_any_other_factor_is_not_followed(factor):
    with pytest.raises(CannotMirror, match="may not be the number of ranks"):
        body(f"{ROOT}\nmodel.set_gradient_divide_factor({factor})")


def test_a_function_that_switches_division_off_is_one_by_any_name():
    lines, helpers = f"{ROOT}\n_sum_gradients(model)", frozenset({"_sum_gradients"})
    told = {"division_helpers": helpers, "sum_gradients": True}
    assert body(lines, **told) == f"{FRESH}\n_sum_gradients(model)"
    assert mirror(
        f"def apply_fsdp(model, mesh):\n    {ROOT}\n    _sum_gradients(model)\n", **told
    ).as_apply_fsdp


def test_a_constant_of_the_module_may_switch_division_off():
    lines = f"{ROOT}\n    model.set_gradient_divide_factor(SUM)\n"
    source = f"def apply_fsdp(model, mesh):\n    {lines}SUM = 1.0\n"
    assert mirror(source, sum_gradients=True).as_apply_fsdp
    with pytest.raises(CannotMirror, match="number of ranks"):
        mirror(source.replace("1.0", "2.0"))


def test_what_keeps_replicas_from_being_reduced_is_not_taken_over():
    with pytest.raises(CannotMirror, match="shards and replicas"):
        body(f"{ROOT}\nmodel.set_requires_all_reduce(False)")
