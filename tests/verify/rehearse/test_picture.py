"""A plan as boxes."""

from __future__ import annotations

from migrator.verify.rehearse.picture import plan

from recorded import changed, ddp, record


def nested(found):
    """The blocks are alike, and lie in a root that has no parameters of its own."""
    root = {**found["groups"][0], "modules": [""], "mesh": None, "parameters": []}
    root = {**root, "policy": {**root["policy"], "reduce_dtype": "None"}}
    inner = {**found["groups"][2], "modules": ["layers.1.moe"], "parameters": []}
    found["groups"] = [root, *found["groups"], inner]


def test_groups_lie_in_one_another_and_those_that_are_alike_are_one():
    found = record("dp_replicate")
    found["groups"].insert(0, {**found["groups"][0], "modules": [""], "parameters": []})
    drawn = plan(found)
    assert drawn.says == (
        "computes in bfloat16",
        "reduces in float32",
        "over dp_replicate=2",
        "gradients summed",
    )
    (root,) = drawn.boxes
    assert (root.modules, root.parameters) == (("",), 0)
    embeddings, blocks, output = root.inside
    assert (blocks.modules, blocks.until, blocks.alike) == (
        ("layers.0",),
        "layers.1",
        2,
    )
    assert blocks.parameters == 2 * 64 and embeddings.kind == "replicate"
    assert output.says == () and not output.odd


def test_what_is_inside_one_block_alone_keeps_it_apart():
    (root,) = plan(changed("dp_replicate", nested)).boxes
    assert [box.modules[0] for box in root.inside] == [
        "tok_embeddings", "layers.0", "layers.1", "output",
    ]  # fmt: skip
    assert root.inside[2].inside[0].modules == ("layers.1.moe",)


def test_a_group_that_differs_says_what_and_is_odd():
    def averaged(found):
        found["groups"][1].update(divide=None)
        found["groups"][2].update(divide=4.0, sum=True)

    reference = record("fsdp")
    drawn = plan(changed("dp_replicate", averaged), reference)
    assert [(box.modules[0], box.says, box.odd) for box in drawn.boxes[1:3]] == [
        ("layers.0", ("gradients averaged",), True),
        ("layers.1", ("gradients over 4", "sums forced"), True),
    ]
    assert not drawn.boxes[0].odd
    assert not any(box.odd for box in plan(reference, reference).boxes)


def test_ddp_is_one_box_and_its_mixed_precision_is_autocast():
    drawn = plan(ddp())
    assert drawn.says == ("autocast to bfloat16",)
    ((root,),) = (drawn.boxes,)
    assert (root.modules, root.kind, root.parameters) == (("",), "DDP", 6 * 64)
    assert plan({**ddp(), "autocast": None}).says == ("without autocast",)
