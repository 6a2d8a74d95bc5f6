"""What modules below a folder that is no package are called."""

import pytest

from codemods.roots import rooted
from codemods.source import SourceFile


def modules(files: dict[str, str]) -> list[str]:
    found = rooted(
        {path: SourceFile(path, raw.encode()) for path, raw in files.items()}
    )
    return [file.module for file in found.values()]


def test_src_is_no_part_of_a_name():
    files = {"src/lab/__init__.py": "", "src/lab/a.py": "import lab.b\n", "x/y.py": ""}
    assert modules(files) == ["lab", "lab.a", "x.y"]


def test_src_is_none_though_its_package_is_imported_relatively_or_not_at_all():
    files = {"src/lab/__init__.py": "", "src/lab/a.py": "from . import b\n"}
    assert modules(files) == ["lab", "lab.a"]
    other = {path.replace("src", "plans"): text for path, text in files.items()}
    assert modules(other) == ["plans.lab", "plans.lab.a"]


@pytest.mark.parametrize(
    "more",
    [
        {"src/__init__.py": ""},
        {"src/lab/b.py": "from src.lab import a\n"},
    ],
)
def test_a_package_is_a_part_of_it(more):
    files = {"src/lab/a.py": "from lab import c\n", **more}
    assert modules(files)[0] == "src.lab.a"


def test_nothing_is_said_where_nobody_imports():
    assert modules({"src/lab/a.py": "x = 1\n"}) == ["src.lab.a"]


@pytest.mark.parametrize(
    "path, importing, module",
    [
        ("packages/lab/src/lab/plan.py", "", "lab.plan"),
        ("packages/lab/src/lab/plan.py", "from lab.plan import a\n", "lab.plan"),
        ("packages/lab/lab/plan.py", "from lab.plan import a\n", "lab.plan"),
        ("packages/lab/lab/plan.py", "from lab import plan\n", "lab.plan"),
        ("packages/lab/lab/plan.py", "", "packages.lab.lab.plan"),
        ("a/b/lab/plan.py", "import a.b.lab.plan\n", "a.b.lab.plan"),
        ("a/b/lab/plan.py", "from a.b.lab import plan\n", "a.b.lab.plan"),
        ("my-models/lab/plan.py", "import lab\n", "lab.plan"),
    ],
)
def test_packages_further_down(path, importing, module):
    package = path.replace("plan.py", "__init__.py")
    assert (
        modules({path: "x = 1\n", package: "", "tests/use.py": importing})[0] == module
    )


def test_a_script_beside_its_modules_does_not_make_a_package_a_root():
    files = {
        "lab/deep/utils.py": "",
        "lab/deep/run.py": "import utils\nfrom lab.deep import run\n",
        "lab/__init__.py": "",
    }
    assert modules(files)[0] == "lab.deep.utils"
