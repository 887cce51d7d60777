from jobs.gate import GateConfig, judge_release
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.trial import TrialResult

CONFIG = GateConfig(margin=0.1, min_users=20)


def trial(*, users: int = 100, **against: tuple[float, float]) -> TrialResult:
    """`against` are low and high of the difference to each rival, whose own nDCG@10 is .2."""
    return TrialResult(
        users=users,
        start_us=0,
        end_us=1,
        metrics={name: {"ndcg@10": 0.2} for name in ("ranker", *against)},
        intervals={},
        against={
            name: Interval((low + high) / 2, low, high) for name, (low, high) in against.items()
        },
        candidate_recall=1.0,
    )


def test_a_release_better_than_every_rival_goes_live() -> None:
    verdict = judge_release(trial(trending=(0.01, 0.03), live=(0.0, 0.02)), CONFIG, has_live=True)
    assert verdict.passed


def test_a_release_clearly_worse_than_the_live_one_is_refused_by_name() -> None:
    verdict = judge_release(
        trial(trending=(0.01, 0.03), live=(-0.08, -0.03)), CONFIG, has_live=True
    )
    assert not verdict.passed
    assert "live" in verdict.reason


def test_a_release_clearly_worse_than_popularity_goes_live_only_where_nothing_is() -> None:
    worse = trial(trending=(-0.08, -0.03))
    first, later = (judge_release(worse, CONFIG, has_live=live) for live in (False, True))
    assert first.passed
    assert not later.passed
    assert "popularity" in first.reason
    assert "popularity" in later.reason


def test_a_loss_within_the_margin_or_not_proven_passes() -> None:
    # the margin is .1 of .2
    assert judge_release(trial(live=(-0.03, -0.019)), CONFIG, has_live=True).passed
    assert judge_release(trial(live=(-0.5, 0.4)), CONFIG, has_live=True).passed
    assert not judge_release(trial(live=(-0.03, -0.021)), CONFIG, has_live=True).passed


def test_without_a_live_release_there_is_nothing_to_protect() -> None:
    for held in (None, trial(users=19)):
        assert judge_release(held, CONFIG, has_live=False).passed


def test_a_trial_that_could_not_be_held_does_not_replace_a_live_release() -> None:
    for held in (None, trial(users=19)):
        verdict = judge_release(held, CONFIG, has_live=True)
        assert not verdict.passed
        assert "--force" in verdict.reason
    assert judge_release(trial(users=20), CONFIG, has_live=True).passed
