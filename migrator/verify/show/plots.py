"""The curves of a cell as PNG and SVG: loss and grad_norm of its runs, and how far they are apart. Needs matplotlib."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.verify.choose.scenarios import CELLS
from migrator.verify.judge.compare import QUANTITIES, relative
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.show.wording import TITLES, Pair, one_line, pairs, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("loss", "grad_norm")

# Okabe and Ito's colours, which the colour-blind tell apart; then the line, its
# width and the marker. What is drawn first is broad, what comes over it thin, so
# that curves that coincide are all seen.
_STYLES = {
    "baseline": ("#E69F00", "-", 6.0, "s"),
    "control": ("#E69F00", "-", 6.0, "s"),
    "migrated": ("#0072B2", "-", 3.2, "o"),
    "reference": ("#000000", ":", 1.3, "x"),
    "resumed": ("#009E73", "--", 2.4, "^"),
    "resumed-reference": ("#000000", ":", 1.3, "x"),
    "returned": ("#CC79A7", "-.", 2.0, "v"),
}
_PAIR_STYLES = (
    ("#56B4E9", "-", 6.0, "o"),
    ("#D55E00", "--", 2.8, "s"),
    ("#000000", ":", 1.3, "^"),
    ("#CC79A7", "-.", 1.3, "D"),
)
_USUAL = (
    ("migrated", "reference"),
    ("migrated", "baseline"),
    ("baseline", "reference"),
)
_SETTINGS = {
    "svg.hashsalt": "titan-migrate",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Plot:
    """One figure on disk, both files relative to the folder of the report."""

    png: str
    svg: str


def installed() -> bool:
    """Whether there is a matplotlib to draw with."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_all(verification: Verification, folder: Path) -> dict[tuple[str, str], Plot]:
    """Draws every cell in which anything trained into `folder`/plots; the figures by model and cell."""
    found: dict[tuple[str, str], Plot] = {}
    for model, cells in verification.models.items():
        for name, verdict in cells.items():
            if _drawn(verdict):
                stem = f"plots/{len(found):02}-{file_name(f'{model}-{name}')}"
                found[model, name] = draw(model, name, verdict, folder, stem)
    return found


def draw(model: str, name: str, verdict: Verdict, folder: Path, stem: str) -> Plot:
    """Draws one cell as `stem`.png and `stem`.svg in `folder`."""
    from matplotlib import style

    plot = Plot(f"{stem}.png", f"{stem}.svg")
    (folder / stem).parent.mkdir(parents=True, exist_ok=True)
    # Without the user's own matplotlibrc: a figure is the same on every machine.
    with style.context(["default", _SETTINGS]):
        figure = _figure(model, name, verdict)
        figure.savefig(folder / plot.png, dpi=130, metadata={"Software": None})
        figure.savefig(folder / plot.svg, metadata={"Date": None})
    return plot


def file_name(text: str) -> str:
    """What a figure is called on disk, without its number and its ending."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text)


def _drawn(verdict: Verdict) -> list[Trace]:
    """The runs with a curve, in the order in which they are drawn.

    What reloads an export trains one step, elsewhere than the others; and the
    control is the reference's double, shown where it is the measure.
    """
    runs = {trace.party: trace for trace in shown(verdict)}
    if "migrated" in runs:
        runs.pop("control", None)
    return [runs[name] for name in _STYLES if name in runs]


def _figure(model: str, name: str, verdict: Verdict) -> Figure:
    from matplotlib.figure import Figure

    differ = any(_apart(verdict, pair, SHOWN[0]) for pair in _compared(verdict))
    figure = Figure(figsize=(10, 6.6 if differ else 3.6), layout="constrained")
    title = f"{one_line(model)}, {name}: {CELLS[name].what}"
    figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
    rows = figure.subplots(2 if differ else 1, 2, sharex=True, squeeze=False)
    for column, quantity in enumerate(SHOWN):
        _draw_curves(rows[0][column], quantity, _drawn(verdict))
        if differ:
            _draw_differences(rows[1][column], quantity, verdict)
        rows[-1][column].set_xlabel("step")
    rows[0][0].legend()
    return figure


def _draw_curves(axes: Axes, quantity: str, traces: list[Trace]) -> None:
    for trace in traces:
        points = [
            (step.step, value)
            for step in trace.steps
            if (value := QUANTITIES[quantity](step)) is not None
            and math.isfinite(value)
        ]
        label = f"{TITLES[trace.party]} ({trace.party})"
        axes.plot(
            *_columns(points), label=label, **_line(len(points), *_STYLES[trace.party])
        )
    axes.set_title(quantity, loc="left")
    axes.set_ylabel("nats per token" if quantity == "loss" else "L2 norm")
    _count_steps(axes)


def _draw_differences(axes: Axes, quantity: str, verdict: Verdict) -> None:
    """Relative differences on a log axis, on which equality and infinity have a place of their own."""
    curves = {pair: _apart(verdict, pair, quantity) for pair in _compared(verdict)}
    curves = {pair: points for pair, points in curves.items() if points}
    tolerance = _tolerance(verdict, quantity)
    values = [value for points in curves.values() for _, value in points]
    floor, ceiling = _ends([*values, tolerance or 0.0])
    for place, (pair, points) in enumerate(curves.items()):
        steps, apart = _columns(points)
        axes.plot(
            steps,
            [min(max(value, floor), ceiling) for value in apart],
            label=" \N{EN DASH} ".join(pair) + ("" if any(apart) else ": bitwise"),
            **_line(len(points), *_PAIR_STYLES[place % len(_PAIR_STYLES)]),
        )
    if tolerance and math.isfinite(tolerance):
        axes.axhline(tolerance, color="#555555", linestyle=(0, (6, 3)), linewidth=1)
        axes.annotate(
            f"tolerance {tolerance:.1e}",
            (1, tolerance),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#555555",
        )
    _name_the_ends(axes, floor, ceiling, not all(map(math.isfinite, values)))
    axes.set_title(f"{quantity}: relative differences", loc="left")
    _count_steps(axes)
    if curves:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _line(
    points: int, colour: str, line: str, width: float, marker: str
) -> dict[str, Any]:
    """How a curve of so many points is drawn, as matplotlib's arguments."""
    return {
        "color": colour,
        "linestyle": line,
        "linewidth": width,
        "marker": marker,
        "markevery": math.ceil(points / 25) or 1,
        "markersize": 4.5 + 0.7 * width,
        # Broad lines carry full markers, and hollow ones lie on top of them.
        "markerfacecolor": colour if width > 5 else "none",
    }


def _compared(verdict: Verdict) -> list[Pair]:
    """The pairs that were judged, and those of the three parties besides."""
    return list(dict.fromkeys([*pairs(verdict), *_USUAL]))


def _apart(verdict: Verdict, pair: Pair, quantity: str) -> list[tuple[int, float]]:
    """The relative difference of two runs in every step that both have; none where one did not train."""
    read = QUANTITIES[quantity]
    drawn = {trace.party: trace for trace in _drawn(verdict)}
    if not all(name in drawn for name in pair):
        return []
    left, right = (
        {step.step: read(step) for step in drawn[name].steps} for name in pair
    )
    return [
        (step, relative(one, other))
        for step in sorted(left.keys() & right.keys())
        if (one := left[step]) is not None and (other := right[step]) is not None
    ]


def _tolerance(verdict: Verdict, quantity: str) -> float | None:
    found = (
        c.tolerance.relative for c in verdict.comparisons if c.quantity == quantity
    )
    return next(found, None)


def _ends(values: list[float]) -> tuple[float, float]:
    """Where zero and infinity are drawn: a decade off the figures that a log axis has room for."""
    seen = [value for value in values if 1e-30 < value < 1e30] or [1e-8, 1e-5]
    ceiling = 10.0 ** (math.ceil(math.log10(max(seen))) + 1)
    floor = 10.0 ** (math.floor(math.log10(min(seen))) - 1)
    # Fewer decades would leave the axis to the band that stands for zero.
    return min(floor, ceiling / 1e5), ceiling


def _name_the_ends(axes: Axes, floor: float, ceiling: float, infinite: bool) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.set_yscale("log")
    low, high = round(math.log10(floor)), round(math.log10(ceiling))
    decades = range(low + 1, high)
    every = math.ceil(len(decades) / 6)
    ticks = [(floor, "bitwise")]
    ticks += [(10.0**n, f"1e{n:+03}") for n in decades[::every]]
    if infinite:
        ticks.append((ceiling, "not finite"))
    axes.yaxis.set_major_locator(FixedLocator([place for place, _ in ticks]))
    axes.yaxis.set_major_formatter(FixedFormatter([name for _, name in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhspan(floor / 10**0.5, floor * 10**0.5, color="#EAF3EA", zorder=0)
    axes.set_ylim(floor / 10**0.5, ceiling * (10**0.5 if infinite else 1))


def _count_steps(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
