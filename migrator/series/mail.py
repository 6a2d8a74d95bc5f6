"""A series of commits as mail patches, for `git am`. The checkout is only read."""

import base64
import os
import re
import tempfile
from pathlib import Path

from migrator.changeset import Changeset
from migrator.checkout import Checkout
from migrator.errors import FileProblem, TitanMigrateError
from migrator.series.commits import (
    Commit,
    Part,
    base_of,
    build,
    parts,
    refuse_filtered,
    refuse_no_identity,
    refuse_uncommitted,
)
from migrator.signals import signals_held, terminable

# Nobody's own settings have a say in what is printed here.
_NO_SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_EXTERNAL_DIFF": "",
    "GIT_DIFF_OPTS": "",
}


def write_patches(
    changeset: Changeset, folder: Path
) -> tuple[tuple[Commit, ...], tuple[Path, ...]]:
    """Write a migration as patches that `git am` takes on HEAD, all of them or none.

    Args:
        changeset: the migration, complete and not empty.
        folder: where they go; new or empty.

    Returns:
        The commits that they make, the hashes being those of here, and the files.

    Raises:
        TitanMigrateError: the folder or the state of the checkout does not allow it, or
            git failed.
        FileProblem: the patches cannot be written.
    """
    checkout = changeset.checkout
    base = base_of(checkout)
    folder = folder.resolve()
    _refuse_folder(changeset, folder)
    refuse_filtered(changeset)
    refuse_uncommitted(changeset)
    refuse_no_identity(checkout)
    series = parts(changeset, base)
    with terminable():
        commits, mails = as_mails(checkout, base, series)
        try:
            write(folder, mails)
        except OSError as error:
            raise FileProblem(
                f"{folder} could not be written ({error.strerror}); no patch is there. Name "
                "another folder with --patches."
            ) from error
    return commits, tuple(folder / name for name in mails)


def as_mails(
    checkout: Checkout, base: str, series: tuple[Part, ...]
) -> tuple[tuple[Commit, ...], dict[str, bytes]]:
    """The commits of a series, made apart from the checkout, and file name -> patch.

    Args:
        checkout: whose files they change; it is only read.
        base: full hash of the revision that they begin on.
        series: what to commit.

    Raises:
        TitanMigrateError: git failed.
    """
    with tempfile.TemporaryDirectory(prefix="titan-migrate-") as scratch:
        # A repository of our own that borrows the checkout's objects.
        repository, printed = Path(scratch, "git"), Path(scratch, "patches")
        hashes = checkout.git("rev-parse", "--show-object-format").strip()
        borrowed = checkout.git("rev-parse", "--git-path", "objects").rstrip("\n")
        env = {
            "GIT_OBJECT_DIRECTORY": str(repository / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _listed(checkout.root / borrowed),
        }
        apart = (f"--git-dir={repository}", f"--work-tree={scratch}")
        checkout.git(
            *apart, "init", "--quiet", "--template=", f"--object-format={hashes}"
        )
        commits = build(checkout, base, series, env)
        checkout.git(
            *apart,
            "format-patch",
            "--quiet",
            "--binary",
            "--full-index",
            "--no-renames",
            "--no-signature",
            f"--output-directory={printed}",
            f"{base}..{commits[-1].hash}",
            env={**env, **_NO_SETTINGS},
        )
        mails = {
            path.name: _mailable(path.read_bytes())
            for path in sorted(printed.iterdir())
        }
    return commits, mails


def _listed(objects: Path) -> str:
    """A folder of objects, and others that the environment names, as git reads such a list."""
    known = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES")
    quoted = re.sub(r'(["\\])', r"\\\1", str(objects.resolve()))
    return os.pathsep.join([f'"{quoted}"', *([known] if known else [])])


def _mailable(mail: bytes) -> bytes:
    """A mail that keeps its carriage returns, which `git am` takes off bare lines."""
    if b"\r" not in mail:
        return mail
    head, _, body = mail.partition(b"\n\n")
    kept = [
        line
        for line in re.split(rb"\n(?![ \t])", head)
        if not re.match(rb"(MIME-Version|Content-)", line)
    ]
    kept += [
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=UTF-8",
        b"Content-Transfer-Encoding: base64",
    ]
    return b"\n".join(kept) + b"\n\n" + base64.encodebytes(body)


def _refuse_folder(changeset: Changeset, folder: Path) -> None:
    checkout = changeset.checkout
    asked = ("rev-parse", "--git-dir", "--git-common-dir")
    git_folders = [
        (checkout.root / line).resolve() for line in checkout.git(*asked).splitlines()
    ]
    for place in (checkout.root.resolve(), *git_folders):
        if folder.is_relative_to(place):
            raise TitanMigrateError(
                f"{folder} is inside the checkout, where nothing is to change: name a folder "
                "outside of it with --patches."
            )
    if folder.exists() and not folder.is_dir():
        raise TitanMigrateError(f"{folder} is a file: name a folder with --patches.")
    if folder.exists() and any(folder.iterdir()):
        raise TitanMigrateError(
            f"{folder} is not empty: name a new or an empty folder with --patches."
        )


def write(folder: Path, mails: dict[str, bytes]) -> None:
    """Write the files of a folder, all of them or none."""
    new = not folder.exists()
    beside = folder.parent if new else folder
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".titan-migrate-") as staging:
        staged = Path(staging, "patches")
        staged.mkdir()
        for name, mail in mails.items():
            (staged / name).write_bytes(mail)
        with signals_held():
            if new:
                os.rename(staged, folder)
                return
            # Not replaced: it may be the folder somebody works in.
            moved: list[Path] = []
            try:
                for name in mails:
                    os.rename(staged / name, folder / name)
                    moved.append(folder / name)
            except OSError:
                for path in moved:
                    path.unlink()
                raise
