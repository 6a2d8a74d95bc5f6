"""How records of plans are compared: each thing that can be wrong is planted, and the sentence names where."""

from __future__ import annotations

import pytest

from migrator.verify.rehearse import compare

from recorded import changed, record


def group(found, number):
    return found["groups"][number]


def merge(found, number):
    """A block that is not wrapped: what is in it belongs to another group."""
    gone = found["groups"].pop(number)
    group(found, 0)["parameters"] += gone["parameters"]


def regroup_outside(found):
    group(found, 1)["modules"] = ["layers.0._checkpoint_wrapped_module"]


def place(found, name, **values):
    found["parameters"][name] = {**found["parameters"][name], **values}


REPLICATE = {
    "one block skipped": (
        lambda r: merge(r, 2),
        "layers.1: no group of its own here, and one in FSDP.",
    ),
    "root only": (
        lambda r: r.update(
            groups=[
                {
                    **group(r, 0),
                    "modules": [""],
                    "parameters": list(r["parameters"]),
                }
            ]
        ),
        "the root: a group of its own here, and none in FSDP.",
    ),
    "param_dtype left out": (
        lambda r: group(r, 1).update(
            policy={**group(r, 1)["policy"], "param_dtype": "None"}
        ),
        "layers.0: param_dtype is None here, and torch.bfloat16 in FSDP.",
    ),
    "divided twice": (
        lambda r: group(r, 3).update(divide=None),
        "output: the gradient divide factor is unset here, and 1.0 in FSDP.",
    ),
    "forced sums": (
        lambda r: group(r, 3).update(sum=True),
        "output: reductions are forced to sums here only.",
    ),
    "wrong mesh": (
        lambda r: group(r, 0)["mesh"].update(names=["batch"]),
        "tok_embeddings: its mesh is (batch=2), and not dp_replicate.",
    ),
    "world mesh": (
        lambda r: group(r, 0)["mesh"].update(
            names=["dp_replicate", "tp"], sizes=[2, 2]
        ),
        "tok_embeddings: its mesh is (dp_replicate=2, tp=2), and not dp_replicate.",
    ),
    "other ranks": (
        lambda r: group(r, 0)["mesh"].update(ranks=[0, 4]),
        "tok_embeddings: its mesh (dp_replicate=2) is over ranks 0, 4, and FSDP's over 0, 1.",
    ),
    "an ignored parameter": (
        lambda r: group(r, 1)["parameters"].remove("layers.0.norm"),
        "layers.0.norm: in no group here, and in one in FSDP.",
    ),
    "checkpointing after wrapping": (
        regroup_outside,
        "layers.0: the group lies below activation checkpointing here, and around it in FSDP.",
    ),
    "DDP left": (lambda r: r.update(ddp=[""]), "the root: is still wrapped by DDP."),
    "autocast left on": (
        lambda r: r.update(autocast={"dtype": "bfloat16", "enabled": True}),
        "the forward pass: under autocast to bfloat16 here, and without autocast in FSDP.",
    ),
    "an optimizer misses one": (
        lambda r: r["optimizers"][0]["groups"][0]["parameters"].remove("output.weight"),
        "output.weight: in no optimizer here, and in one in FSDP.",
    ),
    "another learning rate": (
        lambda r: r["optimizers"][0]["groups"][0].update(settings={"lr": 1.0}),
        "tok_embeddings.weight, layers.0.w and 4 more: in a group of the optimizer with other settings than in FSDP.",
    ),
    "sharded": (
        lambda r: place(r, "layers.1.w", placements=["S(0)"]),
        "layers.1.w: placed (S(0) over replicas=2) here, where (R over replicas=2) is right.",
    ),
    "another dtype": (
        lambda r: place(r, "layers.1.w", dtype="bfloat16"),
        "layers.1.w: dtype is bfloat16 here, and float32 in FSDP.",
    ),
    "no recomputation": (
        lambda r: r.update(checkpointed=[]),
        "layers.0: recomputes activations in FSDP, and not here.",
    ),
    "compiled": (
        lambda r: r.update(compiled=["layers.1"]),
        "layers.1: is compiled here, and not in FSDP.",
    ),
}


def test_a_right_plan_differs_in_nothing():
    assert compare.moved(record("dp_replicate"), record("fsdp")) == []


@pytest.mark.parametrize("defect", REPLICATE)
def test_a_wrong_plan_is_told_by_the_module(defect):
    change, sentence = REPLICATE[defect]
    assert sentence in compare.moved(changed("dp_replicate", change), record("fsdp"))


def test_a_mesh_of_two_dimensions_of_which_one_is_one_replicates_too():
    found = record("dp_replicate")
    for each in found["groups"]:
        each["mesh"] |= {"names": ["dp_replicate", "dp_shard"], "sizes": [2, 1]}
    for name in found["parameters"]:
        mesh = {"names": ["dp_replicate", "dp_shard"], "sizes": [2, 1]}
        place(found, name, placements=["R", "S(0)"], mesh=mesh)
    assert compare.moved(found, record("fsdp")) == []


def test_many_modules_are_two_by_name_and_counted():
    def swap(found):
        for each in found["groups"]:
            each["policy"]["reduce_dtype"] = "torch.bfloat16"

    (sentence,) = compare.moved(changed("dp_replicate", swap), record("fsdp"))
    assert sentence.startswith("tok_embeddings, layers.0 and 2 more: reduce_dtype is")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda r: group(r, 1).update(reshard=False),
            "layers.0: reshard after forward is False here, and 2 in the base revision.",
        ),
        (
            lambda r: group(r, 1)["mesh"].update(names=["dp_replicate"]),
            "layers.0: its mesh is (dp_replicate=2) here, and (fsdp=2) in the base revision.",
        ),
        (
            lambda r: r.update(autocast={"dtype": "bfloat16", "enabled": True}),
            "the forward pass: under autocast to bfloat16 here, and without autocast in the base revision.",
        ),
        (
            lambda r: r["optimizers"][0]["groups"][0]["parameters"].pop(),
            "output.weight: in no optimizer here, and in one in the base revision.",
        ),
    ],
)
def test_what_was_to_stay_is_held_to_what_it_was(change, sentence):
    assert compare.unchanged(record("fsdp"), record("fsdp")) == []
    assert compare.unchanged(changed("fsdp", change), record("fsdp")) == [sentence]


TIE = ["tok_embeddings.weight", "output.weight"]


def tied(found):
    """Both weights are one, in one group, under the first name."""
    last = found["groups"].pop()
    group(found, 0)["modules"] += last["modules"]
    del found["parameters"]["output.weight"]
    found["optimizers"][0]["groups"][0]["parameters"].remove("output.weight")
    found["ties"] = [TIE]


def test_weights_that_are_tied_apart_are_told():
    assert compare.untied(record("dp_replicate"), [TIE]) == [
        "tok_embeddings.weight and output.weight: tied weights, and wrapped apart."
    ]
    assert compare.untied(changed("dp_replicate", tied), [TIE]) == []


def test_where_fsdp_wraps_tied_weights_apart_the_plan_is_held_to_one_group():
    migrated = changed("dp_replicate", tied)
    assert compare.moved(migrated, record("fsdp")) == []
    migrated["groups"][0]["policy"]["param_dtype"] = "None"
    assert compare.moved(migrated, record("fsdp")) == [
        "[output, tok_embeddings]: param_dtype is None here, and torch.bfloat16 in FSDP."
    ]


def leave_output_to_the_root(found):
    """A plan written by hand, with fewer groups: right, and without overlap."""
    last = found["groups"].pop()
    found["groups"].append({**last, "modules": [""]})


def test_what_is_left_to_the_root_is_a_note():
    found = changed("dp_replicate", leave_output_to_the_root)
    assert compare.moved(found, record("fsdp")) == []
    assert compare.left_to_the_root(found, record("fsdp")) == [
        "output: left to the root's group, where FSDP has one of its own, so that its all-reduce does not overlap"
        " with the backward pass."
    ]
    assert compare.left_to_the_root(record("dp_replicate"), record("fsdp")) == []


def test_blocks_left_to_the_root_are_no_note():
    found = changed("dp_replicate", leave_output_to_the_root)
    merge(found, 2)
    said = compare.moved(found, record("fsdp"))
    assert "layers.1, output: no group of its own here, and one in FSDP." in said
    assert compare.left_to_the_root(found, record("fsdp")) == []


def test_fsdp_itself_may_leave_nothing_to_the_root():
    found = changed("fsdp", leave_output_to_the_root)
    assert (
        "output: no group of its own here, and one in the base revision."
        in compare.unchanged(found, record("fsdp"))
    )
