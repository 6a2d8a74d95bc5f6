"""TM211: DDP in other places, not touched."""

import pytest

from support import HERE, findings, migrated


def test_fires_for_another_apply_ddp():
    other = "def apply_ddp(model):\n    return Wrapper(model)\n"
    found = findings({HERE: other}, code="TM211")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 1, "hazard")]
    assert HERE not in migrated({HERE: other})


@pytest.mark.parametrize(
    "head, call",
    [
        ("from torch.distributed._composable.replicate import replicate", "replicate"),
        ("from torch.distributed._composable import replicate", "replicate"),
        ("from torch.distributed._composable import replicate as ddp", "ddp"),
    ],
)
def test_fires_for_a_direct_call(head, call):
    found = findings({HERE: f"{head}\n\n{call}(model)\n"}, code="TM211")
    assert [(f.path, f.line) for f in found] == [(HERE, 3)]


@pytest.mark.parametrize("string", ["apply_ddp", "elsewhere.parallelize.apply_ddp"])
def test_fires_for_the_name_in_a_string(string):
    found = findings({HERE: f'patch("{string}")\n'}, code="TM211")
    assert [f.line for f in found] == [1]
    assert "apply_replicate" in found[0].suggestion


def test_does_not_fire_for_a_string_where_the_name_stays():
    assert findings({HERE: 'patch("apply_ddp")\n'}, "2d", code="TM211") == []


@pytest.mark.parametrize(
    "other",
    [
        '"""apply_ddp"""\n',
        'print("apply_ddp was here")\n',
        "# apply_ddp\n",
        "from torch.distributed._composable.replicate_with_fsdp import replicate\n\nreplicate(m)\n",
    ],
)
def test_does_not_fire(other):
    assert findings({HERE: other}, code="TM211") == []
