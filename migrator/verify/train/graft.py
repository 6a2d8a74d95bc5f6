"""The torchtitan that a checkout uses and does not hold, laid into the trees that are run.

So it is imported with the checkout's own packages, in both trees alike, and the trainer and
the rehearsal find it where a fork has it. Only the temporary trees get it.
"""

from __future__ import annotations

from pathlib import Path

from codemods.autocast import amp_outside, sets_amp, trained_outside
from codemods.bindings import Checkout as Files
from codemods.dependency import PACKAGE
from codemods.launches import launches
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
            f"{found.name} is imported as {found.package} here. What trains and rehearses starts "
            "torchtitan.train and reads torchtitan's modules by that name, so that neither can be "
            "done with this one."
        )
    return bool(found.files)


def autocast(checkout: Checkout) -> str:
    """What can be said of autocast under replicate, which is the trainer's to open, as a sentence."""
    files = Files({**rooted(checkout.files), **checkout.dependency.files})
    if amp_outside(files) in ("off", "gone"):
        return f"{checkout.dependency.name} opens no autocast under replicate."
    places = [
        (file.path, line)
        for file, line, derived in trained_outside(files)
        if derived is None or not sets_amp(files, file, derived)
    ]
    for path, line in (*places, *launches(files, checkout.texts.values())):
        return (
            f"Its own trainer, which {path}:{line} brings in, opens autocast under replicate, on "
            "top of the policy that is seen here (TM105)."
        )
    return "What the trainer of this checkout opens is not seen here: that is for TM105 to say."


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
