"""TM216: integration tests that are named after DDP."""

import pytest

from support import PLAN, outcome

FEATURES = "tests/integration_tests/features.py"
CASES = """
    TESTS = [
        Overrides([["--parallelism.data_parallel_replicate_degree=4"]], "DDP", "ddp"),
        Overrides(
            [["--parallelism.tensor_parallel_degree=2"]],
            "DDP+TP",
            "ddp+tp",
            ngpu=4,
        ),
        Overrides([["--parallelism.data_parallel_replicate_degree=2"]], "HSDP", "hsdp"),
    ]
"""


def names(files, **options):
    found = [f for f in outcome(files, **options).findings if f.code == "TM216"]
    assert {f.status for f in found} <= {"hazard"}
    return found


def test_titles_and_folders_in_one_finding_for_a_file():
    (found,) = names({FEATURES: CASES})
    assert (found.path, found.line) == (FEATURES, 2)
    assert found.message.endswith("(lines 2, 5, 6)")
    assert found.suggestion.splitlines() == [
        '"DDP" is "replicate" now',
        '"ddp" is "replicate" now, if nothing outside asks for that name',
        '"DDP+TP" is "replicate+TP" now',
        '"ddp+tp" is "replicate+tp" now, if nothing outside asks for that name',
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("torchtitan/experiments/simple_fsdp/tests/integration_tests.py", CASES),
        ("torchtitan/names.py", CASES),
        (FEATURES, "x = Overrides([], 'HSDP', 'hsdp')\n"),
        (FEATURES, "x = ['DDP']\n"),
        (FEATURES, "x = f('a run of DDP', 'ddp')\n"),
        (FEATURES, "x = f('DDP, which is what is compared with in this test', 1)\n"),
    ],
)
def test_what_is_not_named(path, source):
    assert names({path: source}) == []


def test_nothing_where_nothing_moves_or_the_name_stays():
    assert names({FEATURES: CASES, PLAN: None}) == []
    assert names({FEATURES: CASES}, target="2d") == []


def test_opting_out():
    kept = CASES.replace(
        '"DDP", "ddp"),', '"DDP", "ddp"),  # titan-migrate: ignore[TM216]'
    )
    (found,) = names({FEATURES: kept})
    assert found.message.endswith("(lines 5, 6)")
