"""Which files that are not Python's are read, and how a line of them opts out."""

import pytest

from codemods.texts import TextFile, is_text


@pytest.mark.parametrize(
    "path",
    [
        "README",
        "README.txt",
        "README.md",
        "docs/a/b.txt",
        "docs/a.rst",
        ".cursorrules",
        ".claude/rules/x.md",
        "train_configs/llama3.toml",
        "jobs/a.yaml",
        "pyproject.toml",
        "templates/plan.py.j2",
        "torchtitan/models/llama3/parallelize.pyi",
        "plans.json",
        "mypy.ini",
        "torchtitan/models/history_model/README.md",
    ],
)
def test_what_is_read(path):
    assert is_text(path)


@pytest.mark.parametrize(
    "path",
    [
        "a.py",
        "notes.txt",
        "requirements.txt",
        "CHANGELOG.md",
        "docs/release_notes.md",
        "benchmarks/llama3.md",
        "third_party/x/README.md",
        "vendor/x/docs/a.rst",
        "MYREADME",
    ],
)
def test_what_is_not(path):
    assert not is_text(path)


@pytest.mark.parametrize(
    ("line", "opted_out"),
    [
        ("x <!-- titan-migrate: ignore[TM217] -->", True),
        ("x  # titan-migrate: ignore[TM218, TM217]", True),
        (".. titan-migrate: ignore[TM217]", True),
        ("x <!-- titan-migrate: ignore[TM218] -->", False),
        ("x", False),
    ],
)
def test_opting_out(line, opted_out):
    file = TextFile("a.md", f"first\r\n{line}\r\nlast".encode())
    assert file.opted_out(2, "TM217") is opted_out
    assert not file.opted_out(1, "TM217") and not file.opted_out(9, "TM217")


def test_bytes_that_are_no_text_do_no_harm():
    assert TextFile("a.md", b"caf\xe9 DDP").lines == ["caf\ufffd DDP"]
