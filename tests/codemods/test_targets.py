"""Which replicate API is written for, and what is said about it."""

import pytest

from codemods.targets import TargetError, choose_target


@pytest.mark.parametrize(
    "asked, torch, mesh",
    [
        ("auto", None, "1d"),
        ("auto", "2.9.0", "2d"),
        ("auto", "2.9.1+cu128", "2d"),
        ("auto", "2.10", "1d"),
        ("auto", "2.10.0.dev20251101+cpu", "1d"),
        ("auto", "2.13.0", "1d"),
        ("auto", "3.0.0", "1d"),
        ("1d", None, "1d"),
        ("2d", None, "2d"),
        ("1d", "2.13.0", "1d"),
        ("2d", "2.9.1", "2d"),
    ],
)
def test_mesh(asked, torch, mesh):
    target = choose_target(asked, torch)
    assert target.mesh == mesh
    assert target.mesh_keyword == {"1d": "mesh", "2d": "device_mesh"}[mesh]
    assert target.function_name == {"1d": "apply_replicate", "2d": "apply_ddp"}[mesh]


def test_the_name_can_be_chosen():
    assert choose_target("1d", None, "apply_ddp").function_name == "apply_ddp"
    assert (
        choose_target("2d", None, "apply_replicate").function_name == "apply_replicate"
    )


@pytest.mark.parametrize(
    "asked, torch, reason",
    [
        ("auto", "2.9.1", "torch 2.9.1"),
        ("auto", None, "no torch in this environment"),
        ("2d", None, "asked for"),
        ("1d", "2.10.0", "asked for"),
    ],
)
def test_the_reason_is_given(asked, torch, reason):
    assert reason in choose_target(asked, torch).reason


@pytest.mark.parametrize(
    "asked, torch, words",
    [
        ("auto", "2.8.0", "came with torch 2.9"),
        ("1d", "1.13.1", "came with torch 2.9"),
        ("1d", "2.9.1", "takes a 2D mesh"),
        ("2d", "2.13.0", "takes a 1D mesh"),
        ("auto", "nightly", "is not a version of torch"),
        ("auto", "2", "is not a version of torch"),
    ],
)
def test_what_does_not_go_together(asked, torch, words):
    with pytest.raises(TargetError, match=words):
        choose_target(asked, torch)
