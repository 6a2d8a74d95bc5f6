"""Every torchtitan release that carries DDP, migrated to both targets."""

import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from codemods.names import Definition
from codemods.source import SourceFile
from codemods.survey import survey
from codemods.targets import choose_target
from migrator.apply import plan
from migrator.checkout import Checkout
from migrator.cli import main

from releases import VERSIONS, as_checkout, git, release

pytestmark = pytest.mark.release

LLAMA3 = "torchtitan/models/llama3/infra/parallelize.py"

CALL_SITES = {
    "0.1.0": ["experiments/llama4", "models/llama3"],
    "0.2.0": [
        "experiments/vlm",
        "models/deepseek_v3",
        "models/llama3",
        "models/llama4",
        "models/qwen3",
    ],
    "0.2.1": [
        "experiments/gpt_oss",
        "experiments/rl",
        "experiments/transformers_modeling_backend",
        "experiments/vlm",
        "models/deepseek_v3",
        "models/llama3",
        "models/llama4",
        "models/qwen3",
    ],
    "0.2.2": [
        "experiments/rl",
        "experiments/transformers_modeling_backend",
        "experiments/vlm",
        "models/deepseek_v3",
        "models/gpt_oss",
        "models/llama3",
        "models/llama4",
        "models/qwen3",
    ],
}

OWN_PLAN = {
    "0.1.0": set(),
    "0.2.0": {"experiments/vlm"},
    "0.2.1": {"experiments/vlm", "experiments/transformers_modeling_backend"},
    "0.2.2": {"experiments/vlm", "experiments/transformers_modeling_backend"},
}
"""Folders whose own apply_fsdp wraps in other groups than Llama 3's."""

COMMENTS_OF_REMOVED_CODE = {
    "# pyrefly: ignore [invalid-param-spec]",
    "# the following code will only be executed for DDP or single-device training",
    "# FSDP handles mixed precision internally",
}

HELP = {
    "0.1.0": ("torchtitan/config_manager.py", 225, 232, 265),
    "0.2.0": ("torchtitan/config/job_config.py", 235, 242, 275),
    "0.2.1": ("torchtitan/config/job_config.py", 278, 285, 312),
    "0.2.2": ("torchtitan/config/job_config.py", 286, 293, 320),
}
"""The help of both precisions and of replication, in what users read of options."""

DOCSTRINGS = {
    "0.2.1": {
        # the dimension that replicate takes
        ("torchtitan/distributed/parallel_dims.py", 82, "TM215"),
        # whose trainer is wrapped by what was apply_ddp
        (
            "torchtitan/experiments/rl/unified/infra/parallelism_utils.py",
            71,
            "TM215",
        ),
    }
}
DOCSTRINGS["0.2.2"] = {
    (path, 81 if line == 82 else line, code) for path, line, code in DOCSTRINGS["0.2.1"]
}

WORDS = {
    (version, target): {(path, line, "TM107") for line in lines}
    | (DOCSTRINGS.get(version, set()) if target == "1d" else set())
    for version, (path, *lines) in HELP.items()
    for target in ("1d", "2d")
}
"""Everything that is said about words. The wheels hold no documents, configurations and
tests. SimpleFSDP, torchft's replicas and autoparallel have a DDP that is not this one."""


@pytest.fixture(scope="module", params=[(v, t) for v in VERSIONS for t in ("1d", "2d")])
def migrated(request, tmp_path_factory):
    """(version, target, checkout before, checkout after, what apply said)."""
    version, target = request.param
    folder = tmp_path_factory.mktemp(f"{version}-{target}")
    before = as_checkout(release(version), folder / "before")
    after = as_checkout(release(version), folder / "after")
    result = CliRunner().invoke(main, ["apply", str(after), "--target", target])
    assert result.exit_code == 0, result.output
    return version, target, before, after, result.output


def python_files(root: Path) -> dict[str, SourceFile]:
    return {
        str(path.relative_to(root)): SourceFile(
            str(path.relative_to(root)), path.read_bytes()
        )
        for path in sorted(root.rglob("*.py"))
    }


def changed(after: Path) -> list[str]:
    return git(after, "diff", "--name-only").split()


def folder_of(path: str) -> str:
    return "/".join(path.split("/")[1:3])


def test_every_call_site_wraps_with_the_new_function(migrated):
    version, target, _, after, _ = migrated
    name = choose_target(target, None).function_name
    found = survey(python_files(after), name)
    assert not found.definitions
    assert (
        sorted({folder_of(s.reference.path) for s in found.call_sites})
        == CALL_SITES[version]
    )
    for site in found.call_sites:
        own = folder_of(site.reference.path) in OWN_PLAN[version]
        home = site.reference.path if own else LLAMA3
        assert site.reference.definition == Definition(home, name)


def test_nothing_of_the_old_path_is_left(migrated):
    _, target, _, after, _ = migrated
    text = "\n".join(file.text for file in python_files(after).values())
    assert "has not supported > 1D parallelism" not in text
    assert "_composable.replicate import" not in text
    assert "optimize_ddp" not in text
    if target == "1d":
        assert "apply_ddp" not in text
    else:
        assert 'logger.info("Applied DDP to the model")' in text


def test_changed_files_compile(migrated):
    *_, after, _ = migrated
    assert changed(after)
    for path in changed(after):
        compile((after / path).read_bytes(), path, "exec")


def test_pyflakes_finds_nothing_new(migrated):
    _, _, before, after, _ = migrated
    assert not pyflakes(after) - pyflakes(before)


def pyflakes(root: Path) -> Counter[str]:
    command = [sys.executable, "-m", "pyflakes", "torchtitan"]
    out = subprocess.run(command, cwd=root, capture_output=True, text=True).stdout
    return Counter(re.sub(r":\d+:\d+:", ":", line) for line in out.splitlines())


def test_formatted_as_ufmt_leaves_it(migrated):
    """black and usort have nothing to say about the files that were changed."""
    *_, after, _ = migrated
    command = [sys.executable, "-m", "ufmt", "check", *changed(after)]
    done = subprocess.run(command, cwd=after, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Its pre-commit runs pyrefly from late 2025 on, and the torch here is one for 1d.
@pytest.mark.parametrize("migrated", [("0.2.1", "1d"), ("0.2.2", "1d")], indirect=True)
def test_pyrefly_finds_nothing_new(migrated):
    """On everything but experiments, as torchtitan runs it."""
    *_, before, after, _ = migrated
    paths = [path for path in changed(after) if "experiments" not in path]
    new = pyrefly(after, paths) - pyrefly(before, paths)
    assert not new


def pyrefly(root: Path, paths: list[str]) -> Counter[str]:
    """What pyrefly says of the files, by file and without line numbers."""
    config = root.parent / "pyrefly.toml"
    config.write_text(
        "replace-imports-with-any = ['torchao.*']\n"
        f"python-interpreter-path = '{sys.executable}'\n"
        f"search-path = ['{root}']\n"
    )
    command = [sys.executable, "-m", "pyrefly", "check", "--output-format=json"]
    done = subprocess.run(
        [*command, "--config", str(config), *paths],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return Counter(
        f"{error['path'].rpartition('torchtitan/')[2]}: {error['description']}"
        for error in json.loads(done.stdout)["errors"]
    )


def test_second_apply_changes_no_byte(migrated):
    _, target, _, after, _ = migrated
    before = {path: file.raw for path, file in python_files(after).items()}
    arguments = ["apply", str(after), "--target", target, "--allow-dirty"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert re.search("Nothing to (do|rewrite)", result.output)
    assert {path: file.raw for path, file in python_files(after).items()} == before


def test_every_plan_is_confirmed_by_executing_it(migrated):
    """What cannot be followed is named; there is nothing of that kind."""
    assert "could not be executed" not in migrated[-1]


def test_check_is_content_afterwards(migrated):
    _, target, _, after, _ = migrated
    result = CliRunner().invoke(main, ["check", str(after), "--target", target])
    assert result.exit_code == 0, result.output


def test_no_comment_is_lost(migrated):
    _, _, before, after, _ = migrated
    for path in changed(after):
        lost = comments(before / path) - comments(after / path)
        assert set(lost) <= COMMENTS_OF_REMOVED_CODE, path


def comments(path: Path) -> Counter[str]:
    tokens = tokenize.tokenize(io.BytesIO(path.read_bytes()).readline)
    return Counter(token.string for token in tokens if token.type == tokenize.COMMENT)


def test_diff_is_a_patch_that_gives_the_same_tree(migrated, tmp_path):
    version, target, before, after, _ = migrated
    result = CliRunner().invoke(main, ["diff", str(before), "--target", target])
    assert result.exit_code == 0, result.output
    patch = tmp_path / "migration.patch"
    patch.write_bytes(result.stdout_bytes)
    fresh = as_checkout(release(version), tmp_path / "fresh")
    git(fresh, "apply", str(patch))
    for path, file in python_files(after).items():
        assert (fresh / path).read_bytes() == file.raw, path


def test_parallel_dims_changes_for_the_2d_target_only(migrated):
    _, target, _, after, _ = migrated
    assert ("torchtitan/distributed/parallel_dims.py" in changed(after)) == (
        target == "2d"
    )


def test_mesh_that_replicate_gets(migrated):
    version, target, _, after, _ = migrated
    text = (after / LLAMA3).read_text()
    call = text[text.index("elif parallel_dims.dp_replicate_enabled:") :]
    if version in ("0.1.0", "0.2.0"):
        mesh = '["dp_replicate"]' if target == "1d" else '["dp_replicate", "dp_shard"]'
        assert f"            world_mesh{mesh},\n" in call
    else:
        dims = '"dp_replicate"' if target == "1d" else '["dp_replicate", "fsdp"]'
        assert f"parallel_dims.get_mesh({dims})" in call
    keyword = "mesh" if target == "1d" else "device_mesh"
    assert (
        f'replicate_config = {{"{keyword}": dp_mesh, "mp_policy": mp_policy}}' in text
    )


def test_gradients_are_summed_only_where_the_loop_divided(migrated):
    version, target, _, after, _ = migrated
    name = choose_target(target, None).function_name
    text = (after / LLAMA3).read_text()
    body = text[text.index(f"def {name}(") :]
    assert ("disable_fsdp_gradient_division(model)" in body) == (version == "0.2.2")
    trainer = after / "torchtitan/experiments/rl/unified/actors/trainer.py"
    if trainer.exists():
        rl = trainer.read_text()
        # load_model of the RL experiment casts to bf16, and DDP computed in that.
        assert "param_dtype=None" in rl and "reduce_dtype=None" in rl
        assert ("average_gradients=True" in rl) == (version == "0.2.2")


def test_tied_weights_are_one_group(migrated):
    version, _, _, after, _ = migrated
    grouped = (
        "modules = [model.tok_embeddings, *modules]" in (after / LLAMA3).read_text()
    )
    # In 0.2.0 qwen3 ties after wrapping only; in 0.2.1 the RL trainer's model ties itself.
    assert grouped == (version in ("0.2.1", "0.2.2"))


def test_hazards_are_explained_with_code(migrated):
    _, target, before, _, _ = migrated
    outcome = plan(Checkout(before, is_git=True), choose_target(target, None)).outcome
    hazards = [f for f in outcome.findings if f.status == "hazard"]
    assert hazards and all(f.suggestion and f.severity for f in hazards)


def test_words_that_stop_being_true(migrated):
    version, target, before, after, _ = migrated
    outcome = plan(Checkout(before, is_git=True), choose_target(target, None)).outcome
    words = ("TM107", "TM215", "TM216", "TM217", "TM218")
    assert {(f.path, f.line, f.code) for f in outcome.findings if f.code in words} == (
        WORDS[version, target]
    )
    said = (after / HELP[version][0]).read_text()
    assert "i.e. under DDP" not in said and "method used is DDP" not in said
    assert "only takes effect when data_parallel_shard_degree" not in said
    old = (before / HELP[version][0]).read_text()
    longest = max(map(len, old.splitlines()))
    assert max(map(len, said.splitlines())) <= longest


DOCUMENTS = {
    "README.md": "# torchtitan\n\n6. Float8\n7. DDP and HSDP\n8. TorchFT\n",
    "docs/converging.md": "FSDP can be verified by comparing with DDP on small models.\n",
    "docs/torchft.md": "Replicas of torchft are FSDP or DDP.\n",
    "CLAUDE.md": "Techniques: TP, AC, compile, FSDP / HSDP.\n",
    "tests/integration_tests/features.py": """\
TESTS = [
    OverrideDefinitions([["--parallelism.data_parallel_replicate_degree=4"]], "DDP", "ddp"),
    OverrideDefinitions([["--parallelism.data_parallel_shard_degree=4"]], "FSDP", "fsdp"),
]
""",
    "torchtitan/models/llama3/train_configs/debug_model.toml": "[parallelism]\n"
    "data_parallel_replicate_degree = 1\nenable_compiled_autograd = true\n",
}
"""What stands beside the package in a checkout of torchtitan, in short."""


@pytest.mark.parametrize("version", VERSIONS)
def test_documents_beside_a_release(version, tmp_path):
    checkout = as_checkout(release(version), tmp_path / "checkout")
    for path, said in DOCUMENTS.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(said)
    target = choose_target("1d", None)
    outcome = plan(Checkout(checkout, is_git=True), target).outcome
    found = {(f.path, f.line, f.code) for f in outcome.findings if f.path in DOCUMENTS}
    took = version in ("0.1.0", "0.2.0")  # apply_ddp took enable_compiled_autograd
    toml = (list(DOCUMENTS)[-1], 3, "TM218")
    assert found == {
        ("README.md", 4, "TM217"),
        ("tests/integration_tests/features.py", 2, "TM216"),
        *([toml] if took else []),
    }


def test_past_the_replicate_api_there_is_nothing_to_do(tmp_path):
    checkout = as_checkout(release("0.3.0"), tmp_path / "checkout")
    result = CliRunner().invoke(main, ["check", str(checkout)])
    assert result.exit_code == 0
    assert "PR 2900" in result.output
