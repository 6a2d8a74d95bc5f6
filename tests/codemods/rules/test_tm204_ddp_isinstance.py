"""TM204: code that asks whether a model is wrapped in DDP."""

import pytest

from support import HERE, findings

IMPORT_DDP = "from torch.nn.parallel import DistributedDataParallel"


@pytest.mark.parametrize(
    "head, test",
    [
        (IMPORT_DDP, "isinstance(model, DistributedDataParallel)"),
        (f"{IMPORT_DDP} as DDP", "isinstance(model, DDP)"),
        (f"{IMPORT_DDP} as DDP", "isinstance(model, (FSDP, DDP))"),
        (
            "import torch",
            "isinstance(model, torch.nn.parallel.DistributedDataParallel)",
        ),
        ("import torch.nn as nn", "isinstance(m, nn.parallel.DistributedDataParallel)"),
    ],
)
def test_fires(head, test):
    found = findings({HERE: f"{head}\n\nplain = not {test}\n"}, code="TM204")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 3, "hazard")]
    assert "FSDPModule" in found[0].suggestion


def test_does_not_fire():
    other = f"{IMPORT_DDP} as DDP\n\nisinstance(DDP, type)\nissubclass(Mine, DDP)\n"
    assert findings({HERE: other}, code="TM204") == []


@pytest.mark.parametrize(
    "code",
    [
        "inner = model.module if isinstance(model, DDP) else model\n",
        "if isinstance(model, DDP):\n    model = model.module\n",
    ],
)
def test_what_unwraps_is_told_that_nothing_is_wrapped(code):
    (found,) = findings({HERE: f"{IMPORT_DDP} as DDP\n\n{code}"}, code="TM204")
    assert found.suggestion.startswith("model  # nothing is wrapped around it")


def test_it_is_silent_where_the_wrapper_was_used_and_else_a_note():
    """DDP's composable replicate was no such class either."""
    asks = f"{IMPORT_DDP} as DDP\n\nplain = isinstance(model, DDP)\n"
    (found,) = findings({HERE: asks}, code="TM204")
    assert found.severity == "note" and "as it was under" in found.message
    wraps = """
        from torch.nn.parallel import DistributedDataParallel as DDP

        from torchtitan.models.llama3.parallelize import apply_fsdp


        def parallelize(model, parallel_dims, job_config):
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, job_config.a, job_config.b, job_config.c)
            else:
                model = DDP(model)
            return isinstance(model, DDP)
    """
    (found,) = findings({HERE: wraps}, code="TM204")
    assert found.severity == "silent" and "from now on" in found.message
