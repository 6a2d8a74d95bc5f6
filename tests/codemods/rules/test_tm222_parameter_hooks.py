"""TM222: hooks on parameters."""

import pytest

from support import HERE, IMPORT, findings


def trainer(*lines):
    body = "\n".join(f"            {line}" for line in lines)
    return f"""
        {IMPORT} apply_ddp


        def build(self, model, mesh):
{body}
            apply_ddp(model, mesh, False)
    """


@pytest.mark.parametrize(
    "lines, on",
    [
        (["for p in model.parameters():", "    p.register_hook(clip)"], "p"),
        (["for n, w in model.named_parameters():", "    w.register_hook(f)"], "w"),
        (
            ["held = list(model.parameters())", "[q.register_hook(f) for q in held]"],
            "q",
        ),
        (["", "model.output.weight.register_hook(clip)"], "model.output.weight"),
    ],
)
def test_fires(lines, on):
    found = findings({HERE: trainer(*lines)}, code="TM222")
    assert [(f.path, f.line, f.severity) for f in found] == [(HERE, 6, "silent")]
    assert f"{on}.register_post_accumulate_grad_hook(hook)" in found[0].suggestion


@pytest.mark.parametrize(
    "line",
    [
        "for p in model.parameters(): p.register_post_accumulate_grad_hook(f)",
        "hidden.register_hook(f)",
        "model.register_forward_hook(f)",
    ],
)
def test_does_not_fire(line):
    assert findings({HERE: trainer(line)}, code="TM222") == []


@pytest.mark.parametrize(
    "path", ["tests/unit_tests/test_hooks.py", "torchtitan/generate.py"]
)
def test_does_not_fire_beside_training(path):
    lines = "for p in model.parameters():\n    p.register_hook(f)\n"
    assert findings({path: lines}, code="TM222") == []
