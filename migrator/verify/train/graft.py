"""The torchtitan that a checkout uses and does not hold, laid into the trees that are run.

So it is imported with the checkout's own packages, in both trees alike, and the trainer and
the rehearsal find it where a fork has it. Only the temporary trees get it.
"""

from __future__ import annotations

from pathlib import Path

from codemods.dependency import PACKAGE
from codemods.roots import rooted
from migrator.checkout import Checkout
from migrator.verify.choose.models import GRAFTED
from migrator.verify.errors import VerifyError


def is_dependent(checkout: Checkout) -> bool:
    """Whether the checkout uses a torchtitan that it does not hold, and that is at hand.

    Raises VerifyError where it uses one that is not at hand.
    """
    found = checkout.dependency
    if found.advice:
        known = f" ({found.pinned})" if found.pinned else ""
        raise VerifyError(
            f"{checkout.root} uses a torchtitan that it does not hold{known}, and nothing of it runs "
            f"without: {found.advice}."
        )
    if found.files and found.package != PACKAGE:
        raise VerifyError(
            f"{found.name} is imported as {found.package}, and what is run here is called torchtitan."
        )
    return bool(found.files)


def parent(checkout: Checkout) -> Path:
    """The folder, from the checkout's root, that its own packages are imported from."""
    roots = {file.root for file in rooted(checkout.files).values()} - {""}
    return Path(min(roots)) if len(roots) == 1 else Path()


def graft(checkout: Checkout, place: Path) -> None:
    """Lays that torchtitan into a folder; raises VerifyError where another is there already.

    One that lies beside the checkout's own packages, vendored and named, is there as it is.
    """
    roots = {Path(file.root) for file in checkout.dependency.files.values()}
    there = (place / PACKAGE).exists()
    if there and roots != {parent(checkout)}:
        raise VerifyError(
            f"There is a {PACKAGE} beside the packages of {checkout.root} already: name the one "
            "that counts, or move it."
        )
    for path, file in () if there else checkout.dependency.files.items():
        target = place / path.removeprefix(file.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.raw)
    (place / GRAFTED).write_text(f"{checkout.dependency.name}\n")
