"""The night's figures: SVG that takes its colours and fonts from the page around it."""

import io
import re
from collections.abc import Sequence
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


def differences(name: str, spans: Sequence[Span], *, unit: str, words: str) -> Picture:
    """A dot and an interval a row, against the line of no difference."""
    with _style():
        figure, axes = _axes(0.75 + 0.34 * len(spans))
        axes.axvline(0, color=INK, linewidth=1)
        for row, span in enumerate(spans):
            axes.plot([span.low, span.high], [row, row], color=FIRST, gid=f"interval-{row}")
            axes.plot(span.mean, row, "o", color=FIRST, markersize=6)
        axes.margins(x=0.12)
        _rows(axes, [span.name for span in spans])
        axes.set_xlabel(unit)
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
    with _style():
        figure, axes = _axes(2.3)
        steps, values = zip(*points, strict=True)
        mark = "o" if len(points) <= 40 else ""  # 40 marks are still apart at this width
        axes.plot(steps, values, color=FIRST, marker=mark, markersize=4, gid="curve")
        if reference is not None:
            axes.axhline(reference[1], color=SECOND, linestyle=(0, (4, 3)))
            axes.annotate(
                reference[0],
                (1, reference[1]),
                (0, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
            )
        axes.margins(y=0.15)
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y")
        axes.set_xlabel("step")
        axes.set_title(label, loc="left", fontsize=9)
        return Picture(_svg(name, figure), words)


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
