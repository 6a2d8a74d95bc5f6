"""What a rank notes of how its trainer computes."""

from __future__ import annotations

import sys

import pytest

import warm
from places import TOP

SCRIPT = f"""
import sys
sys.path.insert(0, {str(TOP / "migrator/verify/train")!r})
import torch
from in_rank import measure

# As on a machine with a GPU, where autocast to float32 is entered like any other.
torch.cuda.amp.common.amp_definitely_not_available = lambda: False
measure.watch_autocast()
for dtype in (torch.float32, torch.float16):
    with torch.autocast("cuda", dtype=dtype):
        pass
    print(dtype, torch.autocast("cuda", dtype=dtype)._enabled, measure.autocast_entered)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks ranks")
def test_autocast_to_float32_is_none(tmp_path):
    """On GPUs maybe_enable_amp enters it in float32 too, and a rank computes as without."""
    assert warm.server().printed(SCRIPT, tmp_path).splitlines() == [
        "torch.float32 True False",
        "torch.float16 True True",
    ]
