"""TM107: the help texts of the configuration."""

import pytest

from codemods.selection import Selection

from support import (
    HERE,
    IMPORT,
    PLAN,
    assert_noop,
    assert_rewrites,
    findings,
    migrated,
    outcome,
    text,
)

CONFIG = "torchtitan/job_config.py"
UTILS = "torchtitan/distributed/utils.py"
AMP = """
    import contextlib

    import torch


    def maybe_enable_amp(parallel_dims, mixed_precision_param, device_type):
        if parallel_dims.fsdp_enabled:
            return contextlib.nullcontext()
        if parallel_dims.tp_enabled or parallel_dims.pp_enabled:
            return contextlib.nullcontext()
        return torch.autocast(device_type)
"""
CALLER = f"""
    {IMPORT} apply_ddp, apply_fsdp


    def parallelize(model, world_mesh, parallel_dims, job_config):
        training = job_config.training
        if parallel_dims.fsdp_enabled:
            apply_fsdp(
                model,
                world_mesh["dp_shard"],
                training.mixed_precision_param,
                training.mixed_precision_reduce,
            )
        elif parallel_dims.dp_replicate_enabled:
            apply_ddp(model, world_mesh, training.compile)
"""
FILES = {UTILS: AMP, HERE: CALLER}

COMPUTE = '''
    class Training:
        param: str = "bfloat16"
        """
        Dtype of the compute, via fully_shard or torch.autocast. It comes by the policy
        with shards; via torch.autocast when there are none, i.e. under DDP or
        single-device training.
        """
'''
COMPUTE_NOW = '''
    class Training:
        param: str = "bfloat16"
        """
        Dtype of the compute, via fully_shard, replicate or torch.autocast. It comes by the
        policy with shards; via replicate when data_parallel_replicate_degree > 1 without
        sharding, and via torch.autocast when no parallelism is enabled, i.e. under
        single-device training.
        """
'''
REDUCE = '''
    class Training:
        reduce: str = "float32"
        """
        Dtype of the reduction, with mixed precision via FSDP.
        It only takes effect when data_parallel_shard_degree > 1
        """
'''
REDUCE_NOW = '''
    class Training:
        reduce: str = "float32"
        """
        Dtype of the reduction, with mixed precision via FSDP or replicate.
        It takes effect when data_parallel_shard_degree > 1 or
        data_parallel_replicate_degree > 1
        """
'''
METHOD = '''
    class Parallelism:
        degree: int = 1
        """
        Otherwise, the
        parallelism method used is DDP (Distributed Data Parallelism).
        1 means none.
        """
'''
METHOD_NOW = '''
    class Parallelism:
        degree: int = 1
        """
        Otherwise, the
        parallelism method used is replicate (composable replication, built on FSDP2).
        1 means none.
        """
'''


@pytest.mark.parametrize("target", ["1d", "2d"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(COMPUTE, COMPUTE_NOW), (REDUCE, REDUCE_NOW), (METHOD, METHOD_NOW)],
    ids=["compute", "reduce", "method"],
)
def test_sentences(before, after, target):
    assert_rewrites(before, after, path=CONFIG, target=target, files=FILES)


def test_help_of_an_option_parser():
    before = """
        def options(add):
            add("--degree", help="the parallelism method used is DDP.")
    """
    result = migrated({**FILES, CONFIG: before})[CONFIG]
    now = "replicate (composable replication, built on FSDP2)"
    assert result == text(
        f"""
        def options(add):
            add(
                "--degree",
                help="the parallelism method used is {now}.",
            )
        """
    )


def test_line_ends_are_kept():
    raw = text(METHOD).replace("\n", "\r\n").encode()
    result = outcome({**FILES, CONFIG: raw})
    assert result.changes[CONFIG] == text(METHOD_NOW).replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    "help",
    [
        'HELP = "This feature takes effect via fully_shard."\n',
        'HELP = "DDP replicas have the same parameters after a round"\n',
        'HELP = "takes effect when data_parallel_shard_degree > 1"\n',
    ],
)
def test_what_is_true_stays(help):
    assert_noop(help, path=CONFIG, files=FILES)
    assert findings({**FILES, CONFIG: help}, code="TM215") == []


@pytest.mark.parametrize(
    ("help", "files"),
    [
        # in two pieces, and in other words
        ('HELP = "the parallelism method " "used is DDP"\n', {}),
        ('HELP = f"the parallelism method used is DDP, {x}"\n', {}),
        ('HELP = "via torch.autocast for what DDP runs"\n', {}),
        # another plan stays DDP's
        (
            METHOD,
            {
                "torchtitan/models/mine/other.py": CALLER.replace(
                    "training.compile)",
                    "training.compile)  # titan-migrate: ignore[TM102]",
                ).replace(f"{IMPORT} apply_ddp, apply_fsdp", ""),
                PLAN: None,
                HERE: None,
            },
        ),
        # nothing here opens autocast, or its condition opts out
        (COMPUTE, {UTILS: None}),
        # no call takes its dtype from the option
        (
            REDUCE,
            {HERE: f"{IMPORT} apply_ddp\n\napply_ddp(model, mesh['dp'], False)\n"},
        ),
    ],
)
def test_what_is_not_certain_is_left_to_tm215(help, files):
    found = findings({**FILES, CONFIG: help, **files})
    assert [f for f in found if f.code == "TM107"] == []


@pytest.mark.parametrize("files", [{}, {UTILS: None}])
def test_each_sentence_is_named_once(files):
    found = findings({**FILES, CONFIG: COMPUTE, **files}, path=CONFIG)
    assert [f.code for f in found] == ["TM215" if files else "TM107"]


def test_opting_out_at_the_end_of_the_string():
    kept = METHOD.replace(
        '1 means none.\n        """',
        '1 means none.\n        """  # titan-migrate: ignore[TM107]',
    )
    assert kept != METHOD
    assert CONFIG not in migrated({**FILES, CONFIG: kept})
    assert [f.status for f in findings({**FILES, CONFIG: kept}, code="TM107")] == [
        "opted-out"
    ]
    assert findings({**FILES, CONFIG: kept}, code="TM213") == []


def test_it_is_not_told_without_what_it_tells_of():
    assert not Selection(select=("TM107",)).takes("TM107")
    assert not Selection(ignore=("TM101", "TM102", "TM103", "TM105")).takes("TM107")
    assert Selection(ignore=("TM2",)).takes("TM107")
