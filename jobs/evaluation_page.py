"""An evaluation as a page: the verdict, what was done, and each fold's figures."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from jobs.evaluation_details import learning_section, probabilities_section, shoppers_section
from jobs.evaluation_sections import accuracy_section, beyond_section, slices_section
from jobs.evaluation_words import arm, metric, signed
from jobs.page import Chapter, Page, render
from jobs.page_figures import Picture, Span, differences
from jobs.page_words import Report, Section, Table, day, minute, sentence, table, written

Mood = Literal["good", "bad", "plain"]
MOODS: dict[str, Mood] = {"better": "good", "worse": "bad", "unclear": "plain"}


def render_evaluation(report: dict[str, Any]) -> str:
    """`report`: an EvaluationReport as JSON."""
    finding, folds = report["finding"], report["folds"]
    done = Section(
        anchor="done",
        title="What was done",
        words=(
            "Every model learned from what lay before a cut in time; then every item of the "
            "catalogue was ranked for each shopper who came in the window after it. What the "
            "shopper took there, and had not touched before, counts as a hit.",
            *_live(folds),
        ),
        facts=tuple(_facts(report)),
        tables=(_cuts(folds),),
        notes=tuple(_made_with(report)),
    )
    if len(folds) == 1:
        chapters = [Chapter((done, *_fold(folds[0], report, "")))]
    else:
        chapters = [Chapter((done, _over_folds(report)), "All windows")]
        chapters += [
            Chapter(tuple(_fold(fold, report, f"fold-{number}-")), _titled(fold, number))
            for number, fold in enumerate(folds, 1)
        ]
    return render(
        Page(
            when=f"Evaluation of {minute(report['made_at_us'])}",
            headline=finding["headline"],
            verdict=finding["standing"],
            mood=MOODS[finding["standing"]],
            reason=finding["sentence"],
            chapters=chapters,
        )
    )


def _fold(fold: Report, report: Report, prefix: str) -> Iterator[Section]:
    trial = fold["trial"]
    yield accuracy_section(trial, prefix)
    if trial["slices"]:
        yield slices_section(trial, prefix)
    if trial["beyond"]:
        yield beyond_section(trial, prefix)
    if trial["reliability"]:
        yield probabilities_section(trial, prefix)
    if fold["trainings"]:
        yield learning_section(fold["trainings"], prefix)
    if trial["samples"]:
        yield shoppers_section(trial, report["items"], prefix)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    shop = report["shop"]
    for name in ("items", "shoppers", "events"):
        yield name, written(shop[name])
    yield "first event", minute(shop["first_us"])
    yield "last event", minute(shop["last_us"])
    yield "windows", written(len(report["folds"]))
    yield "seed", written(report["seed"])
    yield "command", report["command"]


def _made_with(report: Report) -> Iterator[str]:
    kinds = (f"{kind['name']} {kind['weight']:g}" for kind in report["shop"]["event_types"])
    yield f"Event types and what each counts: {', '.join(kinds)}."
    libraries = (f"{name} {number}" for name, number in report["versions"].items())
    yield f"Made with {', '.join(libraries)}; every trainer's settings are in the JSON file."


def _cuts(folds: Sequence[Report]) -> Table:
    columns = ("window", "ranker's labels from", "learned before, judged from", "judged until")
    rows = [
        [
            _number(number),
            minute(fold["label_us"]),
            minute(fold["evaluation_us"]),
            minute(fold["as_of_us"]),
            fold["trial"]["users"],
            fold["trial"]["strangers"],
        ]
        for number, fold in enumerate(folds, 1)
    ]
    return table("Cuts in time", (*columns, "shoppers", "of them new"), rows)


def _live(folds: Sequence[Report]) -> Iterator[str]:
    for number, fold in enumerate(folds, 1):
        live = fold["live"]
        name = f"live release {live['release_id']}" if live["release_id"] else "live release"
        state = "is compared" if live["compared"] else "is not compared"
        where = f"in window {number} " if len(folds) > 1 else ""
        yield sentence(f"{where}the {name} {state}: {live['reason']}")


def _over_folds(report: Report) -> Section:
    summary, folds = report["summary"], report["folds"]
    metrics: Report = summary["metrics"]
    names = list(metrics["ranker"])
    return Section(
        anchor="windows",
        title="Over all windows",
        words=(
            "Mean over windows, and the lowest and highest of them in brackets. Windows share "
            "shoppers, so this is no interval; each window has its own below.",
        ),
        pictures=tuple(_by_fold(folds, summary["against"])),
        tables=(
            table(
                "Means by who ranks",
                ("metric", *(arm(name) for name in metrics)),
                [[metric(name), *(_spread(of[name]) for of in metrics.values())] for name in names],
            ),
            table(
                "nDCG@10, recommender minus rival",
                ("rival", "mean [lowest, highest]"),
                [
                    [arm(name), _spread(found, signs=True)]
                    for name, found in summary["against"].items()
                ],
            ),
        ),
    )


def _spread(found: Report, *, signs: bool = False) -> str:
    say = signed if signs else written
    return f"{say(found['mean'])} [{say(found['lowest'])}, {say(found['highest'])}]"


def _by_fold(folds: Sequence[Report], rivals: Sequence[str]) -> Iterator[Picture]:
    for rival in rivals:
        found = [fold["trial"]["against"][rival] for fold in folds]
        yield differences(
            f"windows-{rival}",
            [
                Span(_number(number), one["mean"], one["low"], one["high"])
                for number, one in enumerate(found, 1)
            ],
            unit="nDCG@10: recommender minus rival",
            title=f"Against {arm(rival)}",
            words=f"Against {arm(rival)}. Dot: mean over a window's shoppers. Line: 95 % interval.",
        )


def _titled(fold: Report, number: int) -> str:
    return f"Window {number}: {day(fold['evaluation_us'])} to {day(fold['as_of_us'] - 1)}"


def _number(number: int) -> str:
    return f"window {number}"
