"""What an earlier ``verify`` found, read from its report, and whether that was this tree."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from stat import S_ISREG
from typing import Any

from migrator.checkout import Checkout
from migrator.errors import TitanMigrateError
from migrator.review import rehearsed
from migrator.review.compare import Compared, differing
from migrator.review.model import Cell, Verified, visible
from migrator.verify.choose.scenarios import CELLS
from migrator.verify.errors import VerifyError
from migrator.verify.judge.compare import Comparison, Tolerance
from migrator.verify.judge.trace import RankTrace, Trace
from migrator.verify.judge.verdict import Verdict
from migrator.verify.show import wording
from migrator.verify.show.plots import file_name
from migrator.verify.train import graft, nodes, worktrees

_QUANTITIES = ("loss", "grad_norm", "gradients", "parameters")
_LARGEST = 4_000_000
"""Bytes of an image that are taken along; verify's own are a tenth of a megabyte."""

_LARGEST_REPORT = 200_000_000
"""Bytes of a report that are read; verify's own are some megabytes."""

_LAST_LINES = 40


class _Foreign(Exception):
    """A file that is no report of verify, with the reason."""


def read(path: Path, compared: Compared, given: Path | None) -> Verified | str:
    """The verdicts of a report folder, or a sentence that says why there are none.

    Args:
        path: what the user named as the checkout.
        compared: what the review is about.
        given: the folder; the one that ``verify`` takes by itself where None.

    Raises:
        TitanMigrateError: there is no report in a folder that was named.
    """
    folder = given or compared.checkout.root.parent / "titan-migrate-report"
    file = folder / "report.json"
    try:
        found = file.stat()
        # Reading a pipe would wait for whoever writes it.
        odd = not S_ISREG(found.st_mode) or found.st_size > _LARGEST_REPORT
        raw = b"" if odd else file.read_bytes()
    except OSError as error:
        if given is not None:
            raise TitanMigrateError(
                f"{file} could not be read ({error.strerror}): name the "
                "folder that `titan-migrate verify` wrote."
            ) from error
        return "This was not verified: there is no report of titan-migrate verify beside the checkout."
    if odd and given is not None:
        raise TitanMigrateError(
            f"{file} is no file, or larger than {_LARGEST_REPORT // 10**6} MB: name the folder "
            "that `titan-migrate verify` wrote."
        )
    try:
        return _verified(json.loads(raw), folder, path, compared)
    except (
        _Foreign,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        if given is not None:
            raise TitanMigrateError(
                f"{file} is no report of verify, or a broken one: run "
                "`titan-migrate verify` again."
            ) from error
        return "No verdict can be shown: what lies beside the checkout as a report of titan-migrate verify cannot be read."


def _verified(
    data: Mapping[str, Any], folder: Path, path: Path, compared: Compared
) -> Verified:
    environment = data["environment"]
    verdicts = {
        (str(model), str(cell)): _verdict(found)
        for model, cells in data["models"].items()
        for cell, found in cells.items()
    }
    cells = tuple(
        _cell(model, cell, verdict, folder)
        for (model, cell), verdict in verdicts.items()
    )
    words = {cell.word for cell in cells}
    if not words <= {"passed", "failed", "not run"}:
        raise _Foreign
    before = rehearsed.read(data.get("rehearsal"))
    if before and any(scene.word == "failed" for scene in before.scenes):
        words.add("failed")
    ours, sentence = _about(environment, path, compared)
    packages = {"Python": environment.get("python"), **environment.get("packages", {})}
    command = tuple(map(str, environment.get("command") or ()))
    if command[:2] not in ((), ("titan-migrate", "verify")):
        raise _Foreign  # whoever reads the review is told to type it
    return Verified(
        word=next((w for w in ("failed", "passed") if w in words), "no verdict"),
        ours=ours,
        sentence=sentence,
        cells=cells,
        took=wording.took(environment),
        versions=tuple(visible(f"{name} {value}") for name, value in packages.items()),
        command=command,
        plots={cell.plot: _image(folder, cell.plot) for cell in cells if cell.plot},
        rehearsed=before,
        untrained=visible(wording.untrained(environment)),
        models_left=tuple(map(visible, environment.get("not_trained") or ())),
    )


def _verdict(data: Mapping[str, Any]) -> Verdict:
    """A verdict as ``Verdict.to_dict`` wrote it; of the runs, only whether they failed and how they wrapped."""
    return Verdict(
        failures=tuple(map(str, data["failures"])),
        notes=tuple(map(str, data["notes"])),
        comparisons=tuple(map(_comparison, data["comparisons"])),
        traces={
            str(name): _trace(str(name), trace)
            for name, trace in data["traces"].items()
        },
        details=str(data["details"]),
        not_run=str(data["not_run"]),
    )


def _comparison(data: Mapping[str, Any]) -> Comparison:
    known = {field.name: data[field.name] for field in fields(Comparison)}
    known["largest"] = float(data["largest"])  # infinite, it is a string
    limit = data["tolerance"]
    known["tolerance"] = Tolerance(float(limit["relative"]), str(limit["source"]))
    return Comparison(**known)


def _trace(party: str, data: Mapping[str, Any]) -> Trace:
    ranks = [
        RankTrace(number, error=rank["error"], model=dict(rank.get("model") or {}))
        for number, rank in enumerate(data["ranks"])
    ]
    return Trace(party, tuple(ranks))


def _cell(model: str, name: str, verdict: Verdict, folder: Path) -> Cell:
    cell = CELLS[name]
    found = wording.deciding(verdict)
    if verdict.not_run:
        sentence = f"Not run: {verdict.not_run}"
    else:
        sentence = wording.conclusion(cell, verdict)[1]
    return Cell(
        model=visible(model),
        cell=name,
        what=cell.what,
        word=verdict.word,
        sentence=_sentence(sentence),
        figures={
            quantity: _figure(found[quantity])
            for quantity in _QUANTITIES
            if quantity in found
        },
        as_ddp=wording.as_before(verdict),
        computed_in=visible(wording.computed_in(verdict)),
        failures=tuple(map(_sentence, verdict.failures)),
        notes=tuple(map(_sentence, verdict.notes)),
        details="\n".join(wording.lines(verdict.details)[-_LAST_LINES:]),
        plot=_plot(folder, model, name),
    )


def _sentence(text: str) -> str:
    text = wording.one_line(text)
    return text[:1].upper() + text[1:]


def _figure(comparison: Comparison) -> str:
    if comparison.verdict == "bitwise":
        return "bitwise"
    size, limit = wording.size(comparison.largest), comparison.tolerance.relative
    if comparison.verdict == "within":
        return f"within {size} (tolerance {limit:.1e})"
    first = comparison.first_different
    place = f" from step {first} on" if isinstance(first, int) else ""
    return f"different{place}, by up to {size} (tolerance {limit:.1e})"


def _plot(folder: Path, model: str, cell: str) -> str | None:
    """The curves of a cell, as vectors where there are some."""
    wanted = re.compile(rf"\d+-{re.escape(file_name(f'{model}-{cell}'))}\.(svg|png)")
    plots = folder / "plots"
    names = sorted(path.name for path in plots.iterdir()) if plots.is_dir() else []
    found = [name for name in names if wanted.fullmatch(name) and _image(folder, name)]
    return max(found, default=None, key=lambda name: name.endswith(".svg"))


def _image(folder: Path, name: str) -> bytes:
    """An image of a report; empty where it is none, or too large to take along."""
    path = folder / "plots" / name
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return b""
        raw = path.read_bytes()
    except OSError:
        return b""
    begins = b"\x89PNG\r\n" if name.endswith(".png") else b"<?xml"
    return raw if raw.startswith(begins) else b""


def _about(
    environment: Mapping[str, Any], path: Path, compared: Compared
) -> tuple[bool | None, str]:
    """Whether a report is about this tree and this base, and that in a sentence."""
    recorded, base = environment.get("migrated_digest"), environment["base_revision"]
    if not recorded:
        return None, (
            "Whether this report is about the tree shown here cannot be told: it does not record "
            "which Python files it trained. Run titan-migrate verify again to be sure."
        )
    checkout = compared.checkout
    uses = checkout.dependency.name if checkout.dependency.files else ""
    if uses and environment.get("dependency") != uses:
        trained = visible(str(environment.get("dependency") or "none that it names"))
        return (
            False,
            f"It trained with another torchtitan: {trained}, and here it is {uses}.",
        )
    changes = compared.outcome.changes if compared.state == "plan" else {}
    try:
        found = (
            _digest_beside(checkout, changes)
            if uses
            else _digest(checkout, path, changes)
        )
    except VerifyError:
        return False, _ANOTHER
    known_by = "its Python files have the digest that the report records"
    if found != recorded:
        # With --rev it trained a commit, without what git ignores here.
        revision = str(environment["migrated_revision"])
        if "--rev" not in environment["command"] or changes:
            return False, _ANOTHER
        if not _known(checkout, revision) or differing(checkout, revision)[0]:
            return False, _ANOTHER
        known_by = "its Python files are those of the commit that the report names, but for what git ignores"
    return _against(base, compared, uses, known_by)


def _against(
    base: Any, compared: Compared, uses: str, known_by: str
) -> tuple[bool | None, str]:
    """The same of a report that trained this tree: against which base.

    Args:
        base: that the report names.
        uses: the torchtitan outside of the checkout, "" where there is none.
        known_by: how it is known that it trained this tree.
    """
    checkout = compared.checkout
    expected = compared.base or _head(checkout)
    if expected is None:
        return None, (
            "This report trained the tree that this migration makes, but whether it did so against the base "
            "shown here cannot be told without a commit. Commit the base with git to be sure."
        )
    if base != expected and _lies_between(checkout, expected, str(base)):
        known_by += (
            f", and the base that it trained against, {visible(str(base))[:12]}, lies between the one "
            "shown here and this tree: what was committed before that is in both"
        )
    elif base != expected:
        return False, (
            f"This report trained the tree shown here, but against another base, {visible(str(base))[:12]}: "
            "run titan-migrate verify again."
        )
    what = "that this migration makes" if compared.state == "plan" else "shown here"
    which = f"packages, with {uses}," if uses else "torchtitan package"
    return (
        True,
        f"Trained {'were' if uses else 'was'} the very {which} {what}: {known_by}.",
    )


def _digest(checkout: Checkout, path: Path, changes: Mapping[str, bytes]) -> str:
    """The digest of the torchtitan package of a checkout, with some files changed."""
    parent = worktrees.package_parent(checkout.root, path)
    instead = {checkout.root / name: raw for name, raw in changes.items()}
    return nodes.digest(checkout.root / parent, instead)


def _digest_beside(checkout: Checkout, changes: Mapping[str, bytes]) -> str:
    """The digest of the packages of a checkout that uses a torchtitan beside them."""
    above = graft.parent(checkout).as_posix()
    start = "" if above == "." else f"{above}/"
    now = {name: file.raw for name, file in checkout.files.items()} | dict(changes)
    return nodes.digest_of(
        {
            name.removeprefix(start): raw
            for name, raw in now.items()
            if name.startswith(start) and not name.startswith(f"{start}torchtitan/")
        }
    )


def _lies_between(checkout: Checkout, first: str, revision: str) -> bool:
    """Whether a commit comes after another, and before or at HEAD."""
    if not re.fullmatch(r"[0-9a-f]{7,64}", revision):
        return False
    try:
        for older, newer in ((first, revision), (revision, "HEAD")):
            checkout.git("merge-base", "--is-ancestor", older, newer)
    except TitanMigrateError:
        return False
    return True


def _head(checkout: Checkout) -> str | None:
    """The commit that a migration which is only planned starts from; None where there is none."""
    if not checkout.is_git:
        return None
    try:
        return checkout.git("rev-parse", "--verify", "HEAD^{commit}").strip()
    except TitanMigrateError:
        return None


def _known(checkout: Checkout, revision: str) -> bool:
    """Whether what a report calls a revision is one, and one of this checkout."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", revision):
        return False
    try:
        checkout.git("cat-file", "-e", f"{revision}^{{commit}}")
    except TitanMigrateError:
        return False
    return True


_ANOTHER = (
    "This report is about another tree: the Python files that it trained are not the ones shown "
    "here. Run titan-migrate verify again."
)
