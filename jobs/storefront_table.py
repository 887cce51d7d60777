"""The storefront benchmark as a table for people and a drawing for reports."""

from pathlib import Path

from jobs.console import Terminal
from jobs.page_figures import Span, differences
from jobs.storefront_benchmark import CHANCE, FUNNEL, StorefrontReport
from recsys.evaluation.bootstrap import Interval

# The night page's colours, so that the drawing stands alone by day and by night.
_STYLE = """<style>
svg { --ink: #1a1f26; --soft: #58626e; --line: #d5dbe1; --first: #0072b2; --second: #c44f00;
  font-family: system-ui, sans-serif; background: #ffffff; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6eaee; --soft: #9aa5b1; --line: #343d47;
  --first: #5cb8ec; --second: #f0a04b; background: #12161b; } }
</style>"""


def show_storefront_benchmark(terminal: Terminal, report: StorefrontReport) -> None:
    seeds = ", ".join(map(str, report.seeds))
    terminal.say(
        f"{report.shoppers:,} shoppers of the next morning, {report.strangers:,} of them strangers;"
        f" {report.events:,} events a storefront, seeds {seeds}"
    )
    terminal.table(
        f"True utility of a slate of {report.k}, intervals 95 %",
        ("who fills it", "utility", "/ oracle", "reached, %", "minus funnel by utility"),
        [
            [
                standing.name,
                f"{standing.utility.mean:.2f}",
                f"{standing.of_oracle:.1%}",
                _spread(standing.reached, 100, ".1f"),
                _spread(standing.against_funnel, 1, "+.2f") if standing.name != FUNNEL else "",
            ]
            for standing in report.standings
        ],
    )
    terminal.say(f"reached: (utility - {CHANCE}) / (oracle - {CHANCE})")
    terminal.table(
        "Reached by whom and where, %",
        ("who fills it", "known", "strangers", *(f"seed {seed}" for seed in report.seeds)),
        [
            [
                standing.name,
                *(
                    f"{share:.1%}"
                    for share in (
                        standing.reached_known,
                        standing.reached_strangers,
                        *standing.reached_by_seed,
                    )
                ),
            ]
            for standing in report.standings
        ],
    )


def write_drawing(report: StorefrontReport, path: Path) -> None:
    """An SVG file that needs nothing else."""
    spans = [
        Span(s.name, 100 * s.reached.mean, 100 * s.reached.low, 100 * s.reached.high)
        for s in report.standings
    ]
    words = "Share of the oracle's true utility reached, by who fills the slate"
    svg = str(differences("reached", spans, unit="% of the oracle, above chance", words=words).svg)
    start = svg.index(">", svg.index("<svg")) + 1
    path.write_text(f"{svg[:start]}\n<title>{words}</title>\n{_STYLE}{svg[start:]}", "utf-8")


def _spread(interval: Interval, scale: float, form: str) -> str:
    mean, low, high = (
        format(scale * x, form) for x in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"
