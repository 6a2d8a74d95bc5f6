"""The commands that GitHub shows as annotations, read as its runner reads them."""

from dataclasses import replace

from migrator.render.github import as_github

from commands import changeset, run, with_finding
from hostile import HOSTILE, escapes_nothing


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
            yield "notice" if f.severity == "note" else names[f.status], place, words


def test_github_annotates_every_place(fixture):
    found = changeset(fixture)
    lines = "".join(f"{line}\n" for line in as_github(found))
    assert commands(lines) == list(expected_commands(found.findings))


def test_github_is_exact(fork):
    hazard = {"path": "a b,c:d%.py", "status": "hazard", "message": "50%:\r\n::x, y"}
    (line,) = as_github(with_finding(changeset(fork), **hazard))
    assert line == (
        "::warning file=a b%2Cc%3Ad%25.py,line=3,title=TM201::50%25:\\r%0A::x, y"
    )


def test_github_of_a_hostile_checkout(hostile):
    result = run("check", hostile, "--format", "github")
    assert result.exit_code == 1 and escapes_nothing(result.stderr)
    found = commands(result.stdout_bytes.decode())
    assert {name for name, _, _ in found} <= {"error", "warning", "notice"}
    assert all(set(place) == {"file", "line", "title"} for _, place, _ in found)
    assert HOSTILE in {place["file"] for _, place, _ in found}
    assert "##[" not in "".join(message for _, _, message in found)


def test_github_of_a_migrated_checkout_has_no_errors(fork):
    assert run("apply", fork).exit_code == 0
    result = run("check", fork, "--format", "github")
    assert result.exit_code == 0
    assert all(name in ("warning", "notice") for name, _, _ in commands(result.stdout))
    assert "Nothing to rewrite" in result.stderr


def test_github_says_why_else_nothing_would_be_written(fork):
    found = changeset(fork)
    odd = replace(found, outcome=replace(found.outcome, problems=("a.py:3: b",)))
    *_, last = as_github(odd)
    assert last == "::error title=titan-migrate::a.py:3: b"
