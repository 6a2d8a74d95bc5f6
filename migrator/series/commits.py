"""A migration as a series of commits, made without touching the working tree or the index."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codemods.selection import Selection
from codemods.steps import Step, steps
from migrator.apply import plan, refuse_dirty, refuse_incomplete
from migrator.changeset import Changeset
from migrator.checkout import Checkout
from migrator.errors import TitanMigrateError
from migrator.series.message import message

AS_CONFIGURED = ("-c", "user.useConfigOnly=true", "-c", "i18n.commitEncoding=UTF-8")
"""Options under which git takes no name that it made up, and our messages for what they are."""

# Else a part of a temporary index would stay in the checkout's .git.
_WHOLE_INDEX = ("-c", "core.splitIndex=false")


@dataclass(frozen=True)
class Part:
    """One commit to be.

    Args:
        message: its message, the subject first.
        files: place in git -> the new file, of those that differ from the commit before.
    """

    message: str
    files: Mapping[str, bytes]

    @property
    def subject(self) -> str:
        return self.message.partition("\n")[0]


@dataclass(frozen=True)
class Commit:
    """One commit that was made.

    Args:
        hash: its full hash.
        subject: the first line of its message.
    """

    hash: str
    subject: str

    def __str__(self) -> str:
        return f"{self.hash[:12]} {self.subject}"


def base_of(checkout: Checkout) -> str:
    """The full hash of the revision that a series begins on, which is HEAD.

    Raises:
        TitanMigrateError: there is no commit yet.
    """
    try:
        return checkout.git("rev-parse", "--verify", "HEAD^{commit}").strip()
    except TitanMigrateError:
        raise TitanMigrateError(
            f"{checkout.root} has no commit yet, on which others could follow: commit the "
            "unmigrated tree first."
        ) from None


Taken = tuple[tuple[Step, Mapping[str, bytes]], ...]
"""The steps of a migration, each with the files that differ from the step before."""


def taken(changeset: Changeset) -> Taken:
    """What each commit of a migration is to hold, which no revision has a say in.

    Args:
        changeset: the whole migration, complete.

    Raises:
        TitanMigrateError: a step cannot be taken without those after it.
    """
    found = []
    before: Mapping[str, bytes] = {}
    for step, after in _trees(changeset):
        files = {path: raw for path, raw in after.items() if before.get(path) != raw}
        if files:
            found.append((step, files))
        before = after
    return tuple(found)


def parts(
    changeset: Changeset, base: str, found: Taken | None = None
) -> tuple[Part, ...]:
    """The commits of a migration, each a tree that imports and trains.

    Args:
        changeset: the whole migration, complete.
        base: full hash of the revision that it is about.
        found: what ``taken`` gives, where it is known.

    Raises:
        TitanMigrateError: a step cannot be taken without those after it.
    """
    found = taken(changeset) if found is None else found
    steps_taken = [step for step, _ in found]
    return tuple(
        Part(message(changeset, steps_taken, step, base), files)
        for step, files in found
    )


def _trees(changeset: Changeset) -> Iterator[tuple[Step, Mapping[str, bytes]]]:
    """Each step, and all files that differ from the base revision after it."""
    outcome = changeset.outcome
    to_do = {f.code for f in outcome.findings if f.status == "rewrite"}
    wanted = [s for s in steps(outcome.target) if to_do & set(s.codes)]
    codes: tuple[str, ...] = ()
    for step in wanted:
        codes += tuple(code for code in step.codes if outcome.selection.takes(code))
        so_far = changeset
        if step is not wanted[-1]:
            selection = Selection(select=codes, exclude=outcome.selection.exclude)
            so_far = plan(changeset.checkout, outcome.target, selection)
            refuse_incomplete(so_far)
        yield (
            step,
            {place: so_far.changes[path] for place, path in so_far.places.items()},
        )


def refuse_uncommitted(changeset: Changeset) -> None:
    """Refuse Python files that are not as the base revision has them.

    Raises:
        TitanMigrateError: there are some; the commits would not be what was looked at.
    """
    refuse_dirty(changeset, advice="Commit or stash them first.")
    checkout = changeset.checkout
    tracked = _modes(checkout.git("ls-files", "-s", "-z"))
    for place in changeset.places:
        # In a submodule, say, to which a symlink leads.
        new = changeset.before(changeset.places[place]) is None
        if not (new or tracked.get(place, "").startswith("100")):
            raise TitanMigrateError(
                f"{place} would change, and git does not track it here: exclude what leads "
                "to it, or use a plain `apply`."
            )
    differing = {
        path
        for letters, path in checkout.status()
        if letters != "??" and path.endswith(".py")
    }
    hidden = set(checkout.hidden("*.py"))
    if hidden:
        with tempfile.TemporaryDirectory(prefix="titan-migrate-") as folder:
            # An index made anew hides nothing.
            env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            checkout.git(*_WHOLE_INDEX, "read-tree", "HEAD", env=env)
            status = checkout.status(env=env)
            differing |= hidden & {path for _, path in status}
    if differing:
        raise TitanMigrateError(
            f"{_listed(sorted(differing))} not as in HEAD, on which the commits would be "
            "made. Commit or stash your changes first."
        )


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more are" if len(paths) > 3 else " is"
    return ", ".join(paths[:3]) + more


def refuse_no_identity(checkout: Checkout) -> None:
    """Refuse to commit in a name that git would make up.

    Raises:
        TitanMigrateError: git knows no name or no address.
    """
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        try:
            checkout.git(*AS_CONFIGURED, "var", who)
        except TitanMigrateError:
            raise TitanMigrateError(
                "git does not know in whose name to commit: run `git config user.name NAME` "
                f"and `git config user.email ADDRESS` in {checkout.root}."
            ) from None


def refuse_filtered(changeset: Changeset) -> None:
    """Refuse files that are not kept as they are on disk, but as a program makes them.

    Raises:
        TitanMigrateError: a filter of git's is in force for a file that changes.
    """
    checkout = changeset.checkout
    listed = checkout.git(
        "check-attr",
        "-z",
        "--stdin",
        "filter",
        given=as_paths(changeset.places),
    ).split("\0")
    for path, value in zip(listed[0::3], listed[2::3]):
        if value in checkout.filters:
            raise TitanMigrateError(
                f"git keeps {path} as the filter {value} makes it, whose program is run with "
                "--hooks only: pass --hooks with --commit, or commit a plain `apply` yourself."
            )


def build(
    checkout: Checkout,
    base: str,
    series: tuple[Part, ...],
    env: Mapping[str, str] = {},
) -> tuple[Commit, ...]:
    """Make the commits; no branch leads to them yet.

    Args:
        checkout: whose files they change.
        base: full hash of the revision that they begin on.
        series: what to commit.
        env: variables for git, such as where it keeps its objects.

    Raises:
        TitanMigrateError: git failed.
    """
    made: list[Commit] = []
    with tempfile.TemporaryDirectory(prefix="titan-migrate-") as folder:
        # Of a working tree line ends go by .gitattributes and by what the index has, modes
        # are as they are. hash-object would not look at the index.
        tree = Path(folder, "tree")
        tree.mkdir()
        env = {**env, "GIT_INDEX_FILE": str(Path(folder, "index"))}
        index = (f"--work-tree={tree}", *_WHOLE_INDEX)
        checkout.git(*index, "read-tree", base, env=env)
        modes = _modes(checkout.git(*index, "ls-files", "-s", "-z", env=env))
        for part in series:
            if checkout.as_kept:
                _add_as_kept(checkout, Path(folder), index, modes, part, env)
            else:
                _add(checkout, tree, index, modes, part, env)
            parent = made[-1].hash if made else base
            commit = checkout.git(
                *AS_CONFIGURED,
                "commit-tree",
                "--no-gpg-sign",
                "-p",
                parent,
                "-F",
                "-",
                checkout.git(*index, "write-tree", env=env).strip(),
                given=part.message.encode(),
                env=env,
            )
            made.append(Commit(commit.strip(), part.subject))
    return tuple(made)


def _add(
    checkout: Checkout,
    tree: Path,
    index: tuple[str, ...],
    modes: Mapping[str, str],
    part: Part,
    env: Mapping[str, str],
) -> None:
    """Put the files of a part into the index as `git add` of a working tree does."""
    for path, raw in part.files.items():
        place = tree / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw)
        place.chmod(0o755 if modes.get(path) == "100755" else 0o644)
    add = ("update-index", "--add", "-z", "--stdin")
    checkout.git(*index, *add, given=as_paths(part.files), env=env)


def _add_as_kept(
    checkout: Checkout,
    folder: Path,
    index: tuple[str, ...],
    modes: Mapping[str, str],
    part: Part,
    env: Mapping[str, str],
) -> None:
    """Put the files of a part into the index byte for byte, by no attribute."""
    places = [folder / str(number) for number in range(len(part.files))]
    for place, raw in zip(places, part.files.values(), strict=True):
        place.write_bytes(raw)
    write = ("hash-object", "-w", "--no-filters", "--stdin-paths")
    given = "".join(f"{place}\n" for place in places).encode()
    ids = checkout.git(*write, given=given, env=env).split()
    entries = as_paths(
        f"{modes.get(path, '100644')} {id}\t{path}"
        for path, id in zip(part.files, ids, strict=True)
    )
    add = ("update-index", "-z", "--index-info")
    checkout.git(*index, *add, given=entries + b"\0", env=env)


def as_paths(names: Iterable[str]) -> bytes:
    """Paths as git reads them from stdin with `-z`."""
    return os.fsencode("\0".join(names))


def _modes(listed: str) -> dict[str, str]:
    """Path -> mode, of what `git ls-files -s -z` prints."""
    entries = (entry.partition("\t") for entry in listed.split("\0") if entry)
    return {path: fields.split()[0] for fields, _, path in entries}
