"""An interleaved experiment's report as a page, labelled as the screening it is."""

from collections.abc import Iterator, Sequence

from features.events import US_PER_DAY
from jobs.experiments.list_page import decisions, lists_of
from jobs.experiments.report import MOODS, told
from jobs.experiments.side_by_side import SideBySide
from jobs.page import Chapter, Page, render
from jobs.page_figures import Band, Picture, Span, bands, differences
from jobs.page_words import Section, minute, table, written
from recsys.evaluation.experiment.interleaved import Interleaved, PreferenceRow
from recsys.evaluation.experiment.preferences import Preference, words_of
from recsys.experiments.experiment import microseconds

SCREENING = (
    "Everybody saw both rankings in one slate. That finds a preference with far fewer shoppers "
    "than an A/B test, and says nothing of how much more would be sold: what is preferred goes "
    "into an A/B experiment before it ships."
)


def render_interleaved(found: Interleaved, lists: SideBySide) -> str:
    design = found.experiment.design
    sections = [_health(found), _preferences(found)]
    if len(found.looks) > 1:
        sections.append(_over_time(found))
    return render(
        Page(
            when=f"Interleaved experiment {design.name}, as of {minute(found.as_of_us)}",
            headline=design.hypothesis or design.name,
            verdict=found.verdict.standing,
            mood=MOODS.get(found.verdict.standing, "plain"),
            reason=found.verdict.words,
            chapters=[Chapter((*sections, lists_of(design, lists), decisions(found.experiment)))],
        )
    )


def _health(found: Interleaved) -> Section:
    rankings = zip(
        found.experiment.design.variants, found.first_places, found.mean_positions, strict=True
    )
    return Section(
        anchor="health",
        title="Screening: health and traffic",
        words=(SCREENING, *told(found.checks)),
        facts=(
            ("status", found.experiment.status),
            ("phase", written(found.phase.number)),
            ("days", f"{found.days:.1f}"),
            ("units", written(found.units)),
            ("slates", written(found.slates)),
            ("positions of one ranking alone", f"{found.competitive:.1%}"),
        ),
        tables=(
            table(
                "Rankings",
                ("ranking", "slates it began", "mean position", "what differs"),
                [[v.key, first, mean, v.description or v.differs] for v, first, mean in rankings],
            ),
        ),
    )


def _preferences(found: Interleaved) -> Section:
    first, second = (variant.key for variant in found.experiment.design.variants)
    rows = [
        [
            row.metric.name,
            row.role,
            *row.preference.wins,
            words_of(row.preference),
            row.preference.p_anytime,
            row.p_holm,
        ]
        for row in found.rows
    ]
    columns = ("metric", "role", first, "tied", second, "preference", "p", "p, all goals")
    return Section(
        anchor="preferences",
        title="Which ranking was taken from",
        pictures=tuple(_bars(found)),
        tables=(table("Units by the ranking they took more from", columns, rows),),
        notes=(
            "Only what names its slate is credited, and nothing that both rankings had at the same "
            "position. Always-valid intervals hold however often they are looked at.",
        ),
    )


def _bars(found: Interleaved) -> Iterator[Picture]:
    always = _spans(found.rows, "anytime_low", "anytime_high")
    if always:
        first, second = (variant.key for variant in found.experiment.design.variants)
        yield differences(
            "preferences",
            always,
            beside=_spans(found.rows, "low", "high"),
            legend=("always valid", "one look"),
            unit=f"d, %: below 0 {first}, above {second}",
            words="Dot: share of the units beyond a half that prefer the second ranking.",
        )


def _spans(rows: Sequence[PreferenceRow], low: str, high: str) -> list[Span]:
    """In per cent, of the metrics that have an interval."""
    found = []
    for row in rows:
        d, start, stop = (getattr(row.preference, name) for name in ("d", low, high))
        if start is not None and stop is not None:
            found.append(Span(row.metric.name, 100 * d, 100 * start, 100 * stop))
    return found


def _over_time(found: Interleaved) -> Section:
    started_us = microseconds(found.phase.started_at)
    known = [((look.day_us - started_us) / US_PER_DAY, look.preference) for look in found.looks]
    picture = bands(
        "looks",
        [(day, 100 * (of.d or 0.0)) for day, of in known],
        (
            Band("always valid", _ends(known, "anytime_low", "anytime_high")),
            Band("one look", _ends(known, "low", "high")),
        ),
        label="d, %",
        words=f"{found.rows[0].metric.name}: what was known at the end of each day.",
        reference=("no preference", 0.0),
        step="day",
    )
    return Section(anchor="time", title="Over time", pictures=(picture,))


def _ends(
    known: Sequence[tuple[float, Preference]], low: str, high: str
) -> list[tuple[float, float, float]]:
    return [(day, 100 * getattr(of, low), 100 * getattr(of, high)) for day, of in known]
