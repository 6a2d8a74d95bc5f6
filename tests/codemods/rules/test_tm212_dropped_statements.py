"""TM212: what ``apply_ddp`` did besides wrapping."""

import pytest

from support import APPLY_DDP, BASE, PLAN, findings

BEFORE_WRAPPING = "    replicate(model,"


def doing(statement):
    """The plan whose apply_ddp does this before it wraps."""
    more = APPLY_DDP.replace(BEFORE_WRAPPING, f"    {statement}\n{BEFORE_WRAPPING}")
    assert more != APPLY_DDP
    return {PLAN: BASE[PLAN].replace(APPLY_DDP, more)}


@pytest.mark.parametrize(
    "statement",
    [
        "model.encoder.requires_grad_(False)",
        "model = torch.compile(model)",
        "model.replicas = dp_mesh.size()",
        "model.replicated = True",
        "plan = model.freeze()",
        "if enable_compile:\n        model.compile()",
        "for p in model.parameters():\n        p.data = p.data.float()",
    ],
)
def test_fires(statement):
    found = findings(doing(statement), code="TM212")
    assert [(f.path, f.line, f.status) for f in found] == [(PLAN, 26, "hazard")]
    assert f"`{statement.splitlines()[0]}` is not taken over" in found[0].message
    assert found[0].suggestion.split() == statement.split()


def test_fires_for_each_statement():
    both = "model.a.requires_grad_(False)\n    model.b.requires_grad_(False)"
    assert [f.line for f in findings(doing(both), code="TM212")] == [26, 27]


@pytest.mark.parametrize(
    "statement",
    [
        "pass",
        "import torch._dynamo",
        '"""Bigger buckets suit our network."""',
        'logger.info("wrapping")',
        'log.info("wrapping")',
        "torch._dynamo.config.optimize_ddp = False",
        "if enable_compile:\n        torch._dynamo.config.optimize_ddp = False",
        "return model",
        "by = {True: 'a', False: 'b'}\n"
        "    torch._dynamo.config.optimize_ddp = by[enable_compile]",
    ],
)
def test_does_not_fire_for_what_goes_with_ddp(statement):
    assert findings(doing(statement), code="TM212") == []


def test_does_not_fire_for_the_wrapping_itself():
    plan = BASE[PLAN].replace("import replicate\n", "import replicate as ddp\n")
    plan = plan.replace(BEFORE_WRAPPING, "    ddp(model,")
    assert "    ddp(model," in plan and findings({PLAN: plan}, code="TM101")
    assert findings({PLAN: plan}, code="TM212") == []


def test_does_not_fire_for_what_apply_fsdp_does_too():
    statement = "model.encoder.requires_grad_(False)"
    files = doing(statement)
    shared = files[PLAN].replace("    mp_policy =", f"    {statement}\n    mp_policy =")
    assert findings({PLAN: shared}, code="TM212") == []


def test_does_not_fire_for_a_definition_that_stays():
    files = doing("model.encoder.requires_grad_(False)")
    head = "def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh, enable_compile: bool):"
    stays = files[PLAN].replace(head, f"{head}  # titan-migrate: ignore[TM101]")
    assert stays != files[PLAN]
    assert findings({PLAN: stays}, code="TM212") == []
