"""Every source module has its test file where its path says, and every test file its source module."""

import ast
from pathlib import Path

from places import TOP

ROOTS = {
    "migrator/review": "tests/review",
    "migrator/verify": "tests/verify",
    "migrator": "tests/migrator",
    "codemods": "tests/codemods",
}
"""Source folder -> where the tests of what is in it lie; the first that fits."""

TOGETHER = (
    "codemods/execute",
    "codemods/interpret",
    "codemods/mirror",
    "codemods/plans",
)
"""Packages that one file tests as a whole; a module of theirs may have one besides."""

WHOLES = (
    "tests/migrator/render/test_text_head.py",
    "tests/migrator/test_messages.py",
    "tests/migrator/test_texts.py",
    "tests/codemods/test_cases.py",
    "tests/generated",
    "tests/migrator/sweep/test_hostile.py",
    "tests/review/browser",
    "tests/verify/rehearse/test_planted.py",
    "tests/verify/trained",
)
"""Tests of a whole: a first sentence, all errors, what is said of documents, a migration, programs put together, a hostile repository, wrong migrations, a page in a browser, trainings."""

ELSEWHERE = {
    "codemods/ways.py": "ways past a place that is left: migrator/render/test_ways.py",
    "codemods/beside.py": "what TM102 does around a call: rules/test_tm102_call_sites.py",
    "codemods/prose.py": "what TM217 reads: rules/test_tm217_documents.py",
    "codemods/wording.py": "what TM107 writes: rules/test_tm107_help.py",
    "codemods/autocast.py": "what TM105 looks for: rules/test_tm105_amp.py",
    "codemods/order.py": "what TM220 and TM221 look for: rules/test_tm220_weights_after_evaluation.py",
    "codemods/names.py": "the names of one file: test_bindings.py, with those of all",
    "migrator/verify/judge/causes.py": "a part of every verdict: test_judges.py",
    "migrator/verify/judge/early.py": "a part of every verdict: test_judges.py",
    "migrator/verify/judge/verdict.py": "what the judges return: test_judges.py",
    "migrator/verify/judge/names.py": "what leftover looks up: test_leftover.py",
    "migrator/verify/judge/signatures.py": "what leftover compares: test_leftover.py",
    "migrator/verify/job.py": "runs torchrun: trainings of tests/verify/trained",
    "migrator/verify/rehearse/in_world/host.py": "runs in the processes of rehearse/test_run.py",
    "migrator/verify/rehearse/in_world/build.py": "runs in the processes of rehearse/test_run.py",
    "migrator/verify/rehearse/in_world/step.py": "runs in the processes of rehearse/test_run.py",
    "migrator/verify/rehearse/in_world/read.py": "runs in the processes of rehearse/test_run.py",
    "migrator/verify/train/in_rank/cpu.py": "runs in the ranks of those trainings",
    "migrator/verify/train/in_rank/forward.py": "runs in the ranks of those trainings",
    "migrator/verify/train/in_rank/host.py": "runs in the ranks of those trainings",
    "migrator/verify/train/in_rank/warm.py": "the other side of train/test_warm.py",
}
"""Modules that are tested through others, and how."""


def below(*folders: str) -> list[Path]:
    """The Python files in these folders, from the top of the project."""
    found = (path for folder in folders for path in (TOP / folder).rglob("*.py"))
    return sorted(path.relative_to(TOP) for path in found)


def place_of(module: Path, together: bool = True) -> Path:
    """Where the test file of a module lies, or of a package, whose own module is its ``__init__``."""
    whole = module.parent if module.name == "__init__.py" else module
    if together:
        whole = next((Path(p) for p in TOGETHER if module.is_relative_to(p)), whole)
    root = next(root for root in ROOTS if module.is_relative_to(root))
    folder = ROOTS[root] / whole.parent.relative_to(root) if str(whole) != root else ""
    return Path(folder, f"test_{whole.stem}.py")


def has_logic(module: Path) -> bool:
    """Whether a function is defined in it; in records, errors and what is handed on none is."""
    tree = ast.parse((TOP / module).read_bytes())
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))


MODULES = below("codemods", "migrator")


def test_every_module_has_its_test_file():
    lacking = [
        f"{module}: there is no {place_of(module)}"
        for module in MODULES
        if has_logic(module) and module.as_posix() not in ELSEWHERE
        if not (TOP / place_of(module)).is_file()
    ]
    assert not lacking, "\n".join(lacking)


def test_every_test_file_has_its_module():
    places = {place_of(module, whole) for module in MODULES for whole in (True, False)}
    files = {
        path
        for path in below(*ROOTS.values())
        if path.name.startswith("test_")
        if not any(path.is_relative_to(whole) for whole in WHOLES)
    }
    assert files and files <= places, sorted(map(str, files - places))


def test_what_is_tested_through_others_is_there_and_has_no_file_of_its_own():
    for module in map(Path, ELSEWHERE):
        assert has_logic(module) and not (TOP / place_of(module)).exists(), module
