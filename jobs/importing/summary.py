"""Tells people what an import did."""

from collections.abc import Sequence

from jobs.console import Terminal
from jobs.importing.importer import PartReport

REASONS_SHOWN = 5


def show_reports(terminal: Terminal, reports: Sequence[PartReport]) -> None:
    columns = ("table", "to", "rows read", "new", "already there", "refused")
    rows = [(r.name, r.target, r.read, r.new, r.known, r.rejected) for r in reports]
    terminal.table("Import", columns, rows)
    terminal.say(
        f"{sum(r.new for r in reports):,} new, {sum(r.known for r in reports):,} already there"
    )
    for report in reports:
        if report.rejects is None:
            continue
        terminal.say(f"{report.name}: {report.rejected:,} refused, kept in {report.rejects}")
        common = sorted(report.reasons.items(), key=lambda entry: -entry[1])
        for reason, count in common[:REASONS_SHOWN]:
            terminal.say(f"  {count:>8,} × {reason}")


def worst_share(reports: Sequence[PartReport]) -> float:
    return max((report.reject_share for report in reports), default=0.0)
