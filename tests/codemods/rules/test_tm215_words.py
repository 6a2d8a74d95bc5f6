"""TM215: words in the code that are not true of replicate."""

import pytest

from support import HERE, IMPORT, outcome

CONFIG = "torchtitan/job_config.py"
HELP = """
    class Training:
        mixed_precision_param: str = "bfloat16"
        '''
        torch dtype. It takes effect via torch.autocast when there is no sharding
        and no other parallelism, i.e. under DDP or single-device training.
        '''
        reduce: str = "float32"
        '''
        This feature only takes effect when data_parallel_shard_degree > 1
        '''
        degree: int = 1
        '''Otherwise, the parallelism method used is DDP (Distributed Data Parallelism).'''
"""
ONE_STAYS = f"""
    {IMPORT} apply_ddp


    def parallelize(model, world_mesh):
        apply_ddp(model, world_mesh, False)  # titan-migrate: ignore[TM102]
"""


def words(files, **options):
    found = [f for f in outcome(files, **options).findings if f.code == "TM215"]
    assert {f.status for f in found} <= {"hazard", "opted-out"}
    return [(f.path, f.line, f.suggestion) for f in found]


def test_help_is_one_finding_for_a_file():
    ((path, line, suggestion),) = words({CONFIG: HELP, HERE: ONE_STAYS})
    assert (path, line) == (CONFIG, 4)
    assert len(suggestion.splitlines()) == 3
    assert "the parallelism method used is replicate" in suggestion


def test_help_that_is_true_stays_unnamed():
    assert (
        words({CONFIG: "HELP = 'This feature takes effect via fully_shard.'\n"}) == []
    )


def test_nothing_where_nothing_moves():
    plan = "torchtitan/models/llama3/parallelize.py"
    assert words({CONFIG: HELP, plan: None}) == []


DOCSTRING = '''
    def build(ddp_size):
        """Make ParallelDims.

        Args:
            ddp_size: degree of DDP
        """
'''


def test_docstrings():
    assert words({CONFIG: DOCSTRING}) == [(CONFIG, 5, "ddp_size: degree of replicate")]
    kept = DOCSTRING.replace(
        'of DDP\n        """', 'of DDP\n        """  # titan-migrate: ignore[TM215]'
    )
    found = outcome({CONFIG: kept}).findings
    assert [f.status for f in found if f.code == "TM215"] == ["opted-out"]
    assert [f for f in found if f.code == "TM213"] == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (CONFIG, "DDP replicas have the same parameters after a round."),
        (CONFIG, "As DDP does."),
        ("tests/x.py", "ParallelDims of DDP."),
        (
            "torchtitan/experiments/simple_fsdp/simple_fsdp.py",
            "The mesh of FSDP/DDP/HSDP.",
        ),
    ],
)
def test_docstrings_about_something_else(path, said):
    assert words({path: f'"""{said}"""\n'}) == []


def test_comments_beside_the_call():
    plan = f"""
        {IMPORT} apply_ddp


        def parallelize(model, parallel_dims):
            if parallel_dims.dp_replicate_enabled:
                # DDP wraps the whole model
                # plain DDP
                apply_ddp(model, parallel_dims.world_mesh, False)
    """
    ((path, line, suggestion),) = words({HERE: plan})
    assert (path, line, suggestion) == (HERE, 6, "# replicate wraps the whole model")
    assert words({HERE: plan}, target="2d") == []


def test_comments_where_autocast_is_chosen():
    amp = """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                return nullcontext()
            # only DDP and a single device get here
            return autocast()
    """
    assert words({CONFIG: amp}) == [(CONFIG, 4, "# only a single device get here")]


def test_what_the_rest_of_the_function_says():
    """A word chosen by degree, a log line behind both branches; not a guard's, which goes."""
    plan = f"""\
from torchtitan.tools.logging import logger

{IMPORT} apply_ddp


def parallelize(model, world_mesh, parallel_dims):
    kind = "HSDP" if parallel_dims.fsdp_enabled else "DDP"
    sharded = parallel_dims.dp_shard > 1
    if world_mesh.ndim > 1:
        logger.error("DDP has not supported > 1D parallelism")
        raise RuntimeError("DDP has not supported > 1D parallelism")
    if parallel_dims.dp_replicate_enabled:
        apply_ddp(model, world_mesh["dp_replicate"], False)
        logger.info("Applied DDP to the model")
    logger.info(f"wrapped by {{'FSDP' if sharded else 'DDP'}}, {{kind}}")
    name = "a run under DDP"
    return kind, name
"""
    assert words({HERE: plan}) == [
        (
            HERE,
            7,
            "kind = 'HSDP' if parallel_dims.fsdp_enabled else 'replicate'\n"
            "logger.info(f\"wrapped by {('FSDP' if sharded else 'replicate')}, {kind}\")",
        )
    ]
