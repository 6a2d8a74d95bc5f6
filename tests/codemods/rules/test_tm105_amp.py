"""TM105: ``maybe_enable_amp`` leaves mixed precision to replicate."""

import pytest

from support import assert_left, assert_noop, assert_rewrites, findings, outcome

UTILS = "torchtitan/distributed/utils.py"

HEAD = """\
import contextlib

import torch

from torchtitan.config import TORCH_DTYPE_MAP
from torchtitan.tools.logging import logger


"""

SIGNATURES = {
    "0.1.0": "parallel_dims: ParallelDims, param: str, device_type: torch.device",
    "0.2.2": "parallel_dims, mixed_precision_param, device_type",
}


def amp(signature, first, comment):
    return f"""{HEAD}def maybe_enable_amp({signature}):
    if parallel_dims.fsdp_enabled:
        # FSDP handles mixed precision internally
        logger.info("Mixed precision training is handled by fully_shard")
        return contextlib.nullcontext()
{first}    else:
        if parallel_dims.tp_enabled or parallel_dims.pp_enabled:
            logger.warning("Mixed precision is only supported with FSDP.")
            return contextlib.nullcontext()
        else:
            # {comment}
            logger.info("Mixed precision training is handled by AMP")
            return torch.autocast(device_type)
"""


BRANCH = """\
    elif parallel_dims.dp_replicate_enabled:
        # replicate handles mixed precision internally
        logger.info("Mixed precision training is handled by replicate")
        return contextlib.nullcontext()
"""
OLD = "the following code will only be executed for DDP or single-device training"


@pytest.mark.parametrize("version", SIGNATURES)
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_release(version, target):
    signature = SIGNATURES[version].replace(": ParallelDims", "")
    head = "from torchtitan.config import TORCH_DTYPE_MAP\n"
    assert_rewrites(
        amp(signature, "", OLD).replace(head, ""),
        amp(signature, BRANCH, OLD.replace("DDP or ", "")).replace(head, ""),
        path=UTILS,
        target=target,
    )


def test_method():
    assert_rewrites(
        """
        class Trainer:
            @contextmanager
            def maybe_enable_amp(self):
                if self.parallel_dims.fsdp_enabled:
                    return nullcontext()
                else:
                    return autocast()
        """,
        """
        class Trainer:
            @contextmanager
            def maybe_enable_amp(self):
                if self.parallel_dims.fsdp_enabled:
                    return nullcontext()
                elif self.parallel_dims.dp_replicate_enabled:
                    return nullcontext()
                else:
                    return autocast()
        """,
        path=UTILS,
    )


def test_without_an_else():
    assert_rewrites(
        """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                return nullcontext()
            return autocast()
        """,
        """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                return nullcontext()
            elif parallel_dims.dp_replicate_enabled:
                return nullcontext()
            return autocast()
        """,
        path=UTILS,
    )


def test_branch_over_several_lines_keeps_its_layout():
    assert_rewrites(
        """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                logger.info(
                    "Mixed precision training is handled by fully_shard, which casts "
                    "parameters and gradients"
                )

                if parallel_dims.verbose:
                    logger.info("verbose")
                return nullcontext()
            return autocast()
        """,
        """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                logger.info(
                    "Mixed precision training is handled by fully_shard, which casts "
                    "parameters and gradients"
                )

                if parallel_dims.verbose:
                    logger.info("verbose")
                return nullcontext()
            elif parallel_dims.dp_replicate_enabled:
                logger.info(
                    "Mixed precision training is handled by replicate, which casts "
                    "parameters and gradients"
                )

                if parallel_dims.verbose:
                    logger.info("verbose")
                return nullcontext()
            return autocast()
        """,
        path=UTILS,
    )


def test_already_done():
    done = """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:
                return nullcontext()
            return autocast()
    """
    assert_noop(done, path=UTILS)
    assert [f.status for f in findings({UTILS: done}, code="TM105")] == ["done"]


@pytest.mark.parametrize(
    "body",
    [
        "return autocast()",
        "if parallel_dims.dp_shard > 1: return nullcontext()\n    return autocast()",
        "if parallel_dims.fsdp_enabled and flag:\n        return nullcontext()\n"
        "    return autocast()",
        "return nullcontext() if parallel_dims.fsdp_enabled else autocast()",
        "if not parallel_dims.fsdp_enabled:\n        return autocast()\n"
        "    return nullcontext()",
    ],
)
def test_other_shapes_are_left(body):
    left = assert_left(
        f"def maybe_enable_amp(parallel_dims, flag):\n    {body}\n",
        "shape that is not followed",
        path=UTILS,
    )
    assert "dp_replicate_enabled" in left.suggestion


def test_a_branch_that_falls_through_is_accounted_for():
    result = outcome(
        {
            UTILS: """
            def maybe_enable_amp(parallel_dims):
                context = autocast()
                if parallel_dims.fsdp_enabled:
                    context = nullcontext()
                return context
            """
        }
    )
    assert result.problems or b"dp_replicate_enabled" in result.changes[UTILS]


def test_parallel_dims_without_the_property_is_left():
    dims = "torchtitan/distributed/parallel_dims.py"
    result = outcome(
        {
            dims: "class ParallelDims:\n    fsdp_enabled = True\n",
            UTILS: amp("parallel_dims", "", OLD),
        }
    )
    assert result.changes == {} and len(result.problems) == 1


def test_no_such_function():
    assert findings(code="TM105") == []
    assert_noop("def enable_amp(parallel_dims):\n    return autocast()\n", path=UTILS)


def test_opting_out():
    kept = amp("parallel_dims", "", OLD).replace(
        "(parallel_dims):", "(parallel_dims):  # titan-migrate: ignore[TM105]"
    )
    assert_noop(kept, path=UTILS)
    assert [f.status for f in findings({UTILS: kept}, code="TM105")] == ["opted-out"]


def test_a_branch_that_only_mentions_replicate_is_not_done():
    """Only one that is taken whenever replicate is on, and leaves autocast out, is."""
    for more in (
        "    if autocast and parallel_dims.dp_replicate_enabled:\n        pass\n",
        "    if parallel_dims.dp_replicate_enabled and parallel_dims.tp_enabled:\n"
        "        return contextlib.nullcontext()\n",
        "    if parallel_dims.dp_replicate_enabled:\n        print('replicate')\n",
    ):
        head, _, body = amp("parallel_dims", "", OLD).partition("(parallel_dims):\n")
        assert body
        found = findings({UTILS: f"{head}(parallel_dims):\n{more}{body}"}, code="TM105")
        assert [f.status for f in found] == ["rewrite"], more


def test_one_that_leaves_autocast_to_both_is_done():
    both = amp("parallel_dims", "", OLD).replace(
        "parallel_dims.fsdp_enabled:",
        "parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:",
    )
    assert [f.status for f in findings({UTILS: both}, code="TM105")] == ["done"]


def test_one_that_goes_by_another_name_is_left():
    for line in (
        "maybe_enable_amp = enable_amp",
        "from x import a as maybe_enable_amp",
    ):
        found = findings({UTILS: f"{line}\n"}, code="TM105")
        assert [f.status for f in found] == ["left"], line
