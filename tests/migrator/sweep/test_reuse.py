"""Results that are taken over are those that would be worked out."""

import random
from contextlib import nullcontext
from itertools import permutations

import pytest

from codemods import engine
from codemods.bindings import Checkout
from codemods.engine import migrate
from codemods.phases import reusing
from codemods.plans import decide
from codemods.plans.trainers import trainers_of
from codemods.rules import tm211_other_ddp
from codemods.source import SourceFile
from codemods.survey import Survey, survey
from codemods.targets import choose_target
from migrator.sweep.objects import Repository
from migrator.sweep.plan import Options, plan_tree
from migrator.sweep.reuse import Reuse
from migrator.sweep.shared import Shared
from migrator.sweep.tree import Tree, TreeCheckout, Trees

from organisation import edited, files_of, git_import
from places import FIXTURES
from releases import git


@pytest.fixture(scope="module", params=["legacy", "flat", "dependent"])
def branches(request, tmp_path_factory):
    """A repository with many edits of a small tree, and their names."""
    files = files_of(FIXTURES / request.param)
    chance = random.Random(request.param)
    refs = {"refs/heads/base": (None, files)}
    for number in range(12):
        changed = edited(files, chance, concerned=0.5)
        refs[f"refs/heads/{number}"] = ("refs/heads/base", changed)
    place = tmp_path_factory.mktemp("reuse") / "a.git"
    git_import(place, refs)
    return place, list(refs)


@pytest.fixture(autouse=True)
def worked_out_each_time(monkeypatch):
    """What other tests remember of the same files has no say here."""
    monkeypatch.setattr(engine, "migrate", migrate)


def planned(place, refs, reuse, shared=None):
    """What becomes of each ref, and the files as they would be."""
    trees, shared, found = Trees(Repository(place)), shared or Shared(), []
    for ref in refs:
        tree = Tree(trees, git(place, "rev-parse", f"{ref}^{{tree}}").strip())
        root = trees.repository.git_dir
        checkout = TreeCheckout(root, is_git=True, tree=tree, shared=shared)
        with reusing(reuse) if reuse else nullcontext():
            told, changeset = plan_tree(checkout, Options())
        found.append((told, changeset and dict(changeset.changes)))
    return found


def test_what_is_taken_over_is_what_would_be_worked_out(branches):
    place, refs = branches
    reuse = Reuse()
    assert planned(place, refs, reuse) == planned(place, refs, None)
    assert reuse.taken > len(refs)


def test_the_same_tree_again_is_taken_over_whole(branches):
    place, refs = branches
    reuse, shared = Reuse(), Shared()
    planned(place, refs[:1], reuse, shared)
    worked_out = reuse.worked_out
    planned(place, refs[:1], reuse, shared)
    assert worked_out and reuse.worked_out == worked_out


def test_no_more_is_kept_than_there_is_room_for(branches):
    place, refs = branches
    reuse = Reuse(kept=5)
    planned(place, refs[:2], reuse)
    assert len(reuse._known) == 5 < reuse.worked_out


def kind_of(told):
    return told.kind


def generation_of(told):
    return told.generation


def test_what_was_not_asked_for_may_be_another():
    reuse, checkout = Reuse(), Checkout({})
    one, other = (Survey(checkout, kind="ddp", generation=g) for g in ("old", "new"))
    assert [reuse.result(kind_of, (s,)) for s in (one, other)] == ["ddp", "ddp"]
    assert (reuse.worked_out, reuse.taken) == (1, 1)
    found = [reuse.result(generation_of, (s,)) for s in (one, other, one)]
    assert found == ["old", "new", "old"]
    assert (reuse.worked_out, reuse.taken) == (3, 2)


OTHERS = {
    "a class that wraps": b"""\
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel


def parallelize_extra(model, parallel_dims, job_config):
    if parallel_dims.dp_shard_enabled:
        fully_shard(model, mesh=parallel_dims.world_mesh["dp_shard"])
    elif parallel_dims.dp_replicate_enabled:
        model = DistributedDataParallel(model)
    return model
""",
    "another of the name": b"def apply_ddp(model, *rest):\n    return model\n",
}


def test_facts_are_of_their_own_survey(tmp_path):
    """What the decisions do not ask for, the rules may."""
    refs = {"refs/heads/base": (None, files_of(FIXTURES / "legacy"))}
    for name, raw in OTHERS.items():
        changed = {"torchtitan/extra.py": raw}
        refs[f"refs/heads/{name.replace(' ', '-')}"] = "refs/heads/base", changed
    git_import(tmp_path / "a.git", refs)
    for order in permutations(refs):
        found = planned(tmp_path / "a.git", order, Reuse())
        assert found == planned(tmp_path / "a.git", order, None)


PLAN = b"""
from torch.distributed._composable.fsdp import fully_shard
from torch.distributed._composable.replicate import replicate


def parallelize_foo(model, world_mesh, parallel_dims, job_config):
    if parallel_dims.dp_shard_enabled:
        apply_fsdp(model, parallel_dims.get_mesh("fsdp"))
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, parallel_dims.get_mesh("dp_replicate"))
    return model


def apply_ddp(model, dp_mesh):
    replicate(model, device_mesh=dp_mesh, bucket_cap_mb=100)


def apply_fsdp(model, dp_mesh):
    for block in model.layers.values():
        fully_shard(block, mesh=dp_mesh)
    fully_shard(model, mesh=dp_mesh)
"""
CLASS = b"""

class Backend:
    def wrap(self, dp_mesh):
        replicate(self.model, device_mesh=dp_mesh, bucket_cap_mb=100)

    def shard(self, dp_mesh):
        for block in self.model.layers.values():
            fully_shard(block, mesh=dp_mesh)
        fully_shard(self.model, mesh=dp_mesh)
"""
AVERAGES = b"""
class FooTrainer:
    def __init__(self, train_spec, parallel_dims, job_config):
        self.model = train_spec.parallelize_fn(train_spec.model, parallel_dims, job_config)

    def train_step(self, batches):
        for batch, labels in batches:
            loss = self.loss_fn(self.model(batch), labels)
            loss.backward()
        self.optimizers.step()
"""


def test_advice_of_a_rule_changes_no_decision():
    """TM211 mirrors a method for its advice, by the name that a function to write has.

    Beside the plan of a loop that averages, where all loops together want sums.
    """
    files = files_of(FIXTURES / "v0_2_2")
    files["torchtitan/experiments/foo/parallelize.py"] = PLAN + CLASS
    files["torchtitan/experiments/foo/train.py"] = AVERAGES
    sources = {p: SourceFile(p, r) for p, r in files.items() if p.endswith(".py")}
    facts = decide(survey(sources), choose_target("1d", None))
    assert trainers_of(facts, ()).sum  # which the mirror has to follow
    before = facts.summing
    advice = [finding.suggestion for finding in tm211_other_ddp.find(facts)]
    assert any("def apply_replicate(self" in (text or "") for text in advice)
    assert facts.summing == before


def test_why_a_target_was_taken_decides_nothing(tmp_path):
    """A branch that pins another torch of the same target takes everything over but texts."""
    files = files_of(FIXTURES / "legacy")
    refs = {"refs/heads/base": (None, files)}
    for minor in b"10", b"11":
        changed = {"requirements.txt": b"torch==2.%s.0\n" % minor}
        refs[f"refs/heads/{minor.decode()}"] = "refs/heads/base", changed
    git_import(tmp_path / "a.git", refs)
    reuse, shared, worked_out = Reuse(), Shared(), []
    for ref in refs:
        planned(tmp_path / "a.git", [ref], reuse, shared)
        worked_out.append(reuse.worked_out)
    _, first, second = worked_out
    # Two groups of rules read texts: TM211's and TM220's.
    assert second - first <= 2


def test_which_loops_want_sums_counts(tmp_path):
    """Decisions say it in a field of its own, and no file that differs need be read for it."""
    files = files_of(FIXTURES / "flat")
    train, plan = "torchtitan/train.py", "torchtitan/models/llama3/parallelize.py"
    call = b"    disable_fsdp_gradient_division(model)\n"
    assert call in files[plan] and b"/ global_valid_tokens" in files[train]
    files[plan] = files[plan].replace(
        call, b"    if model.norm is None:\n    " + call, 1
    )
    files[train] = files[train].replace(b"maybe_enable_amp", b"no_amp_here")
    averages = files[train].replace(b"/ global_valid_tokens", b"/ 1.0")
    refs = {
        "refs/heads/sums": (None, files),
        "refs/heads/averages": ("refs/heads/sums", {train: averages}),
    }
    git_import(tmp_path / "a.git", refs)
    for order in permutations(refs):
        found = planned(tmp_path / "a.git", order, Reuse())
        assert found == planned(tmp_path / "a.git", order, None)
        assert {told.state for told, _ in found} == {"ready", "person"}


def vendored(change):
    """A dependent with the torchtitan that it uses beside it, of which one file is changed."""
    below, path = "third_party/titan/", "torchtitan/distributed/parallel_dims.py"
    files = files_of(FIXTURES / "dependent")
    files |= {below + p: raw for p, raw in files_of(FIXTURES / "v0_2_2").items()}
    files["pyproject.toml"] += (
        b'\n[tool.titan-migrate]\ntorchtitan = "third_party/titan"\n'
    )
    files[below + path] = change(files[below + path])
    return files


def test_a_torchtitan_that_a_tree_uses_counts(tmp_path):
    def other(raw):
        return raw.replace(
            b"if len(names) == 1:", b"return None\n        if len(names) == 1:"
        )

    refs = {"refs/heads/base": (None, vendored(lambda raw: raw))}
    refs["refs/heads/other"] = None, vendored(other)
    git_import(tmp_path / "a.git", refs)
    found = planned(tmp_path / "a.git", refs, Reuse())
    assert found == planned(tmp_path / "a.git", refs, None)
    assert found[0] != found[1]
