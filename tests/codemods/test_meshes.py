"""Which meshes ParallelDims builds, evaluated and not run."""

import pytest

from codemods.bindings import Checkout
from codemods.interpret import CannotFollow, Raised
from codemods.meshes import build, gives, of_world, replicate_dimension
from codemods.source import SourceFile
from migrator.checkout import Checkout as OnDisk

from places import FIXTURES, FORKS
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
    ],
)
def test_the_dimension_is_the_one_that_is_built(text, name):
    assert replicate_dimension(one(text), "dims.py") == name


PLANS = [pytest.param(FIXTURES / folder, id=folder) for folder in FORKS]


def on_disk(root) -> Checkout:
    return Checkout(OnDisk(root, is_git=False).files)


@pytest.mark.parametrize("root", PLANS)
def test_every_fixture_is_followed(root):
    name = "dp" if root.name in ("legacy_dp", "legacy_mid") else "dp_replicate"
    checkout = on_disk(root)
    plan = next(iter(checkout.files))
    assert replicate_dimension(checkout, plan) == name
    assert gives(checkout, plan, [name], [3])
    # which is why the 2-D target changes ParallelDims
    for shard in ("dp_shard", "fsdp"):
        assert not gives(checkout, plan, [name, shard], [3, 1])


@pytest.mark.release
@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_is_followed(version):
    checkout = on_disk(release(version))
    assert replicate_dimension(checkout, next(iter(checkout.files))) == "dp_replicate"


def test_meshes_have_the_sizes_of_their_degrees():
    checkout = on_disk(FIXTURES / "v0_2_1")
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


def test_of_two_the_one_counts_that_is_imported_and_else_the_nearest():
    named = ONE_NAME.replace("NAME", "name")
    texts = {
        "new/dims.py": named,
        "old/dims.py": MID_2024,
        "old/plan.py": "",
        "old/other.py": "from new.dims import ParallelDims\n",
    }
    checkout = Checkout({p: SourceFile(p, t.encode()) for p, t in texts.items()})
    assert replicate_dimension(checkout, "old/plan.py") == "dp"
    assert replicate_dimension(checkout, "old/other.py") == "dp_replicate"


@pytest.mark.parametrize("text", ["", "class ParallelDims:\n    pass\n"])
def test_without_one_that_can_be_followed_nothing_is_claimed(text):
    with pytest.raises(CannotFollow):
        replicate_dimension(one(text), "dims.py")
    assert not gives(one(text), "dims.py", ["dp_replicate"], [3])


@pytest.mark.release
@pytest.mark.parametrize("version", VERSIONS)
def test_the_mesh_of_all_ranks_has_dimensions_until_get_mesh_came(version):
    checkout = Checkout(OnDisk(release(version), is_git=False).files)
    plan = next(
        p
        for p in checkout.files
        if p.endswith("parallelize_llama.py")
        or p.endswith("llama3/infra/parallelize.py")
    )
    flat = version in ("0.2.1", "0.2.2")
    assert of_world(checkout, plan, "dp_replicate") is not flat
    assert of_world(one(""), "dims.py", "dp_replicate")
