"""What the night's page says of the text audit."""

from collections.abc import Iterator, Mapping, Sequence

from jobs.page_figures import Picture, Span, differences
from jobs.page_words import Report, Section, Table, facts, sentence, spoken, table

MAX_ROWS = 20  # of a table of brands or categories: the page is read, the report has them all
MEASURED = ("figures", "baseline", "differences")  # each by measure


def audit_section(report: Report, number: int = 0) -> Section:
    """`figures` and `baseline` hold {mean, low, high, texts}, `differences` {mean, low, high}.

    Whatever else the report holds is shown as it is.
    """
    others = {name: value for name, value in report.items() if name not in MEASURED}
    reasons = [sentence(report["reason"])] if report.get("reason") else []
    return Section(
        anchor=f"audit-{number}" if number else "audit",
        title="The text audit, repeated" if number else "The text audit",
        words=tuple(reasons),
        facts=facts(others, without=("reason",)),
        pictures=tuple(_changes(report, number)),
        tables=(*_measures(report), *_nested(others)),
    )


def _measures(report: Report) -> Iterator[Table]:
    figures, baseline, changes = (report.get(name) or {} for name in MEASURED)
    rows = [
        [
            spoken(name),
            *(found[value] for value in ("mean", "low", "high")),
            baseline.get(name, {}).get("mean"),
            changes.get(name),
            found.get("texts"),
        ]
        for name, found in figures.items()
    ]
    if rows:
        columns = ("measure", "mean", "low", "high", "baseline", "difference", "texts")
        yield table("How words are found, 95 % intervals", columns, rows)


def _changes(report: Report, number: int) -> Iterator[Picture]:
    spans = [
        Span(spoken(name), found["mean"], found["low"], found["high"])
        for name, found in (report.get("differences") or {}).items()
    ]
    if spans:
        yield differences(
            f"audit-changes-{number}",
            spans,
            unit="what was audited minus its baseline",
            words="Dot: mean over texts. Line: 95 % interval. More is better, but for attraction.",
        )


def _nested(report: Report, of: str = "") -> Iterator[Table]:
    """A table for each value that is itself a list of reports, or reports by name."""
    for name, value in report.items():
        title = f"{of}{spoken(name)}".capitalize()
        if isinstance(value, Mapping) and value and all(map(_is_row, value.values())):
            yield _listed(title, [{"": spoken(row), **found} for row, found in value.items()])
        elif isinstance(value, Mapping):
            plain = facts(value)
            if plain:
                yield table(title, ("", "figure"), plain)
            yield from _nested(value, f"{title}: ")
        elif isinstance(value, list | tuple) and value and all(map(_is_row, value)):
            yield _listed(title, value)


def _listed(title: str, found: Sequence[Report]) -> Table:
    columns = tuple(dict.fromkeys(column for row in found for column in row))
    rows = [[row.get(column) for column in columns] for row in found[:MAX_ROWS]]
    if len(found) > MAX_ROWS:
        title += f", the first {MAX_ROWS} of {len(found):,}"
    return table(title, [spoken(column) for column in columns], rows)


def _is_row(value: object) -> bool:
    """A report without lists of its own."""
    return isinstance(value, Mapping) and not any(
        isinstance(v, list | tuple) for v in value.values()
    )
