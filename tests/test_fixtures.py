"""The fixtures are what they claim to be."""

import ast
from pathlib import Path

import pytest

from places import FIXTURES

FOLDERS = [
    "legacy_mid",
    "legacy_dp",
    "legacy",
    "v0_1",
    "v0_2_0",
    "v0_2_1",
    "v0_2_2",
    "flat",
    "fork_quirks",
]


def sources(folder: str) -> list[Path]:
    return sorted((FIXTURES / folder).rglob("*.py"))


def parse(path: Path) -> ast.Module:
    """From bytes, so that a BOM and a coding declaration count."""
    return ast.parse(path.read_bytes(), str(path))


def plan(model: str) -> bytes:
    path = f"fork_quirks/torchtitan/models/{model}/infra/parallelize.py"
    return (FIXTURES / path).read_bytes()


def callers(folder: str) -> set[str]:
    """Files with a guard and a call that comes from apply_ddp, under any name."""
    return {
        path.relative_to(FIXTURES / folder / "torchtitan").as_posix()
        for path in sources(folder)
        if b"DDP has not supported > 1D parallelism" in path.read_bytes()
    }


@pytest.mark.parametrize("folder", [*FOLDERS, "dependent"])
def test_every_file_compiles(folder):
    assert sources(folder)
    for path in sources(folder):
        compile(path.read_bytes(), str(path), "exec")


@pytest.mark.parametrize(
    "folder, definitions",
    [
        ("legacy_mid", {"parallelisms/parallelize_llama.py"}),
        ("legacy_dp", {"parallelisms/parallelize_llama.py"}),
        ("legacy", {"parallelisms/parallelize_llama.py"}),
        ("v0_1", {"models/llama3/infra/parallelize.py"}),
        ("v0_2_0", {"models/llama3/infra/parallelize.py"}),
        ("v0_2_1", {"models/llama3/infra/parallelize.py"}),
        ("v0_2_2", {"models/llama3/infra/parallelize.py"}),
        ("flat", {"models/llama3/parallelize.py"}),
        (
            "fork_quirks",
            {
                "models/heron/infra/parallelize.py",
                "models/llama3/infra/parallelize.py",
                "models/plover/infra/parallelize.py",
                "models/robin/infra/parallelize.py",
                "models/stork/infra/parallelize.py",
            },
        ),
    ],
)
def test_apply_ddp_is_defined_where_that_generation_has_it(folder, definitions):
    found = {
        path.relative_to(FIXTURES / folder / "torchtitan").as_posix()
        for path in sources(folder)
        if path.name != "train.py"
        for node in parse(path).body
        if isinstance(node, ast.FunctionDef) and node.name == "apply_ddp"
    }
    assert found == definitions


@pytest.mark.parametrize(
    "folder, models",
    [
        ("v0_1", "models/llama3 experiments/llama4"),
        (
            "v0_2_0",
            "models/llama3 models/llama4 models/qwen3 models/deepseek_v3 experiments/vlm",
        ),
        (
            "v0_2_1",
            "models/llama3 models/llama4 models/qwen3 models/deepseek_v3 "
            "experiments/vlm experiments/gpt_oss "
            "experiments/transformers_modeling_backend",
        ),
        (
            "v0_2_2",
            "models/llama3 models/llama4 models/qwen3 models/deepseek_v3 "
            "experiments/vlm models/gpt_oss "
            "experiments/transformers_modeling_backend",
        ),
    ],
)
def test_the_guarded_plans_are_those_of_the_release(folder, models):
    assert callers(folder) == {
        f"{model}/infra/parallelize.py" for model in models.split()
    }


def shared_files() -> str:
    """A table of the files that several trees have: where they are the same, where not."""
    texts: dict[str, dict[bytes, list[str]]] = {}
    for folder in FOLDERS:
        for path in (FIXTURES / folder).rglob("*"):
            if path.suffix in (".py", ".toml") and path.stat().st_size:
                name = path.relative_to(FIXTURES / folder).as_posix()
                same = texts.setdefault(name, {})
                same.setdefault(path.read_bytes(), []).append(folder)
    rows = ["| file | trees |", "|---|---|"]
    for name, same in sorted(texts.items()):
        if sum(map(len, same.values())) > 1:
            groups = " ≠ ".join(" = ".join(group) for group in same.values())
            rows.append(f"| `{name}` | {groups} |")
    return "\n".join(rows)


def with_table(readme: str) -> str:
    head, _, rest = readme.partition("test_fixtures.py` -->\n")
    tail = rest[rest.index("<!-- /shared -->") :]
    return f"{head}test_fixtures.py` -->\n\n{shared_files()}\n\n{tail}"


def test_copies_of_a_file_have_not_drifted_apart():
    readme = (FIXTURES / "README.md").read_text()
    assert readme == with_table(readme), (
        "run `PYTHONPATH=. python tests/test_fixtures.py` and look"
    )


def test_byte_level_quirks_are_still_there():
    """An editor, a formatter or git may have tidied them up."""
    nandu = plan("nandu")
    assert nandu.count(b"\r\n") == nandu.count(b"\n") > 0
    assert plan("owl").startswith(b"\xef\xbb\xbf")
    assert not plan("pipit").endswith(b"\n")
    with pytest.raises(UnicodeDecodeError):
        plan("quail").decode("utf-8")
    assert b"\n\tif " in plan("magpie")


if __name__ == "__main__":
    readme = FIXTURES / "README.md"
    readme.write_text(with_table(readme.read_text()))
