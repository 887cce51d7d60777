"""The ranker against its rivals, on numbers whose answer is known."""

import numpy as np
import pytest

from features.arrays import Float64Array
from recsys.evaluation.bootstrap import holm, paired_bootstrap
from recsys.evaluation.comparisons import CUTS, HEADLINES, compare, scores
from recsys.evaluation.metrics import RowSets, judge, ndcg, recall


def arm(seed: int, gain: float = 0.0) -> dict[str, Float64Array]:
    rng = np.random.default_rng(seed)
    return {metric: rng.random(120) + gain for metric in HEADLINES}


def test_each_comparison_is_the_paired_bootstrap_of_its_two_columns() -> None:
    ours, rivals = arm(0), {"trending": arm(1), "live": arm(2, gain=-0.2)}
    found = compare(ours, rivals, seed=5)
    assert [(one.metric, one.rival) for one in found] == [
        (metric, rival) for rival in rivals for metric in HEADLINES
    ]
    for one in found:
        theirs = rivals[one.rival][one.metric]
        alone = paired_bootstrap(ours[one.metric], theirs, seed=5)
        assert one.difference.mean == pytest.approx(ours[one.metric].mean() - theirs.mean())
        assert one.difference.low == pytest.approx(alone.interval.low)
        assert one.difference.high == pytest.approx(alone.interval.high)
        assert one.difference.low < one.at_least < one.difference.mean
        assert (one.ours, one.theirs) == (ours[one.metric].mean(), theirs.mean())


def test_p_values_are_corrected_over_all_metrics_and_rivals() -> None:
    found = compare(arm(0), {"trending": arm(1), "live": arm(2, gain=-0.2)}, seed=5)
    raw = [one.p_value for one in found]
    assert [one.p_holm for one in found] == pytest.approx(holm(raw).tolist())
    assert max(one.p_holm for one in found if one.rival == "live") < 0.01


def test_without_a_rival_there_is_nothing_to_compare() -> None:
    assert compare(arm(0), {}, seed=0) == ()


def test_the_metric_table_names_every_metric_with_its_cut() -> None:
    ranked = np.array([[3, 1, 4, -1]], np.int32)
    judged = judge(ranked, RowSets.of([[1, 9]]))
    found = scores(judged)
    assert len(found) == sum(map(len, CUTS.values()))
    assert set(HEADLINES) <= found.keys()
    assert found["recall@5"] == recall(judged, 5)
    assert found["ndcg@20"] == ndcg(judged, 20)
