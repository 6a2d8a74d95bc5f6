"""TM205: parameters captured before the model is wrapped."""

import pytest

from support import HERE, IMPORT, findings


def plan(before="pass", after="pass", model="model"):
    return f"""
        {IMPORT} apply_ddp


        def build(self, model, world_mesh, job_config):
            {before}
            apply_ddp({model}, world_mesh, False)
            {after}
    """


@pytest.mark.parametrize(
    "before",
    [
        "optimizer = AdamW(model.parameters())",
        "held = list(model.parameters())",
        "held = dict(model.named_parameters())",
        "self.held = [p for p in model.parameters() if p.requires_grad]",
    ],
)
def test_fires_before_wrapping(before):
    found = findings({HERE: plan(before)}, code="TM205")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 5, "hazard")]
    assert "after line 6" in found[0].suggestion


def test_fires_for_a_model_passed_by_keyword():
    by_keyword = plan("o = AdamW(model.parameters())").replace(
        "(model, world_mesh, False)",
        "(model=model, dp_mesh=world_mesh, enable_compile=False)",
    )
    assert len(findings({HERE: by_keyword}, code="TM205")) == 1


@pytest.mark.parametrize(
    "before",
    [
        "count = sum(p.numel() for p in model.parameters())",
        "device = next(model.parameters()).device",
        "optimizer = AdamW(other.parameters())",
        "names = model.buffers()",
    ],
)
def test_does_not_fire(before):
    assert findings({HERE: plan(before)}, code="TM205") == []


def test_does_not_fire_after_wrapping():
    files = {HERE: plan(after="optimizer = AdamW(model.parameters())")}
    assert findings(files, code="TM205") == []


def test_fires_before_a_plan_is_called():
    trainer = """
        def build(self, model):
            optimizer = AdamW(model.parameters())
            self.spec.parallelize_fn(model, self.dims, self.config)
    """
    found = findings({"torchtitan/train.py": trainer}, code="TM205")
    assert [(f.path, f.line) for f in found] == [("torchtitan/train.py", 2)]
