"""TM208: switches of DDP's compiler integration."""

from support import APPLY_DDP, BASE, HERE, PLAN, findings


def test_fires_for_an_option_that_goes():
    more = APPLY_DDP.replace("enable_compile: bool", "enable_compiled_autograd: bool")
    found = findings(
        {
            PLAN: BASE[PLAN].replace(
                APPLY_DDP,
                more.replace("if enable_compile:", "if enable_compiled_autograd:"),
            )
        },
        code="TM208",
    )
    assert [(f.path, f.line, f.status) for f in found] == [(PLAN, 23, "hazard")]


def test_fires_for_the_setting_elsewhere():
    other = 'import torch\n\ntorch._dynamo.config.optimize_ddp = "ddp_optimizer"\n'
    found = findings({HERE: other}, code="TM208")
    assert [(f.path, f.line) for f in found] == [(HERE, 3)]


def test_does_not_fire_for_the_setting_in_apply_ddp():
    assert "optimize_ddp" in APPLY_DDP and findings(code="TM208") == []
