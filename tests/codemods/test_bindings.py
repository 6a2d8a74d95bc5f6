"""Which definition a name stands for."""

import pytest

from codemods.bindings import Checkout
from codemods.names import Definition
from codemods.source import SourceFile

from support import text


def build(**files):
    paths = {
        f"{name.replace('__', '/')}.py": content for name, content in files.items()
    }
    return Checkout({p: SourceFile(p, text(c).encode()) for p, c in paths.items()})


DEFINED = "def apply_ddp(): pass\n"
FOUND = Definition("pkg/plan.py", "apply_ddp")


@pytest.mark.parametrize(
    "source, spelling",
    [
        ("from pkg.plan import apply_ddp", "apply_ddp"),
        ("from pkg.plan import apply_ddp as x", "x"),
        ("from .plan import apply_ddp", "apply_ddp"),
        ("from . import plan", "plan.apply_ddp"),
        ("from . import plan as p", "p.apply_ddp"),
        ("from pkg import plan", "plan.apply_ddp"),
        ("import pkg.plan", "pkg.plan.apply_ddp"),
        ("import pkg.plan as p", "p.apply_ddp"),
        ("import pkg", "pkg.plan.apply_ddp"),
        ("from pkg.plan import *", "apply_ddp"),
        ("from .plan import *", "apply_ddp"),
        ("import os, pkg.plan as p", "p.apply_ddp"),
    ],
)
def test_spellings(source, spelling):
    checkout = build(pkg__plan=DEFINED, pkg__user=f"{source}\n")
    assert checkout.resolve("pkg/user.py", "", spelling) == FOUND


@pytest.mark.parametrize(
    "source",
    [
        "from other.plan import apply_ddp",
        "from pkg.plan import apply_fsdp as apply_ddp_",
        "import os",
        "apply_ddp = None",
        "def apply_ddp(): pass",
        "class apply_ddp: pass",
    ],
)
def test_what_does_not_lead_there(source):
    checkout = build(pkg__plan=DEFINED, pkg__user=f"{source}\n")
    assert checkout.resolve("pkg/user.py", "", "apply_ddp") != FOUND


def test_reexports_of_reexports():
    checkout = build(
        pkg__plan=DEFINED,
        pkg__a="from .plan import apply_ddp as one\n",
        pkg__b="from .a import one as two\n",
        user="from pkg.b import two as three\n",
    )
    assert checkout.resolve("user.py", "", "three") == FOUND


def test_circles_end():
    checkout = build(a="from b import x\n", b="from a import x\n")
    assert checkout.resolve("a.py", "", "x") in (
        None,
        Definition("a.py", "x"),
        Definition("b.py", "x"),
    )


def test_circles_of_stars_end():
    checkout = build(a="from b import *\n", b="from a import *\n")
    assert checkout.resolve("a.py", "", "x") is None


def test_a_checkout_below_another_folder():
    checkout = build(
        src__pkg__plan=DEFINED, src__pkg__user="from pkg.plan import apply_ddp\n"
    )
    found = checkout.resolve("src/pkg/user.py", "", "apply_ddp")
    assert found == Definition("src/pkg/plan.py", "apply_ddp")


def test_a_name_the_module_no_longer_has():
    checkout = build(pkg__plan="", pkg__user="from .plan import apply_ddp\n")
    found = checkout.resolve("pkg/user.py", "", "apply_ddp")
    assert found == FOUND and not checkout.defines(found)


@pytest.mark.parametrize(
    "inner",
    [
        "def f(apply_ddp):\n    apply_ddp()",
        "def f(*apply_ddp):\n    apply_ddp()",
        "def f(*, apply_ddp):\n    apply_ddp()",
        "def f():\n    apply_ddp = 1\n    apply_ddp()",
        "def f():\n    for apply_ddp in (): apply_ddp()",
        "def f():\n    with x as apply_ddp: apply_ddp()",
        "def f():\n    def apply_ddp(): pass\n    apply_ddp()",
        pytest.param(
            "def f():\n    try: pass\n    except E as apply_ddp: apply_ddp()",
        ),
        "def f():\n    (apply_ddp := 1)\n    apply_ddp()",
        pytest.param(
            "def f(x):\n    match x:\n        case apply_ddp: apply_ddp()",
        ),
        "def f():\n    import apply_ddp\n    apply_ddp()",
        pytest.param(
            "def f():\n    import apply_ddp.x\n    apply_ddp()",
        ),
    ],
)
def test_local_names_win(inner):
    checkout = build(
        pkg__plan=DEFINED, pkg__user=f"from .plan import apply_ddp\n{inner}\n"
    )
    assert checkout.resolve("pkg/user.py", "f", "apply_ddp") is None


def test_a_class_body_is_no_scope_for_its_methods():
    checkout = build(
        pkg__plan=DEFINED,
        pkg__user="""
        from .plan import apply_ddp

        class C:
            apply_ddp = 1

            def f(self):
                apply_ddp()
        """,
    )
    assert checkout.resolve("pkg/user.py", "C.f", "apply_ddp") == FOUND
    assert checkout.resolve("pkg/user.py", "C", "apply_ddp") is None


def test_external():
    checkout = build(
        a="from torch.distributed.fsdp import fully_shard as fs\nimport torch as t\n"
    )
    assert checkout.external("a.py", "", "fs") == "torch.distributed.fsdp.fully_shard"
    assert checkout.external("a.py", "", "t.nn.Module") == "torch.nn.Module"
    assert checkout.external("a.py", "", "x") is None


def test_relative_imports_in_a_package_file():
    files = {"pkg/plan.py": DEFINED, "pkg/__init__.py": "from .plan import apply_ddp\n"}
    checkout = Checkout({p: SourceFile(p, c.encode()) for p, c in files.items()})
    assert checkout.resolve("pkg/__init__.py", "", "apply_ddp") == FOUND


DIMS = "class ParallelDims:\n    x = 1\n"


@pytest.mark.parametrize(
    "path, text, holds",
    [
        ("torchtitan/distributed/parallel_dims.py", DIMS, True),
        ("vendor/torchtitan/parallelisms/__init__.py", DIMS.replace(":", "(object):", 1), True),
        ("torchtitan/experiments/mine/dims.py", DIMS.replace(":", "(Theirs):", 1), False),
        ("torchtitan/models/llama3/model.py", "x = 1\n", False),
        ("lab/distributed/parallel_dims.py", DIMS, False),
    ],
)  # fmt: skip
def test_what_holds_torchtitan(path, text, holds):
    assert Checkout({path: SourceFile(path, text.encode())}).holds_torchtitan is holds


@pytest.mark.parametrize(
    "path, package, name, found",
    [
        ("lab/torchtitan/train.py", "lab/__init__.py", "torchtitan.train", False),
        ("lab/torchtitan/train.py", "lab/__init__.py", "lab.torchtitan.train", True),
        ("lab/torchtitan.py", "x.py", "torchtitan", False),
        ("vendor/torchtitan/train.py", "x.py", "torchtitan.train", True),
        ("lab/other/train.py", "lab/__init__.py", "other.train", True),
    ],
)
def test_a_part_of_a_package_is_not_torchtitan(path, package, name, found):
    files = {p: SourceFile(p, b"") for p in (path, package)}
    assert (Checkout(files).path_of(name) == path) is found
    dims = SourceFile("lab/torchtitan/dims.py", DIMS.encode())
    if "torchtitan/" in path:
        held = Checkout({**files, dims.path: dims})
        assert held.path_of(name) == path


def test_what_an_added_file_defines_is_found():
    known = build(a=DEFINED)
    assert [file.path for file in known.defining("apply_ddp")] == ["a.py"]
    known.add(SourceFile("b.py", DEFINED.encode()))
    assert [file.path for file in known.defining("apply_ddp")] == ["a.py", "b.py"]
