"""Replays and their benchmark as tables for people."""

from jobs.console import Terminal
from jobs.offpolicy.open_bandit import OpenBanditReplays
from jobs.offpolicy.storefront import StorefrontReplays
from recsys.evaluation.offpolicy.calibration import Calibration
from recsys.evaluation.offpolicy.replay import Replay

_NAMES = {
    "logged": "as logged",
    "ips": "IPS",
    "snips": "SNIPS",
    "clipped": "clipped IPS",
    "dm": "DM",
    "dr": "DR",
    "switch": "switch-DR",
}


def show_replay(terminal: Terminal, found: Replay, reward: str) -> None:
    rows = [
        [
            _NAMES[value.name] + (" *" if value.name == found.best else ""),
            _number(value.value),
            _interval(value.low, value.high, ".4f"),
            "" if value.lift is None else f"{value.lift:+.1%}",
            _interval(value.lift_low, value.lift_high, "+.1%"),
            value.problem or "",
        ]
        for value in (found.logged, *found.values)
    ]
    title = f"{reward}, mean of one {found.per}; intervals 95 %, by shopper; * is the one to read"
    terminal.table(title, ("estimator", "value", "interval", "lift", "interval", ""), rows)
    weights = found.weights
    support = "unknown" if weights.support is None else f"{weights.support:.0%}"
    terminal.say(
        f"{weights.rows:,} exposures in {weights.requests:,} slates of {weights.units:,} shoppers, "
        f"worth {weights.effective_rows:,.0f} of the target; mean weight {weights.mean_weight:.3f} "
        f"± {3 * weights.mean_weight_se:.3f}, largest {weights.largest_weight:.1f} with "
        f"{weights.largest_share:.2%} of all; shown before: {support} of the target; "
        f"{weights.unknown_share:.1%} of the exposures without propensity"
    )
    terminal.say(found.verdict.words)


def show_storefront(terminal: Terminal, found: StorefrontReplays) -> None:
    terminal.table(
        f"Sample storefront: {found.replays:,} logs of {found.shoppers:,} shoppers, seed "
        f"{found.seed}, logged {found.logged:.4f} clicks an exposure",
        ("target", "estimator", "truth", "mean", "bias", "spread", "truth held", "lift held"),
        [
            [
                row.target,
                _NAMES[row.estimator],
                f"{row.truth:.4f}",
                f"{row.mean:.4f}",
                f"{row.bias:+.1%}",
                f"{row.spread:.1%}",
                *(
                    "none" if share is None else f"{share:.1%}"
                    for share in (row.covered, row.lift_covered)
                ),
            ]
            for row in found.rows
        ],
    )
    for target, counts in found.verdicts.items():
        terminal.say(f"{target}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))


def show_open_bandit(terminal: Terminal, found: OpenBanditReplays) -> None:
    terminal.table(
        "Open Bandit: the click rate of one policy from the log of the other, 95 %",
        ("campaign", "log → target", "estimator", "value", "interval", "truth holds", "off by, SE"),
        [
            [
                row.campaign,
                f"{row.log} → {row.target}",
                _NAMES[row.estimator],
                f"{row.value:.5f}",
                _interval(row.low, row.high, ".5f"),
                "" if row.covers is None else ("yes" if row.covers else "no"),
                "" if row.standard_errors is None else f"{row.standard_errors:+.1f}",
            ]
            for row in found.rows
        ],
    )
    for one in found.directions:
        truth = one.truth
        terminal.say(
            f"{one.campaign}, {one.log} → {one.target}: truth {truth.mean:.5f} [{truth.low:.5f}, "
            f"{truth.high:.5f}], logged {_number(one.replayed.logged.value)}. "
            f"{one.replayed.verdict.words}"
        )
    terminal.say(f"As past experiments: {found.calibration}")


def show_calibration(terminal: Terminal, found: Calibration) -> None:
    rows = [
        [
            pair.name,
            f"{pair.predicted:+.1%}",
            _interval(pair.predicted_low, pair.predicted_high, "+.1%"),
            f"{pair.measured:+.1%}",
            _interval(pair.measured_low, pair.measured_high, "+.1%"),
            "yes" if pair.agrees else "no",
        ]
        for pair in found.pairs
    ]
    columns = ("variant", "replayed", "interval", "measured", "interval", "agree")
    terminal.table("Lifts replayed before an experiment, and measured by it", columns, rows)
    terminal.say(found.words)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"
