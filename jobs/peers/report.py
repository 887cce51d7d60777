"""What the bench shows people: a table, a verdict, one page."""

from jobs.console import Terminal
from jobs.page import Chapter, Page, render
from jobs.page_figures import Picture, Span, differences, scatter
from jobs.page_words import Section, sentence, table
from jobs.peers.arms import OWN
from jobs.peers.judging import CHOICE, ArmReport, PeersReport
from recsys.evaluation.bootstrap import Interval

COLUMNS = (
    *("who ranks", "R@10", "N@10", "95 %", "returning N@10"),
    *("this system minus it, N@10", "p, adjusted"),
)
COST_COLUMNS = ("fit s", "tuning s", "recommend s", "peak MB")


def report_rows(report: PeersReport) -> list[list[object]]:
    """Best first; arms that failed last, with blanks."""
    ordered = sorted(report.arms, key=lambda arm: -arm.quality[CHOICE].mean if arm.quality else 1)
    return [_row(arm) for arm in ordered]


def _row(arm: ArmReport) -> list[object]:
    if arm.quality is None or arm.returning is None:
        return [arm.name, *[None] * (len(COLUMNS) + len(COST_COLUMNS) - 2), "failed"]
    own = arm.quality[CHOICE]
    against = arm.own_minus_this[CHOICE] if arm.own_minus_this else None
    costs = [arm.fit_s, arm.tune_s, arm.recommend_s, arm.peak_mb]
    return [
        arm.name,
        arm.quality["recall@10"].mean,
        own.mean,
        f"[{own.low:.4f}, {own.high:.4f}]",
        arm.returning[CHOICE],
        _difference(against) if against else None,
        arm.p_holm,
        *(None if cost is None else f"{cost:,.1f}" for cost in costs),
    ]


def _difference(found: Interval) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def title_of(report: PeersReport) -> str:
    return (
        f"{report.dataset}, protocol {report.protocol}, seed {report.seed}, {report.users:,} "
        f"shoppers ({report.returning_users:,} with a history), {report.items:,} items, "
        f"{report.threads} threads"
    )


def verdict_of(report: PeersReport) -> str:
    """This system beside the best peer, in one sentence."""
    best = next((arm for arm in report.arms if arm.name == report.best_peer), None)
    if best is None or best.own_minus_this is None:
        return "nothing to compare: this system or every peer failed"
    found = best.own_minus_this[CHOICE]
    what = "ahead of" if found.low > 0 else "behind" if found.high < 0 else "not apart from"
    return f"this system is {what} the best peer, {best.name}: nDCG@10 {_difference(found)}"


def show_peers(terminal: Terminal, report: PeersReport) -> None:
    terminal.table(title_of(report), (*COLUMNS, *COST_COLUMNS), report_rows(report))
    terminal.say(sentence(verdict_of(report)))
    for arm in report.arms:
        if arm.error is not None:
            terminal.say(f"{arm.name} failed: {arm.error}")


def peers_page(report: PeersReport) -> str:
    """One page without network or script."""
    best = next((arm for arm in report.arms if arm.name == report.best_peer), None)
    ahead = best and best.own_minus_this and best.own_minus_this[CHOICE].low > 0
    settings = [
        [arm.name, number, name, value]
        for arm in report.arms
        for number, fold in enumerate(arm.folds)
        for name, value in fold["settings"].items()
    ]
    failures = tuple(f"{arm.name} failed: {arm.error}" for arm in report.arms if arm.error)
    section = Section(
        anchor="peers",
        title="Beside its peers",
        words=(title_of(report), *failures),
        pictures=tuple(_pictures(report)),
        tables=(
            table("Means over shoppers", (*COLUMNS, *COST_COLUMNS), report_rows(report)),
            table("Chosen on validation", ("who", "fold", "setting", "value"), settings),
        ),
    )
    return render(
        Page(
            when=report.dataset,
            headline="This system and its peers",
            verdict=sentence(verdict_of(report)),
            mood="good" if ahead else "plain",
            reason="Same split, catalogue, shoppers and metrics; every arm a process of its own.",
            chapters=(Chapter((section,)),),
        )
    )


def _pictures(report: PeersReport) -> list[Picture]:
    ran = [arm for arm in report.arms if arm.quality is not None]
    points = [(arm.name, arm.fit_s or 0.0, arm.quality[CHOICE].mean) for arm in ran if arm.quality]
    spans = [
        Span(arm.name, found.mean, found.low, found.high)
        for arm in ran
        if arm.own_minus_this
        for found in [arm.own_minus_this[CHOICE]]
    ]
    drawn = [
        scatter(
            "cost",
            points,
            marked=OWN,
            x_label="seconds of one fit",
            y_label="nDCG@10",
            words="Quality against the time of one fit with the chosen settings.",
        )
    ]
    if spans:
        drawn.append(
            differences(
                "against",
                spans,
                unit="nDCG@10, this system minus the peer, 95 %",
                words="Right of the line this system is better.",
            )
        )
    return drawn
