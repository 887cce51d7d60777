"""The gate: a night's release goes live only if it is not worse than what shoppers get now."""

import math
from dataclasses import dataclass

from features.errors import ConfigError
from recsys.evaluation.comparisons import GATED, Comparison
from recsys.evaluation.perturbations import PERTURBATIONS
from recsys.evaluation.text_audit import TextAudit
from recsys.evaluation.text_quality import LOWER_IS_BETTER, MEASURES, OUT_OF_DOMAIN, SEARCH
from recsys.evaluation.trial import BASELINE, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What a release may lose in nDCG@10 against the live release and popularity."""

    # Share of the rival's. Shoppers take what they are shown, so the days a release has served
    # flatter it: in 13 second nights of the story in tests/story its successor, which by the truth
    # loses nothing, scored .4 % above to 6 % below it on them, 3.5 % below on average.
    margin: float = 0.10
    min_users: int = 20  # fewer shoppers cannot tell two releases apart
    # Where so few shoppers came that not even an equal release could prove itself, the mean
    # decides: a small shop would else keep its first release for ever. False: it is refused.
    mean_decides_without_power: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGateConfig:
    """What a tuned encoder may cost, against the audit's baseline.

    Harmless on Amazon Beauty: top layers tuned on 2,000 shoppers, search +.053 and typo overlap
    -.025 [-.042, -.010] of .66. Harmful: searching through the item map, search -.085
    [-.115, -.055] of .74. Whitened MiniLM pushes 0 of 15 groups down there and 0 of 5 on
    MovieLens, unwhitened 0 and 1; whitening costs no group of either any of its gain.
    """

    measures: tuple[str, ...] = (SEARCH, *PERTURBATIONS, OUT_OF_DOMAIN)
    min_texts: int = 100  # a measure taken on fewer judges nobody: few titles may name units
    margin: float = 0.05  # share of the baseline's figure; 400 items tell .7 from .7 ± .02
    max_pushed_down: float = 0.2  # share of the groups judged, where the baseline has fewer
    max_losing: float = 0.1  # share of the groups whose next items lose more than the margin

    def __post_init__(self) -> None:
        unknown = sorted(set(self.measures) - set(MEASURES))
        if unknown:
            raise ConfigError(
                f"TextGateConfig: found measures {', '.join(unknown)}, expected some of"
                f" {', '.join(MEASURES)}. Correct the name."
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the release may go live, and why."""

    passed: bool
    reason: str


def judge_release(
    trial: TrialResult | None,
    config: GateConfig,
    *,
    has_live: bool,
    live_error: str | None = None,
) -> Verdict:
    """Non-inferiority, paired by shopper, against every rival of the trial.

    Without a live release nothing can be harmed, and any release serves a new shop better than
    none; with one, a trial that could not be held is no licence to replace it. `live_error` says
    why a live release that should have been on trial was not.
    """
    fault = live_error or _fault(trial, config)
    if trial is None or fault is not None:
        if has_live:
            return Verdict(False, f"{fault}; the live release stays (use --force to replace it)")
        return Verdict(True, f"first release, published unjudged: {fault}")
    verdicts = [_against(one, config) for one in _rivals(trial)]
    harm = "; ".join(verdict.reason for verdict in verdicts if not verdict.passed)
    if harm:
        return Verdict(not has_live, harm if has_live else f"first release, although {harm}")
    own = trial.metrics["ranker"][GATED]
    found = "; ".join(verdict.reason for verdict in verdicts)
    return Verdict(True, f"nDCG@10 {own:.4f} on {trial.users} shoppers; {found}")


def _fault(trial: TrialResult | None, config: GateConfig) -> str | None:
    """Why the trial proves nothing: an arm that failed must never look like a rival beaten."""
    if trial is None or trial.users < config.min_users:
        found = 0 if trial is None else trial.users
        return f"{found} shoppers to judge by, {config.min_users} are needed"
    for arm, who in (("ranker", "the ranker"), ("live", "the live release")):
        if arm in trial.metrics and not trial.metrics[arm]["answered"] > 0:
            return f"{who} answered none of {trial.users} shoppers"
    rivals = _rivals(trial)
    if not rivals:
        return "there is no rival to compare with"
    figures = [(one.ours, one.theirs, one.difference.mean, one.at_least) for one in rivals]
    if not all(math.isfinite(figure) for one in figures for figure in one):
        return "the trial's figures are not all finite"
    return None


def _rivals(trial: TrialResult) -> list[Comparison]:
    """An empty list of what is popular is no rival."""
    return [
        one
        for one in trial.comparisons
        if one.metric == GATED and trial.metrics[one.rival]["answered"] > 0
    ]


def _against(one: Comparison, config: GateConfig) -> Verdict:
    """The one-sided 95 % interval must not reach below the margin.

    There is no power where the interval is so wide that even no difference at all would fail.
    """
    rival = "popularity" if one.rival == BASELINE else one.rival
    allowed = config.margin * one.theirs
    uncertainty = one.difference.mean - one.at_least
    passed = one.at_least >= -allowed
    how = f"at least {one.at_least:+.4f} (one-sided 95 %)"
    if not passed and uncertainty > allowed and config.mean_decides_without_power:
        passed = one.difference.mean >= -allowed
        how = f"± {uncertainty:.4f}, too few shoppers to prove it, so the mean decides"
    stands = "not worse than" if passed else "not proven as good as"
    found = f"nDCG@10 differs by {one.difference.mean:+.4f}, {how}; {-allowed:+.4f} is allowed"
    return Verdict(passed, f"{stands} {rival}: {found}")


def judge_text(audit: TextAudit, config: TextGateConfig) -> Verdict:
    """Whether a tuned encoder may replace the audit's baseline: refused on evidence of harm only.

    Without a baseline there is nothing to fall behind; shoppers it has learned from prove nothing.
    """
    if audit.baseline_name is None:
        return Verdict(True, "text audit: no baseline to compare with")
    if not audit.unseen:
        return Verdict(True, "text audit: no verdict, it has learned from the shoppers asked")
    harm = (
        _lost_words(audit, config) or _pushed_down(audit, config) or _losing_groups(audit, config)
    )
    if harm is not None:
        return Verdict(False, f"text audit, against {audit.baseline_name}: {harm}")
    found = ", ".join(
        f"{name} {audit.figures[name].mean:.3f} ({audit.differences[name].mean:+.3f})"
        for name in _gated(audit, config)
    )
    found = found or f"no measure on {config.min_texts} texts"
    return Verdict(True, f"text audit: {found}; no evidence of harm")


def _gated(audit: TextAudit, config: TextGateConfig) -> list[str]:
    return [
        name
        for name in config.measures
        if name in audit.differences and audit.figures[name].texts >= config.min_texts
    ]


def _lost_words(audit: TextAudit, config: TextGateConfig) -> str | None:
    for name in _gated(audit, config):
        change, allowed = audit.differences[name], config.margin * audit.baseline[name].mean
        if name in LOWER_IS_BETTER:
            is_harm, expected = change.low > allowed, f"at most {allowed:+.3f}"
        else:
            is_harm, expected = change.high < -allowed, f"at least {-allowed:+.3f}"
        if is_harm:
            return (
                f"{name} differs by {change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}], "
                f"{expected} is expected"
            )
    return None


def _pushed_down(audit: TextAudit, config: TextGateConfig) -> str | None:
    ours, theirs = audit.bias, audit.baseline_bias
    share = ours.pushed_down_share
    if share <= config.max_pushed_down or (theirs and share <= theirs.pushed_down_share):
        return None
    names = ", ".join(group.name for group in ours.worst if group.pushed_down)
    return (
        f"{ours.pushed_down} of {ours.groups} groups are pushed down ({names}), at most "
        f"{config.max_pushed_down:.0%} is expected"
    )


def _losing_groups(audit: TextAudit, config: TextGateConfig) -> str | None:
    losing = [
        change
        for change in audit.group_changes
        if change.is_loss and change.gain.mean < -config.margin * change.baseline_gain
    ]
    if len(losing) <= config.max_losing * len(audit.group_changes):
        return None
    names = ", ".join(change.name for change in losing)
    return (
        f"next items of {len(losing)} of {len(audit.group_changes)} groups lie further back "
        f"({names}), at most {config.max_losing:.0%} is expected"
    )
