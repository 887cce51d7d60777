"""An experiment's report as a page: the status line first, then what it rests on."""

from collections.abc import Iterator, Sequence
from typing import Literal

from features.events import US_PER_DAY
from jobs.experiments.side_by_side import SideBySide
from jobs.page import Chapter, Page, render
from jobs.page_figures import Picture, Span, curves, differences
from jobs.page_words import (
    Entry,
    Example,
    Listing,
    Section,
    Table,
    day,
    minute,
    shortened,
    table,
    written,
)
from recsys.evaluation.experiment.analysis import Analysis
from recsys.evaluation.experiment.verdict import Row
from recsys.experiments.experiment import Design, Experiment, microseconds

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
    if found.looks:
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
        words=tuple(check.words for check in found.checks),
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
    columns = ("metric", "variant", "control", "value", "lift", "always valid", "p", "p, all goals")
    cells: list[list[object]] = []
    for row in rows:
        e = row.estimate
        if e.problem:
            cells.append([row.metric.name, row.variant, "", "", e.problem, "", "", ""])
            continue
        cells.append(
            [
                row.metric.name,
                row.variant,
                e.control_value,
                e.variant_value,
                _percent(e.lift),
                f"[{_percent(e.lift_anytime_low)}, {_percent(e.lift_anytime_high)}]",
                e.p_anytime,
                row.p_holm,
            ]
        )
    beyond = ("chance to win", "variance explained", "smallest lift seen")
    extra = [
        [
            _share(row.estimate.chance_to_win),
            _share(row.estimate.variance_cut),
            _percent(row.estimate.mde),
        ]
        for row in rows
    ]
    both = [[*cell, *more] for cell, more in zip(cells, extra, strict=True)]
    return table("Against the control", (*columns, *beyond), both)


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
    first, started_us = found.rows[0], microseconds(found.phase.started_at)
    same = [
        ((look.day_us - started_us) / US_PER_DAY, row.estimate)
        for look in found.looks
        for row in look.rows
        if (row.metric.name, row.variant) == (first.metric.name, first.variant)
    ]
    bands = {
        "always valid": ("lift_anytime_low", "lift_anytime_high"),
        "one look": ("lift_low", "lift_high"),
    }
    pictures = []
    for title, ends in bands.items():
        lines = {
            word: [(n, 100 * value) for n, e in same if (value := getattr(e, end)) is not None]
            for word, end in zip(("low", "high"), ends, strict=True)
        }
        if all(lines.values()):
            pictures.append(
                curves(
                    f"looks-{title.replace(' ', '-')}",
                    lines,
                    label=f"{title}, %",
                    words=f"{_named(first)}: ends of the interval ({title}), day by day.",
                    reference=("no change", 0.0),
                    step="day",
                )
            )
    return Section(anchor="time", title="Over time", pictures=tuple(pictures))


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


def lists_of(design: Design, lists: SideBySide) -> Section:
    """What shoppers would see; marked is what the control does not show them."""
    control = design.variants[0].key
    examples = [
        Example(
            title=f"A shopper of {viewer.events_known:,} known events",
            words="Lately: " + ", ".join(f"{shortened(t)} ({kind})" for kind, t in viewer.latest),
            lists=tuple(
                Listing(
                    key,
                    tuple(
                        Entry(shortened(item.title), marked=item not in viewer.lists[control])
                        for item in items
                    ),
                )
                for key, items in viewer.lists.items()
            ),
        )
        for viewer in lists.viewers
    ]
    words = [
        f"{share:.0%} of what {key} shows them, the control does not show."
        if share
        else f"{key} shows them the same items as the control, perhaps in another order."
        for key, share in lists.differing(design).items()
        if lists.viewers
    ]
    return Section(
        anchor="lists",
        title="Side by side",
        words=tuple(words) or (f"No lists: {lists.problem}.",),
        examples_title=f"On {lists.placement}",
        examples=tuple(examples),
        notes=("As each would answer now, without exploration and other experiments.",),
    )


def render_preview(experiment: Experiment, lists: SideBySide) -> str:
    """Before it starts: the lists alone."""
    design = experiment.design
    return render(
        Page(
            when=f"Preview of experiment {design.name}",
            headline=design.hypothesis or design.name,
            verdict="preview",
            mood="plain",
            reason="What each variant would show; nobody has seen it yet.",
            chapters=[Chapter((lists_of(design, lists), decisions(experiment)))],
        )
    )


def decisions(experiment: Experiment) -> Section:
    rows = [[day(microseconds(entry.at)), entry.action, entry.reason] for entry in experiment.log]
    return Section(
        anchor="log",
        title="What was done",
        tables=(table("Log", ("day", "action", "reason"), rows),),
    )


def _named(row: Row) -> str:
    return f"{row.metric.name}: {row.variant}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
