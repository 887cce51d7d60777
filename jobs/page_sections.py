"""What the night's page says of each report; a report that is not there has no section."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jobs.evaluation_sections import comparison_tables
from jobs.evaluation_words import STARS_EXPLAINED
from jobs.page_figures import Picture, Span, curve, differences
from jobs.page_words import (
    ABSENT,
    Entry,
    Example,
    Listing,
    Report,
    Section,
    Table,
    day,
    facts,
    is_known,
    sentence,
    table,
    written,
)

Titles = Callable[[int], str]

PARTS = {"all": "all items", "old": "items met before", "new": "new items"}
SHIPPED = {
    "base": "the base model as it came",
    "tuned": "the base model, tuned",
    "kept": "the live encoder, kept as it is",
    "continued": "the live encoder, tuned further",
}
# What words, figures and tables say already.
_WHEN = ("before", "after")
TOLD = {"tuned", "shipped", "reason", "first_loss", "last_loss", "validation_questions"}
TOLD |= {"anchor_similarity", "start_similarity", "start_recall", "tuned_recall", "map_recall"}
TOLD |= {f"recall_{part}_{when}" for part in PARTS for when in _WHEN}


def trial_section(trial: Report) -> Section:
    """`trial`: a TrialResult as JSON."""
    metrics: dict[str, dict[str, float]] = trial["metrics"]
    columns = tuple(dict.fromkeys(name for found in metrics.values() for name in found))
    rows = [[who, *(found.get(name) for name in columns)] for who, found in metrics.items()]
    window = f"{day(trial['start_us'])} to {day(trial['end_us'])}"
    sure = [(metric, found) for metric, found in trial["intervals"].items()]
    sure += [(f"ndcg@10 minus {rival}", found) for rival, found in trial["against"].items()]
    intervals = [[name, found["mean"], found["low"], found["high"]] for name, found in sure]
    compared = tuple(comparison_tables(trial))
    return Section(
        anchor="trial",
        title="The trial",
        words=(
            f"{window}, {written(trial['users'])} shoppers, every item ranked. Some source "
            f"proposed {trial['candidate_recall']:.4f} of the relevant items.",
        ),
        pictures=tuple(_against(trial)),
        tables=(
            table("Means over shoppers", ("who ranks", *columns), rows),
            table("The ranker, 95 % intervals", ("", "mean", "low", "high"), intervals),
            *compared,
        ),
        notes=(STARS_EXPLAINED,) if compared else (),
    )


def _against(trial: Report) -> Iterator[Picture]:
    spans = [
        Span(rival, found["mean"], found["low"], found["high"])
        for rival, found in trial["against"].items()
    ]
    if spans:
        yield differences(
            "against",
            spans,
            unit="nDCG@10: the ranker minus its rival",
            words="Dot: mean over shoppers. Line: 95 % interval. Right of 0 the ranker is better.",
        )


def encoder_section(decision: Report | None, report: Report | None, titles: Titles) -> Section:
    """`report`: an EncoderReport as JSON, None where the live encoder was kept."""
    why = () if decision is None else (sentence(f"{decision['action']}: {decision['reason']}"),)
    if report is None:
        return Section(anchor="encoder", title="The text encoder", words=why)
    return Section(
        anchor="encoder",
        title="The text encoder",
        words=(*why, sentence(report["reason"]), *_drift(report)),
        facts=(("from tuning", _shipped(report)), *facts(report, without=TOLD)),
        pictures=tuple(_curves(report)),
        tables=tuple(_recalls(report)),
        examples_title="Nearest items before and after the tuning; in bold: in one list only",
        examples=tuple(_examples(report.get("examples") or (), titles)),
    )


def item_map_section(report: Report) -> Section:
    """`report`: an ItemMapReport as JSON."""
    before, after = report.get("start_recall"), report.get("map_recall")
    recalls = [["all items", before, after, _gain(before, after)]] if is_known(before) else []
    return Section(
        anchor="item-map",
        title="The item map",
        words=(sentence(report["reason"]),),
        facts=(("shipped", written(report.get("shipped"))), *facts(report, without=TOLD)),
        pictures=tuple(_curves(report, "map-")),
        tables=(_recall_table(report, recalls),) if recalls else (),
    )


def index_section(name: str, report: Report) -> Section:
    """`report`: an IndexReport as JSON."""
    recalls, times = report.get("recalls") or {}, report.get("milliseconds") or {}
    tried = [[kind, recalls.get(kind), times.get(kind)] for kind in {**recalls, **times}]
    title = "Kinds tried: recall@200 against exact search, CPU of one query"
    return Section(
        anchor=f"index-{name}",
        title=f"The index of {name}",
        words=(sentence(report["reason"]),),
        facts=facts(report, without=("reason",)),
        tables=(table(title, ("kind", "recall@200", "ms"), tried),) if tried else (),
    )


def steps_section(steps: Sequence[tuple[str, bool, Report]]) -> Section:
    """`steps`: name, whether it ran now, what it reported."""
    rows = [[name, "ran" if ran else "skipped", _in_a_line(report)] for name, ran, report in steps]
    return Section(
        anchor="steps",
        title="The steps",
        tables=(
            table(
                "In the order of the night; skipped: nothing was new", ("step", "", "report"), rows
            ),
        ),
    )


def _shipped(report: Report) -> str:
    tuned = "tuned" if report.get("tuned") else "base"
    return SHIPPED[report.get("shipped", tuned)]


def _drift(report: Report) -> Iterator[str]:
    """Forgetting, in words."""
    if is_known(report.get("anchor_similarity")):
        yield (
            f"Mean cosine of held-out items' vectors with those of the base: "
            f"{report['anchor_similarity']:.4f}; 1 is no drift at all."
        )
    if report.get("shipped") == "continued" and is_known(report.get("start_similarity")):
        yield f"With those of the live encoder: {report['start_similarity']:.4f}."


def _curves(report: Report, prefix: str = "") -> Iterator[Picture]:
    points: Sequence[dict[str, Any]] = report.get("curve") or ()
    losses = [(p["step"], p["loss"]) for p in points if is_known(p.get("loss"))]
    recalls = [
        (p["step"], p["validation_recall"]) for p in points if is_known(p.get("validation_recall"))
    ]
    if losses:
        ends = (report.get("first_loss"), report.get("last_loss"))
        first, last = ends if None not in ends else (losses[0][1], losses[-1][1])
        words = f"From {written(first)} to {written(last)}."
        yield curve(f"{prefix}loss", losses, label="Training loss, nats", words=words)
    if recalls:
        best_step, best = max(recalls, key=lambda point: point[1])
        words = f"Best {written(best)}, at step {written(best_step)}."
        yield curve(
            f"{prefix}recall",
            recalls,
            label="Validation, recall@10",
            words=words,
            reference=_reference(report),
        )


def _reference(report: Report) -> tuple[str, float] | None:
    """What tuning began with; a map's report says `shipped` in other words, a bool."""
    names = {"continued": "live", "kept": "live", "tuned": "frozen", "base": "frozen"}
    start = report.get("start_recall")
    if start is None:
        return None
    return names.get(str(report.get("shipped")), "without"), float(start)


def _recalls(report: Report) -> Iterator[Table]:
    """Before is what the tuning began with."""
    before = {"all": report.get("start_recall")}
    after = {"all": report.get("tuned_recall")}
    for part in ("old", "new"):
        before[part] = report.get(f"recall_{part}_before")
        after[part] = report.get(f"recall_{part}_after")
    rows = [
        [words, before[part], after[part], _gain(before[part], after[part])]
        for part, words in PARTS.items()
        if before[part] is not None or after[part] is not None
    ]
    if rows:
        yield _recall_table(report, rows)


def _recall_table(report: Report, rows: Sequence[Sequence[object]]) -> Table:
    asked = written(report.get("validation_questions"))
    title = f"Recall@10 of the next item, {asked} questions of held-out shoppers"
    return table(title, ("asked for", "before", "after", "change"), rows)


def _gain(before: float | None, after: float | None) -> str:
    return f"{after / before - 1:+.1%}" if before and after is not None else ABSENT


def _examples(examples: Sequence[dict[str, Any]], titles: Titles) -> Iterator[Example]:
    for example in examples:
        before, after = example["before"], example["after"]
        lists = (("Before", before, after), ("After", after, before))
        yield Example(
            titles(example["item_row"]),
            tuple(
                Listing(name, tuple(Entry(titles(row), marked=row not in other) for row in rows))
                for name, rows, other in lists
            ),
        )


def _in_a_line(report: Report) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts(report))
