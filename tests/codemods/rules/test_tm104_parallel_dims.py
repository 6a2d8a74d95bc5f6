"""TM104: ParallelDims keeps a shard dimension of degree 1 (2-D target only)."""

from support import (
    APPLY_DDP,
    HERE,
    IMPORT,
    LOOP_MESHES,
    NAMED_MESHES,
    PLAN,
    PLAN_IMPORTS,
    assert_formatted,
    assert_left,
    assert_rewrites,
    findings,
    migrated,
    outcome,
    text,
)

DIMS = "torchtitan/distributed/parallel_dims.py"
KEPT = 'if d > 1 or (name == "dp_shard" and self.dp_replicate > 1):'


def test_loop_over_degrees_and_names():
    assert_rewrites(
        LOOP_MESHES, LOOP_MESHES.replace("if d > 1:", KEPT), path=DIMS, target="2d"
    )


def test_named_meshes():
    assert_rewrites(
        NAMED_MESHES,
        NAMED_MESHES.replace(
            "        return degree > 1\n",
            '        if name == "fsdp":\n'
            "            # We keep the fsdp dim at degree 1 next to dp_replicate because\n"
            "            # replicate takes a 2-D mesh.\n"
            "            return degree > 1 or self.dp_replicate > 1\n"
            "        return degree > 1\n",
            1,
        ),
        path=DIMS,
        target="2d",
    )


def test_the_builder_with_experts_stays():
    experts = """
    def _build_mesh_with_ep(self):
        for d, name in zip(
            [self.pp, self.dp_replicate, self.mod_ep, self.in_ep],
            ["pp", "dp_replicate", "dp_shard_mod_ep", "dp_shard_in_ep"],
        ):
            if d > 1 or name == "dp_shard_mod_ep":
                self.names.append(name)
"""
    assert_rewrites(
        LOOP_MESHES + experts,
        LOOP_MESHES.replace("if d > 1:", KEPT) + experts,
        path=DIMS,
        target="2d",
    )


def test_other_names_of_the_loop_variables():
    other = LOOP_MESHES.replace("for d, name in", "for degree, dim in").replace(
        "if d > 1:\n                names.append(name)\n                dims.append(d)",
        "if degree > 1:\n                names.append(dim)\n                dims.append(degree)",
    )
    result = migrated({DIMS: other}, "2d")[DIMS]
    assert 'if degree > 1 or (dim == "dp_shard" and self.dp_replicate > 1):' in result


def test_other_names_of_self():
    other = LOOP_MESHES.replace("self", "dims_")
    assert "and dims_.dp_replicate > 1" in migrated({DIMS: other}, "2d")[DIMS]


def test_a_comment_beside_the_condition_stays():
    other = LOOP_MESHES.replace("if d > 1:", "if d > 1:  # only what is on")
    after = migrated({DIMS: other}, "2d")[DIMS]
    assert ":  # only what is on\n" in after
    assert KEPT in after.replace("(\n                ", "(").replace(
        "\n            )", ")"
    )
    assert_formatted(DIMS, after)


def test_names_that_come_from_a_variable_are_left():
    other = LOOP_MESHES.replace(
        '["pp", "dp_replicate", "dp_shard", "cp", "tp"]', "self.names"
    )
    assert_left(other, "not followed", path=DIMS, target="2d")


def test_a_continue_in_the_loop_is_left():
    other = LOOP_MESHES.replace(
        "if d > 1:\n                names.append(name)\n                dims.append(d)",
        "if d == 1:\n                continue\n            dims.append(d)\n"
        "            names.append(name)",
    )
    assert_left(other, "not followed", path=DIMS, target="2d")


def test_mesh_exist_as_one_expression():
    other = NAMED_MESHES.replace(
        '        if name == "efsdp":\n            return self.ep > 1\n', ""
    )
    result = migrated({DIMS: other}, "2d")[DIMS]
    assert "            return degree > 1 or self.dp_replicate > 1\n" in result


def test_one_dimension_needs_nothing():
    for dims in (LOOP_MESHES, NAMED_MESHES):
        assert DIMS not in migrated({DIMS: dims}, "1d")
        assert findings({DIMS: dims}, code="TM104") == []


def test_already_done():
    for dims in (LOOP_MESHES, NAMED_MESHES):
        done = migrated({DIMS: dims}, "2d")[DIMS]
        found = findings({DIMS: done}, "2d", code="TM104")
        assert [f.status for f in found] == ["done"]
        assert DIMS not in migrated({DIMS: done}, "2d")


def test_a_builder_of_named_meshes_that_cannot_be_followed_is_left():
    other = NAMED_MESHES.replace("_mesh_exist", "_exists")
    left = assert_left(other, "not followed", path=DIMS, target="2d")
    assert "dp_shard" in left.suggestion


def test_a_subclass_that_builds_its_own_mesh_is_not_touched():
    assert_rewrites(
        """
        from torchtitan.distributed.parallel_dims import ParallelDims


        class FTParallelDims(ParallelDims):
            def build_mesh(self, device_type):
                for d, name in zip([self.dp_shard], ["dp_shard"]):
                    if d > 1:
                        self.add(name)
        """,
        """
        from torchtitan.distributed.parallel_dims import ParallelDims


        class FTParallelDims(ParallelDims):
            def build_mesh(self, device_type):
                for d, name in zip([self.dp_shard], ["dp_shard"]):
                    if d > 1:
                        self.add(name)
        """,
        path="torchtitan/components/ft.py",
        target="2d",
    )


def test_opting_out():
    kept = LOOP_MESHES.replace("if d > 1:", "if d > 1:  # titan-migrate: ignore[TM104]")
    result = outcome({DIMS: kept}, "2d")
    assert result.problems == () and DIMS not in result.changes
    assert text(LOOP_MESHES) == LOOP_MESHES


def test_opting_out_of_named_meshes():
    last = "        return degree > 1\n"
    kept = NAMED_MESHES.replace(
        last, last.rstrip("\n") + "  # titan-migrate: ignore[TM104]\n"
    )
    result = outcome({DIMS: kept}, "2d")
    assert result.problems == () and DIMS not in result.changes


def test_without_a_parallel_dims_in_reach_the_2d_target_is_refused():
    plan = f"""
        {IMPORT} apply_ddp

        def parallelize(model, world_mesh):
            apply_ddp(model, world_mesh, enable_compile=False)
    """
    fsdp = "def apply_fsdp(model, dp_mesh):\n    fully_shard(model, mesh=dp_mesh)\n"
    shared = f"{PLAN_IMPORTS}\n\n{fsdp}\n\n{APPLY_DDP}"
    files = {DIMS: None, PLAN: shared, HERE: plan}
    found = [
        f for f in outcome(files, "2d").findings if f.code == "TM104" and f.path == HERE
    ]
    assert [f.status for f in found] == ["left"] and outcome(files, "2d").changes == {}
    assert "take --target 1d" in found[0].message
    assert "TM104" not in {f.code for f in outcome(files, "1d").findings}
