"""An experiment's report as a page: the status line first, then what it rests on."""

from collections.abc import Iterator, Sequence
from typing import Literal

from features.events import US_PER_DAY
from jobs.experiments.list_page import decisions, lists_of
from jobs.experiments.side_by_side import SideBySide
from jobs.page import Chapter, Page, render
from jobs.page_figures import Band, Picture, Span, bands, curves, differences
from jobs.page_words import (
    Section,
    Table,
    minute,
    table,
    written,
)
from recsys.evaluation.experiment.analysis import Analysis
from recsys.evaluation.experiment.estimates import Estimate
from recsys.evaluation.experiment.health import Check
from recsys.evaluation.experiment.verdict import Row, harm, is_unharmed
from recsys.experiments.experiment import microseconds

Mood = Literal["good", "bad", "plain"]
MOODS: dict[str, Mood] = {
    "ship": "good",
    "roll back": "bad",
    "harmful": "bad",
    "unhealthy": "bad",
    "preferred": "good",
}
ROLES = {"goal": "Goals", "guardrail": "Guardrails", "secondary": "Secondary metrics"}


def render_experiment(found: Analysis, lists: SideBySide) -> str:
    design = found.experiment.design
    sections = [_traffic(found), *_metrics(found)]
    if found.impact:
        sections.append(_impact(found))
    if len(found.looks) > 1:
        sections.append(_over_time(found))
    if found.slices:
        sections.append(_slices(found))
    sections += [lists_of(design, lists), decisions(found.experiment)]
    return render(
        Page(
            when=f"Experiment {design.name}, as of {minute(found.as_of_us)}",
            headline=design.hypothesis or design.name,
            verdict=found.verdict.standing,
            mood=MOODS.get(found.verdict.standing, "plain"),
            reason=found.verdict.words,
            chapters=[Chapter(tuple(sections))],
        )
    )


def _traffic(found: Analysis) -> Section:
    design = found.experiment.design
    left_out = {
        "seen in several variants": found.n_multiple,
        "overridden": found.n_overrides,
        "held out": found.n_held_out,
    }
    return Section(
        anchor="health",
        title="Health and traffic",
        words=told(found.checks),
        pictures=tuple(_arrivals(found)),
        facts=(
            ("status", found.experiment.status),
            ("phase", written(found.phase.number)),
            ("days", f"{found.days:.1f}"),
            ("unit", found.phase.unit),
            ("owner", design.owner or "–"),
            *((f"units {name}", written(n)) for name, n in left_out.items()),
        ),
        tables=(
            table(
                "Variants",
                ("variant", "share", "units", "what differs"),
                [
                    [v.key, f"{weight:.1%}", found.units[v.key], v.description or v.differs]
                    for v, weight in zip(
                        design.variants, found.phase.weights_at(found.as_of_us), strict=True
                    )
                ],
            ),
        ),
    )


def told(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(f"Alarm: {check.words}" if check.is_alarm else check.words for check in checks)


def _arrivals(found: Analysis) -> Iterator[Picture]:
    """New units a day: of each variant if there are two, else of all."""
    started_us = microseconds(found.phase.started_at)
    lines: dict[str, dict[float, int]] = {}
    for day_us, variant, n in found.traffic:
        name = variant if len(found.units) == 2 else "units"
        day = (day_us - started_us) // US_PER_DAY + 1
        of = lines.setdefault(name, {})
        of[day] = of.get(day, 0) + n
    if any(len(of) > 1 for of in lines.values()):
        yield curves(
            "arrivals",
            {name: sorted(of.items()) for name, of in lines.items()},
            label="new units",
            words="Units by the day of their first slate.",
            step="day",
        )


def _metrics(found: Analysis) -> Iterator[Section]:
    for role, title in ROLES.items():
        rows = [row for row in found.rows if row.role == role]
        if rows:
            yield Section(
                anchor=role,
                title=title,
                pictures=tuple(_bars(role, rows)),
                tables=(_rows(rows),),
                notes=(
                    "Always-valid intervals and p-values hold however often they are looked at; "
                    "only they decide. The fixed interval holds for one look at a planned time.",
                ),
            )


def _bars(name: str, rows: Sequence[Row]) -> Iterator[Picture]:
    fixed = _spans(rows, "lift_low", "lift_high")
    always = _spans(rows, "lift_anytime_low", "lift_anytime_high")
    if always:
        yield differences(
            f"lift-{name}",
            always,
            beside=fixed,
            legend=("always valid", "one look"),
            unit="change against the control, %",
            words="Dot: change against the control. Lines: 95 % intervals or as planned.",
        )


def _spans(rows: Sequence[Row], low: str, high: str) -> list[Span]:
    """In per cent, of the estimates that have a lift."""
    found = []
    for row in rows:
        e = row.estimate
        mean, start, stop = (getattr(e, name) for name in ("lift", low, high))
        if mean is not None and start is not None and stop is not None:
            found.append(Span(_named(row), 100 * mean, 100 * start, 100 * stop))
    return found


def _rows(rows: Sequence[Row]) -> Table:
    """What decides stands first: for goals the p-value among all, for guardrails the margin."""
    own = {"goal": ("p, all goals",), "guardrail": ("margin", "kept")}.get(rows[0].role, ())
    columns = (
        *("metric", "variant", "control", "value", "lift", "always valid", *own),
        *("p", "chance to win", "variance explained", "smallest lift found"),
    )
    return table("Against the control", columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[object]:
    e, own = row.estimate, list[object]()
    if row.role == "goal":
        own = [row.p_holm]
    elif row.role == "guardrail":
        own = [f"{row.metric.margin or 0:.1%}", _kept(row)]
    if e.problem:
        return [row.metric.name, row.variant, "", "", e.problem, "", *own, "", "", "", ""]
    return [
        row.metric.name,
        row.variant,
        e.control_value,
        e.variant_value,
        _percent(e.lift),
        f"[{_percent(e.lift_anytime_low)}, {_percent(e.lift_anytime_high)}]",
        *own,
        e.p_anytime,
        _share(e.chance_to_win),
        _share(e.variance_cut),
        _percent(e.mde),
    ]


def _kept(row: Row) -> str:
    if is_unharmed(row):
        return "yes"
    return "no: harmed" if harm(row) else "not yet sure"


def _impact(found: Analysis) -> Section:
    rows = [
        [one.metric, one.variant, *(f"{value:+,.4g}" for value in (one.mean, one.low, one.high))]
        for one in found.impact
    ]
    return Section(
        anchor="impact",
        title="If everybody got it",
        tables=(table("More of it a day", ("metric", "variant", "a day", "low", "high"), rows),),
        notes=(
            "The difference a unit times the units that would come a day were the coverage whole; "
            "always-valid intervals. Units that come back are counted once, so this is what newly "
            "counted units bring while they are watched.",
        ),
    )


def _over_time(found: Analysis) -> Section:
    """The first goal of each variant."""
    pictures: list[Picture] = []
    for row in found.rows:
        if row.metric == found.rows[0].metric:
            pictures += _course(found, row)
    return Section(anchor="time", title="Over time", pictures=tuple(pictures))


def _course(found: Analysis, row: Row) -> Iterator[Picture]:
    started_us = microseconds(found.phase.started_at)
    same = [
        ((look.day_us - started_us) / US_PER_DAY, of.estimate)
        for look in found.looks
        for of in look.rows
        if (of.metric.name, of.variant) == (row.metric.name, row.variant)
    ]
    known = [(day, e) for day, e in same if e.lift is not None]
    around = (
        _band("always valid", known, "lift_anytime_low", "lift_anytime_high"),
        _band("one look", known, "lift_low", "lift_high"),
    )
    if all(band.points for band in around):
        yield bands(
            f"looks-{row.variant}",
            [(day, 100 * (e.lift or 0.0)) for day, e in known],
            around,
            label="change against the control, %",
            words=f"{_named(row)}: what was known at the end of each day, with both intervals.",
            reference=("no change", 0.0),
            step="day",
        )


def _band(name: str, known: Sequence[tuple[float, Estimate]], low: str, high: str) -> Band:
    ends = [(day, getattr(e, low), getattr(e, high)) for day, e in known]
    return Band(
        name,
        [(day, 100 * a, 100 * b) for day, a, b in ends if a is not None and b is not None],
    )


def _slices(found: Analysis) -> Section:
    rows = [[part.name, part.value, *_brief(row)] for part in found.slices for row in part.rows]
    return Section(
        anchor="slices",
        title="Parts of the units",
        words=("Many parts are looked at, so a striking one is often chance: none decides.",),
        tables=(table("Goals", ("by", "part", "metric", "variant", "lift", "always valid"), rows),),
    )


def _brief(row: Row) -> list[object]:
    e = row.estimate
    interval = f"[{_percent(e.lift_anytime_low)}, {_percent(e.lift_anytime_high)}]"
    return [row.metric.name, row.variant, _percent(e.lift), e.problem or interval]


def _named(row: Row) -> str:
    return f"{row.metric.name}: {row.variant}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
