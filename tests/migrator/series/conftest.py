"""Checkouts to commit in, and somebody to commit as."""

import os
import shutil

import pytest

from branched import PLAN, checkout_of
from commands import run
from places import FIXTURES
from releases import VERSIONS, as_checkout, git, release


@pytest.fixture(autouse=True)
def identity(monkeypatch, tmp_path):
    """Nobody's own settings, and a name to commit in."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\tname = A U Thor\n\temail = author@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    return settings


@pytest.fixture
def odd(tmp_path):
    """A checkout with every kind of file that a mail or a commit could spoil."""
    tree = shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "odd")
    plan = (tree / PLAN).read_bytes()
    spot = b"    elif parallel_dims.dp_replicate_enabled:\n"
    assert plan.count(spot) == 1
    crlf = plan.replace(b"\n", b"\r\n")
    for name, content in {
        "crlf/plan.py": crlf,
        "eol/plan.py": crlf,
        "auto/plan.py": crlf,
        "latin/plan.py": b"# -*- coding: latin-1 -*-\n"
        + plan.replace(spot, b"        # caf\xe9\n" + spot),
        "open/plan.py": plan.rstrip(b"\n"),
        "tool/plan.py": plan,
        'o d d/"pl\nan" \xe9.py': plan,
        "rules[1]/*.py": plan,
    }.items():
        place = tree / "torchtitan/models" / name
        place.parent.mkdir()
        place.write_bytes(content)
    (tree / "torchtitan/models/tool/plan.py").chmod(0o755)
    (tree / "torchtitan/models/tool/link.py").symlink_to("plan.py")
    checkout_of(tree)
    # Kept with LF from here on, while the index of auto/ keeps its CRLF.
    (tree / ".gitattributes").write_text(
        "torchtitan/models/eol/* text eol=crlf\ntorchtitan/models/auto/* text=auto\n"
    )
    git(tree, "add", "--renormalize", "torchtitan/models/eol")
    git(tree, "add", ".gitattributes")
    git(tree, "commit", "-q", "-m", "attributes")
    return tree


@pytest.fixture(scope="module", params=[(v, t) for v in VERSIONS for t in ("1d", "2d")])
def released(request, tmp_path_factory):
    """(target, checkout with the series on branch m, the same with plain apply)."""
    version, target = request.param
    folder = tmp_path_factory.mktemp(f"{version}-{target}")
    tree = as_checkout(release(version), folder / "tree")
    plain = as_checkout(release(version), folder / "plain")
    for place, more in ((plain, ()), (tree, ("--branch", "m", "--commit"))):
        git(place, "config", "user.name", "t")
        git(place, "config", "user.email", "t@example.org")
        result = run("apply", place, "--target", target, *more)
        assert result.exit_code == 0, result.output
    return target, tree, plain
