"""TM101: the definition of ``apply_ddp`` becomes ``apply_replicate``."""

import pytest

from rewriting import LOOP, plan
from support import (
    APPLY_AC,
    APPLY_DDP,
    APPLY_FSDP,
    BASE,
    HERE,
    IMPORT,
    NAMED_MESHES,
    PLAN,
    PLAN_IMPORTS,
    assert_formatted,
    assert_mirrors,
    assert_nothing_unused,
    checkout,
    findings,
    function,
    migrated,
    mirrored,
    outcome,
    text,
)

NO_DTYPES = """
    def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
        fully_shard(model, mesh=dp_mesh)
"""


# What the new function is derived from


def test_one_dimensional():
    assert_mirrors(
        APPLY_FSDP,
        """
        def apply_replicate(
            model: nn.Module,
            dp_mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
            replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
            for block in model.layers.values():
                replicate(block, **replicate_config)
            replicate(model, **replicate_config)

            logger.info("Applied replicate to the model")
        """,
    )


def test_two_dimensional_keeps_name_and_log_line():
    assert_mirrors(
        APPLY_FSDP,
        """
        def apply_ddp(
            model: nn.Module,
            dp_mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
            replicate_config = {"device_mesh": dp_mesh, "mp_policy": mp_policy}
            for block in model.layers.values():
                replicate(block, **replicate_config)
            replicate(model, **replicate_config)

            logger.info("Applied DDP to the model")
        """,
        target="2d",
    )


@pytest.mark.parametrize(
    "target, name, log",
    [
        ("1d", "apply_ddp", "Applied DDP"),
        ("2d", "apply_replicate", "Applied replicate"),
        ("1d", "wrap_in_replicate", "Applied replicate"),
    ],
)
def test_any_function_name_goes_with_any_target(target, name, log):
    result = mirrored(APPLY_FSDP, target=target, name=name)
    assert f"def {name}(" in result and log in result


FIRST_GENERATION = '''
    def apply_fsdp(
        model: nn.Module,
        dp_mesh: DeviceMesh,
        param_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
        reshard_policy: str = "default",
        cpu_offload: bool = False,
        pp_enabled: bool = False,
    ):
        """
        Apply data parallelism (via FSDP2) to the model.

        Args:
            model (nn.Module): The model.
            dp_mesh (DeviceMesh): The mesh.
            param_dtype (torch.dtype): What to compute in.
            reduce_dtype (torch.dtype): What to reduce in.
            reshard_policy (str, optional): When to reshard.
                Other options: "never", "always".
            cpu_offload (bool, optional): Whether to offload. Defaults to False.
            pp_enabled (bool): Whether there is a pipeline.
        """
        mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
        fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
        if cpu_offload:
            fsdp_config["offload_policy"] = CPUOffloadPolicy()

        for layer_id, transformer_block in model.layers.items():
            if reshard_policy in ("always", "never"):
                reshard = reshard_policy == "always"
            elif reshard_policy == "default":
                if pp_enabled:
                    # Gathering again for every microbatch is expensive
                    reshard = False
                else:
                    # FSDP would prefetch the last block at once
                    reshard = int(layer_id) < len(model.layers) - 1
            else:
                raise ValueError(f"Invalid policy: {reshard_policy}.")
            fully_shard(transformer_block, **fsdp_config, reshard_after_forward=reshard)
        fully_shard(model, **fsdp_config, reshard_after_forward=not pp_enabled)
'''
OFFLOAD_IMPORTS = PLAN_IMPORTS.replace(
    "import fully_shard,", "import CPUOffloadPolicy, fully_shard,"
)


def test_first_generation_blocks_and_root_only():
    result = mirrored(FIRST_GENERATION, imports=OFFLOAD_IMPORTS)
    assert "for layer_id, transformer_block in model.layers.items():" in result
    code = [line.strip() for line in result.split('"""')[-1].splitlines()]
    assert [line for line in code if line.startswith("replicate(")] == [
        "replicate(transformer_block, **replicate_config)",
        "replicate(model, **replicate_config)",
    ]
    assert "offload" not in result.split('"""')[-1] and "reshard" not in result


def test_resharding_policy_of_the_first_generation_goes():
    assert "policy" not in mirrored(FIRST_GENERATION, imports=OFFLOAD_IMPORTS).split(
        '"""'
    )[-1].replace("mp_policy", "")


def test_docstring_follows_the_parameters():
    result = mirrored(FIRST_GENERATION, imports=OFFLOAD_IMPORTS)
    assert "(via replicate)" in result
    for gone in ("pp_enabled", "cpu_offload", "reshard", "never", "Whether"):
        assert gone not in result.split('"""')[1]
    assert 'reduce_dtype (torch.dtype): What to reduce in.\n    """\n' in result


CURRENT_GENERATION = """
    def apply_fsdp(
        model: nn.Module,
        dp_mesh: DeviceMesh,
        param_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
        policy: str = "default",
        cpu_offload: bool = False,
        pp_enabled: bool = False,
    ):
        mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
        fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
        if cpu_offload:
            # pyrefly: ignore[bad-typed-dict-key]
            fsdp_config["offload_policy"] = CPUOffloadPolicy()

        match policy:
            case "always":
                reshard = True
            case "never":
                reshard = False
            case "default":
                reshard = not pp_enabled
            case _:
                raise ValueError(f"Invalid policy: {policy}.")

        if model.tok_embeddings is not None:
            # pyrefly: ignore [no-matching-overload]
            fully_shard(model.tok_embeddings, **fsdp_config, reshard_after_forward=reshard)
        # pyrefly: ignore [missing-attribute]
        for layer_id, transformer_block in model.layers.items():
            fully_shard(transformer_block, **fsdp_config, reshard_after_forward=reshard)
        # Do not reshard the last layers, FSDP would prefetch them at once
        if model.norm is not None and model.output is not None:
            # pyrefly: ignore [no-matching-overload]
            fully_shard(
                [model.norm, model.output],
                **fsdp_config,
                reshard_after_forward=policy == "always",
            )
        fully_shard(model, **fsdp_config)
"""


def test_current_generation():
    assert_mirrors(
        CURRENT_GENERATION,
        """
        def apply_replicate(
            model: nn.Module,
            dp_mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
            replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}

            if model.tok_embeddings is not None:
                # pyrefly: ignore [no-matching-overload]
                replicate(model.tok_embeddings, **replicate_config)
            # pyrefly: ignore [missing-attribute]
            for layer_id, transformer_block in model.layers.items():
                replicate(transformer_block, **replicate_config)
            if model.norm is not None and model.output is not None:
                # pyrefly: ignore [no-matching-overload]
                replicate([model.norm, model.output], **replicate_config)
            replicate(model, **replicate_config)

            logger.info("Applied replicate to the model")
        """,
        imports=OFFLOAD_IMPORTS,
    )


EXPERTS = """
    def apply_fsdp(
        model: nn.Module,
        dp_mesh: DeviceMesh,
        param_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
        ep_degree: int = 1,
        edp_mesh: DeviceMesh | None = None,
        gradient_divide_factor: int | None = None,
    ):
        mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
        fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}

        for block in model.layers.values():
            # The routed experts are sharded on a mesh of their own
            if block.moe_enabled and ep_degree > 1:
                experts_config = fsdp_config.copy()
                experts_config["mesh"] = edp_mesh
                placement = None
                assert edp_mesh is not None
                if edp_mesh.size() * ep_degree > block.moe.experts.num_experts:
                    placement = lambda param: Shard(1)
                fully_shard(
                    block.moe.experts, **experts_config, shard_placement_fn=placement
                )
                block.moe.experts.set_gradient_divide_factor(gradient_divide_factor)
            fully_shard(block, **fsdp_config)
        fully_shard(model, **fsdp_config)

        # Prefetch by hand where experts are parallel
        if ep_degree == 1:
            return

        blocks = list(model.layers.values())
        for block, after in zip(blocks, blocks[1:] + [None]):
            if after is not None:
                block.set_modules_to_forward_prefetch([after, after.moe.experts])
"""


def test_expert_branch_and_prefetching_go():
    assert_mirrors(
        EXPERTS,
        """
        def apply_replicate(
            model: nn.Module,
            dp_mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
            replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}

            for block in model.layers.values():
                replicate(block, **replicate_config)
            replicate(model, **replicate_config)

            logger.info("Applied replicate to the model")
        """,
        imports=PLAN_IMPORTS.replace(
            "MixedPrecisionPolicy\n",
            "MixedPrecisionPolicy\nfrom torch.distributed.tensor import Shard\n",
        ),
    )


def test_prefetching_goes_without_an_early_return():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype):
            mp_policy = MixedPrecisionPolicy(param_dtype, reduce_dtype)
            for block in model.layers.values():
                fully_shard(block, mesh=dp_mesh, mp_policy=mp_policy)
            fully_shard(model, mesh=dp_mesh, mp_policy=mp_policy)

            blocks = list(model.layers.values())
            for block, after in zip(blocks, blocks[1:]):
                block.set_modules_to_forward_prefetch([after])
                after.set_modules_to_backward_prefetch([block])
            model.set_reshard_after_backward(False)
        """
    )
    assert "prefetch" not in result and "blocks" not in result
    assert "set_reshard" not in result


def test_modules_of_other_names():
    assert_mirrors(
        """
        def apply_fsdp(
            net: nn.Module,
            mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            policy = MixedPrecisionPolicy(
                param_dtype=param_dtype,
                reduce_dtype=reduce_dtype,
                cast_forward_inputs=False,
            )
            fully_shard(net.embed, mesh=mesh, mp_policy=policy)
            for stage in net.stages:
                for block in stage.blocks:
                    fully_shard(block, mesh=mesh, mp_policy=policy)
            fully_shard([net.final_norm, net.head], mesh=mesh, mp_policy=policy)
            fully_shard(net, mesh=mesh, mp_policy=policy)
        """,
        """
        def apply_replicate(
            net: nn.Module,
            mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            policy = MixedPrecisionPolicy(
                param_dtype=param_dtype,
                reduce_dtype=reduce_dtype,
                cast_forward_inputs=False,
            )
            replicate(net.embed, mesh=mesh, mp_policy=policy)
            for stage in net.stages:
                for block in stage.blocks:
                    replicate(block, mesh=mesh, mp_policy=policy)
            replicate([net.final_norm, net.head], mesh=mesh, mp_policy=policy)
            replicate(net, mesh=mesh, mp_policy=policy)

            logger.info("Applied replicate to the model")
        """,
    )


def test_configuration_by_dict_call_and_annotated():
    result = mirrored(
        """
        def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh, dtype: torch.dtype) -> None:
            kwargs: dict = dict(
                mesh=dp_mesh,
                mp_policy=MixedPrecisionPolicy(param_dtype=dtype),
                reshard_after_forward=True,
            )
            for block in model.layers:
                fully_shard(block, **kwargs)
            fully_shard(model, **kwargs)
        """,
        target="2d",
    )
    assert "device_mesh=dp_mesh" in result and "reshard" not in result
    assert result.startswith(
        "def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, dtype: torch.dtype) -> None:"
    )


def test_policy_set_by_subscript():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh, param_dtype):
            fsdp_config = {"mesh": dp_mesh}
            fsdp_config["mp_policy"] = MixedPrecisionPolicy(param_dtype=param_dtype)
            fully_shard(model, **fsdp_config)
        """,
        target="2d",
    )
    assert '    replicate_config["mp_policy"] = MixedPrecisionPolicy(' in result


@pytest.mark.parametrize(
    "first",
    [
        '{"mp_policy": MixedPrecisionPolicy(param_dtype)}',
        '{"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}',
    ],
)
def test_mesh_set_by_subscript_gets_the_keyword_of_the_target(first):
    result = mirrored(
        f"""
        def apply_fsdp(model, dp_mesh, param_dtype):
            config = {first}
            config["mesh"] = dp_mesh
            fully_shard(model, **config)
        """,
        target="2d",
    )
    assert '"mesh"' not in result
    assert 'config["device_mesh"] = dp_mesh' in result


def test_layer_walk_by_isinstance():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh, param_dtype):
            policy = MixedPrecisionPolicy(param_dtype=param_dtype)
            for module in model.modules():
                if isinstance(module, TransformerBlock):
                    fully_shard(module, mesh=dp_mesh, mp_policy=policy)
            fully_shard(model, mesh=dp_mesh, mp_policy=policy)
        """,
        imports=PLAN_IMPORTS.replace(
            "from torchtitan.tools",
            "from torchtitan.blocks import TransformerBlock\nfrom torchtitan.tools",
        ),
    )
    assert (
        "        if isinstance(module, TransformerBlock):\n            replicate("
        in result
    )


def test_reversed_layers_and_module_lists_are_followed():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh):
            shared = {"mesh": dp_mesh}
            for block in reversed(model.layers):
                fully_shard(block, **shared)
            fully_shard(model, **shared)
        """
    )
    assert "for block in reversed(model.layers):" in result


def test_what_apply_fsdp_returns_is_returned_last():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh):
            fully_shard(model, mesh=dp_mesh)
            return model
        """
    )
    assert result.endswith(
        '    logger.info("Applied replicate to the model")\n    return model\n'
    ) or result.endswith(
        '    logger.info("Applied replicate to the model")\n\n    return model\n'
    )


def test_an_early_return_drops_nothing_behind_it():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh):
            if model.small:
                fully_shard(model, mesh=dp_mesh)
                return
            for block in model.layers:
                fully_shard(block, mesh=dp_mesh)
            fully_shard(model, mesh=dp_mesh)
        """
    )
    assert "replicate(block" in result or "model.layers.children()" in result


HIDDEN_SHARDING = {
    "a helper": """
        _shard_blocks(model, dp_mesh)
        fully_shard(model, mesh=dp_mesh)
    """,
    "a partial": """
        shard = functools.partial(fully_shard, mesh=dp_mesh, reshard_after_forward=True)
        shard(model.embed)
        fully_shard(model, mesh=dp_mesh)
    """,
    "a lambda": """
        for block in model.layers:
            block.apply(lambda module: fully_shard(module, mesh=dp_mesh))
        fully_shard(model, mesh=dp_mesh)
    """,
    "a comprehension": """
        [fully_shard(block, mesh=dp_mesh) for block in model.layers]
        fully_shard(model, mesh=dp_mesh)
    """,
    "an assignment": """
        model = fully_shard(model, mesh=dp_mesh)
    """,
}


@pytest.mark.parametrize("way", HIDDEN_SHARDING)
def test_no_sharding_is_left_in_the_new_function(way):
    """Whatever is followed or not: nothing that shards may run beside replicate."""
    apply_fsdp = "def apply_fsdp(model, dp_mesh):\n" + "".join(
        f"    {line}\n" for line in text(HIDDEN_SHARDING[way]).splitlines()
    )
    helper = """

def _shard_blocks(model, mesh):
    for block in model.layers:
        fully_shard(block, mesh=mesh)
"""
    before = plan(apply_fsdp + helper, imports="import functools\n\n" + PLAN_IMPORTS)
    result = outcome({PLAN: before}, "2d")
    if result.changes:
        fresh = function(result.changes[PLAN].decode(), "apply_ddp")
        for gone in ("_shard_blocks", "fully_shard", "reshard", " mesh=", "(mesh="):
            assert gone not in fresh
        assert way != "a comprehension" or "in model.layers" in fresh


def test_async_or_aliased_fully_shard_is_recognised():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh):
            for block in model.layers:
                shard(block, mesh=dp_mesh)
            shard(model, mesh=dp_mesh)
        """,
        imports=PLAN_IMPORTS.replace(
            "fully_shard, MixedPrecisionPolicy", "fully_shard as shard"
        ),
    )
    assert "    replicate(block, mesh=dp_mesh)" in result and "shard" not in result


def test_fully_shard_through_its_module():
    result = mirrored(
        """
        def apply_fsdp(model, dp_mesh):
            for block in model.layers:
                fsdp.fully_shard(block, mesh=dp_mesh)
            fsdp.fully_shard(model, mesh=dp_mesh)
        """,
        imports=PLAN_IMPORTS.replace(
            "from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy\n", ""
        ).replace(
            "from torch.distributed._comp",
            "from torch.distributed import fsdp\nfrom torch.distributed._comp",
        ),
    )
    assert "    replicate(block, mesh=dp_mesh)" in result


# Gradient division


DIVISION_OFF = (
    APPLY_FSDP
    + """
    # Disable FSDP's automatic gradient division for all FSDP modules
    disable_fsdp_gradient_division(model)
"""
)
HELPER = {
    "torchtitan/distributed/fsdp.py": """
        from torch.distributed.fsdp import FSDPModule


        def disable_fsdp_gradient_division(model):
            for module in model.modules():
                if isinstance(module, FSDPModule):
                    module.set_gradient_divide_factor(1.0)
    """
}
HELPER_IMPORTS = PLAN_IMPORTS.replace(
    "from torchtitan.tools",
    "from torchtitan.distributed.fsdp import disable_fsdp_gradient_division\n"
    "from torchtitan.tools",
)


def tail(result):
    return text(result.split("replicate(model, **replicate_config)\n")[1])


def test_division_stays_off_where_apply_fsdp_has_it_off():
    result = mirrored(DIVISION_OFF, imports=HELPER_IMPORTS, files={**HELPER, **LOOP})
    assert "    disable_fsdp_gradient_division(model)\n" in result
    (found,) = findings({**HELPER, **LOOP, PLAN: plan(DIVISION_OFF)}, code="TM209")
    assert found.severity == "note"


def test_division_goes_off_by_the_helper_where_only_the_loop_divides():
    files = {**HELPER, **LOOP}
    result = migrated(files)[PLAN]
    assert_formatted(PLAN, result)
    assert "    disable_fsdp_gradient_division(model)\n" in function(
        result, "apply_replicate"
    )
    assert "import disable_fsdp_gradient_division\n" in result


def test_division_goes_off_by_hand_where_there_is_no_helper():
    assert tail(mirrored(APPLY_FSDP, files=LOOP)) == text(
        """
            # The training loop divides by the global token count
            for module in model.modules():
                if isinstance(module, FSDPModule):
                    module.set_gradient_divide_factor(1.0)

            logger.info("Applied replicate to the model")
            """
    )


def test_division_by_hand_imports_what_it_needs():
    result = migrated(LOOP)[PLAN]
    assert (
        "from torch.distributed.fsdp import FSDPModule, fully_shard, MixedPrecisionPolicy\n"
        in result
    )


def test_averaging_stays_where_no_loop_divides():
    assert "divi" not in mirrored(APPLY_FSDP)


def test_another_divide_factor_is_not_taken_over():
    result = mirrored(
        APPLY_FSDP + "    model.set_gradient_divide_factor(gradient_divide_factor)\n"
        "\n\ngradient_divide_factor = 4\n"
    )
    assert "divide_factor" not in result


ACTOR = {
    "torchtitan/experiments/__init__.py": "",
    "torchtitan/experiments/rl/__init__.py": "",
    "torchtitan/experiments/rl/actor.py": f"""
        {IMPORT} apply_ddp


        class Actor:
            def build(self):
                self.model = apply_ddp(
                    model=self.model,
                    dp_mesh=self.parallel_dims.world_mesh,
                    enable_compile=False,
                )
    """,
}


def test_a_trainer_of_its_own_keeps_averaging():
    result = migrated({**LOOP, **ACTOR})
    assert tail(function(result[PLAN], "apply_replicate")).startswith(
        text(
            """
            if not average_gradients:
                # The training loop divides by the global token count
                for module in model.modules():
                    if isinstance(module, FSDPModule):
                        module.set_gradient_divide_factor(1.0)
            """
        )
    )
    assert "    average_gradients: bool = False,\n" in result[PLAN]
    assert "average_gradients=True" in result["torchtitan/experiments/rl/actor.py"]


def test_without_such_a_trainer_there_is_no_option():
    assert "average_gradients" not in migrated(LOOP)[PLAN]


def test_a_local_mean_loss_needs_no_option():
    assert "average_gradients" not in migrated(ACTOR)[PLAN]


# Tied weights


TIED = {
    "torchtitan/models/llama3/model.py": """
        class Model:
            def __init__(self):
                self.output.weight = self.tok_embeddings.weight
    """
}
GROUPS = """
    def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
        mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype)
        fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
        if model.tok_embeddings is not None:
            fully_shard(model.tok_embeddings, **fsdp_config)
        for block in model.layers.values():
            fully_shard(block, **fsdp_config)
        if model.norm is not None and model.output is not None:
            fully_shard([model.norm, model.output], **fsdp_config)
        fully_shard(model, **fsdp_config)
"""
CALLED = """

def parallelize_llama(model, world_mesh, parallel_dims, job_config):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, world_mesh["dp_shard"], param_dtype=torch.bfloat16)
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, world_mesh, enable_compile=False)
"""


def tied(apply_fsdp, files):
    before = plan(apply_fsdp) + CALLED
    result = migrated({**files, PLAN: before})[PLAN]
    assert_formatted(PLAN, before)
    assert_formatted(PLAN, result)
    assert_nothing_unused(before, result)
    return function(result, "apply_replicate")


def test_tied_weights_form_one_group():
    assert tied(GROUPS, TIED) == text(
        """
        def apply_replicate(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
            mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype)
            replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
            # Tied weights are one parameter, so their modules form one group
            weights_tied = (
                model.tok_embeddings is not None
                and model.output is not None
                and model.output.weight is model.tok_embeddings.weight
            )
            if model.tok_embeddings is not None and not weights_tied:
                replicate(model.tok_embeddings, **replicate_config)
            for block in model.layers.values():
                replicate(block, **replicate_config)
            if model.norm is not None and model.output is not None:
                modules = [model.norm, model.output]
                if weights_tied:
                    modules = [model.tok_embeddings, *modules]
                replicate(modules, **replicate_config)
            replicate(model, **replicate_config)

            logger.info("Applied replicate to the model")
        """
    )


HEAD_AND_EMBEDDING = """
    def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
        config = {{"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}}
        # The embedding comes first
        {0}
        fully_shard(model.embed, **config)
        for block in model.blocks:
            fully_shard(block, **config)
        # The head comes last
        {0}
        fully_shard(model.head, **config)
        fully_shard(model, **config)
"""
HEAD_TIES = {
    "torchtitan/models/llama3/model.py": """
        def build(self):
            self.embed.weight = self.head.weight
    """
}


def test_what_is_said_of_tied_modules_is_said_once():
    result = tied(HEAD_AND_EMBEDDING.format("# pyrefly: ignore [call]"), HEAD_TIES)
    assert result.count("# The head comes last\n    modules = [model.head]\n") == 1
    assert result.count("# The head comes last") == 1
    assert "    # pyrefly: ignore [call]\n    replicate(modules, **config)\n" in result
    assert (
        """\
    # The embedding comes first
    if not weights_tied:
        # pyrefly: ignore [call]
        replicate(model.embed, **config)
"""
        in result
    )


def test_a_checker_is_told_of_tied_weights_where_it_is_told_of_others():
    ignored = "# pyrefly: ignore [missing-attribute]"
    result = tied(HEAD_AND_EMBEDDING.format(ignored), HEAD_TIES)
    assert f"    {ignored}\n    weights_tied = model.head.weight is" in result
    guarded = GROUPS.replace(
        "        for block", f"        {ignored}\n        for block"
    )
    assert f"""\
    weights_tied = (
        model.tok_embeddings is not None
        and model.output is not None
        {ignored}
        and model.output.weight is model.tok_embeddings.weight
    )
""" in tied(guarded, TIED)
    assert "pyrefly" not in tied(GROUPS, TIED)


def test_an_identity_that_a_stage_has_in_place_of_a_module_is_no_tied_weight():
    """As the pipeline of the models of transformers leaves it."""
    pipeline = """
        def split(model, names):
            for name in names:
                setattr(model, name, nn.Identity())
    """
    beside = {**TIED, "torchtitan/models/llama3/infra/pipeline.py": pipeline}
    assert """\
    weights_tied = (
        hasattr(model.tok_embeddings, "weight")
        and hasattr(model.output, "weight")
        and model.output.weight is model.tok_embeddings.weight
    )
""" in tied(GROUPS, beside)
    elsewhere = {**TIED, "torchtitan/models/flux/layers.py": pipeline}
    assert "hasattr" not in tied(GROUPS, elsewhere)


def test_untied_weights_stay_apart():
    assert "weights_tied" not in tied(GROUPS, {})


def test_tied_weights_without_guards():
    result = tied(
        """
        def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
            config = {"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}
            fully_shard(model.embed, **config)
            for block in model.blocks:
                fully_shard(block, **config)
            fully_shard(model.head, **config)
            fully_shard(model, **config)
        """,
        HEAD_TIES,
    )
    assert "    weights_tied = model.head.weight is model.embed.weight\n" in result
    assert (
        "    if not weights_tied:\n        replicate(model.embed, **config)\n" in result
    )
    assert "        modules = [model.embed, *modules]\n    replicate(modules," in result


SOME_GROUPS = """
    def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
        config = {"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}
        fully_shard(model.tok_embeddings, **config)
        for block in model.layers.values():
            fully_shard(block, **config)
        fully_shard(model, **config)
"""


def test_a_weight_tied_to_one_of_the_roots_group_goes_there():
    result = tied(SOME_GROUPS, TIED)
    assert (
        "    weights_tied = model.output.weight is model.tok_embeddings.weight\n"
        in result
    )
    alone = (
        "    if not weights_tied:\n        replicate(model.tok_embeddings, **config)\n"
    )
    assert alone in result and result.count(" replicate(") == 3


def test_tied_weights_in_the_roots_group_are_together():
    whole = SOME_GROUPS.replace(
        "    fully_shard(model.tok_embeddings, **config)\n    ", ""
    )
    assert "weights_tied" not in tied(whole, TIED)


def test_weights_of_stages_that_are_tied_are_asked_for():
    stages = SOME_GROUPS.replace(
        "        fully_shard(model.tok",
        "        if model.tok_embeddings is not None:\n            fully_shard(model.tok",
    )
    assert "        and model.output is not None\n" in tied(stages, TIED)


def test_weights_tied_by_setattr():
    path = "torchtitan/models/llama3/model.py"
    by_name = TIED[path].replace(
        "self.output.weight = self.tok_embeddings.weight",
        'setattr(self.output, "weight", self.tok_embeddings.weight)',
    )
    assert by_name != TIED[path]
    assert tied(GROUPS, {path: by_name}) == tied(GROUPS, TIED)


def test_weights_tied_in_one_group_already_are_left_alone():
    result = tied(
        """
        def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
            config = {"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}
            for block in model.layers:
                fully_shard(block, **config)
            fully_shard([model.tok_embeddings, model.norm, model.output], **config)
            fully_shard(model, **config)
        """,
        TIED,
    )
    assert "weights_tied" not in result


def test_weights_tied_by_a_chained_assignment():
    chained = TIED["torchtitan/models/llama3/model.py"].replace(
        "self.output.weight = self", "weight = self.output.weight = self"
    )
    assert "weights_tied" in tied(
        GROUPS, {"torchtitan/models/llama3/model.py": chained}
    )


def test_weights_tied_through_a_local_module():
    local = {
        "torchtitan/models/llama3/model.py": """
            def tie(model):
                model.lm.output.weight = model.lm.tok_embeddings.weight
        """
    }
    assert "weights_tied" in tied(GROUPS, local)


def test_tied_weights_of_another_folder_do_not_count():
    other = {
        "torchtitan/models/mine/model.py": TIED["torchtitan/models/llama3/model.py"],
        HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def parallelize(model, world_mesh, job_config):
                if job_config.shard:
                    apply_fsdp(model, world_mesh["dp_shard"], param_dtype=job_config.dtype)
                else:
                    apply_ddp(model, world_mesh, enable_compile=False)
        """,
    }
    result = migrated({**other, PLAN: plan(GROUPS) + CALLED})
    # One function serves both folders, so the tie of one of them counts.
    assert "weights_tied" in function(result[PLAN], "apply_replicate")


CTOR = TIED["torchtitan/models/llama3/model.py"]
SHARED = "torchtitan/components/tied.py"


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        pytest.param({"torchtitan/models/llama3/tests/test_model.py": CTOR}, False, id="test"),
        pytest.param({"tests/unit_tests/test_tie.py": CTOR}, False, id="tests"),
        pytest.param({"scripts/convert.py": CTOR}, False, id="script"),
        pytest.param({SHARED: CTOR}, False, id="shared code that nobody uses"),
        pytest.param(
            {
                SHARED: CTOR,
                "torchtitan/models/llama3/model.py": "from torchtitan.components.tied import Model\n",
            },
            True,
            id="shared code of this model",
        ),
        pytest.param(
            {
                SHARED: CTOR,
                "torchtitan/models/mine/model.py": "from torchtitan.components.tied import Model\n",
            },
            False,
            id="shared code of another model",
        ),
        pytest.param(
            {"torchtitan/models/llama3/model.py": CTOR.replace("__init__", "init_weights")},
            False,
            id="after wrapping",
        ),
        pytest.param(
            {
                "torchtitan/models/llama3/model/model.py": CTOR,
                "torchtitan/models/llama3/__init__.py": "from .model.model import Model\n",
            },
            True,
            id="a folder below",
        ),
        pytest.param({"torchtitan/models/llama3/model/model.py": CTOR}, True, id="unimported"),
        pytest.param(
            {"torchtitan/models/llama3/model.py": "def load(hf):\n    hf.tie_weights()\n"},
            True,
            id="a method from elsewhere",
        ),
        pytest.param(
            {"torchtitan/models/llama3/model.py": "# model.tie_weights()\n"}, False, id="comment"
        ),
    ],
)  # fmt: skip
def test_which_ties_count(files, counts):
    assert ("weights_tied" in tied(GROUPS, files)) == counts


def test_a_tie_in_the_plan_counts_before_the_call_only():
    tie = "    model.output.weight = model.tok_embeddings.weight\n"
    head, call, _ = CALLED.partition("    if parallel_dims.fsdp_enabled:\n")
    for at_the_start in (True, False):
        called = CALLED.replace(call, tie + call) if at_the_start else CALLED + tie
        result = migrated({PLAN: plan(GROUPS) + called})[PLAN]
        assert ("weights_tied" in function(result, "apply_replicate")) == at_the_start


def test_a_tie_counts_for_the_function_that_its_model_passes_through():
    own = GROUPS.replace("model.layers.values()", "model.blocks")
    mine = f"""{PLAN_IMPORTS.replace("from torch.distributed._composable.replicate import replicate", "")}
from torchtitan.models.llama3.parallelize import apply_ddp


def parallelize(model, world_mesh, job_config):
    if job_config.shard:
        apply_fsdp(model, world_mesh["dp_shard"], param_dtype=job_config.dtype)
    else:
        apply_ddp(model, world_mesh, enable_compile=False)


{text(own)}"""
    files = {HERE: mine, "torchtitan/models/mine/model.py": CTOR}
    result = migrated({**files, PLAN: plan(GROUPS) + CALLED})
    assert "weights_tied" in function(result[HERE], "apply_replicate")
    assert "weights_tied" not in function(result[PLAN], "apply_replicate")


# Where the function stands


def test_docstring_comment_and_decorators_around_the_definition_stay():
    decorated = """
        # Kept: who calls this and when
        @torch.no_grad()
        # Kept: between decorators and def
        def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, enable_compile: bool):
            replicate(model, device_mesh=dp_mesh)
    """
    before = plan(apply_ddp=decorated)
    result = migrated({PLAN: before})[PLAN]
    assert (
        text(
            """
        # Kept: who calls this and when
        @torch.no_grad()
        # Kept: between decorators and def
        def apply_replicate(
        """
        )
        in result
    )
    assert_formatted(PLAN, result)


def test_what_follows_the_definition_stays():
    after = "\n\n# the end of the plan\nVERSION = 3  # keep\n"
    assert migrated({PLAN: plan() + after})[PLAN].endswith(after)


def test_comments_between_this_definition_and_the_next_stay():
    after = """
# about the end of this one


# about the next one
def another():
    pass
"""
    result = migrated({PLAN: plan() + after})[PLAN]
    assert result.endswith(text(after).lstrip()) and after in result


def test_apply_ddp_above_apply_fsdp():
    before = f"{PLAN_IMPORTS}\n\n{APPLY_DDP}\n\n{APPLY_FSDP}"
    result = migrated({PLAN: before})[PLAN]
    assert result.index("def apply_replicate") < result.index("def apply_fsdp")
    assert_formatted(PLAN, result)


@pytest.mark.parametrize(
    "before, after",
    [
        (
            "from torch.distributed._composable import replicate\n",
            "from torch.distributed._composable.replicate_with_fsdp import replicate\n",
        ),
        (
            "from torch.distributed._composable import checkpoint, replicate\n",
            "from torch.distributed._composable import checkpoint\n"
            "from torch.distributed._composable.replicate_with_fsdp import replicate\n",
        ),
        (
            "from torch.distributed._composable.replicate import DDP, replicate\n",
            "from torch.distributed._composable.replicate import DDP\n"
            "from torch.distributed._composable.replicate_with_fsdp import replicate\n",
        ),
        (
            "from torch.distributed._composable.replicate import replicate  # noqa\n",
            "from torch.distributed._composable.replicate_with_fsdp import "
            "replicate  # noqa\n",
        ),
        (
            "\ntry:\n"
            "    from torch.distributed._composable.replicate import replicate\n"
            "except ImportError:\n"
            "    replicate = None\n",
            "try:\n"
            "    from torch.distributed._composable.replicate_with_fsdp import replicate\n"
            "except ImportError:\n"
            "    replicate = None\n",
        ),
    ],
    ids=[
        "package",
        "package, with others",
        "module, with others",
        "with a comment",
        "tried",
    ],
)
def test_import_of_replicate(before, after):
    old = "from torch.distributed._composable.replicate import replicate\n"
    more = "".join(
        f"\n\nassert {name}\n" for name in ("checkpoint", "DDP") if name in before
    )
    changed = plan(imports=PLAN_IMPORTS.replace(old, before)) + more
    result = migrated({PLAN: changed})[PLAN]
    assert after in result
    assert_formatted(PLAN, result)
    assert_nothing_unused(changed, result)


@pytest.mark.parametrize(
    "names",
    ["(  # whole\n    DDP, replicate,\n)", "(DDP,  # whole\n    replicate)"],
)
def test_comments_in_a_list_of_no_shape_go_above_it(names):
    module = "from torch.distributed._composable.replicate import"
    imports = PLAN_IMPORTS.replace(f"{module} replicate", f"{module} {names}")
    result = migrated({PLAN: plan(imports=imports) + "\n\nassert DDP\n"})[PLAN]
    assert f"# whole\n{module} DDP\n" in result
    assert (
        f"{module} replicate".replace(".replicate ", ".replicate_with_fsdp ") in result
    )


def test_comments_in_a_list_stay_in_it():
    old = "from torch.distributed._composable.replicate import"
    imports = PLAN_IMPORTS.replace(
        f"{old} replicate", f"{old} (\n    replicate,  # whole\n)"
    )
    result = migrated({PLAN: plan(imports=imports)})[PLAN]
    new = old.replace(".replicate ", ".replicate_with_fsdp ")
    assert f"{new} (\n    replicate,  # whole\n)" in result


def test_what_is_imported_in_a_try_is_not_imported_once_more():
    """The template needs the policy, which is there, wherever it comes from."""
    plain = "from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy\n"
    other = plain.replace(".fsdp", "._composable.fsdp")
    tried = f"try:\n    {plain}except ImportError:\n    {other}"
    apply_fsdp = """
        def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype):
            shard_by_table(model, fully_shard, MixedPrecisionPolicy(param_dtype))
    """
    before = plan(apply_fsdp, imports=PLAN_IMPORTS.replace(plain, tried)) + APPLY_AC
    result = migrated({PLAN: before})[PLAN]
    assert "MixedPrecisionPolicy(param_dtype=param_dtype" in result
    assert tried in result
    assert result.count(" import ") == before.count(" import ")


def test_import_of_replicate_in_the_function_goes_with_it():
    local = """
        def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, enable_compile: bool):
            from torch.distributed._composable.replicate import replicate

            replicate(model, device_mesh=dp_mesh)
            logger.info("Applied DDP to the model")
    """
    old = "from torch.distributed._composable.replicate import replicate\n"
    before = plan(apply_ddp=local, imports=PLAN_IMPORTS.replace(old, ""))
    result = migrated({PLAN: before})[PLAN]
    assert "from torch.distributed._composable.replicate_with_fsdp import" in result
    assert_formatted(PLAN, result)
    assert_nothing_unused(before, result)


def test_aliased_import_of_replicate():
    before = plan(
        apply_ddp=APPLY_DDP.replace("replicate(", "ddp("),
        imports=PLAN_IMPORTS.replace("import replicate\n", "import replicate as ddp\n"),
    )
    result = migrated({PLAN: before})[PLAN]
    assert_formatted(PLAN, result)
    assert_nothing_unused(before, result)
    assert "replicate as ddp" not in result


@pytest.mark.parametrize("target", ["1d", "2d"])
def test_replicate_through_its_module(target):
    before = plan(
        apply_ddp=APPLY_DDP.replace("replicate(", "composable.replicate("),
        imports=PLAN_IMPORTS.replace(
            "from torch.distributed._composable.replicate import replicate\n",
            "import torch.distributed._composable as composable\n",
        ).replace(
            "import torch.nn as nn\nimport torch.distributed._composable as composable\n",
            "import torch.distributed._composable as composable\nimport torch.nn as nn\n",
        ),
    )
    result = migrated({PLAN: before}, target)[PLAN]
    assert_formatted(PLAN, result)
    assert_nothing_unused(before, result)


# Not touched


def test_opting_out_of_the_definition_and_its_calls():
    before = (
        plan(
            apply_ddp="""
        def apply_ddp(model, dp_mesh, compile):  # titan-migrate: ignore[TM101]
            replicate(model, device_mesh=dp_mesh)
        """
        )
        + """

def parallelize(model, world_mesh):
    apply_ddp(model, world_mesh, False)  # titan-migrate: ignore[TM102]
"""
    )
    result = outcome({PLAN: before})
    assert (result.changes, result.problems) == ({}, ())
    statuses = {(f.code, f.status) for f in result.findings if f.path == PLAN}
    assert ("TM101", "opted-out") in statuses and ("TM102", "opted-out") in statuses


def test_opting_out_of_one_of_two_definitions():
    kept = plan(
        apply_ddp=APPLY_DDP.replace(
            "bool):\n", "bool):  # titan-migrate: ignore[TM101]\n"
        )
    )
    result = migrated({HERE: kept})
    assert HERE not in result and PLAN in result


def test_opting_out_of_a_call_alone_is_refused():
    before = (
        plan()
        + """

def parallelize(model, world_mesh):
    apply_ddp(model, world_mesh, False)  # titan-migrate: ignore[TM102]
"""
    )
    result = outcome({PLAN: before})
    assert result.changes == {}
    assert len(result.problems) == 1 and "ignore[TM101]" in result.problems[0]


def test_opting_out_of_a_call_alone_says_what_else_to_opt_out_of():
    result = outcome(
        {
            HERE: f"""
                {IMPORT} apply_ddp  # titan-migrate: ignore[TM102]


                def parallelize(model, world_mesh):
                    apply_ddp(model, world_mesh, False)  # titan-migrate: ignore[TM102]
            """
        }
    )
    assert result.changes == {}
    assert result.problems and all("ignore[TM101]" in p for p in result.problems)


def test_another_apply_ddp_is_not_touched():
    other = """
        from torch.nn.parallel import DistributedDataParallel


        def apply_ddp(model):
            return DistributedDataParallel(model)
    """
    assert HERE not in migrated({HERE: other})


def test_what_apply_ddp_returned_is_still_returned():
    """A caller may say ``model = apply_ddp(...)``, as it does nowhere with apply_fsdp."""
    returning = APPLY_DDP + "    return model\n"
    caller = f"""
        {IMPORT} apply_ddp


        def parallelize(model, world_mesh, job_config):
            model = apply_ddp(model, world_mesh, False)
            return model
    """
    result = outcome(
        {PLAN: plan(apply_ddp=returning, apply_fsdp=NO_DTYPES), HERE: caller}
    )
    if result.changes:
        fresh = function(result.changes[PLAN].decode(), "apply_replicate")
        assert "return model" in fresh


def test_other_things_that_apply_ddp_did_are_not_lost_in_silence():
    more = APPLY_DDP.replace(
        "    replicate(", "    freeze(model.vision)\n    replicate("
    )
    result = outcome(
        {PLAN: plan(apply_ddp=more) + "\n\ndef freeze(module):\n    pass\n"}
    )
    assert "freeze(model.vision)" in function(
        result.changes.get(PLAN, b"def apply_replicate(): pass").decode(),
        "apply_replicate",
    ) or any("freeze" in f.message + (f.suggestion or "") for f in result.findings)


def test_a_method_of_that_name_is_not_touched():
    method = """
        class Wrapper:
            def apply_ddp(self, model):
                return model
    """
    assert HERE not in migrated({HERE: method})


def test_ddp_that_stays_in_the_same_file_keeps_its_name():
    """An adapter, a frozen teacher: DDP's replicate goes on beside the new one."""
    before = plan() + "\n\ndef elsewhere(model):\n    return replicate(model.lora)\n"
    result = outcome({PLAN: before})
    assert result.problems == ()
    after = result.changes[PLAN].decode()
    assert_formatted(PLAN, after)
    assert "from torch.distributed._composable.replicate import replicate\n" in after
    assert (
        "from torch.distributed._composable.replicate_with_fsdp import (\n"
        "    replicate as replicate_with_fsdp,\n)\n" in after
    )
    assert "        replicate_with_fsdp(block, **replicate_config)\n" in after
    assert "    return replicate(model.lora)\n" in after
    (hazard,) = [f for f in result.findings if f.code == "TM211"]
    assert (
        hazard.status == "hazard"
        and "replicate(model.lora)" in (before.splitlines()[hazard.line - 1])
    )


def test_an_already_migrated_checkout_is_done():
    after = migrated()
    result = outcome({**after})
    assert result.survey.kind == "migrated" and result.changes == {}
    assert [f.status for f in result.findings if f.code == "TM101"] == ["done"]


def test_a_mesh_helper_file_of_named_meshes_does_not_matter():
    assert (
        migrated({"torchtitan/distributed/parallel_dims.py": NAMED_MESHES})[PLAN]
        == (migrated()[PLAN])
    )


def test_base_is_as_the_formatter_leaves_it():
    for path, file in checkout().items():
        assert_formatted(path, file.text)
    assert PLAN in BASE
