"""TM231: a script that makes a model without weights that all ranks share."""

from textwrap import dedent, indent

import pytest

from support import HERE, IMPORT, findings


def script(body: str, head: str = "", name: str = "model") -> dict[str, str]:
    """A script that wraps a model, with lines before it."""
    lines = f"{dedent(body)}\napply_ddp({name}, dims.world_mesh, False)\n"
    text = (
        f"{IMPORT} apply_ddp\n\n\n{dedent(head)}\n\n\ndef main(dims, width, given):\n"
    )
    return {HERE: text + indent(lines, "    ")}


def found(body: str, head: str = "", name: str = "model"):
    return findings(script(body, head, name), code="TM231")


@pytest.mark.parametrize(
    "made",
    [
        "model = Model(width)",
        "model = Model(width).to('cuda').train()",
        "model = build_model(width)\nmodel = model.cuda()",
        "model = models.Transformer(width)",
        "torch.manual_seed(7 + rank)\nmodel = Model(width)",
        "torch.manual_seed(dist.get_rank())\nmodel = Model(width)",
        "rows = load_dataset('c4')\nmodel = Model(width)",
    ],
)
def test_fires(made):
    (one,) = found(made)
    assert one.status == "hazard" and one.severity == "silent"
    assert "for tensor in (*model.parameters(), *model.buffers()):" in one.suggestion


def test_fires_for_an_attribute_that_another_method_makes():
    text = f"""
        {IMPORT} apply_ddp


        class Actor:
            def make(self):
                self.model = Model()

            def wrap(self):
                apply_ddp(self.model, self.dims.world_mesh, False)
    """
    (one,) = findings({HERE: text}, code="TM231")
    assert "*self.model.parameters()" in one.suggestion


def test_fires_for_the_module_level_of_a_script():
    text = f"""
        {IMPORT} apply_ddp

        model = Model()
        apply_ddp(model, world_mesh, False)
    """
    assert len(findings({HERE: text}, code="TM231")) == 1


@pytest.mark.parametrize(
    "made",
    [
        "torch.manual_seed(7)\nmodel = Model(width)",
        "set_determinism(dims.world_mesh, device, seed)\nmodel = Model(width)",
        "model = Model(width)\nmodel.load_state_dict(torch.load(given))",
        "model = Model(width)\ndcp.load(model.state_dict(), checkpoint_id=given)",
        "model = AutoModel.from_pretrained(given)",
        "model = load_model(given)",
        "model = Model(width)\nfor p in model.parameters(): dist.broadcast(p.detach(), 0)",
        "model = given",
        "model = given.model.eval()",
    ],
)
def test_does_not_fire(made):
    assert found(made) == []


def test_does_not_fire_for_a_model_that_comes_from_elsewhere():
    assert found("pass", name="given") == []


@pytest.mark.parametrize(
    "body", ["torch.manual_seed(3)", "torch.load(width)", "dist.broadcast(width, 0)"]
)
def test_does_not_fire_where_a_function_of_the_checkout_does_it(body):
    head = f"def prepare(width):\n    {body}"
    assert found("prepare(width)\nmodel = Model(width)", head) == []
    assert len(found("model = Model(width)", head.replace(body, "pass"))) == 1


def test_does_not_fire_under_the_training_loop():
    text = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(world_mesh, job_config):
            model = Model()
            if job_config.shard:
                apply_fsdp(model, world_mesh, job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
    """
    assert findings({HERE: text}, code="TM231") == []
