"""The one sentence that a product team reads first."""

import pytest

from features.events import US_PER_DAY
from jobs.evaluate import Fold, LiveStanding
from jobs.evaluation_verdict import finding
from jobs.page_words import day
from recsys.evaluation.bootstrap import Interval
from recsys.evaluation.comparisons import Comparison
from recsys.evaluation.trial import TrialResult
from tests.tiny import NOW_US

END_US = NOW_US // US_PER_DAY * US_PER_DAY
SEEN = LiveStanding("r1", False, "it has learned from these days")
COMPARED = LiveStanding("r1", True, "it has not seen these days")


def against(
    rival: str, mean: float, p_holm: float, *, theirs: float = 0.05, metric: str = "ndcg@10"
) -> Comparison:
    return Comparison(
        metric=metric,
        rival=rival,
        ours=theirs + mean,
        theirs=theirs,
        difference=Interval(mean, mean - 0.01, mean + 0.01),
        at_least=mean - 0.008,
        p_value=p_holm / 2,
        p_holm=p_holm,
    )


def fold(*comparisons: Comparison, live: LiveStanding = COMPARED) -> Fold:
    trial = TrialResult(
        users=1_234,
        start_us=NOW_US,
        end_us=NOW_US,
        metrics={},
        intervals={},
        against={one.rival: one.difference for one in comparisons},
        candidate_recall=0.5,
        comparisons=comparisons,
    )
    return Fold(
        label_us=NOW_US, evaluation_us=NOW_US, as_of_us=END_US, live=live, trainings=(), trial=trial
    )


def test_a_gain_says_how_much_and_how_surely() -> None:
    found = finding([fold(against("trending", 0.02, 0.0012))])
    assert found.standing == "better"
    assert found.headline == "Better than popularity"
    for said in (
        "beats popularity",
        "nDCG@10 0.0700 instead of 0.0500",
        "1,234 shoppers",
        f"to {day(END_US - 1)}, +0.0200",  # the end is not in the window
        "+0.0200 (+40%)",
        "95 % interval +0.0100 to +0.0300",
        "p = 0.0012",
    ):
        assert said in found.sentence


@pytest.mark.parametrize(
    ("popularity", "live", "headline", "standing"),
    [
        ((0.02, 0.01), (0.02, 0.01), "Better than popularity and the live release", "better"),
        (
            (0.02, 0.01),
            (0.002, 0.4),
            "Better than popularity, no clear difference from the live release",
            "better",
        ),
        (
            (0.02, 0.01),
            (-0.02, 0.01),
            "Better than popularity, worse than the live release",
            "worse",
        ),
        (
            (0.01, 0.05),
            (0.0, 1.0),
            "No clear difference from popularity and the live release",
            "unclear",
        ),
    ],
)
def test_the_headline_says_where_it_stands_with_each_rival(
    popularity: tuple[float, float], live: tuple[float, float], headline: str, standing: str
) -> None:
    found = finding([fold(against("trending", *popularity), against("live", *live))])
    assert (found.headline, found.standing) == (headline, standing)


def test_other_metrics_do_not_decide() -> None:
    found = finding(
        [fold(against("trending", 0.0, 1.0), against("trending", -0.3, 0.001, metric="mrr@10"))]
    )
    assert found.standing == "unclear"
    assert [one.metric for one in found.against] == ["ndcg@10"]


def test_a_live_release_that_was_not_asked_is_named_with_the_reason() -> None:
    found = finding([fold(against("trending", 0.02, 0.01), live=SEEN)])
    assert found.sentence.endswith("not compared: it has learned from these days.")


def test_a_rival_that_finds_nothing_has_no_share_to_gain() -> None:
    found = finding([fold(against("trending", 0.02, 0.01, theirs=0.0))])
    assert found.against[0].gain is None
    assert "+0.0200, 95 %" in found.sentence


def test_windows_that_agree_are_counted_among_those_that_have_the_rival() -> None:
    newest = fold(against("trending", 0.02, 0.01), against("live", 0.02, 0.01))
    older = fold(against("trending", 0.001, 0.9), live=SEEN)
    found = finding([newest, older])
    assert "so it is in 1 of 2 windows" in found.sentence
    assert "of 1 windows" not in found.sentence
