"""Which torchtitan a checkout asks for, wherever people write it."""

import pytest

from migrator.torchtitans import wanted

UV = '[[package]]\nname = "torchtitan"\nversion = "0.2.2"\nsource = {}\n'
POETRY = (
    '[[package]]\nname = "torchtitan"\nversion = "0.2.2"\n\n[package.source]\n'
    'type = "git"\nresolved_reference = "73a0e697aa"\n'
)
GIT = "git+https://example.org/pytorch/torchtitan"
COMMIT = "73a0e697aa"


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(
    "name, text, place, exact",
    [
        ("requirements.txt", "numpy\ntorchtitan==0.2.2  # x\n", "requirements.txt:2, torchtitan==0.2.2", "0.2.2"),
        ("requirements.txt", "torchtitan\n", "requirements.txt:1, torchtitan", None),
        ("requirements.txt", f"torchtitan @ {GIT}@73a0e69\n", "requirements.txt:1, torchtitan at 73a0e69", None),
        ("requirements.txt", f"{GIT}.git@v0.2.0#egg=torchtitan\n", "requirements.txt:1, torchtitan at v0.2.0", None),
        ("requirements.txt", f"{GIT}\n", "requirements.txt:1, torchtitan from git", None),
        ("requirements/dev.txt", "torchtitan>=0.2,<0.3\n", "requirements/dev.txt:1, torchtitan>=0.2,<0.3", None),
        ("pyproject.toml", '[project]\ndependencies = ["torch", "torchtitan==0.2.1"]\n', "pyproject.toml:2, torchtitan==0.2.1", "0.2.1"),
        ("pyproject.toml", 'dependencies = [\n  "torchtitan",\n]\n', "pyproject.toml:2, torchtitan", None),
        ("pyproject.toml", '[tool.uv.sources]\ntorchtitan = { git = "https://x/y", rev = "73a0e69" }\n', "pyproject.toml:2, torchtitan at 73a0e69", None),
        ("pyproject.toml", '[tool.uv.sources]\ntorchtitan = { path = "../titan", editable = true }\n', "pyproject.toml:2, torchtitan in ../titan", None),
        ("pyproject.toml", '[tool.uv.sources]\ntorchtitan = { rev = "73a0e69", git = "https://x/y" }\n', "pyproject.toml:2, torchtitan at 73a0e69", None),
        ("pyproject.toml", '[tool.uv.sources.torchtitan]\n# why\ngit = "https://x/y"\nrev = "73a0e69"\n\n[a]\nrev = "b"\n', "pyproject.toml:1, torchtitan at 73a0e69", None),
        ("pyproject.toml", '[tool.poetry.dependencies.torchtitan]\npath = "libs/titan"\n', "pyproject.toml:1, torchtitan in libs/titan", None),
        ("requirements.txt", "-e third_party/torchtitan\n", "requirements.txt:1, torchtitan in third_party/torchtitan", None),
        ("requirements.txt", "--editable=./torchtitan[dev]\n", "requirements.txt:1, torchtitan in torchtitan", None),
        ("environment.yml", "dependencies:\n  - pip:\n    - -e ../torchtitan\n", "environment.yml:3, torchtitan in ../torchtitan", None),
        ("Dockerfile", "RUN pip install -e third_party/torchtitan && ls\n", "Dockerfile:1, torchtitan in third_party/torchtitan", None),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntorchtitan = "^0.2"\n', "pyproject.toml:2, torchtitan>=0.2,<1", None),
        ("environment.yml", "dependencies:\n  - torchtitan=0.2.1\n", "environment.yml:2, torchtitan==0.2.1", "0.2.1"),
        ("conda.yaml", "dependencies:\n  - pip:\n    - torchtitan==0.2.1\n", "conda.yaml:3, torchtitan==0.2.1", "0.2.1"),
        ("uv.lock", UV.format('{ registry = "x" }'), "uv.lock:2, torchtitan==0.2.2", "0.2.2"),
        ("uv.lock", UV.replace("{}", f'{{ git = "https://x/t?rev=73a0#{COMMIT}" }}'), "uv.lock:2, torchtitan at 73a0e69", None),
        ("uv.lock", UV.replace("{}", '{ editable = "libs/titan" }'), "uv.lock:2, torchtitan in libs/titan", None),
        ("poetry.lock", POETRY, "poetry.lock:2, torchtitan at 73a0e69", None),
    ],
)  # fmt: skip
def test_a_pin_is_read_where_people_write_it(tmp_path, name, text, place, exact):
    write(tmp_path, name, text)
    (found,) = wanted(tmp_path, dict)
    assert (found.place, found.exact) == (place, exact)


@pytest.mark.parametrize(
    "name, text",
    [
        ("requirements.txt", "my-torchtitan==1.0\n# torchtitan==0.2.2\ntorchtitan-extras\n"),
        ("pyproject.toml", '[project]\nname = "torchtitan"\n'),
        ("pyproject.toml", '[tool.titan-migrate]\ntorchtitan = "third_party/torchtitan"\n'),
        ("uv.lock", "not = [toml"),
        ("notes.txt", "torchtitan==0.2.2\n"),
    ],
)  # fmt: skip
def test_other_lines_are_none(tmp_path, name, text):
    write(tmp_path, name, text)
    assert wanted(tmp_path, dict) == []


def test_a_source_beats_the_version_beside_it(tmp_path):
    text = '[project]\ndependencies = ["torchtitan>=0.2"]\n[tool.uv.sources]\ntorchtitan = { git = "https://x/y", tag = "v1" }\n'
    write(tmp_path, "pyproject.toml", text)
    assert [one.text for one in wanted(tmp_path, dict)] == [
        "torchtitan at v1",
        "torchtitan>=0.2",
    ]


def test_a_submodule_is_what_the_index_names_and_comes_first(tmp_path):
    write(tmp_path, "requirements.txt", "torchtitan==0.2.2\n")
    write(
        tmp_path,
        ".gitmodules",
        '[submodule "titan"]\n\tpath = third_party/titan\n'
        "\turl = https://example.org/pytorch/torchtitan.git\n"
        '[submodule "other"]\n\tpath = other\n\turl = https://example.org/other\n',
    )
    links = {"third_party/titan": "73a0e697" + "0" * 32, "other": "1" * 40}
    first, second = wanted(tmp_path, lambda: links)
    assert first.place == "third_party/titan at 73a0e69" and first.is_submodule
    assert first.allows(None, links["third_party/titan"])
    assert not first.allows("0.2.2", "1" * 40)
    assert second.allows("0.2.2", None) and not second.allows("0.3.0", None)
