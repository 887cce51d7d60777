"""The figures of reports: SVG that takes its colours and fonts from the page around it."""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand-ins that are replaced by the page's variables, so that one file reads by day and by night.
INK, SOFT, GRID, FIRST, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
PAGE_COLOURS = {INK: "ink", SOFT: "soft", GRID: "line", FIRST: "first", SECOND: "second"}
WIDTH_IN = 4.4  # 317 points: on a phone of 400 pixels a 9-point letter stays 10 pixels tall
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing and the words for those who do not see it; they stand below it too."""

    svg: Markup
    words: str


@dataclass(frozen=True, slots=True)
class Span:
    """A named difference with its interval."""

    name: str
    mean: float
    low: float
    high: float


def differences(
    name: str,
    spans: Sequence[Span],
    *,
    unit: str,
    words: str,
    beside: Sequence[Span] = (),
    legend: tuple[str, str] = ("", ""),
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> Picture:
    """A dot and an interval a row, against the line of no difference.

    `beside` are more of them in the same rows, found by their names; `legend` names both series.
    """
    rows = list(dict.fromkeys(span.name for span in (*spans, *beside)))
    apart = 0.3 if beside else 0.0
    with _style():
        figure, axes = _axes(0.75 + (0.34 + apart / 2) * len(rows))
        axes.axvline(0, color=INK, linewidth=1)
        for n, span in enumerate((*spans, *beside)):
            colour, mark, shift = (FIRST, "o", -0.5) if n < len(spans) else (SECOND, "s", 0.5)
            row = rows.index(span.name) + shift * apart
            label = legend[0] if n == 0 else legend[1] if n == len(spans) else ""
            axes.plot([span.low, span.high], [row, row], color=colour, gid=f"interval-{n}")
            axes.plot(span.mean, row, mark, color=colour, markersize=6, label=label)
        axes.margins(x=0.12)
        if limits is not None:
            axes.set_xlim(*limits)
        _rows(axes, rows)
        axes.set_xlabel(unit)
        axes.set_title(title, loc="left", fontsize=9)
        if beside:
            _legend(figure)
        return Picture(_svg(name, figure), words)


def curve(
    name: str,
    points: Sequence[tuple[float, float]],
    *,
    label: str,
    words: str,
    reference: tuple[str, float] | None = None,
) -> Picture:
    """`points` (step, value) in step order; a reference is a dashed line with its name."""
    return curves(name, {label: points}, label=label, words=words, reference=reference)


def curves(
    name: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str,
    words: str,
    reference: tuple[str, float] | None = None,
    step: str = "step",
) -> Picture:
    """Up to two lines over the same steps, told apart by a legend."""
    with _style():
        figure, axes = _axes(2.3)
        for number, (named, points) in enumerate(lines.items()):
            steps, values = zip(*points, strict=True)
            mark = "os"[number] if len(points) <= 40 else ""  # 40 are still apart at this width
            axes.plot(
                steps,
                values,
                color=(FIRST, SECOND)[number],
                marker=mark,
                markersize=4,
                gid=f"curve-{number}" if number else "curve",
                label=named,
            )
        if reference is not None:
            _reference(axes, *reference)
        axes.margins(y=0.15)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y")
        axes.set_xlabel(step)
        axes.set_title(label, loc="left", fontsize=9)
        if len(lines) > 1:
            _legend(figure)
        return Picture(_svg(name, figure), words)


@dataclass(frozen=True, slots=True)
class Band:
    """A named area between two lines: (step, low, high) in step order."""

    name: str
    points: Sequence[tuple[float, float, float]]


def bands(
    name: str,
    middle: Sequence[tuple[float, float]],
    around: tuple[Band, Band],
    *,
    label: str,
    words: str,
    reference: tuple[str, float],
    step: str,
) -> Picture:
    """A line (step, value) in two bands, the wider one first; single steps are whiskers."""
    with _style():
        figure, axes = _axes(2.6)
        for number, (band, colour) in enumerate(zip(around, (FIRST, SECOND), strict=True)):
            steps, low, high = zip(*band.points, strict=True)
            axes.fill_between(
                steps, low, high, color=colour, alpha=0.25, linewidth=0, label=band.name
            )
            axes.vlines(steps, low, high, color=colour, alpha=0.45, linewidth=2 - number)
        steps, values = zip(*middle, strict=True)
        axes.plot(steps, values, color=INK, marker="o", markersize=3, gid="curve")
        _reference(axes, *reference)
        axes.margins(y=0.1)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y")
        axes.set_xlabel(step)
        axes.set_title(label, loc="left", fontsize=9)
        _legend(figure)
        return Picture(_svg(name, figure), words)


def reliability(
    name: str, points: Sequence[tuple[float, float]], *, label: str, words: str
) -> Picture:
    """`points` (predicted, observed) from 0 to 1; on the dashed diagonal a probability is right."""
    most = max((value for point in points for value in point), default=0) or 1
    with _style():
        figure, axes = _axes(2.8)
        axes.plot([0, most], [0, most], color=SOFT, linestyle=(0, (4, 3)))
        predicted, observed = zip(*points, strict=True)
        axes.plot(predicted, observed, color=FIRST, marker="o", markersize=4, gid="curve")
        axes.margins(0.06)
        axes.locator_params(nbins=5)
        axes.grid()
        axes.set_xlabel("predicted")
        axes.set_ylabel("taken")
        axes.set_title(label, loc="left", fontsize=9)
        return Picture(_svg(name, figure), words)


def scatter(
    name: str,
    points: Sequence[tuple[str, float, float]],
    *,
    marked: str,
    x_label: str,
    y_label: str,
    words: str,
) -> Picture:
    """Named points (name, x, y) over a logarithmic x; the marked one stands out."""
    with _style():
        figure, axes = _axes(3.2)
        for label, x, y in points:
            stands_out = label == marked
            colour, mark = (FIRST, "o") if stands_out else (SECOND, "s")
            axes.plot(max(x, 0.01), y, mark, color=colour, markersize=7 if stands_out else 5)
            axes.annotate(label, (max(x, 0.01), y), (5, 3), textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.2, y=0.15)
        axes.grid(axis="y")
        axes.set_xlabel(x_label)
        axes.set_title(y_label, loc="left", fontsize=9)
        return Picture(_svg(name, figure), words)


def _reference(axes: Axes, name: str, value: float) -> None:
    axes.axhline(value, color=SECOND, linestyle=(0, (4, 3)))
    axes.annotate(
        name,
        (1, value),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
    )


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: it can be read out, found and copied
            "svg.hashsalt": "night",  # equal figures are equal bytes
            "text.parse_math": False,  # a name with $ is a name
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": SOFT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.7,
            "xtick.color": SOFT,
            "ytick.color": SOFT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
        }
    )


def _axes(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots()


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x")


def _svg(name: str, figure: Figure) -> Markup:
    """Only the element; its ids start with `name`, as a page may hold several figures."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for stand_in, variable in PAGE_COLOURS.items():
        text = text.replace(stand_in, f"var(--{variable})")
    return Markup(text)  # matplotlib escapes what it is given
