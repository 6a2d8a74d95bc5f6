"""A review as one page that needs nothing else: no network, no file beside it."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from migrator.review.model import Hazard, Hunk, Review, Verified, plural

MARK = "<!-- a titan-migrate report -->"
"""The second line of a page, by which one of ours is known."""

_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""Nothing runs, and nothing is loaded, but what this package brings."""


def as_html(review: Review) -> str:
    """The page. Texts are escaped where they are put in; markup comes from this package alone."""
    style, script = asset("page.css"), asset("page.js")
    verified = review.verified if isinstance(review.verified, Verified) else None
    return (
        _environment()
        .get_template("page.html")
        .render(
            mark=Markup(MARK),
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            review=review,
            verified=verified,
            unverified="" if verified else review.verified,
            images=_images(verified.plots) if verified else {},
            folders=_folders(review),
            number=_numbering(review),
            codes=_codes(review),
            beside=_beside(review),
            whys={code: rule.why.split("\n\n") for code, rule in review.rules.items()},
        )
    )


@cache
def _environment() -> Environment:
    found = environment("migrator.review")
    found.filters["plural"] = plural
    return found


def environment(package: str) -> Environment:
    """What templates of pages are read by: texts are escaped, and nothing unknown is empty.

    Args:
        package: whose ``assets`` they lie in.
    """
    return Environment(
        loader=PackageLoader(package, "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def asset(name: str, package: str = "migrator.review") -> str:
    """A file that pages of a package are made of."""
    return (resources.files(package) / "assets" / name).read_text("utf-8")


def policy(style: str, script: str) -> str:
    """The content security policy of a page with one style sheet and one script in it."""
    return _POLICY.format(style=_hash(style), script=_hash(script))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _images(plots: Mapping[str, bytes]) -> dict[str, str]:
    """File name -> the image as a URL. As an image, an SVG runs nothing and loads nothing."""
    kinds = {"svg": "image/svg+xml", "png": "image/png"}
    return {
        name: f"data:{kinds[name[-3:]]};base64,{base64.b64encode(raw).decode()}"
        for name, raw in plots.items()
    }


def _numbering(review: Review) -> Callable[[Hunk], int]:
    order = {id(hunk): n for n, hunk in enumerate(review.hunks, 1)}
    return lambda hunk: order[id(hunk)]


def _beside(review: Review) -> Callable[[Hunk], Sequence[tuple[int, Hazard]]]:
    """Which hazards stand beside a hunk, with their numbers: those of its file that are nearest to it."""
    found: dict[int, list[tuple[int, Hazard]]] = {}
    hunks = {file.path: file.hunks for file in review.files}
    for number, hazard in enumerate(review.hazards, 1):
        near = hunks.get(hazard.path)
        if near:
            by = min(near, key=lambda hunk: hunk.distance(hazard.line, hazard.before))
            found.setdefault(id(by), []).append((number, hazard))
    return lambda hunk: found.get(id(hunk), ())


def _codes(review: Review) -> dict[str, int]:
    """What to filter by -> how many hunks and hazards there are of it."""
    counts = dict.fromkeys(review.rules, 0)
    for hunk in review.hunks:
        for code in hunk.codes:
            counts[code] += 1
    for hazard in review.hazards:
        counts[hazard.code] += 1
    return counts


def _folders(review: Review) -> dict[str, frozenset[str]]:
    """Folder -> the folders below it that something is in, itself among them.

    Of folders that hold the same, only the deepest.
    """
    leaves = {file.folder for file in review.files}
    leaves |= {hazard.folder for hazard in review.hazards}
    found: dict[frozenset[str], str] = {}
    for leaf in sorted(leaves):
        parts = leaf.split("/")
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            below = {one for one in leaves if f"{one}/".startswith(f"{folder}/")}
            found[frozenset(below)] = folder
    return dict(sorted((folder, below) for below, folder in found.items()))
