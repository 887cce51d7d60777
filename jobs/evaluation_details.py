"""What an evaluation's page says of models and shoppers: probabilities, learning, examples."""

from collections.abc import Iterator, Mapping, Sequence

from jobs.evaluation_words import arm
from jobs.page_figures import Picture, curves, reliability
from jobs.page_words import (
    Entry,
    Example,
    Listing,
    Report,
    Section,
    facts,
    is_known,
    sentence,
    shortened,
    spoken,
    table,
    written,
)

Items = Mapping[str, Report]  # row, as text → item_id and title

MAX_TAKEN = 8  # titles of what a shopper took
TRAININGS = {"ranker": "The ranker", "sequence": "The sequence model"}
OF_THE_MACHINE = ("seconds", "max_difference")
CURVES = (  # what a figure shows, and of which fields of a report
    ("Loss, nats", (("train_losses", "training"), ("validation_losses", "held out"))),
    ("Training loss, nats", (("losses", "training"),)),
    ("Held out, log2 of the rank", (("held_out", "held out"),)),
)


def probabilities_section(trial: Report, prefix: str = "") -> Section:
    found: Sequence[Report] = trial["reliability"]
    rows = [
        [
            one["action"],
            one["candidates"],
            one["base_rate"],
            one["calibration_error"],
            one["brier"],
            one["brier_of_base_rate"],
        ]
        for one in found
    ]
    columns = ("action", "candidates", "taken", "calibration error", "Brier", "Brier, always same")
    return Section(
        anchor=f"{prefix}probabilities",
        title="Whether its probabilities can be believed",
        words=(
            "All candidates of the trial in ten bins by predicted probability. On the dashed line "
            "as many were taken as predicted; below it the model promises too much. Calibration "
            "error: the mean distance from that line. Brier: mean squared error, beside that of "
            "saying the same for every candidate. A chance is learned for a shopper's next few "
            "events; in a window that holds many more, more is taken than predicted.",
        ),
        pictures=tuple(
            reliability(
                f"{prefix}reliability-{number}",
                [(bin_["predicted"], bin_["observed"]) for bin_ in one["bins"]],
                label=one["action"],
                words=f"{one['action']}: {written(one['base_rate'])} of "
                f"{written(one['candidates'])} candidates were taken.",
            )
            for number, one in enumerate(found)
            if one["bins"]
        ),
        tables=(table("Calibration by action", columns, rows),),
    )


def learning_section(trainings: Sequence[Report], prefix: str = "") -> Section:
    tables = []
    for number, one in enumerate(trainings):
        plain = facts(one["report"], without=OF_THE_MACHINE)
        if plain:
            tables.append(table(_training(trainings, number), ("", "figure"), plain))
    return Section(
        anchor=f"{prefix}learning",
        title="How the models learned",
        words=(
            "The sequence model learns twice: for the ranker from what lies before its labels, "
            "then further, from everything before the window. Held-out shoppers tell when to stop: "
            "by the ranker's loss on them, or by the rank of what they took next.",
        ),
        pictures=tuple(
            picture
            for number, one in enumerate(trainings)
            for picture in _learned(
                one["report"], _training(trainings, number), f"{prefix}learning-{number}"
            )
        ),
        tables=tuple(tables),
    )


def _training(trainings: Sequence[Report], number: int) -> str:
    name = trainings[number]["name"]
    again = any(one["name"] == name for one in trainings[:number])
    return f"{TRAININGS.get(name, spoken(name))}{', further' if again else ''}"


def _learned(report: Report, title: str, name: str) -> Iterator[Picture]:
    for number, (label, fields) in enumerate(CURVES):
        lines = {
            named: [(n, value) for n, value in enumerate(report[field], 1) if is_known(value)]
            for field, named in fields
            if report.get(field)
        }
        lines = {named: points for named, points in lines.items() if points}
        if lines:
            lowest = {
                named: min(points, key=lambda point: point[1]) for named, points in lines.items()
            }
            words = "; ".join(
                f"{named}: lowest {written(value)}, after epoch {epoch}"
                for named, (epoch, value) in lowest.items()
            )
            label = f"{title}: {label[:1].lower()}{label[1:]}"
            yield curves(
                f"{name}-{number}", lines, label=label, words=sentence(words), step="epoch"
            )


def shoppers_section(trial: Report, items: Items, prefix: str = "") -> Section:
    return Section(
        anchor=f"{prefix}shoppers",
        title="What some shoppers would have seen",
        words=(
            "Drawn by chance, some of every length of history. In bold: what the shopper then "
            "took. Below each title: the reason that a storefront could show.",
        ),
        examples=tuple(_shopper(one, items) for one in trial["samples"]),
    )


def _shopper(found: Report, items: Items) -> Example:
    def title(row: int) -> str:
        named = items[str(row)]
        return shortened(named["title"]) or named["item_id"]

    taken = set(found["taken"])
    known = [
        f"{event} {title(row)}"
        for row, event in zip(found["history"], found["history_events"], strict=True)
    ]
    before = f"{written(found['events_known'])} events known, latest first: {'; '.join(known)}."
    then = [title(row) for row in found["taken"][:MAX_TAKEN]]
    more = len(found["taken"]) - len(then)
    then += [f"{more} more"] if more else []
    return Example(
        f"Shopper {shortened(found['user_id'])}",
        tuple(
            Listing(
                arm(name).capitalize(),
                tuple(
                    Entry(title(row), note, row in taken)
                    for row, note in zip(rows, _reasons(found, name, len(rows)), strict=True)
                ),
            )
            for name, rows in found["lists"].items()
        ),
        f"{before if known else 'Nothing known.'} Then took: {'; '.join(then)}.",
    )


def _reasons(found: Report, name: str, n: int) -> list[str]:
    return ["; ".join(words) for words in found["reasons"]] if name == "ranker" else [""] * n
