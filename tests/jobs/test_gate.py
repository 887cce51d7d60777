from dataclasses import replace

import numpy as np
import pytest

from features.arrays import Float64Array
from features.errors import ConfigError
from jobs.gate import GateConfig, TextGateConfig, judge_release, judge_text
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.comparisons import GATED, Comparison, compare
from recsys.evaluation.perturbations import PERTURBATIONS
from recsys.evaluation.text_audit import TextAudit
from recsys.evaluation.text_bias import BiasReport, GroupBias, GroupChange
from recsys.evaluation.text_quality import ATTRACTION, Figure
from recsys.evaluation.trial import TrialResult

CONFIG = GateConfig(margin=0.1, min_users=20)


def trial(
    *, users: int = 100, answered: float = 1.0, **against: tuple[float, float]
) -> TrialResult:
    """`against` are mean and one-sided lower end of the difference to each rival of nDCG .2."""
    return TrialResult(
        users=users,
        start_us=0,
        end_us=1,
        metrics={
            name: {"ndcg@10": 0.2, "answered": answered if name == "ranker" else 1.0}
            for name in ("ranker", *against)
        },
        intervals={},
        against={},
        candidate_recall=1.0,
        comparisons=tuple(
            Comparison(
                metric=metric,
                rival=rival,
                ours=0.2 + mean,
                theirs=0.2,
                difference=Interval(mean, low - 0.01, 2 * mean - low + 0.01),
                at_least=low,
                p_value=0.5,
                p_holm=1.0,
            )
            for rival, (mean, low) in against.items()
            for metric in ("ndcg@10", "recall@10")
        ),
    )


def empty(trial: TrialResult, arm: str) -> TrialResult:
    return replace(trial, metrics={**trial.metrics, arm: {"ndcg@10": 0.0, "answered": 0.0}})


def test_a_release_better_than_every_rival_goes_live() -> None:
    verdict = judge_release(trial(trending=(0.02, 0.01), live=(0.01, 0.0)), CONFIG, has_live=True)
    assert verdict.passed
    assert "not worse than popularity" in verdict.reason
    assert "not worse than live" in verdict.reason


def test_a_release_that_is_not_proven_as_good_as_the_live_one_is_refused_by_name() -> None:
    # the margin is .1 of .2
    allowed = trial(trending=(0.02, 0.01), live=(-0.01, -0.0199))
    refused = trial(trending=(0.02, 0.01), live=(-0.01, -0.0201))
    assert judge_release(allowed, CONFIG, has_live=True).passed
    verdict = judge_release(refused, CONFIG, has_live=True)
    assert not verdict.passed
    assert "not proven as good as live" in verdict.reason
    assert "popularity" not in verdict.reason


def test_a_release_worse_than_popularity_goes_live_only_where_nothing_is() -> None:
    worse = trial(trending=(-0.05, -0.06))
    first, later = (judge_release(worse, CONFIG, has_live=live) for live in (False, True))
    assert first.passed
    assert not later.passed
    assert "popularity" in first.reason
    assert "popularity" in later.reason


def test_where_nothing_can_be_proven_the_mean_decides_and_says_so() -> None:
    strict = replace(CONFIG, mean_decides_without_power=False)
    little, much = trial(live=(-0.019, -0.5)), trial(live=(-0.021, -0.5))
    assert judge_release(little, CONFIG, has_live=True).passed
    assert not judge_release(much, CONFIG, has_live=True).passed
    assert not judge_release(little, strict, has_live=True).passed
    for held in (little, much):
        assert "too few shoppers" in judge_release(held, CONFIG, has_live=True).reason


def test_without_a_live_release_there_is_nothing_to_protect() -> None:
    for held in (None, trial(users=19), trial(live=(0.1, 0.1), answered=0.0)):
        verdict = judge_release(held, CONFIG, has_live=False)
        assert verdict.passed
        assert "unjudged" in verdict.reason


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, "0 shoppers"),
        (trial(users=19, live=(0.1, 0.1)), "19 shoppers"),
        (trial(live=(0.1, 0.1), answered=0.0), "the ranker answered none"),
        (empty(trial(live=(0.1, 0.1)), "live"), "the live release answered none"),
        (trial(), "no rival"),
        (empty(trial(trending=(0.1, 0.1)), "trending"), "no rival"),
        (trial(live=(float("nan"), 0.1)), "not all finite"),
        (trial(live=(float("inf"), float("inf"))), "not all finite"),
    ],
)
def test_a_trial_that_failed_does_not_replace_a_live_release(
    held: TrialResult | None, words: str
) -> None:
    verdict = judge_release(held, CONFIG, has_live=True)
    assert not verdict.passed
    assert words in verdict.reason
    assert "--force" in verdict.reason


def test_a_live_release_that_could_not_be_read_is_not_beaten_by_that() -> None:
    better = trial(trending=(0.1, 0.09))
    assert judge_release(better, CONFIG, has_live=True).passed
    verdict = judge_release(better, CONFIG, has_live=True, live_error="r1: its ranker is damaged")
    assert not verdict.passed
    assert "its ranker is damaged" in verdict.reason


def simulated(
    rng: np.random.Generator, users: int, *, loss: float, changed: float = 0.05
) -> TrialResult:
    """Two releases of one shop: most shoppers get the same list, `changed` of them another one.

    Every hit is lost with the probability that makes the true nDCG@10 smaller by `loss`.
    """
    live = hit_gains(rng, users)
    ours = np.where(rng.random(users) < changed, hit_gains(rng, users), live)
    ours = np.where(rng.random(users) < loss, 0.0, ours)
    (one,) = compare({GATED: ours}, {"live": {GATED: live}}, [GATED], seed=int(rng.integers(9999)))
    found = trial(users=users, live=(0, 0))
    return replace(found, comparisons=(one,))


def hit_gains(rng: np.random.Generator, users: int) -> Float64Array:
    """nDCG@10 of one relevant item, found by three shoppers of ten."""
    ranks = rng.integers(1, 11, users)
    return np.where(rng.random(users) < 0.3, 1 / np.log2(ranks + 1), 0.0)


def published(nights: int, *, users: int, loss: float) -> float:
    rng = np.random.default_rng(users)
    trials = [simulated(rng, users, loss=loss) for _ in range(nights)]
    return sum(judge_release(one, GateConfig(), has_live=True).passed for one in trials) / nights


def test_a_release_at_the_margin_is_seldom_published_and_an_equal_one_nearly_always() -> None:
    margin = GateConfig().margin
    assert published(30, users=2_000, loss=0.0) > 0.95
    assert published(200, users=500, loss=margin) < 0.1  # binomial(200, .05) in 997 of 1,000
    assert published(50, users=500, loss=2 * margin) == 0


def test_a_shop_of_few_is_not_frozen_but_a_clear_loss_is_seen() -> None:
    assert published(100, users=60, loss=0.0) > 0.5
    assert published(100, users=60, loss=0.5) < 0.1


TEXT = TextGateConfig(margin=0.1, max_pushed_down=0.2, max_losing=0.25)


def bias(pushed_down: int, groups: int = 10) -> BiasReport:
    worst = tuple(
        GroupBias(
            kind="brand",
            name=f"brand-{number}",
            items=10,
            targets=40,
            catalogue_share=0.1,
            demand_share=0.1,
            exposure_share=0.0,
            percentile=Interval(-0.3, -0.4, -0.2),
            exposure=Interval(-0.1, -0.1, -0.1),
            p_value=0.01,
            pushed_down=True,
        )
        for number in range(pushed_down)
    )
    return BiasReport(
        shoppers=1_000,
        mean_percentile=0.7,
        groups=groups,
        pushed_down=pushed_down,
        pushed_down_share=pushed_down / groups,
        worst=worst,
        never_shown=0.2,
        gini=0.5,
        hubness=2.0,
    )


def audit(
    *,
    name: str = "typos",
    change: tuple[float, float] = (-0.02, 0.02),
    texts: int = 400,
    pushed_down: tuple[int, int] = (0, 0),
    losing: int = 0,
) -> TextAudit:
    """`change` is low and high of the difference to a baseline of .7; `losing` of four groups."""
    changes = tuple(
        GroupChange(
            "brand",
            f"brand-{number}",
            40,
            0.2,
            Interval(-0.05, -0.06, -0.04) if number < losing else Interval(0.0, -0.01, 0.01),
            0.01 if number < losing else 1.0,
        )
        for number in range(4)
    )
    low, high = change
    return TextAudit(
        subject="tuned",
        baseline_name="frozen",
        figures={name: Figure(0.7 + (low + high) / 2, 0.6, 0.8, texts)},
        baseline={name: Figure(0.7, 0.68, 0.72, texts)},
        differences={name: Interval((low + high) / 2, low, high)},
        bias=bias(pushed_down[0]),
        baseline_bias=bias(pushed_down[1]),
        group_changes=changes,
    )


def test_an_encoder_that_costs_nothing_passes_the_audit_with_its_figures() -> None:
    verdict = judge_text(audit(), TEXT)
    assert verdict.passed
    assert "typos 0.700 (+0.000)" in verdict.reason


def test_an_encoder_that_lost_its_sense_for_typos_is_refused() -> None:
    # the margin is .1 of .7
    assert judge_text(audit(change=(-0.12, -0.069)), TEXT).passed
    refused = judge_text(audit(change=(-0.12, -0.071)), TEXT)
    assert not refused.passed
    assert "typos differs by" in refused.reason
    assert "frozen" in refused.reason


def test_every_way_to_write_a_title_is_gated_where_enough_titles_have_it() -> None:
    for name in PERTURBATIONS:
        assert not judge_text(audit(name=name, change=(-0.12, -0.071), texts=100), TEXT).passed
        spared = judge_text(audit(name=name, change=(-0.12, -0.071), texts=99), TEXT)
        assert spared.passed
        assert "no measure on 100 texts" in spared.reason


def test_more_strangers_among_the_neighbours_are_harm() -> None:
    config = replace(TEXT, measures=(ATTRACTION,))
    assert judge_text(audit(name=ATTRACTION, change=(-0.5, -0.4)), config).passed
    assert judge_text(audit(name=ATTRACTION, change=(0.069, 0.2)), config).passed
    refused = judge_text(audit(name=ATTRACTION, change=(0.071, 0.2)), config)
    assert "at most +0.070 is expected" in refused.reason
    assert not refused.passed


def test_a_measure_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="found measures typo, expected some of search, typos"):
        TextGateConfig(measures=("search", "typo"))


def test_brands_pushed_down_count_where_the_baseline_did_not_do_so() -> None:
    assert judge_text(audit(pushed_down=(2, 0)), TEXT).passed
    assert judge_text(audit(pushed_down=(3, 3)), TEXT).passed
    refused = judge_text(audit(pushed_down=(3, 2)), TEXT)
    assert not refused.passed
    assert "brand-0, brand-1, brand-2" in refused.reason


def test_groups_that_lose_much_beyond_chance_are_counted() -> None:
    assert judge_text(audit(losing=1), TEXT).passed
    refused = judge_text(audit(losing=2), TEXT)
    assert not refused.passed
    assert "2 of 4 groups" in refused.reason
    assert judge_text(audit(losing=4), TextGateConfig(margin=0.3)).passed  # .05 of .2


def test_an_encoder_without_a_baseline_has_nothing_to_fall_behind() -> None:
    alone = replace(audit(change=(-0.5, -0.4)), baseline_name=None, baseline={}, differences={})
    assert judge_text(alone, TEXT).passed
