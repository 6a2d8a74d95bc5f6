"""Names that may stand for apply_ddp or for something else."""

import pytest

from rewriting import PLAIN
from support import HERE, IMPORT, PLAN, assert_left, findings, migrated

OURS = f"{IMPORT} apply_ddp"
THEIRS = "from acme_comm import apply_ddp"
PLAN_OF_IT = """

def parallelize(model, world_mesh):
    apply_ddp(model, world_mesh, False)
"""
TRIED = "try:\n    {}\nexcept ImportError:\n    {}\n"
CHOSEN = "if os.environ.get('ACME'):\n    {}\nelse:\n    {}\n"


@pytest.mark.parametrize("way", [TRIED, CHOSEN])
@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize(
    "theirs", [THEIRS, "from acme_comm import fast_ddp as apply_ddp"]
)
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_an_import_from_another_package_is_left(way, ours_first, theirs, target):
    """Renamed, it fails, or the other is taken without a word."""
    first, second = (OURS, theirs) if ours_first else (theirs, OURS)
    text = way.format(first, second) + PLAN_OF_IT
    left = assert_left(text, "whichever import runs", files=PLAIN, target=target)
    assert left.line == text.splitlines().index(f"    {theirs}") + 1
    assert left.suggestion.endswith(" as apply_ddp_of_acme_comm")


def test_within_a_function_too():
    way = CHOSEN.format(THEIRS, OURS).replace("\n", "\n    ")
    text = f"def parallelize(model, world_mesh):\n    {way}\n    apply_ddp(model, world_mesh, False)\n"
    assert_left(text, "acme_comm.apply_ddp here, or", files=PLAIN)


def test_a_module_of_another_package_is_left():
    ours = "from torchtitan.models.llama3 import parallelize as par"
    text = TRIED.format("import acme_comm as par", ours) + PLAN_OF_IT
    text = text.replace("    apply_ddp(", "    par.apply_ddp(")
    left = assert_left(text, "par.apply_ddp is acme_comm.apply_ddp", files=PLAIN)
    assert left.suggestion == "import acme_comm as par_of_acme_comm"


@pytest.mark.parametrize(
    "text",
    [
        TRIED.format(OURS, "apply_ddp = None"),
        f"{OURS}\n\nif ACME:\n    apply_ddp = acme.apply_ddp\n",
        TRIED.format(OURS, "def apply_ddp(model, mesh, enable_compile): ..."),
    ],
)
def test_what_is_set_besides_is_left(text):
    assert_left(text + PLAN_OF_IT, "imported here, and set besides", files=PLAIN)


def test_an_import_over_the_definition_is_left():
    text = f"{PLAIN[PLAN]}\n\nif ACME:\n    {THEIRS}\n"
    left = assert_left(text, "imported here, and set besides", path=PLAN)
    assert left.suggestion == f"{THEIRS} as apply_ddp_of_acme_comm"


@pytest.mark.parametrize(
    "first",
    [
        "from torchtitan.parallelisms.parallelize_llama import apply_ddp",
        "from torchtitan.models.llama3 import apply_ddp",
    ],
)
def test_an_older_place_and_another_way_to_the_same_are_not_left(first):
    package = {"torchtitan/models/llama3/__init__.py": f"{OURS}\n"}
    text = TRIED.format(first, OURS) + PLAN_OF_IT
    after = migrated({**PLAIN, **package, HERE: text})[HERE]
    assert "    apply_replicate(model" in after


def test_another_function_of_another_scope_is_not_left():
    text = f"{OURS}\n{PLAN_OF_IT}\n\ndef other(model):\n    {THEIRS}\n\n    apply_ddp(model)\n"
    after = migrated({**PLAIN, HERE: text})[HERE]
    assert THEIRS in after and "    apply_replicate(model" in after


def test_an_opt_out_holds_where_the_name_stays():
    text = TRIED.format(f"{THEIRS}  # titan-migrate: ignore[TM102]", OURS) + PLAN_OF_IT
    for target, status in (("1d", "left"), ("2d", "opted-out")):
        found = findings({**PLAIN, HERE: text}, target, code="TM102")
        assert [f.status for f in found if f.line == 2] == [status]
