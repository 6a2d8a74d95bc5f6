"""The table in pyproject.toml, and the command line that beats it."""

import json
import shutil

import pytest

from migrator.config import line_length

from commands import run
from places import FIXTURES


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "fork")
    return tmp_path / "fork"


def found(tree, *options):
    done = run("check", "--no-git", tree, "--torch", "2.10", "--format=json", *options)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def configure(tree, text):
    (tree / "pyproject.toml").write_text(f"[tool.titan-migrate]\n{text}\n")


def test_a_pattern_that_fits_nothing_is_named(tree):
    (tree / "docs").mkdir()
    (tree / "docs" / "a.md").write_text("of DDP\n")
    options = ["--exclude", "torchtitan/*.px", "--exclude", "docs", "--exclude", "!x"]
    said = run("check", tree, *options).stderr
    warned = [line for line in said.splitlines() if line.startswith("exclude: ")]
    assert ["'torchtitan/*.px'" in warned[0], "'!x'" in warned[1]] == [True, True]
    assert len(warned) == 2 and "exclude: " not in run("check", tree, "-q").stderr
    configure(tree, 'exclude = ["nowhere"]')
    for command in ("check", "report"):
        assert "exclude: no file here fits 'nowhere'" in run(command, tree).stderr


def test_the_checkout_says_what_is_left_out_and_the_command_line_beats_it(tree):
    assert "TM106" in {f["code"] for f in found(tree)["findings"]}
    configure(tree, 'ignore = ["TM106"]\nexclude = ["torchtitan/tools"]')
    data = found(tree)
    assert "TM106" not in {f["code"] for f in data["findings"]}
    assert data["left_out"]["rules"] == ["TM106"] and data["left_out"]["files"]
    data = found(tree, "--ignore", "TM201")
    assert "TM106" in {f["code"] for f in data["findings"]}
    assert data["left_out"]["rules"] == ["TM201"] and data["left_out"]["files"]


def test_what_the_command_line_selects_the_file_cannot_ignore(tree):
    configure(tree, 'ignore = ["TM106"]')
    assert {f["code"] for f in found(tree, "--select=TM106")["findings"]} == {"TM106"}


def test_a_family_may_be_written_as_people_name_it(tree):
    data = found(tree, "--ignore", "TM2xx")
    assert data["findings"] and not any(
        f["code"].startswith("TM2") for f in data["findings"]
    )


def test_options_take_lists_and_may_be_repeated(tree):
    data = found(tree, "--ignore", "TM106,TM201", "--ignore=TM207")
    assert data["left_out"]["rules"] == ["TM106", "TM201", "TM207"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('ignroe = ["TM106"]', "no key 'ignroe'; did you mean ignore?"),
        (
            'colour = "red"',
            "no key 'colour'. Its keys are select, ignore, exclude, torchtitan.",
        ),
        ('ignore = "TM106"', 'has to be a list of strings, as ignore = ["TM106"]'),
        ("exclude = [1]", "has to be a list of strings"),
        ('ignore = ["TM1O6"]', "Did you mean TM106?"),
        ("ignore = [", "is not TOML"),
        ("ignore = " + "[" * 3000 + "]" * 3000, "is not TOML"),
        ("ignore = " + "1" * 5000, "is not TOML"),
    ],
)
def test_a_wrong_table_is_one_sentence_and_exit_2(tree, text, sentence):
    configure(tree, text)
    done = run("check", "--no-git", tree)
    assert done.exit_code == 2 and sentence in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_pyproject_that_is_no_text_or_no_file(tree):
    (tree / "pyproject.toml").write_bytes(b"\xff\xfe")
    done = run("check", "--no-git", tree)
    assert done.exit_code == 2 and "not UTF-8" in done.stderr
    (tree / "pyproject.toml").unlink()
    (tree / "pyproject.toml").mkdir()
    assert run("check", "--no-git", tree).exit_code == 1


def test_a_table_of_somebody_else_is_nobodys_business(tree):
    (tree / "pyproject.toml").write_text('[tool.ruff]\nselect = ["E"]\ntool = 1\n')
    assert run("check", "--no-git", tree).exit_code == 1


# How long a line is


@pytest.mark.parametrize(
    ("pyproject", "width"),
    [
        ("", 88),
        ("[tool.black]\nline-length = 100", 100),
        ("[tool.black]\nline_length = 100", 100),
        ("[tool.ruff]\nline-length = 120", 120),
        ("[tool.black]\nline-length = 100\n[tool.ruff]\nline-length = 120", 100),
        # ruff only lints here.
        ("[tool.ufmt]\nexcludes = []\n[tool.ruff]\nline-length = 120", 88),
        ("[tool.black]\npreview = true\n[tool.ruff]\nline-length = 120", 88),
        ("[tool.black]\nline-length = 'wide'", 88),
        ("tool = 1", 88),
    ],
)
def test_line_length_of_the_formatter(tmp_path, pyproject, width):
    (tmp_path / "pyproject.toml").write_text(pyproject)
    assert line_length(tmp_path) == width


def test_line_length_of_ruff_in_a_file_of_its_own(tmp_path):
    assert line_length(tmp_path) == 88
    (tmp_path / "ruff.toml").write_text("line-length = 100\n")
    assert line_length(tmp_path) == 100
    hooks = tmp_path / ".pre-commit-config.yaml"
    hooks.write_text("repos:\n- repo: https://github.com/omnilib/ufmt\n")
    assert line_length(tmp_path) == 88


def test_what_is_written_fills_the_lines_of_the_checkout(tree):
    (tree / "pyproject.toml").write_text("[tool.black]\nline-length = 120\n")
    done = run("diff", "--no-git", tree, "--torch", "2.10")
    added = [line for line in done.stdout.splitlines() if line.startswith("+")]
    assert 88 < max(map(len, added)) <= 121
