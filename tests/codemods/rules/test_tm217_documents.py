"""TM217: documentation and guides that speak of DDP as what this checkout trains with."""

import pytest

from codemods.engine import migrate
from codemods.selection import Selection

from support import PLAN, aim, checkout, outcome, texts

README = "README.md"


def said(text, path=README, **options):
    found = outcome(said={path: text}, **options).findings
    return [f for f in found if f.code == "TM217"]


def advice(text, **options):
    return [f.suggestion for f in said(text, **options)]


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("7. DDP and HSDP\n", "7. replicate and HSDP"),
        ("| FSDP, TP, DDP | yes |\n", "| FSDP, TP, replicate | yes |"),
        (
            "Plans call `apply_ddp` where dp_replicate > 1.\n",
            "Plans call `apply_replicate` where dp_replicate > 1.",
        ),
        (
            "With `data_parallel_replicate_degree = 8` weights are copied (DDP).\n",
            "With `data_parallel_replicate_degree = 8` weights are copied (replicate).",
        ),
        (
            "`dp_replicate`: Distributed Data Parallel (DDP).\n",
            "`dp_replicate`: replicate.",
        ),
        # a sentence that would be untrue with another name in it
        (
            "DDP does not work with tensor parallelism (dp_replicate, TP).\n",
            "replicate composes with tensor and pipeline parallelism.",
        ),
        (
            "`apply_ddp` wraps the whole model with DDP and `bucket_cap_mb=100`.\n",
            "replicate wraps the model in the groups in which apply_fsdp does; it has no "
            "buckets, hooks or reducer of DDP's.",
        ),
        (
            "Under DDP (dp_replicate) `maybe_enable_amp` opens autocast.\n",
            "Under replicate mixed precision comes by its policy, as under FSDP; autocast "
            "is for a single device.",
        ),
        (
            "It only takes effect when data_parallel_shard_degree > 1.\n",
            "This feature takes effect under any data parallelism, via fully_shard or "
            "replicate.",
        ),
    ],
)
def test_the_sentence_to_write(text, instead):
    assert advice(text) == [instead]


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "docs/parallelism.rst",
        "docs/notes.txt",
        "CLAUDE.md",
        "AGENTS.md",
        ".cursorrules",
        ".cursor/rules/plans.mdc",
        ".github/copilot-instructions.md",
        ".claude/rules/distributed.md",
        "torchtitan/models/mine/README.md",
    ],
)
def test_guides_and_documentation(path):
    ((found),) = said("# Plans\n\nCall `apply_ddp` last.\n", path)
    assert (found.path, found.line, found.status) == (path, 3, "hazard")
    assert found.suggestion == "Call `apply_replicate` last."


def test_a_section_with_an_option_of_torchtitan_is_about_it():
    text = """
        # Running

        ## DDP

        Eight copies under DDP:

            ./run_train.sh --parallelism.data_parallel_replicate_degree 8

        ## History

        DDP came with PyTorch 0.4.
    """
    (found,) = said(text)
    assert found.message.endswith("(lines 3, 5)")
    assert found.suggestion == "## replicate\nEight copies under replicate:"


@pytest.mark.parametrize(
    "text",
    [
        "FSDP can be verified by comparing with DDP on small models.\n",
        "DDP came with PyTorch 0.4.\n",
        "Accelerate wraps with DDP, FSDP or DeepSpeed.\n",
        "Megatron-LM has DDP and TP of its own.\n",
        "See [DDP and FSDP](https://docs.pytorch.org/tutorials/ddp.html).\n",
        "The paper compares FSDP and DDP.\n",
        "`model.apply_ddp(mesh)` of OLMo-core\n",
        "DDPM is a diffusion model, with FSDP.\n",
        "Checkpoints are sharded by FSDP2, TP and PP.\n",
    ],
)
def test_what_is_about_something_else(text):
    assert said(text) == []


def test_of_an_experiment_with_its_own_way():
    text = "SPMD with FSDP, DDP and HSDP.\n"
    assert said(text, "torchtitan/experiments/spmd/README.md") == []
    assert said(text, "torchtitan/models/spmd/README.md")


def test_where_the_name_stays_only_what_is_untrue_is_named():
    assert said("7. DDP and HSDP; see `apply_ddp`.\n", target="2d") == []
    assert said("`apply_ddp`: DDP is 1D only.\n", target="2d")


def test_nothing_where_nothing_moves():
    result = migrate(checkout({PLAN: None}), aim(), texts=unread)
    assert "TM217" not in {f.code for f in result.findings}
    moved = migrate(checkout(), aim(), texts=lambda: {}).changes
    files = {p: checkout()[p] for p in checkout()} | {
        path: type(checkout()[path])(path, raw) for path, raw in moved.items()
    }
    assert migrate(files, aim(), texts=unread).to_do == ()


def unread():
    raise AssertionError("nobody has to read them")


def test_opting_out_and_leaving_out():
    kept = "- DDP and HSDP <!-- titan-migrate: ignore[TM217] -->\n"
    assert [f.status for f in said(kept)] == ["opted-out"]
    (found,) = said(kept + "- TP and DDP\n")
    assert found.message.endswith("(line 2)")

    def selected(**selection):
        result = migrate(
            checkout(),
            aim(),
            Selection(**selection),
            texts=lambda: texts({README: "- DDP and HSDP\n"}),
        )
        return [f for f in result.findings if f.code == "TM217"]

    assert selected()
    assert selected(exclude=("*.md",)) == selected(ignore=("TM217",)) == []
