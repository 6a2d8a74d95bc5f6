"""The torchtitan that a checkout uses: named, found, absent; and never written."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout, open_checkout
from migrator.dependency import find
from migrator.errors import FileProblem, TitanMigrateError

from commands import run, snapshot
from places import FIXTURES
from releases import git, release

TITAN = FIXTURES / "v0_2_2"
PLANS = ("lab/models/fan/parallelize.py", "lab/models/tower/parallelize.py")


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    """What the environment of the tests has is none of theirs."""
    monkeypatch.setattr("migrator.dependency._environment", list)


@pytest.fixture
def dependent(tmp_path) -> Path:
    """The fixture as a checkout: it pins a torchtitan that is not at hand."""
    tree = tmp_path / "dependent"
    shutil.copytree(FIXTURES / "dependent", tree)
    return committed(tree)


def committed(tree: Path) -> Path:
    if not (tree / ".git").exists():
        git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


def titan_in(place: Path) -> Path:
    shutil.copytree(TITAN, place)
    return place


def install(site: Path, version: str) -> Path:
    """A torchtitan as pip leaves it, without what says so beside it."""
    titan_in(site)
    (site / f"torchtitan-{version}.dist-info").mkdir()
    return site


def submodule(tree: Path, populated: bool) -> str:
    """A gitlink to a commit of torchtitan's; returns the commit."""
    place = tree / "third_party" / "torchtitan"
    titan_in(place)
    committed(place)
    commit = git(place, "rev-parse", "HEAD").strip()
    (tree / ".gitmodules").write_text(
        '[submodule "torchtitan"]\n\tpath = third_party/torchtitan\n'
        "\turl = https://example.org/pytorch/torchtitan\n"
    )
    git(tree, "add", ".gitmodules", "third_party/torchtitan")
    git(tree, "commit", "-q", "-m", "submodule")
    if not populated:
        shutil.rmtree(place)
        place.mkdir()
    return commit


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path.relative_to(folder)} {path.stat().st_mode}".encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def test_pinned_and_not_at_hand(dependent):
    result = run("check", dependent)
    assert result.exit_code == 1
    said = result.stderr
    assert "does not hold (pyproject.toml:4, torchtitan==0.2.2)" in said
    assert "`pip download --no-deps torchtitan==0.2.2`" in said
    assert run("diff", dependent).exit_code == 1
    assert run("apply", dependent).exit_code == 1
    assert git(dependent, "status", "--porcelain") == ""


def test_a_submodule_that_is_there_is_read(dependent):
    commit = submodule(dependent, populated=True)
    result = run("check", dependent)
    assert f"(third_party/torchtitan at {commit[:7]})" in result.stderr
    assert all(f"{plan}:" in result.stderr for plan in PLANS)
    before = digest(dependent / "third_party")
    assert run("apply", dependent).exit_code == 0
    assert digest(dependent / "third_party") == before
    assert run("check", dependent).exit_code == 0


def test_a_submodule_that_is_not_there_is_asked_for(dependent):
    commit = submodule(dependent, populated=False)
    result = run("check", dependent)
    assert result.exit_code == 1
    assert f"(third_party/torchtitan at {commit[:7]})" in result.stderr
    assert "`git submodule update --init third_party/torchtitan`" in result.stderr


def test_without_a_path_of_its_own_there_is_nothing_to_do(dependent):
    shutil.rmtree(dependent / "lab" / "models")
    commit = submodule(dependent, populated=False)
    result = run("check", dependent)
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "Nothing to do: no data-parallel path of its own; torchtitan is a dependency "
        f"(third_party/torchtitan at {commit[:7]})."
    )
    assert "2900" not in result.stderr


def test_a_package_of_another_name_is_followed_by_that(dependent):
    shutil.copytree(TITAN / "torchtitan", dependent / "titan")
    for path in dependent.rglob("*.py"):
        path.write_text(path.read_text().replace("torchtitan", "titan"))
    committed(dependent)
    patch = run("diff", dependent, "--torchtitan", dependent / "titan")
    assert patch.exit_code == 0 and "b/titan/" not in patch.stdout
    assert "+from titan.tools.logging import logger" in patch.stdout


def test_a_vendored_folder_that_is_named_is_left_as_it_is(dependent):
    titan_in(dependent / "vendored")
    script = dependent / "vendored" / "scripts" / "wrap.py"
    script.parent.mkdir()
    shutil.copy(dependent / PLANS[1], script)
    committed(dependent)
    as_fork = run("diff", dependent).stdout
    assert "vendored/torchtitan" in as_fork and "vendored/scripts" in as_fork
    patch = run("diff", dependent, "--torchtitan", dependent / "vendored").stdout
    assert "vendored" not in patch and all(plan in patch for plan in PLANS)
    pins = dependent / "pyproject.toml"
    pins.write_text(
        pins.read_text() + '[tool.titan-migrate]\ntorchtitan = "vendored"\n'
    )
    committed(dependent)
    assert run("diff", dependent).stdout == patch


@pytest.mark.parametrize(
    "place, given, imported",
    [
        ("lab/third_party/torchtitan", "lab/third_party/torchtitan", "lab.third_party.torchtitan"),
        ("lab/third_party/torchtitan", "lab/third_party", "lab.third_party.torchtitan"),
        ("src/torchtitan", "src", "torchtitan"),
        ("src/torchtitan", "src/torchtitan", "torchtitan"),
        ("torchtitan", ".", "torchtitan"),
    ],
)  # fmt: skip
def test_one_that_lies_among_the_checkouts_own_packages(
    dependent, place, given, imported
):
    shutil.copytree(TITAN / "torchtitan", dependent / place)
    if place.startswith("src"):
        (dependent / "lab").rename(dependent / "src" / "lab")
    for path in dependent.rglob("lab/**/*.py"):
        if "third_party" not in path.parts:
            path.write_text(path.read_text().replace("torchtitan.", f"{imported}."))
    committed(dependent)
    shown = run("check", dependent, "--torchtitan", dependent / given)
    assert f"({place})" in shown.stderr
    patch = run("diff", dependent, "--torchtitan", dependent / given).stdout
    assert "torchtitan/" not in patch and patch.count("def apply_replicate(") == 2
    assert f"\n+from {imported}.tools.logging import logger\n" in patch


def test_what_a_script_starts_is_accepted_on_the_line_that_is_named(dependent):
    """And not by leaving a file out, which would be refused."""
    (dependent / "run.sh").write_text("torchrun -m torchtitan.train\n")
    spec = dependent / "lab" / "spec.py"
    spec.write_text(
        "from torchtitan.protocols.train_spec import TrainSpec\n\nX = TrainSpec()\n"
    )
    committed(dependent)
    options = (dependent, "--torchtitan", TITAN)
    said = run("check", *options).stderr
    assert (
        "lab/spec.py:3: TM105 [left for a person] run.sh:1 starts the trainer" in said
    )
    assert "lab/spec.py:3:  # titan-migrate: ignore[TM105]" in said
    assert "--exclude" not in said
    assert run("apply", *options, "--exclude", "lab/spec.py").exit_code == 1
    spec.write_text(spec.read_text()[:-1] + "  # titan-migrate: ignore[TM105]\n")
    committed(dependent)
    assert run("apply", *options).exit_code == 0


def test_a_wheel_is_read(dependent, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel = tmp_path / "torchtitan-0.2.2-py3-none-any.whl"
    shutil.make_archive(str(tmp_path / "made"), "zip", TITAN)
    (tmp_path / "made.zip").rename(wheel)
    patch = run("diff", dependent, "--torchtitan", wheel)
    assert patch.stdout == run("diff", dependent, "--torchtitan", TITAN).stdout
    assert "(torchtitan 0.2.2)" in run("check", dependent, "--torchtitan", wheel).stderr
    monkeypatch.chdir(tmp_path)
    assert run("check", dependent, "--torchtitan", wheel.name).exit_code == 1
    wheel.write_bytes(b"x")
    for words in (" is no wheel", "no torchtitan in "):
        assert words in run("check", dependent, "--torchtitan", wheel).stderr
        wheel.write_bytes(b"PK\5\6" + bytes(18))  # an archive of nothing


def test_what_says_no_version_is_not_said_to_be_another(dependent):
    assert "not the one of" not in run("check", dependent, "--torchtitan", TITAN).stderr


def test_an_installed_one_counts_where_it_is_what_is_pinned(dependent):
    (dependent / ".gitignore").write_text(".venv/\n")
    committed(dependent)
    site = dependent / ".venv" / "lib" / "python3.12" / "site-packages"
    install(site, "0.2.2")
    assert "(torchtitan 0.2.2)" in run("check", dependent).stderr
    (site / "torchtitan-0.2.2.dist-info").rename(site / "torchtitan-0.3.0.dist-info")
    result = run("check", dependent)
    assert result.exit_code == 1
    assert "does not hold (pyproject.toml:4, torchtitan==0.2.2)" in result.stderr
    assert "torchtitan 0.3.0, is another" in result.stderr


def test_two_that_differ_are_asked_about(dependent):
    (dependent / ".gitignore").write_text(".venv/\n")
    submodule(dependent, populated=True)
    site = install(dependent / ".venv/lib/python3.12/site-packages", "0.2.2")
    assert run("check", dependent).exit_code == 1  # the same files: no question
    (site / "torchtitan" / "more.py").write_text("x = 1\n")
    result = run("check", dependent)
    assert result.exit_code == 2
    for word in ("third_party/torchtitan", "site-packages", "--torchtitan PATH"):
        assert word in result.stderr
    named = run("check", dependent, "--torchtitan", site)
    assert named.exit_code == 1 and "torchtitan 0.2.2" in named.stderr


def test_a_second_one_beside_that_which_is_held_is_refused(dependent, tmp_path):
    titan_in(dependent / "vendored")
    committed(dependent)
    before = snapshot(dependent)
    for command in ("check", "apply"):
        found = run(command, dependent, "--torchtitan", TITAN)
        assert found.exit_code == 2
        assert "holds a torchtitan (vendored/torchtitan/), and" in found.stderr
    assert snapshot(dependent) == before


def test_nothing_of_it_is_ever_written(dependent, tmp_path):
    titan = titan_in(tmp_path / "titan")
    for path in (titan, *titan.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = digest(titan)
    try:
        for command in (("check",), ("diff",), ("apply", "--patches", tmp_path / "p")):
            done = run(*command[:1], dependent, *command[1:], "--torchtitan", titan)
            assert done.exit_code == (command[0] == "check")
        applied = run("apply", dependent, "--torchtitan", titan)
        assert applied.exit_code == 0
        proof = f"titan-migrate verify {dependent} --torchtitan {titan}"
        assert f"`{proof}`" in applied.stderr
        assert digest(titan) == before
    finally:
        for path in (titan, *titan.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)


def test_a_version_is_downloaded_only_when_it_is_named(
    dependent, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def download(version: str, tree: Path) -> None:
        asked.append(version)
        shutil.copytree(TITAN / "torchtitan", tree / "torchtitan")

    monkeypatch.setattr(releases_of_ours(), "download", download)
    assert run("check", dependent).exit_code == 1 and not asked
    result = run("check", dependent, "--torchtitan", "0.2.2")
    assert asked == ["0.2.2"] and "(torchtitan 0.2.2)" in result.stderr


def releases_of_ours():
    import migrator.releases

    return migrator.releases


@pytest.mark.parametrize(
    "given, words",
    [
        ("nowhere", "neither a folder nor a version"),
        ("0.2.2/torchtitan", "neither a folder nor a version"),
        (".", "no package torchtitan"),
        ("empty", "git submodule update --init"),
    ],
)
def test_what_is_named_wrongly(dependent, given, words):
    (dependent / "empty").mkdir()
    found = Checkout(dependent, is_git=True, torchtitan=given)
    with pytest.raises(TitanMigrateError, match=words):
        _ = found.dependency


@pytest.mark.parametrize("value", ["3", '["a"]', '"nowhere"', '""'])
def test_what_pyproject_names_wrongly(dependent, value):
    pins = dependent / "pyproject.toml"
    pins.write_text(pins.read_text() + f"[tool.titan-migrate]\ntorchtitan = {value}\n")
    result = run("check", dependent)
    assert result.exit_code == 2
    assert "torchtitan of [tool.titan-migrate]" in result.stderr


def test_a_fork_looks_for_none(tmp_path):
    tree = titan_in(tmp_path / "fork")
    (tree / "requirements.txt").write_text("torchtitan==0.2.2\n")

    def never() -> dict[str, str]:
        raise AssertionError

    checkout = open_checkout(tree, require_git=False)
    assert not find(tree, None, checkout.files, never).files


def test_an_editable_one_is_where_it_says(dependent, tmp_path):
    titan = titan_in(tmp_path / "clone")
    site = dependent / ".venv" / "lib" / "python3.12" / "site-packages"
    info = site / "torchtitan-0.2.2.dist-info"
    info.mkdir(parents=True)
    (info / "direct_url.json").write_text(
        f'{{"url": "file://{titan}", "dir_info": {{"editable": true}}}}'
    )
    found = Checkout(dependent, is_git=True).dependency
    assert found.name == "torchtitan 0.2.2" and found.files


def test_the_tree_is_as_it_was_where_a_new_file_cannot_be_made(dependent, monkeypatch):
    before = snapshot(dependent)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "replace", refuse)
    assert run("apply", dependent, "--torchtitan", TITAN).exit_code == 3
    assert snapshot(dependent) == before


# A file that several plans share, which is new


@pytest.fixture
def sharing(dependent) -> Path:
    """The fixture with a second plan like the tower's."""
    models = dependent / "lab" / "models"
    shutil.copytree(models / "tower", models / "spire")
    return committed(dependent)


NEW = "lab/models/replicate.py"


def test_a_new_file_is_in_every_outlet(sharing, tmp_path):
    options = (sharing, "--torchtitan", TITAN)
    checked = run("check", *options, "--format", "json")
    assert NEW in json.loads(checked.stdout)["changed"]
    log = json.loads(run("check", *options, "--format", "sarif").stdout)
    assert NEW in json.dumps(log["runs"][0]["results"])
    assert (
        f"::error file={NEW},line=1"
        in run("check", *options, "--format", "github").stdout
    )
    assert NEW in run("diff", *options, "--stat").stdout
    report = run("report", *options)
    assert report.exit_code == 0 and NEW in report.stdout
    patch = run("diff", *options).stdout_bytes
    mailed = tmp_path / "patches"
    assert run("apply", *options, "--patches", mailed).exit_code == 0
    assert git(sharing, "status", "--porcelain") == ""

    def taken(name: str) -> dict[str, bytes]:
        found = snapshot(sharing)
        git(sharing, "add", "-A")
        git(sharing, "reset", "-q", "--hard", "main")
        git(sharing, "switch", "-q", "main")
        assert NEW in found, name
        return found

    done = run("apply", *options)
    assert f"remove {NEW}" in done.stderr
    written = taken("apply")
    subprocess.run(["git", "apply", "-"], cwd=sharing, input=patch, check=True)
    assert taken("diff") == written
    git(sharing, "switch", "-q", "-c", "mailed")
    git(sharing, "am", "-q", *sorted(map(str, mailed.glob("*.patch"))))
    found = snapshot(sharing)
    git(sharing, "switch", "-q", "main")
    assert found == written
    git(sharing, "config", "user.name", "t")
    git(sharing, "config", "user.email", "t@example.org")
    assert run("apply", *options, "--branch", "b", "--commit").exit_code == 0
    assert snapshot(sharing) == written and git(sharing, "status", "--porcelain") == ""
    assert "This is written for" in git(sharing, "log", "-1", "--format=%B", "b~0")
    report = run("report", *options)
    assert report.exit_code == 0 and "nothing was changed by hand" in report.stdout


def test_a_new_file_is_taken_back_where_another_cannot_be_written(sharing, monkeypatch):
    before = snapshot(sharing)
    replace, done = os.replace, []

    def last_fails(source: str, target: Path) -> None:
        if Path(target).name == "train.py":
            raise PermissionError(13, "no")
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", last_fails)
    assert run("apply", sharing, "--torchtitan", TITAN).exit_code == 3
    assert done and snapshot(sharing) == before


def test_what_came_into_the_place_of_a_new_file_stays(sharing):
    checkout = Checkout(sharing, is_git=True, torchtitan=str(TITAN))
    changeset = plan(checkout, resolve_target("1d"))
    assert changeset.before(NEW) is None
    (sharing / NEW).write_text("mine\n")
    with pytest.raises(FileProblem, match="changed while"):
        changeset.write()
    assert (sharing / NEW).read_text() == "mine\n"


# Real releases


@pytest.mark.release
def test_with_0_2_2_from_pypi(dependent):
    titan = release("0.2.2")
    before = digest(titan)
    assert run("apply", dependent, "--torchtitan", titan).exit_code == 0
    plan = (dependent / PLANS[1]).read_text()
    assert "    disable_fsdp_gradient_division(model)\n" in plan
    again = run("check", dependent, "--torchtitan", titan)
    assert again.exit_code == 0 and digest(titan) == before


@pytest.mark.release
def test_with_0_2_2_that_is_migrated_itself(dependent, tmp_path):
    titan = tmp_path / "titan"
    shutil.copytree(release("0.2.2"), titan)
    assert run("apply", "--no-git", titan).exit_code == 0
    patch = run("diff", dependent, "--torchtitan", titan).stdout
    assert "import apply_fsdp, apply_replicate" in patch  # the tower's, as it is there
    assert (
        "def apply_replicate" in patch and "replicate(blade" in patch
    )  # the fan's own
    assert "lab/train.py" not in patch  # autocast is off there already
    shutil.rmtree(dependent / "lab/models/fan")
    assert (
        run("apply", "--allow-dirty", dependent, "--torchtitan", titan).exit_code == 0
    )
    again = run("check", dependent, "--torchtitan", titan).stderr
    assert again.startswith("Nothing to do: ") and "replicate's already" in again


@pytest.mark.release
def test_with_0_3_0_from_pypi(dependent):
    result = run("check", dependent, "--torchtitan", release("0.3.0"))
    assert result.exit_code == 1
    for words in (
        "it has no apply_ddp any more",
        "as from PR 2900 on",
        "torchtitan 0.3.0 has no torchtitan.models.llama3.infra.parallelize",
        "torchtitan.distributed.utils of torchtitan 0.3.0 has no maybe_enable_amp",
        '["dp_replicate", "fsdp"] if parallel_dims.dp_replicate_enabled else ["fsdp"]',
    ):
        assert words in result.stderr
    assert run("apply", dependent, "--torchtitan", release("0.3.0")).exit_code == 1
    assert git(dependent, "status", "--porcelain") == ""
