"""Which torch a checkout is pinned to, and the target that follows from it."""

import pytest

from migrator import torchtitans
from migrator.apply import resolve_target
from migrator.errors import TitanMigrateError
from migrator.pins import torch_pins

LOCK = '[[package]]\nname = "torchdata"\nversion = "0.8.0"\n\n[[package]]\nname = "torch"\nversion = "{}"\n'


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    "name, text, place, newest, exact",
    [
        ("requirements.txt", "numpy\ntorch==2.9.1\n", 2, "2.9.1", True),
        ("requirements.txt", "torch == 2.10.0+cu128 ; python_version > '3.9'\n", 1, "2.10.0+cu128", True),
        ("requirements-dev.txt", "torch~=2.9.0\n", 1, "2.9.3", False),
        ("requirements/base.txt", "torch>=2.6,<2.9  # old\n", 1, "2.8.3", False),
        (".ci/docker/requirements.txt", "torch[opt]>=2.8\n", 1, None, False),
        ("pyproject.toml", '[project]\ndependencies = ["torch>=2.9,<2.10"]\n', 2, "2.9.3", False),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntorch = "^2.9"\n', 2, None, False),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntorch = "~2.9"\n', 2, "2.9.3", False),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntorch = {version = "2.9.1", source = "cpu"}\n', 2, "2.9.1", True),
        ("pixi.toml", '[dependencies]\ntorch = "2.9.*"\n', 2, "2.9.3", False),
        ("environment.yml", "dependencies:\n  - conda-forge::pytorch=2.9\n", 2, "2.9.3", False),
        ("environment.yaml", "dependencies:\n  - pip:\n    - torch==2.13.0\n", 3, "2.13.0", True),
        ("Dockerfile", "FROM x\nRUN pip install torch==2.9.1 torchdata\n", 2, "2.9.1", True),
        ("docker/train.Dockerfile", 'RUN uv pip install "torch==2.11.0"\n', 1, "2.11.0", True),
        ("uv.lock", LOCK.format("2.9.1"), 6, "2.9.1", True),
        ("poetry.lock", LOCK.format("2.13.0"), 6, "2.13.0", True),
    ],
)  # fmt: skip
def test_a_pin_is_read_where_people_write_it(
    tmp_path, name, text, place, newest, exact
):
    write(tmp_path, {name: text})
    (pin,) = torch_pins(tmp_path)
    assert pin.place == f"{name}:{place}"
    assert (pin.newest, pin.exact) == (newest, exact)


@pytest.mark.parametrize(
    "name, text",
    [
        (
            "requirements.txt",
            "torchdata==0.8.0\nmy-torch==1.0\ntorch\n# torch==2.9.1\n",
        ),
        ("requirements.txt", "torch==\n"),
        ("pyproject.toml", '[tool.uv.sources]\ntorch = { index = "pytorch-cpu" }\n'),
        ("uv.lock", "not = [toml"),
        ("docs/notes.txt", "torch==2.9.1\n"),
    ],
)
def test_what_is_no_pin(tmp_path, name, text):
    write(tmp_path, {name: text})
    assert torch_pins(tmp_path) == []


@pytest.mark.parametrize(
    "files, mesh, reason",
    [
        ({"requirements.txt": "torch==2.9.1\n"}, "2d", "torch 2.9.1, pinned in requirements.txt:1"),
        ({"requirements.txt": "torch==2.12.0\n"}, "1d", "torch 2.12.0, pinned in requirements.txt:1"),
        # One version says more than a range does.
        (
            {"pyproject.toml": 'dependencies = ["torch>=2.9,<2.10"]\n', "uv.lock": LOCK.format("2.11.0")},
            "1d",
            "torch 2.11.0, pinned in uv.lock:6",
        ),
    ],
)  # fmt: skip
def test_auto_follows_the_project_before_the_environment(
    tmp_path, monkeypatch, files, mesh, reason
):
    monkeypatch.setattr("migrator.apply.installed_torch", lambda: "2.13.0")
    write(tmp_path, files)
    target = resolve_target(root=tmp_path)
    assert (target.mesh, target.reason) == (mesh, reason)
    asked = resolve_target("1d", root=tmp_path)
    assert (asked.mesh, asked.reason) == ("1d", "asked for")


def test_a_range_without_an_upper_end_leaves_it_to_the_environment(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("migrator.apply.installed_torch", lambda: "2.9.1")
    write(tmp_path, {"requirements.txt": "torch>=2.6\n"})
    assert resolve_target(root=tmp_path).reason == "torch 2.9.1"


def test_a_pin_below_2_9_has_neither_api(tmp_path):
    write(tmp_path, {"requirements.txt": "torch==2.6.0\n"})
    with pytest.raises(
        TitanMigrateError,
        match=r"torch 2\.6\.0, which requirements\.txt:1 pins, has no",
    ):
        resolve_target(root=tmp_path)
    assert resolve_target(root=tmp_path, torch_version="2.10").mesh == "1d"


def test_pins_that_ask_for_different_apis_are_a_question(tmp_path):
    write(
        tmp_path,
        {
            "requirements.txt": "torch==2.9.1\n",
            "Dockerfile": "RUN pip install torch==2.11.0\n",
        },
    )
    with pytest.raises(TitanMigrateError, match="--torch") as raised:
        resolve_target(root=tmp_path)
    assert "requirements.txt:1" in str(raised.value) and "Dockerfile:2" not in str(
        raised.value
    )
    assert "Dockerfile:1" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["package = 3\n", "package = [1]\n", "package = [[\n", "[package]\nname = 1\n"],
)
def test_a_lock_of_another_form_pins_nothing(tmp_path, text):
    write(tmp_path, {"uv.lock": text})
    assert torch_pins(tmp_path) == []
    assert list(torchtitans.wanted(tmp_path, dict)) == []
