"""Every hazard of the releases and of the fixtures, so that none cries wolf unseen.

Why each stands here:

- TM201: qwen3 ties its weights at the end of the plan, where replicate lets go of it.
- TM206: the RL trainer hands its state dict to another process.
- TM207: flux has no branch for pure replication, and shares maybe_enable_amp.
- TM208, TM214: what the new function of Llama 3 no longer takes, and its precision.
- TM215: a help text, or a comment, that speaks of DDP.
- TM227: the option early_step_in_backward is there, with which DDP is no reference.
- TM228: torchft's manager sets its hook on every FSDPModule, so on replicate's groups now.
- TM235: our RL trainer is given its model; that of the releases loads one of its own classes.

``fork_quirks`` is there to have one of each.
"""

import pytest

from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout

from places import FIXTURES
from releases import release

# A place for both targets, or for the one that is named behind it.
RELEASES = {
    "0.1.0": """
        components/ft.py:65 TM228
        config_manager.py:148 TM227
        experiments/flux/infra/parallelize.py:37 TM207
        models/llama3/infra/parallelize.py:370 TM208
        models/llama3/infra/parallelize.py:370 TM214
    """,
    "0.2.0": """
        components/ft/manager.py:94 TM228
        config/job_config.py:151 TM227
        experiments/flux/infra/parallelize.py:36 TM207
        models/llama3/infra/parallelize.py:321 TM208
        models/llama3/infra/parallelize.py:321 TM214
        models/qwen3/infra/parallelize.py:178 TM201
    """,
    "0.2.1": """
        components/ft/manager.py:94 TM228
        config/job_config.py:160 TM227
        distributed/parallel_dims.py:82 TM215 1d
        experiments/rl/unified/actors/trainer.py:90 TM206
        experiments/rl/unified/infra/parallelism_utils.py:71 TM215 1d
        models/flux/infra/parallelize.py:37 TM207
        models/llama3/infra/parallelize.py:332 TM214
        models/qwen3/infra/parallelize.py:181 TM201
    """,
    "0.2.2": """
        components/ft/manager.py:95 TM228
        config/job_config.py:160 TM227
        distributed/parallel_dims.py:81 TM215 1d
        experiments/rl/unified/actors/trainer.py:90 TM206
        experiments/rl/unified/infra/parallelism_utils.py:71 TM215 1d
        models/flux/infra/parallelize.py:42 TM207
        models/llama3/infra/parallelize.py:363 TM209
        models/llama3/infra/parallelize.py:363 TM214
    """,
    "0.3.0": """
    """,
}

TREES = {
    "legacy_mid": """
        parallelisms/parallelize_llama.py:146 TM214 1d
    """,
    "legacy_dp": """
        parallelisms/parallelize_llama.py:108 TM102 1d
        parallelisms/parallelize_llama.py:178 TM208
        parallelisms/parallelize_llama.py:178 TM214 1d
    """,
    "legacy": """
        parallelisms/parallelize_llama.py:177 TM208
        parallelisms/parallelize_llama.py:177 TM214
    """,
    "v0_1": """
        README.md:5 TM217 1d
        tests/integration_tests.py:16 TM216 1d
        distributed/utils.py:52 TM215
        models/llama3/infra/parallelize.py:181 TM208
        models/llama3/infra/parallelize.py:181 TM214
        train_configs/replicated.toml:12 TM218
    """,
    "v0_2_0": """
        distributed/utils.py:53 TM215
        models/llama3/infra/parallelize.py:190 TM208
        models/llama3/infra/parallelize.py:190 TM214
        models/qwen3/infra/parallelize.py:57 TM201
    """,
    "v0_2_1": """
        distributed/utils.py:53 TM215
        experiments/rl/unified/actors/trainer.py:41 TM235
        experiments/rl/unified/actors/trainer.py:49 TM206
        models/llama3/infra/parallelize.py:192 TM214
        models/qwen3/infra/parallelize.py:53 TM201
    """,
    "v0_2_2": """
        distributed/utils.py:56 TM215
        experiments/rl/unified/actors/trainer.py:41 TM235
        experiments/rl/unified/actors/trainer.py:49 TM206
        models/flux/infra/parallelize.py:24 TM207
        models/llama3/infra/parallelize.py:212 TM209
        models/llama3/infra/parallelize.py:212 TM214
    """,
    "flat": """
        distributed/utils.py:55 TM215
        models/llama3/parallelize.py:217 TM209
        models/llama3/parallelize.py:217 TM214
    """,
    "fork_quirks": """
        distributed/utils.py:53 TM215
        experiments/averaged/average.py:28 TM220
        experiments/averaged/average.py:33 TM223
        experiments/averaged/average.py:40 TM228
        experiments/averaged/decay.py:13 TM232
        experiments/averaged/head.py:11 TM224
        experiments/averaged/optimizer.py:16 TM230
        experiments/averaged/options.py:11 TM227
        experiments/averaged/train_averaged.py:29 TM222
        experiments/averaged/train_averaged.py:39 TM229
        experiments/averaged/train_averaged.py:53 TM225
        experiments/averaged/train_averaged.py:60 TM221
        experiments/averaged/train_averaged.py:63 TM226
        experiments/distill/train_student.py:19 TM205
        experiments/distill/train_student.py:21 TM202
        experiments/distill/train_student.py:33 TM204
        experiments/distill/train_teacher.py:14 TM235
        experiments/distill/train_teacher.py:18 TM235
        experiments/probe/train_probe.py:30 TM231
        models/heron/infra/parallelize.py:85 TM214
        models/heron/infra/parallelize.py:94 TM203
        models/plover/infra/parallelize.py:24 TM224
        models/plover/infra/parallelize.py:24 TM233
        models/plover/infra/parallelize.py:33 TM234
        models/robin/infra/parallelize.py:33 TM209
        models/robin/infra/parallelize.py:48 TM212
        models/robin/infra/parallelize.py:53 TM203
        models/stork/infra/parallelize.py:47 TM210
        models/stork/infra/parallelize.py:48 TM203
        tools/wrapping.py:8 TM211 1d
        tools/wrapping.py:20 TM211 1d
        tools/wrapping.py:26 TM213
    """,
}


def listed(text: str, target: str) -> list[str]:
    words = (line.split() for line in text.strip().splitlines())
    return [
        f"{place} {code}"
        for place, code, *only in words
        if target in (only or [target])
    ]


def found(tree, target: str) -> list[str]:
    findings = plan(Checkout(tree, is_git=False), resolve_target(target)).findings
    return [
        f"{f.path.removeprefix('torchtitan/')}:{f.line} {f.code}"
        for f in findings
        if f.status == "hazard"
    ]


@pytest.mark.release
@pytest.mark.parametrize("target", ["1d", "2d"])
@pytest.mark.parametrize("version", RELEASES)
def test_the_hazards_of_a_release(version, target):
    here = found(release(version), target)
    assert here == listed(RELEASES[version], target)
    assert len(here) < 10


@pytest.mark.parametrize("target", ["1d", "2d"])
@pytest.mark.parametrize("name", TREES)
def test_the_hazards_of_a_fixture(name, target):
    assert found(FIXTURES / name, target) == listed(TREES[name], target)
