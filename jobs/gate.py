"""The gate: a night's release goes live only if it is not worse than what shoppers get now."""

from dataclasses import dataclass

from recsys.evaluation.trial import BASELINE, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Margins are shares of the rival's nDCG@10."""

    margin: float = 0.05  # a loss this small may be the price of learning from newer days
    min_users: int = 20  # fewer shoppers cannot tell two releases apart


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the release may go live, and why."""

    passed: bool
    reason: str


def judge_release(trial: TrialResult | None, config: GateConfig, *, has_live: bool) -> Verdict:
    """Refuse on evidence of harm: the whole interval of the difference below the margin.

    Without a live release nothing can be harmed, and any release serves a new shop better than
    none; with one, a trial that could not be held is no licence to replace it.
    """
    if trial is None or trial.users < config.min_users:
        found = 0 if trial is None else trial.users
        reason = f"{found} shoppers to judge by, {config.min_users} are needed"
        if has_live:
            return Verdict(False, f"{reason}; the live release stays (use --force to replace it)")
        return Verdict(True, f"first release, published unjudged: {reason}")
    harm = _harm(trial, config)
    if harm is not None:
        return Verdict(not has_live, harm if has_live else f"first release, although {harm}")
    own = trial.metrics["ranker"]["ndcg@10"]
    return Verdict(True, f"nDCG@10 {own:.4f} on {trial.users} shoppers, no evidence of harm")


def _harm(trial: TrialResult, config: GateConfig) -> str | None:
    for rival, difference in trial.against.items():
        floor = -config.margin * trial.metrics[rival]["ndcg@10"]
        if difference.high < floor:
            return (
                f"worse than {'popularity' if rival == BASELINE else rival}: nDCG@10 differs by "
                f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}], "
                f"at least {floor:+.4f} is expected"
            )
    return None
