"""What an evaluation's page says of lists: how good, for whom, and what else they are like."""

from collections.abc import Iterator, Mapping, Sequence

from jobs.evaluation_words import (
    BEYOND,
    METRICS_EXPLAINED,
    STARS_EXPLAINED,
    arm,
    metric,
    signed_interval,
    stars,
)
from jobs.page_figures import Picture, Span, differences
from jobs.page_words import (
    Report,
    Section,
    Table,
    spoken,
    table,
    written,
)

MAX_NAME = 28  # letters of a name beside a figure


def accuracy_section(trial: Report, prefix: str = "") -> Section:
    return Section(
        anchor=f"{prefix}accuracy",
        title="How good the lists are",
        words=(
            f"Some source proposed {written(trial['candidate_recall'])} of what was then taken: no "
            "ranking can reach more.",
        ),
        pictures=tuple(_compared(trial, prefix)),
        tables=(*comparison_tables(trial), _means(trial)),
        notes=(STARS_EXPLAINED, METRICS_EXPLAINED),
    )


def comparison_tables(trial: Report) -> Iterator[Table]:
    rows = [
        [
            metric(one["metric"]),
            arm(one["rival"]),
            one["ours"],
            one["theirs"],
            signed_interval(one["difference"]),
            one["p_value"],
            one["p_holm"],
            stars(one["p_holm"]),
        ]
        for one in trial["comparisons"]
    ]
    if rows:
        columns = ("metric", "against", "recommender", "rival", "difference, 95 %")
        title = "The recommender against its rivals, on the same shoppers"
        yield table(title, (*columns, "p", "p, adjusted", ""), rows)


def _compared(trial: Report, prefix: str) -> Iterator[Picture]:
    rivals = list(dict.fromkeys(one["rival"] for one in trial["comparisons"]))
    spans = [
        [
            _span(metric(one["metric"]), one["difference"])
            for one in trial["comparisons"]
            if one["rival"] == rival
        ]
        for rival in rivals
    ]
    if spans:
        yield _two_rivals(
            f"{prefix}compared",
            dict(zip(rivals, spans, strict=True)),
            unit="recommender minus rival",
        )


def _two_rivals(
    name: str,
    spans: Mapping[str, Sequence[Span]],
    *,
    unit: str,
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> Picture:
    names = [arm(rival) for rival in spans]
    first, *others = spans.values()
    return differences(
        name,
        first,
        beside=others[0] if others else (),
        legend=(f"against {names[0]}", f"against {names[-1]}"),
        unit=unit,
        title=title,
        limits=limits,
        words=f"Against {' and '.join(names)}: mean over shoppers and its 95 % interval. Right of "
        "0 the recommender is better.",
    )


def _span(name: str, found: Report) -> Span:
    short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    return Span(short, found["mean"], found["low"], found["high"])


def _means(trial: Report) -> Table:
    """A metric a row: there are more of them than arms, and narrow screens have more height."""
    arms: Mapping[str, Report] = trial["metrics"]
    others = {who: found for who, found in arms.items() if who != "ranker"}
    rows = [
        [
            metric(name),
            arms["ranker"][name],
            _ends(trial["intervals"].get(name)),
            *(found.get(name) for found in others.values()),
        ]
        for name in arms["ranker"]
    ]
    columns = ("metric", "recommender", "95 %", *(arm(who) for who in others))
    return table("Means by who ranks: the recommender and each source alone", columns, rows)


def _ends(found: Report | None) -> str:
    return "" if found is None else f"[{written(found['low'])}, {written(found['high'])}]"


def slices_section(trial: Report, prefix: str = "") -> Section:
    slices: Sequence[Report] = trial["slices"]
    rivals = list(dict.fromkeys(rival for one in slices for rival in one["against"]))
    rows = [
        [
            one["dimension"],
            one["name"],
            one["shoppers"],
            *(one["ndcg"][who]["mean"] for who in ("ranker", *rivals)),
            *(signed_interval(one["against"][rival]) for rival in rivals),
        ]
        for one in slices
    ]
    columns = ("by", "slice", "shoppers", *(arm(who) for who in ("ranker", *rivals)))
    return Section(
        anchor=f"{prefix}slices",
        title="For whom they are good",
        words=(
            "New shoppers were unknown at the cut. Head items are the few that hold half of all "
            "earlier events, tail items the others. Intervals are 95 % each and not adjusted for "
            "being many: a slice asks a question, it decides nothing.",
        ),
        pictures=tuple(_sliced(slices, rivals, prefix)),
        tables=(
            table(
                "nDCG@10 by slice; differences are the recommender's figure minus the rival's",
                (*columns, *(f"minus {arm(rival)}, 95 %" for rival in rivals)),
                rows,
            ),
        ),
    )


def _sliced(slices: Sequence[Report], rivals: Sequence[str], prefix: str) -> Iterator[Picture]:
    """A figure a dimension, all of one scale."""
    ends = [
        found[end] for one in slices for found in one["against"].values() for end in ("low", "high")
    ]
    if not ends:
        return
    room = 0.06 * (max(*ends, 0) - min(*ends, 0))
    limits = (min(*ends, 0) - room, max(*ends, 0) + room)
    for number, dimension in enumerate(dict.fromkeys(one["dimension"] for one in slices)):
        inside = [one for one in slices if one["dimension"] == dimension]
        yield _two_rivals(
            f"{prefix}slices-{number}",
            {
                rival: [_span(one["name"], one["against"][rival]) for one in inside]
                for rival in rivals
            },
            unit="nDCG@10: recommender minus rival",
            title=f"By {dimension}",
            limits=limits if room else None,
        )


def beyond_section(trial: Report, prefix: str = "") -> Section:
    arms: Mapping[str, Report] = trial["beyond"]
    rows = [[spoken(name), *(found[name] for found in arms.values())] for name in BEYOND]
    return Section(
        anchor=f"{prefix}beyond",
        title="Beyond accuracy",
        words=("What the first ten items are like, whether or not they hit.",),
        tables=(
            table("Means over shoppers with a list", ("", *map(arm, arms)), rows),
            table("What they say", ("", ""), [[spoken(name), BEYOND[name]] for name in BEYOND]),
        ),
    )
