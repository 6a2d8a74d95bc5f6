"""TM228: branches that ask for FSDP or for placements."""

import pytest

from trainers import found, lines, step

FSDP = "from torch.distributed.fsdp import FSDPModule"


@pytest.mark.parametrize(
    "call, severity",
    [("m.set_all_reduce_hook(hook)", "note"), ("gather(m)", "silent")],
)
def test_a_module_is_asked(call, severity):
    source = step(f"if isinstance(m, FSDPModule):\n    {call}\n", FSDP)
    assert lines(source, "TM228") == ["if isinstance(m, FSDPModule):"]
    (one,) = found(source, "TM228")
    assert one.severity == severity
    assert "and not isinstance(m, ReplicateModule)" in one.suggestion


@pytest.mark.parametrize(
    "call", ["m.reshard()", "m.set_requires_gradient_sync(last)", "m.unshard()"]
)
def test_what_replicates_groups_are_to_be_asked_too(call):
    assert (
        lines(step(f"if isinstance(m, FSDPModule):\n    {call}\n", FSDP), "TM228") == []
    )


@pytest.mark.parametrize(
    "line, severity",
    [
        ("if len(p.placements) == 1: gather(p)", "silent"),
        ("dim = p.grad.placements[0].dim", "loud"),
        ("dim = param.placements[0].dim", "loud"),
    ],
)
def test_placements_are_asked(line, severity):
    source = step(f"for p in model.parameters():\n    {line}\n")
    assert lines(source, "TM228") == [line]
    assert found(source, "TM228")[0].severity == severity


@pytest.mark.parametrize(
    "line",
    [
        "if any(q.is_shard() for q in p.placements): gather(p)",
        "if len(spec.placements) == 1: gather(spec)",
        "if len(p.placements) == 2: gather(p)",
        "dim = placements[0].dim",
    ],
)
def test_does_not_fire(line):
    assert lines(step(f"for p in model.parameters():\n    {line}\n"), "TM228") == []
