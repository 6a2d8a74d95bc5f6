"""Which meshes ParallelDims builds, evaluated and not run."""

import pytest

from codemods.bindings import Checkout
from codemods.interpret import CannotFollow, Raised
from codemods.meshes import build, keeps_shard_dimension, replicate_dimension
from codemods.source import SourceFile
from migrator.checkout import Checkout as OnDisk

from places import FIXTURES
from releases import VERSIONS, release

ONE_NAME = """\
from torch.distributed.device_mesh import init_device_mesh

class ParallelDims:
    def __init__(self, dp_replicate, dp_shard, tp):
        self.dp_replicate, self.dp_shard, self.tp = dp_replicate, dp_shard, tp

    def build_mesh(self, device_type):
        dims, names = [], []
        for d, name in zip([self.dp_replicate, self.dp_shard, self.tp], ["dp_replicate", "dp_shard", "tp"]):
            if d > 1:
                dims.append(d)
                names.append(NAME)
        return init_device_mesh(device_type, dims, mesh_dim_names=names)
"""
MID_2024 = """\
from dataclasses import dataclass
from torch.distributed.device_mesh import init_device_mesh

@dataclass
class ParallelDims:
    dp: int
    tp: int
    pp: int
    world_size: int
    dp_type: str

    def __post_init__(self):
        self.dp_type = self.dp_type.lower()
        assert self.dp * self.tp * self.pp == self.world_size

    def build_mesh(self, device_type):
        sizes = {"pp": self.pp, "dp": self.dp, "tp": self.tp}
        kept = {name: size for name, size in sizes.items() if size > 1}
        return init_device_mesh(device_type, tuple(kept.values()), mesh_dim_names=tuple(kept))
"""


def one(text: str) -> Checkout:
    return Checkout({"dims.py": SourceFile("dims.py", text.encode())})


@pytest.mark.parametrize(
    "text, name",
    [
        (ONE_NAME.replace("NAME", "name"), "dp_replicate"),
        (
            ONE_NAME.replace(
                "NAME",
                "'dp' if (name == 'dp_replicate' and self.dp_shard == 1) or "
                "(name == 'dp_shard' and self.dp_replicate == 1) else name",
            ),
            "dp",
        ),
        (MID_2024, "dp"),
        # The name depends on whether tensor parallelism is on: there is no one name.
        (ONE_NAME.replace("NAME", "name if self.tp == 1 else 'x_' + name"), None),
        (ONE_NAME.replace("NAME", "unknown(name)"), None),
        ("class ParallelDims:\n    pass\n", None),
    ],
)
def test_the_dimension_is_the_one_that_is_built(text, name):
    assert replicate_dimension(one(text)) == name


@pytest.mark.parametrize(
    "folder", sorted(p.name for p in FIXTURES.iterdir() if p.is_dir())
)
def test_every_fixture_is_followed(folder):
    checkout = Checkout(OnDisk(FIXTURES / folder, is_git=False).files)
    assert replicate_dimension(checkout) == "dp_replicate"
    assert keeps_shard_dimension(checkout, "dp_replicate", "dp_shard") is False


@pytest.mark.release
@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_is_followed(version):
    checkout = Checkout(OnDisk(release(version), is_git=False).files)
    assert replicate_dimension(checkout) == "dp_replicate"


def test_meshes_have_the_sizes_of_their_degrees():
    checkout = Checkout(OnDisk(FIXTURES / "v0_2_1", is_git=False).files)
    path = "torchtitan/distributed/parallel_dims.py"
    meshes = build(checkout, path, {"dp_replicate": 3, "dp_shard": 5, "tp": 2})
    assert meshes.find("dp_replicate").sizes == (3,)
    assert meshes.find("dp_replicate", "fsdp").sizes == (3, 5)
    assert meshes.find("pp") is None and meshes.find("nonsense") is None


def test_what_is_refused_is_told_apart_from_what_is_not_followed():
    with pytest.raises(Raised):
        build(
            one(MID_2024.replace("== self.world_size", "== 0")),
            "dims.py",
            {"dp_replicate": 2},
        )
    with pytest.raises(CannotFollow):
        build(one("ParallelDims = object"), "dims.py", {"dp_replicate": 2})


def test_two_of_them_that_differ_give_no_name():
    files = {
        name: SourceFile(name, text.encode())
        for name, text in {
            "a.py": MID_2024,
            "b.py": ONE_NAME.replace("NAME", "name"),
        }.items()
    }
    assert replicate_dimension(Checkout(files)) is None
