"""The tool as somebody has it who has no clone: built, installed beside a fork's own packages, and run there."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from places import FIXTURES, TOP
from releases import as_checkout

OURS = ("codemods", "migrator", "fixtures")
BUILD = (
    "import sys; from setuptools import build_meta; "
    "getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"
)
"""What pip asks of setuptools."""

RANK = "migrator/verify/train/in_rank/host.py"
SAYS_WHOSE = "print('the {} of', __file__, flush=True)\n"


def built(kind: str, source: Path, place: Path) -> Path:
    command = [sys.executable, "-c", BUILD, kind, str(place)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (found,) = place.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return found


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> dict[str, Path]:
    """The source distribution, a wheel made from what it holds, and the sources to install with -e."""
    top = tmp_path_factory.mktemp("built")
    source = top / "source"
    for name in OURS:
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TOP / name, source / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source)
    sdist = built("sdist", source, top / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(top / "unpacked")
    (unpacked,) = (top / "unpacked").iterdir()
    return {
        "sdist": sdist,
        "wheel": built("wheel", unpacked, top / "wheel"),
        "editable": source,
    }


@pytest.fixture(scope="module", params=["sdist", "wheel", "editable"])
def environment(request, artefacts, tmp_path_factory) -> Path:
    """A fresh environment with one of them in it, which has a `migrator` and a `codemods` of somebody else."""
    place = tmp_path_factory.mktemp(request.param) / "environment"
    python = place / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    packages = site_packages(place)
    # Dependencies are those of the running environment.
    running = [entry for entry in sys.path if entry.endswith("-packages")]
    (packages / "dependencies.pth").write_text("\n".join(running))
    for name in ("migrator", "codemods"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(SAYS_WHOSE.format("environment"))
    wanted = artefacts[request.param]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    command += ["--quiet", "--no-deps", "--no-index", "--no-compile"]
    command += ["--no-build-isolation", "--ignore-installed"]
    command += ["--editable"] * wanted.is_dir() + [str(wanted)]
    subprocess.run(command, check=True, capture_output=True)
    return place


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


@pytest.fixture(scope="module")
def fork(tmp_path_factory) -> Path:
    """A checkout that has a `migrator` and a `codemods` of its own, and imports them in training."""
    place = tmp_path_factory.mktemp("fork") / "fork"
    tree = place.with_name("tree")
    shutil.copytree(FIXTURES / "flat", tree)
    for name in ("migrator", "codemods"):
        (tree / name).mkdir()
        (tree / name / "__init__.py").write_text(SAYS_WHOSE.format("fork"))
    (tree / "torchtitan" / "train.py").write_text("import migrator, codemods\n")
    return as_checkout(tree, place)


def called(environment: Path, *words: object, cwd: Path, **variables: str):
    """The command of an environment, or its Python with `-m` or a script."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [environment / "bin" / str(words[0]), *map(str, words[1:])],
        cwd=cwd,
        env={**kept, **variables},
        capture_output=True,
        text=True,
    )


def test_a_wheel_holds_all_of_it_under_one_name(artefacts):
    with zipfile.ZipFile(artefacts["wheel"]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(TOP).as_posix()
        for folder in ("codemods", "migrator", "fixtures/v0_2_1")
        for path in TOP.joinpath(folder).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (path.name != "README.md" or folder.startswith("fixtures"))
    }
    inside = {f"titan_migrate/_lib/{path}" for path in there}
    front = {path for path in inside if "/migrator/installed/" in path}
    assert front and held == inside - front | {
        f"titan_migrate/{Path(path).name}" for path in front
    }


@pytest.mark.parametrize(
    ("start", "variables"),
    [
        (["titan-migrate"], {}),
        (["python", "-m", "titan_migrate"], {}),
        (["titan-migrate"], {"PYTHONPATH": "."}),
        (["titan-migrate"], {"PYTHONPATH": ".", "PYTHONSAFEPATH": "1"}),
    ],
)
def test_packages_of_our_names_are_not_taken_for_ours(
    environment, fork, start, variables
):
    done = called(environment, *start, "explain", "TM101", cwd=fork, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("TM101")


@pytest.mark.parametrize("environment", ["sdist", "wheel"], indirect=True)
def test_what_needs_no_training_works_outside_the_clone(environment, fork, tmp_path):
    def run(*words: object, code: int = 0) -> str:
        done = called(
            environment, "titan-migrate", *words, cwd=tmp_path, PIP_NO_INDEX="1"
        )
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    assert "apply_replicate" in run("check", fork, "--torch=2.10", code=1)
    assert "+def apply_replicate(" in run("diff", fork, "--torch=2.10")
    run("report", fork, "--html", "page.html", "--torch=2.10")
    page = (tmp_path / "page.html").read_text()
    assert "apply_replicate" in page and "<style>" in page
    words = ("sweep", fork, "--html", "sweep.html", "--torch=2.10", "--no-cache")
    assert "1 can be migrated now" in run(*words, code=1)
    assert "<style>" in (tmp_path / "sweep.html").read_text()
    told = run("demo", "--no-verify")
    assert "the bundled fixture v0_2_1" in told and "files changed" in told


@pytest.mark.parametrize("environment", ["wheel"], indirect=True)
def test_a_rank_imports_the_packages_of_the_fork(environment, fork, tmp_path):
    """In a process as torchrun starts it: of its own, by the file of the host."""
    host = site_packages(environment) / "titan_migrate/_lib" / RANK
    words = [
        host,
        fork,
        tmp_path,
        '{"device": "cuda", "overrides": {}, "trainer": ""}',
        "--",
    ]
    called(environment, "python", *words, cwd=tmp_path, RANK="0")
    log = (tmp_path / "rank0.log").read_text().splitlines()
    assert log[:2] == [
        f"the fork of {fork}/{name}/__init__.py" for name in ("migrator", "codemods")
    ], log
