"""TM218: configurations of jobs that set or say what was DDP's."""

import pytest

from support import APPLY_DDP, BASE, PLAN, outcome, text

JOB = "train_configs/job.toml"
SWITCHED = {
    PLAN: BASE[PLAN].replace(
        APPLY_DDP, APPLY_DDP.replace("enable_compile", "enable_compiled_autograd")
    )
}


def said(content, path=JOB, files=SWITCHED, **options):
    found = outcome(files, said={path: content}, **options).findings
    return [f for f in found if f.code == "TM218"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (JOB, "enable_compiled_autograd = true\n"),
        (JOB, "parallelism.enable_compiled_autograd = true\n"),
        ("jobs/job.yaml", "parallelism:\n  enable_compiled_autograd: true\n"),
        ("jobs/job.yml", 'parallelism: \n  "enable_compiled_autograd": True\n'),
    ],
)
def test_compiled_autograd_is_switched_on(path, line):
    (found,) = said(line, path)
    assert (found.line, found.status) == (line.count("\n"), "hazard")
    assert "unless the backward" in found.suggestion
    assert said(line, path, target="2d")


@pytest.mark.parametrize(
    ("content", "files"),
    [
        ("enable_compiled_autograd = false\n", SWITCHED),
        ("# enable_compiled_autograd = true\n", SWITCHED),
        # apply_ddp never took it
        ("enable_compiled_autograd = true\n", {}),
    ],
)
def test_compiled_autograd_means_nothing_else(content, files):
    assert said(content, files=files) == []


def test_a_job_is_called_ddp():
    content = text(
        """
        [job]
        description = "llama, DDP on 8 ranks"

        [parallelism]
        data_parallel_replicate_degree = 8  # plain DDP
        """
    )
    (found,) = said(content)
    assert found.message.endswith("(lines 2, 5)")
    assert found.suggestion.splitlines() == [
        'description = "llama, replicate on 8 ranks"',
        "data_parallel_replicate_degree = 8  # plain replicate",
    ]
    assert said(content, target="2d") == []


@pytest.mark.parametrize(
    "content",
    ["# DDP\nworkers: 8\n", "data_parallel_replicate_degree = 8  # HSDP\n"],
)
def test_what_is_about_something_else(content):
    assert said(content) == []


def test_opting_out_and_where_nothing_moves():
    kept = "enable_compiled_autograd = true  # titan-migrate: ignore[TM218]\n"
    assert [f.status for f in said(kept)] == ["opted-out"]
    assert said("enable_compiled_autograd = true\n", files={PLAN: None}) == []
