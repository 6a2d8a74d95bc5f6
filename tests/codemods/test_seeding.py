"""Seeds that differ between replicas, read alone."""

import pytest

from codemods.seeding import unlike
from codemods.source import SourceFile

DEFINED = """
def set_determinism(seed, {argument}):
    torch.manual_seed(seed + mesh.get_local_rank())
"""
CALLED = """
def main(model, seed):
    {call}
    model.init_weights()
"""


def found(argument="distinct_seed_mesh_dim='pp'", call="set_determinism(seed)"):
    text = DEFINED.format(argument=argument) + CALLED.format(call=call)
    file = SourceFile("a.py", text.encode())
    return [(one.code, one.line, one.made) for one in unlike([file])]


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("distinct_seed_mesh_dim='dp_replicate'", "set_determinism(seed)"),
        ("*, distinct_seed_mesh_dims=('pp', 'dp_replicate')", "set_determinism(seed)"),
        ("mesh=None", "set_determinism(seed)"),
    ],
)
def test_tells_by_what_the_function_does_when_it_is_told_nothing(argument, call):
    assert found(argument, call) == [(call, 6, 7)]


def test_tells_by_the_dimensions_that_it_is_given():
    alike = "set_determinism(seed, distinct_seed_mesh_dim='pp')"
    assert found() == []
    assert found("distinct_seed_mesh_dim='dp_replicate'", alike) == []
    unlike_ = alike.replace("'pp'", "'dp_replicate'")
    assert found(call=unlike_) == [(unlike_, 6, 7)]
