"""Where a cell trains: on GPUs over NCCL where there are enough of them, else on the CPU over gloo."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from migrator.verify.choose.scenarios import Cell
from migrator.verify.errors import VerifyError

_ASK = (
    "import json, torch; n = torch.cuda.device_count();"
    "print(json.dumps([torch.cuda.get_device_name(i) for i in range(n)]))"
)


@dataclass(frozen=True)
class Place:
    """Where and how wide a cell trains. dp: data-parallel ranks. note: what to say about it."""

    device: str
    dp: int
    note: str = ""


def gpus(device: str) -> list[str]:
    """Names of the GPUs to use; none where `device` is "cpu" or torch sees none.

    Asked in a process of its own, so that this one stays without torch. Raises
    VerifyError where "cuda" was asked for and there is none, and where torch fails:
    a machine whose GPUs are broken would else train on its CPU without a word.
    """
    if device == "cpu":
        return []
    found: list[str] = []
    if not metadata.version("torch").endswith("+cpu"):
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True
        )
        if asked.returncode != 0:
            said = asked.stderr.strip().splitlines()
            raise VerifyError(
                f"torch failed where it was asked for the GPUs of this machine ({said[-1] if said else 'without a word'})."
                " Mend that, or train on the CPU with --device cpu."
            )
        found = json.loads(asked.stdout)
    if device == "cuda" and not found:
        raise VerifyError(
            "--device cuda: torch sees no GPU here. Run on a machine with one, or with --device cpu."
        )
    return found


def place(cell: Cell, nproc: int | None, found: list[str], nnodes: int) -> Place:
    """Where a cell trains, given the GPUs of this node.

    nproc: data-parallel ranks, where the user said; else all GPUs of all nodes
    are used, and 2 ranks on CPUs.
    """
    total = len(found) * nnodes
    wide = nproc or max(2, total // cell.other_ranks)
    if total >= wide * cell.other_ranks:
        return Place("cuda", wide)
    dp = nproc or max(2, nnodes)
    note = ""
    if found:
        note = f"{total} GPUs are too few for {dp * cell.other_ranks} ranks: ran on the CPU over gloo."
    return Place("cpu", dp, note)
