"""TM105: ``maybe_enable_amp`` leaves mixed precision to replicate."""

import pytest

from support import (
    PLAN,
    assert_formatted,
    assert_left,
    assert_noop,
    assert_rewrites,
    checkout,
    findings,
    migrated,
    outcome,
    text,
)

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


def amp(signature, condition="parallel_dims.fsdp_enabled", to="", ddp="DDP or "):
    return f"""{HEAD}def maybe_enable_amp({signature}):
    if {condition}:
        # FSDP{to} handles mixed precision internally
        logger.info("Mixed precision training is handled by fully_shard{to}")
        return contextlib.nullcontext()
    else:
        if parallel_dims.tp_enabled or parallel_dims.pp_enabled:
            logger.warning("Mixed precision is only supported with FSDP.")
            return contextlib.nullcontext()
        else:
            # the following code will only be executed for {ddp}single-device training
            logger.info("Mixed precision training is handled by AMP")
            return torch.autocast(device_type)
"""


BOTH = "parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled"


@pytest.mark.parametrize("version", SIGNATURES)
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_release(version, target):
    signature = SIGNATURES[version].replace(": ParallelDims", "")
    head = "from torchtitan.config import TORCH_DTYPE_MAP\n"
    assert_rewrites(
        amp(signature).replace(head, ""),
        amp(signature, BOTH, " or replicate", "").replace(head, ""),
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
                if self.parallel_dims.fsdp_enabled or self.parallel_dims.dp_replicate_enabled:
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
            if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:
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
            if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:
                logger.info(
                    "Mixed precision training is handled by fully_shard or replicate, which casts "
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
        "if backend == Backend.FSDP:\n        return nullcontext()\n    return autocast()",
        "if flag.fsdp_enabled:\n        return nullcontext()\n    return autocast()",
        "if flag.fsdp_enabled:\n        print(1)\n    return autocast()",
        # to go on asking for replication would contradict itself
        "if parallel_dims.dp_replicate_enabled and not parallel_dims.fsdp_enabled:\n        return autocast()\n    return nullcontext()",
        "if (\n        not parallel_dims.fsdp_enabled\n        and parallel_dims.dp_replicate_enabled\n    ):\n        return autocast()\n    return nullcontext()",
    ],
)
def test_other_shapes_are_left(body):
    left = assert_left(
        f"def maybe_enable_amp(parallel_dims, flag):\n    {body}\n",
        "shape that is not followed",
        path=UTILS,
    )
    assert "dp_replicate_enabled" in left.suggestion


def test_a_branch_that_falls_through():
    assert_rewrites(
        """
        def maybe_enable_amp(parallel_dims):
            context = autocast()
            if parallel_dims.fsdp_enabled:
                context = nullcontext()
            return context
        """,
        """
        def maybe_enable_amp(parallel_dims):
            context = autocast()
            if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:
                context = nullcontext()
            return context
        """,
        path=UTILS,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "return nullcontext() if parallel_dims.fsdp_enabled else autocast()",
            """return (
        nullcontext()
        if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled
        else autocast()
    )""",
        ),
        (
            """if not parallel_dims.fsdp_enabled:
        return autocast()
    return nullcontext()""",
            """if not parallel_dims.fsdp_enabled and not parallel_dims.dp_replicate_enabled:
        return autocast()
    return nullcontext()""",
        ),
        (
            """fsdp_enabled = parallel_dims.dp_shard_enabled or parallel_dims.cp_enabled
    if fsdp_enabled:
        return nullcontext()
    return autocast()""",
            """fsdp_enabled = parallel_dims.dp_shard_enabled or parallel_dims.cp_enabled
    if fsdp_enabled or parallel_dims.dp_replicate_enabled:
        return nullcontext()
    return autocast()""",
        ),
    ],
)
def test_other_spellings(before, after):
    head = "def maybe_enable_amp(parallel_dims):\n    "
    assert_rewrites(f"{head}{before}\n", f"{head}{after}\n", path=UTILS)


def test_a_branch_of_its_own_is_done():
    for line in (
        "return contextlib.nullcontext()",
        "pass\n        return nullcontext()",
    ):
        more = (
            f"    elif parallel_dims.dp_replicate_enabled:\n        {line}\n    else:\n"
        )
        done = amp("parallel_dims").replace("    else:\n", more, 1)
        assert [f.status for f in findings({UTILS: done}, code="TM105")] == ["done"]


def test_one_without_autocast_needs_nothing():
    empty = """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                logger.info("Mixed precision training is handled by fully_shard")
            return contextlib.nullcontext()
    """
    assert_noop(empty, path=UTILS)


def test_parallel_dims_without_the_property_is_left():
    dims = "torchtitan/distributed/parallel_dims.py"
    result = outcome(
        {
            dims: "class ParallelDims:\n    fsdp_enabled = True\n",
            UTILS: amp("parallel_dims"),
        }
    )
    assert result.changes == {} and len(result.problems) == 1


def test_no_such_function():
    assert findings(code="TM105") == []
    assert_noop("def enable_amp(parallel_dims):\n    return autocast()\n", path=UTILS)


def test_opting_out():
    kept = amp("parallel_dims").replace(
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
        head, _, body = amp("parallel_dims").partition("(parallel_dims):\n")
        assert body
        found = findings({UTILS: f"{head}(parallel_dims):\n{more}{body}"}, code="TM105")
        assert [f.status for f in found] == ["rewrite"], more


def test_one_that_leaves_autocast_to_both_is_done():
    both = amp("parallel_dims").replace(
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


# Autocast elsewhere in the checkout


LOOP = "torchtitan/loop.py"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            """
            def step(model, parallel_dims, batch):
                context = (
                    contextlib.nullcontext()
                    if parallel_dims.dp_shard_enabled
                    else torch.autocast("cuda", dtype=torch.bfloat16)
                )
                with context:
                    return model(batch)
            """,
            """
            def step(model, parallel_dims, batch):
                context = (
                    contextlib.nullcontext()
                    if parallel_dims.dp_shard_enabled or parallel_dims.dp_replicate_enabled
                    else torch.autocast("cuda", dtype=torch.bfloat16)
                )
                with context:
                    return model(batch)
            """,
            id="expression",
        ),
        pytest.param(
            """
            def step(model, dims, batch):
                amp = autocast("cuda") if not dims.fsdp_enabled else nullcontext()
                with amp:
                    return model(batch), dims.dp_replicate_enabled
            """,
            """
            def step(model, dims, batch):
                amp = (
                    autocast("cuda")
                    if not dims.fsdp_enabled and not dims.dp_replicate_enabled
                    else nullcontext()
                )
                with amp:
                    return model(batch), dims.dp_replicate_enabled
            """,
            id="the other way round",
        ),
        pytest.param(
            """
            class Trainer:
                def context(self):
                    if self.parallel_dims.dp_shard_enabled:
                        ctx = contextlib.nullcontext()
                    else:
                        ctx = torch.autocast("cuda")
                    return ctx
            """,
            """
            class Trainer:
                def context(self):
                    if (
                        self.parallel_dims.dp_shard_enabled
                        or self.parallel_dims.dp_replicate_enabled
                    ):
                        ctx = contextlib.nullcontext()
                    else:
                        ctx = torch.autocast("cuda")
                    return ctx
            """,
            id="statements",
        ),
        pytest.param(
            """
            def step(model, parallel_dims, batch):
                with contextlib.ExitStack() as stack:
                    if not parallel_dims.fsdp_enabled:
                        stack.enter_context(torch.autocast("cuda"))
                    return model(batch)
            """,
            """
            def step(model, parallel_dims, batch):
                with contextlib.ExitStack() as stack:
                    if not parallel_dims.fsdp_enabled and not parallel_dims.dp_replicate_enabled:
                        stack.enter_context(torch.autocast("cuda"))
                    return model(batch)
            """,
            id="stack",
        ),
        pytest.param(
            """
            def step(model, parallel_dims, batch):
                use_amp = not parallel_dims.fsdp_enabled
                with torch.autocast("cuda", enabled=use_amp):
                    return model(batch)
            """,
            """
            def step(model, parallel_dims, batch):
                use_amp = not parallel_dims.fsdp_enabled
                with torch.autocast(
                    "cuda", enabled=use_amp and not parallel_dims.dp_replicate_enabled
                ):
                    return model(batch)
            """,
            id="enabled",
        ),
        pytest.param(
            """
            def step(model, parallel_dims, batch):
                with contextlib.nullcontext() if parallel_dims.fsdp_enabled else autocast():
                    return model(batch)
            """,
            """
            def step(model, parallel_dims, batch):
                with (
                    contextlib.nullcontext()
                    if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled
                    else autocast()
                ):
                    return model(batch)
            """,
            id="with",
        ),
    ],
)
def test_own_autocast(before, after):
    result = migrated({LOOP: before})
    assert result[LOOP] == text(after)
    assert_formatted(LOOP, result[LOOP])


TRAINER = """\
import torch


class Trainer:
    def __init__(self, parallel_dims):
        self.parallel_dims = parallel_dims
        self.use_amp = not BASE.fsdp_enabled

    def step(self, batch):
        with torch.autocast("cuda", enabled=self.use_amp):
            return self.model(batch)
"""


def test_own_autocast_by_an_attribute_is_left_where_nothing_can_be_asked():
    before = TRAINER.replace("BASE", "parallel_dims")
    left = assert_left(before, "shape that is not followed", path=LOOP)
    assert left.suggestion == (
        "torch.autocast(\n    'cuda', enabled=self.use_amp and "
        "(not parallel_dims.dp_replicate_enabled)\n)"
    )


def test_own_autocast_by_an_attribute():
    before = TRAINER.replace("BASE", "self.parallel_dims")
    fresh = "self.use_amp and not self.parallel_dims.dp_replicate_enabled"
    after = migrated({LOOP: before})[LOOP]
    assert f'(\n            "cuda", enabled={fresh}\n        ):' in after
    assert_formatted(LOOP, after)


@pytest.mark.parametrize(
    "condition", ["backend == 'fsdp'", "config.use_ddp", "dims.world > 1 and fsdp"]
)
def test_own_autocast_by_something_else_is_named(condition):
    source = f"def step(model, dims):\n    with nullcontext() if {condition} else autocast():\n        model()\n"
    (found,) = findings({LOOP: source}, code="TM105")
    assert (found.line, found.status) == (2, "hazard")


def test_own_autocast_by_another_question_to_parallel_dims_is_left():
    assert_left(
        """
        def step(model, parallel_dims):
            with nullcontext() if parallel_dims.dp_shard > 1 else autocast():
                model()
        """,
        "goes by the kind of data parallelism",
        path=LOOP,
    )


def loop(*lines: str) -> str:
    body = "".join(f"        {line}\n" for line in lines)
    return f"class Loop:\n    def step(self, cfg, model):\n{body}"


DEGREES = "data_parallel_shard_degree == 1"


@pytest.mark.parametrize(
    "source",
    [
        loop(f"with autocast(enabled=cfg.{DEGREES}):", "    model()"),
        loop(f"if cfg.{DEGREES}:", "    return autocast()", "return nullcontext()"),
        loop("par = cfg.data_parallel_shard_degree", "mixed = par in (0, 1)")
        + "        with autocast() if mixed else nullcontext():\n            model()\n",
        loop("n = cfg.par.data_parallel_shard_degree", "if n == 1 and cfg.bf16:")
        + "            return autocast()\n        return nullcontext()\n",
        loop(f"if cfg.{DEGREES}:", "    torch.set_autocast_enabled('cuda', True)"),
    ],
)
def test_autocast_by_a_degree_of_the_configuration_is_left(source):
    assert_left(source, "goes by the kind of data parallelism", path=LOOP)


@pytest.mark.parametrize("name", ["autocast", "use_amp", "amp"])
def test_what_another_file_opens_autocast_by_is_left(name):
    source = loop(f"model.{name} = not parallel_dims.fsdp_enabled")
    left = assert_left(source, "goes by the kind of data parallelism", path=LOOP)
    assert left.suggestion == (
        "(not parallel_dims.fsdp_enabled) and not parallel_dims.dp_replicate_enabled"
    )
    done = source.replace("\n", " and not parallel_dims.dp_replicate_enabled\n")
    done = done.replace("model): and not parallel_dims.dp_replicate_enabled", "model):")
    done = done.replace("Loop: and not parallel_dims.dp_replicate_enabled", "Loop:")
    assert {f.status for f in findings({LOOP: done}, code="TM105")} == {"done"}


RANKS = "n = cfg.data_parallel_replicate_degree * cfg.data_parallel_shard_degree"


@pytest.mark.parametrize(
    "source",
    [
        loop(RANKS, "share = cfg.samples // n", "for i in cfg.rows:")
        + "            if i < share:\n                with autocast():\n                    model()\n",
        loop("first = cfg.rank % cfg.data_parallel_shard_degree == 0", "if first:")
        + "            with autocast():\n                model()\n",
        loop("n = cfg.n // cfg.data_parallel_shard_degree", "on = n > 0 and cfg.bf16")
        + "        with autocast(enabled=on):\n            model()\n",
        loop(RANKS, "with autocast(enabled=n == 1):", "    model()"),
        loop(RANKS, "if n > 1:", "    return nullcontext()", "return autocast()"),
        loop(
            "if cfg.data_parallel_replicate_degree > 1:",
            "    return nullcontext()",
            f"if cfg.{DEGREES}:",
            "    return autocast()",
            "return nullcontext()",
        ),
        loop(
            f"if cfg.{DEGREES}:",
            "    if cfg.data_parallel_replicate_degree == 1:",
            "        return autocast()",
            "return nullcontext()",
        ),
    ],
)
def test_what_reckons_with_degrees_or_asks_both_is_right(source):
    assert_noop(source, path=LOOP)
    assert {f.status for f in findings({LOOP: source}, code="TM105")} <= {"done"}


@pytest.mark.parametrize(
    "line",
    [
        "model.skip_amp = parallel_dims.fsdp_enabled",
        "model.disable_autocast = parallel_dims.fsdp_enabled",
        "model.amp_dtype = bf16 if parallel_dims.fsdp_enabled else fp32",
        "self.metrics.amp = not parallel_dims.fsdp_enabled",
        "model.autocast = cfg.autocast",
        "model.stamp = not parallel_dims.fsdp_enabled",
        "self.maybe_enable_amp = autocast_of(parallel_dims, dp_shard=1)",
    ],
)
def test_what_says_nothing_of_autocast_by_the_kind_is_no_choice(line):
    source = f"import autocast\n{loop(line)}"
    assert_noop(source, path=LOOP)
    assert findings({LOOP: source}, code="TM105") == []


def test_autocast_by_a_name_that_was_set_by_the_kind_is_named():
    source = loop('kind = {"ddp": torch.bfloat16, "fsdp": None}[cfg.kind]')
    source += (
        "        with autocast(kind) if kind else nullcontext():\n            model()\n"
    )
    (found,) = findings({LOOP: source}, code="TM105")
    assert (found.line, found.status) == (4, "hazard")


@pytest.mark.parametrize(
    "source",
    [
        loop(f"single = cfg.{DEGREES} and cfg.data_parallel_replicate_degree == 1")
        + "        with autocast(enabled=single):\n            model()\n",
        loop("n = cfg.data_parallel_replicate_degree", f"if cfg.{DEGREES} and n <= 1:")
        + "            return autocast()\n        return nullcontext()\n",
        loop("n = cfg.data_parallel_replicate_degree", "if n > 1 or cfg.fsdp:")
        + "            return nullcontext()\n        return autocast()\n",
        loop("torch.set_autocast_enabled('cuda', False)"),
    ],
)
def test_autocast_without_replicas_alone_is_right(source):
    assert_noop(source, path=LOOP)
    assert {f.status for f in findings({LOOP: source}, code="TM105")} <= {"done"}


@pytest.mark.parametrize(
    "source",
    [
        'def step(model):\n    with torch.autocast("cuda"):\n        model()\n',
        "def step(model, flag):\n    with autocast() if flag else nullcontext():\n        model()\n",
        "def rope(x):\n    with autocast(enabled=False):\n        return x.cos()\n",
        "def step(parallel_dims):\n    if parallel_dims.fsdp_enabled:\n        shard()\n    with autocast():\n        pass\n",
    ],
)
def test_autocast_for_fsdp_as_well_stays(source):
    assert_noop(source, path=LOOP)
    assert findings({LOOP: source}, code="TM105") == []


# maybe_enable_amp of a torchtitan outside of the checkout


OUTSIDE = """
    import torch
    from elsewhere.distributed import utils as dist_utils


    def main(model, parallel_dims, job_config, batch, device_type):
        maybe_enable_amp = {}
        with maybe_enable_amp:
            model(batch)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            """dist_utils.maybe_enable_amp(
            parallel_dims, job_config.training.mixed_precision_param, device_type
        )""",
            """(
            contextlib.nullcontext()
            if parallel_dims.dp_replicate_enabled
            else dist_utils.maybe_enable_amp(
                parallel_dims, job_config.training.mixed_precision_param, device_type
            )
        )""",
        ),
        (
            """dist_utils.maybe_enable_amp(
            parallel_dims,
            job_config.training.mixed_precision_param,
            device_type,
        )""",
            """(
            contextlib.nullcontext()
            if parallel_dims.dp_replicate_enabled
            else dist_utils.maybe_enable_amp(
                parallel_dims,
                job_config.training.mixed_precision_param,
                device_type,
            )
        )""",
        ),
        (
            "dist_utils.maybe_enable_amp(parallel_dims, 1, device_type)",
            """(
            contextlib.nullcontext()
            if parallel_dims.dp_replicate_enabled
            else dist_utils.maybe_enable_amp(parallel_dims, 1, device_type)
        )""",
        ),
    ],
)
def test_call_of_one_outside(before, after):
    fresh = OUTSIDE.replace(
        "    import torch\n", "    import contextlib\n\n    import torch\n"
    )
    assert_rewrites(OUTSIDE.format(before), fresh.format(after), path=LOOP)


def test_call_of_one_outside_in_a_with_and_by_name():
    assert_rewrites(
        """
        from contextlib import nullcontext

        from elsewhere.utils import maybe_enable_amp as amp


        class Trainer:
            def step(self, batch):
                with amp(self.parallel_dims, self.job_config.training.dtype, "cuda"):
                    return self.model(batch), nullcontext()
        """,
        """
        from contextlib import nullcontext

        from elsewhere.utils import maybe_enable_amp as amp


        class Trainer:
            def step(self, batch):
                with (
                    nullcontext()
                    if self.parallel_dims.dp_replicate_enabled
                    else amp(self.parallel_dims, self.job_config.training.dtype, "cuda")
                ):
                    return self.model(batch), nullcontext()
        """,
        path=LOOP,
    )


OTHERWISE = """\
import functools
import importlib
IMPORT


class Loop:
    def __init__(self, parallel_dims, dtype):
        self.context = USE
"""


@pytest.mark.parametrize(
    "imported, use",
    [
        ("from far import utils as u", "u.maybe_enable_amp"),
        ("from far.utils import maybe_enable_amp as amp", "amp"),
        ("from far import utils as u", "functools.partial(u.maybe_enable_amp, parallel_dims)"),
        ("from far import utils as u", "dict(amp=u.maybe_enable_amp)"),
        ("from torchtitan.x import *", "maybe_enable_amp"),
        ("from torchtitan.x import *", "maybe_enable_amp(parallel_dims, dtype, 'cuda')"),
        ("from far import utils as u", "[getattr(u, 'maybe_enable_amp')]"),
        ("import torch", "getattr(importlib.import_module('torchtitan.x'), 'maybe_enable_amp')"),
    ],
)  # fmt: skip
def test_use_of_one_outside_that_is_no_call_is_left(imported, use):
    text = OTHERWISE.replace("IMPORT", imported).replace("USE", use)
    left = assert_left(text, "outside of this checkout", path=LOOP)
    assert left.line == 8
    code = "contextlib.nullcontext() if parallel_dims.dp_replicate_enabled else "
    assert left.suggestion.startswith(code)
    assert left.suggestion.endswith(")")


@pytest.mark.parametrize(
    "text",
    [
        "from far.utils import maybe_enable_amp as amp\n",
        "from far import utils\n\namp = utils.maybe_enable_amp\n",
        "from far import utils\n\nmaybe_enable_amp = utils.maybe_enable_amp\n",
    ],
)
def test_one_outside_that_is_handed_on_is_left(text):
    left = assert_left(text, "do not call it under pure dp_replicate", path=LOOP)
    assert "parallel_dims, ..." in left.suggestion


def test_one_outside_through_a_file_of_this_checkout_and_asked_for():
    given = "from far.utils import maybe_enable_amp\n"
    text = """\
from mine.compat import maybe_enable_amp


def step(model, parallel_dims):
    if maybe_enable_amp is not None:
        return maybe_enable_amp(parallel_dims, "bfloat16", "cuda")
"""
    after = migrated({"mine/__init__.py": "", "mine/compat.py": given, LOOP: text})
    assert "if parallel_dims.dp_replicate_enabled" in after[LOOP]


@pytest.mark.parametrize(
    "call",
    [
        "dict(amp=dist_utils.maybe_enable_amp(parallel_dims, 1, device_type))",
        "dist_utils.maybe_enable_amp(*job_config)",
        "dist_utils.maybe_enable_amp(make(), 1, 2)",
    ],
)
def test_call_of_one_outside_that_is_left(call):
    left = assert_left(OUTSIDE.format(call), "outside of this checkout", path=LOOP)
    assert left.suggestion.startswith(
        "contextlib.nullcontext() if parallel_dims.dp_replicate_enabled else dist_utils."
    )


@pytest.mark.parametrize(
    "guarded",
    [
        "if parallel_dims.dp_replicate_enabled:\n    a = nullcontext()\nelse:\n    a = {}",
        "if not parallel_dims.dp_replicate_enabled:\n    a = {}",
        "a = nullcontext() if parallel_dims.dp_replicate_enabled else {}",
    ],
)
def test_call_of_one_outside_that_is_not_made_under_replicate(guarded):
    call = "maybe_enable_amp(parallel_dims, 1, 2)"
    source = f"from elsewhere.utils import maybe_enable_amp\n{guarded.format(call)}\n"
    found = findings({LOOP: source}, code="TM105")
    assert [f.status for f in found] == ["done"]


def plan_of_ours(**more):
    """A checkout that is no torchtitan: its own plan beside a torchtitan from elsewhere."""
    mine = checkout()[PLAN].text.replace(
        "from torchtitan.tools.logging import", "from mine import"
    )
    taken = dict.fromkeys(checkout())
    return {
        **taken,
        "mine/plan.py": mine,
        "mine/__init__.py": "logger = None\n",
        **more,
    }


def test_a_trainer_outside_opens_it():
    trainer = "import torch\nfrom torchtitan.train import Trainer\n\n\nclass Mine(Trainer):\n    pass\n"
    (found,) = findings(plan_of_ours(**{"mine/train.py": trainer}), code="TM105")
    assert (found.path, found.line, found.status) == ("mine/train.py", 5, "left")
    assert found.suggestion.startswith("import contextlib\n\n\nclass Mine(Trainer):")
    assert "self.maybe_enable_amp = contextlib.nullcontext()" in found.suggestion


def test_a_trainer_outside_that_is_only_used():
    spec = "import torch\nfrom torchtitan.protocols.train_spec import TrainSpec\n"
    (found,) = findings(plan_of_ours(**{"mine/spec.py": spec}), code="TM105")
    assert (found.path, found.line) == ("mine/spec.py", 2)
    own_loop = {"mine/loop.py": "def step(loss):\n    loss.backward()\n"}
    assert not findings(
        plan_of_ours(**{"mine/spec.py": spec, **own_loop}), code="TM105"
    )
    assert not findings(plan_of_ours(), code="TM105")
