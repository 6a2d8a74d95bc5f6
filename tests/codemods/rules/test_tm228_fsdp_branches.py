"""TM228: branches that ask for FSDP or for placements."""

import pytest

from support import HERE, findings
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


@pytest.mark.parametrize(
    "line, shown",
    [
        (
            "return any(isinstance(m, FSDPModule) for m in model.modules())",
            "isinstance(m, FSDPModule) and not isinstance(m, ReplicateModule) for m in",
        ),
        ("sharded = isinstance(model, FSDPModule)", "not isinstance(model, Rep"),
        (
            "state = gather(m) if isinstance(m, FSDPModule) else m.state_dict()",
            "gather(m) if (isinstance(m, FSDPModule) and not isinstance(m, ReplicateModule))",
        ),
        (
            "groups = [m for m in model.modules() if isinstance(m, FSDPModule)]",
            "not is",
        ),
        (
            "log(isinstance(model, FSDPModule))",
            "not isinstance(model, ReplicateModule)",
        ),
        (
            "if issubclass(type(m), FSDPModule): gather(m)",
            "not isinstance(m, ReplicateModule)",
        ),
        (
            "if FSDPModule not in type(m).__mro__: return m.state_dict()",
            "FSDPModule not in type(m).__mro__ or isinstance(m, ReplicateModule)",
        ),
        ("if isinstance(m, (DDP, FSDPModule)): gather(m)", "not isinstance(m, Rep"),
        ("if isinstance(m, WRAPPERS): gather(m)", "not isinstance(m, ReplicateModule)"),
        ("if isinstance(m, FSDPModule): m.reshard(), gather(m)", "not isinstance(m"),
        ("assert isinstance(m, FSDPModule); gather(m)", "not isinstance(m, Replicate"),
    ],
)
def test_a_module_is_asked_in_other_ways(line, shown):
    source = step(f"{line}\n", f"{FSDP}\nWRAPPERS = (Other, FSDPModule)")
    assert lines(source, "TM228") == [line]
    (one,) = found(source, "TM228")
    advice = " ".join(one.suggestion.split()).replace("( ", "(").replace(" )", ")")
    assert one.severity == "silent" and shown in advice


def test_under_another_name():
    head = "from torch.distributed.fsdp import FSDPModule as Sharded"
    line = "return isinstance(model, Sharded)"
    assert lines(step(f"{line}\n", head), "TM228") == [line]


def test_a_case_of_a_match():
    body = """
        match m:
            case FSDPModule():
                {0}
    """
    (one,) = found(step(body.format("gather(m)"), FSDP), "TM228")
    assert "case FSDPModule() if not isinstance(m, ReplicateModule):" in one.suggestion
    assert found(step(body.format("m.reshard()"), FSDP), "TM228") == []


def test_classes_in_a_constant_of_another_file():
    constant = f"{FSDP}\n\nWRAPPERS = (FSDPModule,)\n"
    source = step(
        "return isinstance(m, WRAPPERS)\n",
        "from torchtitan.models.mine.wrappers import WRAPPERS",
    )
    files = {"torchtitan/models/mine/wrappers.py": constant, HERE: source}
    (one,) = findings(files, code="TM228")
    assert one.path == HERE


@pytest.mark.parametrize(
    "body",
    [
        "for m in [m for m in model.modules() if isinstance(m, FSDPModule)]:\n    m.reshard()",
        "groups = [m for m in model.modules() if isinstance(m, FSDPModule)]\n"
        "for m in reversed(groups):\n    m.reshard()",
        "for m in filter(lambda m: isinstance(m, FSDPModule), model.modules()):\n"
        "    m.reshard()",
        "for m in model.modules():\n"
        "    if not isinstance(m, FSDPModule):\n        continue\n    m.reshard()",
        "[m.reshard() for m in model.modules() if isinstance(m, FSDPModule)]",
        "isinstance(model, FSDPModule) and model.set_requires_gradient_sync(last)",
        "assert isinstance(model, FSDPModule)\nmodel.set_requires_gradient_sync(last)",
        "if isinstance(m, FSDPModule):\n    logger.debug(m)\n    m.reshard()",
        "if type(m) is FSDPModule:\n    gather(m)",
        "def of(m: FSDPModule) -> FSDPModule:\n    return m",
    ],
)
def test_what_replicates_groups_are_to_be_asked_too_in_other_ways(body):
    assert found(step(f"{body}\n", FSDP), "TM228") == []


def test_a_function_that_asks_is_judged_by_what_calls_it():
    head = f"{FSDP}\ndef is_group(m):\n    return isinstance(m, FSDPModule)\n"
    fine = "if is_group(m):\n    m.reshard()\n"
    assert found(step(fine, head), "TM228") == []
    for other in ("gather(m)", "return m"):
        source = step(f"{fine}if is_group(m):\n    {other}\n", head)
        assert lines(source, "TM228") == ["return isinstance(m, FSDPModule)"]
    assert len(found(step("return is_group(m)\n", head), "TM228")) == 1
