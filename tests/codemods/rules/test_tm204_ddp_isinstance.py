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
