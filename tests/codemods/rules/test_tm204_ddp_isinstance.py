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


@pytest.mark.parametrize(
    "test, answer",
    [
        ("isinstance(m, WRAPPERS)", "False"),
        ("isinstance(m, Wrapper)", "False"),
        ("isinstance(m, DDP | Other)", "False"),
        ("type(m) in WRAPPERS", "False"),
        ("type(m) is not DDP", "True"),
        ("m.__class__ == DDP", "False"),
        ("issubclass(type(m), DDP)", "False"),
        ("DDP in type(m).__mro__", "False"),
        ("type(m).__name__ == 'DistributedDataParallel'", "False"),
        ("m.__class__.__name__ in ('DistributedDataParallel', 'FSDP')", "False"),
    ],
)
def test_fires_for_other_spellings(test, answer):
    head = f"{IMPORT_DDP} as DDP\n\nWRAPPERS = (DDP, Other)\nWrapper = DDP\n"
    (found,) = findings({HERE: f"{head}plain = {test}\n"}, code="TM204")
    assert found.line == 5 and f"so this is {answer} as it was" in found.message
    assert "isinstance(m, FSDPModule)" in found.suggestion


def test_fires_for_a_case_of_a_match():
    code = f"{IMPORT_DDP} as DDP\n\nmatch m:\n    case Other() | DDP():\n        m = {{0}}\n"
    (found,) = findings({HERE: code.format("m.module")}, code="TM204")
    assert found.line == 4 and found.suggestion.startswith("m  # nothing is wrapped")
    (found,) = findings({HERE: code.format("None")}, code="TM204")
    assert found.suggestion.startswith("isinstance(m, FSDPModule)")


def test_fires_for_a_constant_of_another_file():
    files = {
        "torchtitan/models/mine/wrappers.py": f"{IMPORT_DDP} as DDP\n\nWRAPPERS = {{DDP}}\n",
        HERE: "from .wrappers import WRAPPERS\n\nplain = type(m) in WRAPPERS\n",
    }
    assert [(f.path, f.line) for f in findings(files, code="TM204")] == [(HERE, 3)]


def test_leaves_to_tm228_what_is_true_from_now_on():
    head = f"{IMPORT_DDP} as DDP\nfrom torch.distributed.fsdp import FSDPModule\n\n"
    both = f"{head}if isinstance(m, (DDP, FSDPModule)):\n    m = "
    assert findings({HERE: f"{both}whole(m)\n"}, code="TM204") == []
    (found,) = findings({HERE: f"{both}m.module\n"}, code="TM204")
    assert found.suggestion.startswith("m  # nothing is wrapped")


def test_does_not_fire():
    other = f"{IMPORT_DDP} as DDP\n\nisinstance(DDP, type)\nissubclass(Mine, DDP)\n"
    other += (
        "model = DDP(model)\nisinstance(other, model)\ntype(model) is type(other)\n"
    )
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
