"""Files of checkouts and of report folders, for the tests of verify that train nothing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

OLD = "from torch.distributed._composable.replicate import replicate\n\n\ndef apply_ddp(model, mesh, enable_compile):\n    replicate(model)\n"
NEW = "from torch.distributed._composable.replicate_with_fsdp import replicate\n\n\ndef apply_replicate(model, mesh, param_dtype):\n    replicate(model)\n"


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
EARLIER = json.dumps({"models": {"llama3": {}, "..": {}}})


def write(tree: Path, **files: str) -> None:
    for name, text in files.items():
        path = tree / "torchtitan" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def fill(place: Path, *names: str, text: str = EARLIER) -> list[str]:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return listed(place)


def listed(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))
