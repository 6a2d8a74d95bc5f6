"""Call sites of changed functions that training one model does not reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.verify.judge.leftover import broken_sites

OLD = """\
from torch.distributed._composable.replicate import replicate


def apply_ddp(model, mesh, enable_compile):
    replicate(model)
"""
NEW = """\
from torch.distributed._composable.replicate_with_fsdp import replicate


def apply_replicate(model, mesh, param_dtype):
    replicate(model)
"""
BACK = "from torchtitan.models.plan import apply_replicate\n"


def write(tree: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = tree / "torchtitan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def sites(
    tmp_path: Path, other: str, new: str = NEW, old: str = OLD, **more: str
) -> tuple[str, ...]:
    """What is found in `other`, and in `more` modules, once models/plan.py is migrated."""
    files = {f"{name}.py": text for name, text in more.items()}
    write(tmp_path / "base", {"models/plan.py": old})
    write(tmp_path / "migrated", {"models/plan.py": new, "other.py": other, **files})
    return broken_sites(tmp_path / "base", tmp_path / "migrated")


@pytest.mark.parametrize(
    "other",
    [
        "from torchtitan.models.plan import apply_replicate as wrap\n\n\ndef f(m, d):\n    wrap(m, d, param_dtype=None)\n",
        "import torchtitan.models.plan as plan\n\nplan.apply_replicate(1, 2, 3)\n",
        "def f(m, apply_ddp):\n    apply_ddp(m)\n",
        "f = lambda apply_ddp: apply_ddp(1)\n",
        "try:\n    from fast import apply_ddp\nexcept ImportError:\n\n    def apply_ddp(m):\n        pass\n\n\napply_ddp(1)\n",
        "if fast:\n\n    def apply_ddp(m):\n        pass\n\n\ndef f(m):\n    apply_ddp(m)\n",
        "from torchtitan.models.plan import *\n\napply_replicate(1, 2, 3)\n",
        "from elsewhere import *\n\napply_ddp(1)\n",
        "class Trainer:\n    def f(self):\n        self.apply_ddp(1)\n",
        "try:\n    from .models.plan import apply_replicate as wrap\nexcept ImportError:\n    from .models.plan import apply_ddp as wrap\n",
    ],
)
def test_what_is_bound_fits(tmp_path, other):
    assert sites(tmp_path, other) == ()


def test_reexport_is_followed(tmp_path):
    other = (
        "from torchtitan.between import apply_replicate\n\napply_replicate(1, 2, 3)\n"
    )
    assert sites(tmp_path, other, between=BACK) == ()
    assert sites(tmp_path, other, between="from .models.plan import *\n") == ()
    (found,) = sites(tmp_path, other.replace("1, 2, 3", "1, 2"), between=BACK)
    assert found.endswith("other.py:3 calls apply_replicate without param_dtype.")


@pytest.mark.parametrize(
    "alias",
    [
        "\napply_ddp = apply_replicate\n",
        "\nif True:\n    apply_ddp = apply_replicate\n",
    ],
)
def test_alias_under_the_old_name_counts_as_defined(tmp_path, alias):
    other = "from torchtitan.models.plan import apply_ddp\n\napply_ddp(1, 2, 3)\n"
    assert sites(tmp_path, other, NEW + alias) == ()
    (found,) = sites(tmp_path, other.replace("3)", "enable_compile=3)"), NEW + alias)
    assert "calls apply_ddp with enable_compile=" in found


def test_name_that_a_star_import_leaves_out_is_not_bound(tmp_path):
    other = "from torchtitan.models.plan import *\n\napply_replicate(1, 2, 3)\n"
    (found,) = sites(tmp_path, other, NEW + "\n__all__ = ['parallelize']\n")
    assert "uses apply_replicate, which is not defined" in found
    (found,) = sites(tmp_path, other.replace("replicate", "ddp"))
    assert "uses apply_ddp, which is not defined" in found


def test_import_left_behind_is_found(tmp_path):
    found = sites(tmp_path, "def f():\n    from .models.plan import apply_ddp\n")
    assert found == (
        "torchtitan/other.py:2 imports apply_ddp from torchtitan.models.plan, which no longer defines it.",
    )
    (found,) = sites(
        tmp_path,
        "try:\n    from .models.plan import apply_ddp\nexcept ImportError:\n    apply_ddp = None\n",
    )
    assert "other.py:2 imports apply_ddp" in found


@pytest.mark.parametrize(
    "other",
    [
        "import torchtitan.models.plan as l3\n\nl3.apply_ddp(1)\n",
        "from torchtitan.models import plan as l3\n\nl3.apply_ddp(1)\n",
        "import torchtitan.models.plan\n\ntorchtitan.models.plan.apply_ddp(1)\n",
        "from . import models\n\nmodels.plan.apply_ddp(1)\n",
        "if True:\n    from .models import plan\nwrap = plan.apply_ddp\n",
    ],
)
def test_attribute_of_a_module_left_behind_is_found(tmp_path, other):
    assert sites(tmp_path, other) == (
        "torchtitan/other.py:3 uses apply_ddp of torchtitan.models.plan, which no longer defines it.",
    )


def test_call_left_behind_is_found(tmp_path):
    # The parameter of another function does not hide it.
    other = "def f(m):\n    apply_ddp(m)\n\n\ndef g(apply_ddp):\n    pass\n"
    assert sites(tmp_path, other) == (
        "torchtitan/other.py:2 uses apply_ddp, which is not defined there any more.",
    )


@pytest.mark.parametrize(
    "other",
    [
        "from torchtitan.models.plan import apply_ddp\n\n\ndef f(m, d):\n    apply_ddp(m, d, enable_compile=True)\n",
        "import torchtitan.models.plan as p\n\n\ndef f(m, d):\n    p.apply_ddp(m, d, enable_compile=True)\n",
    ],
)
def test_old_arguments_under_a_kept_name_are_found(tmp_path, other):
    (found,) = sites(tmp_path, other, NEW.replace("apply_replicate", "apply_ddp"))
    assert found.endswith(
        "calls apply_ddp with enable_compile=, which it does not take any more."
    )


def test_replicate_under_another_name_is_known(tmp_path):
    def renamed(plan: str) -> str:
        plan = plan.replace("import replicate", "import replicate as r")
        return plan.replace("    replicate(", "    r(")

    other = "from torchtitan.models.plan import apply_ddp\n"
    (found,) = sites(tmp_path, other, renamed(NEW), renamed(OLD))
    assert "imports apply_ddp" in found


def test_what_is_no_file_is_passed_over_and_what_does_not_parse_is_said(tmp_path):
    assert sites(tmp_path, BACK) == ()
    for tree in ("base", "migrated"):
        (tmp_path / tree / "torchtitan" / "folder.py").mkdir()
        (tmp_path / tree / "torchtitan" / "dangling.py").symlink_to("nowhere")
    assert broken_sites(tmp_path / "base", tmp_path / "migrated") == ()
    write(tmp_path / "migrated", {"other.py": "apply_ddp(\n"})
    (found,) = broken_sites(tmp_path / "base", tmp_path / "migrated")
    assert found.startswith("torchtitan/other.py cannot be parsed: ")
