from recsys.recommender import Recommender
from recsys.types import Ask
from tests.tiny import NOW_US


def test_a_stranger_gets_a_full_slate(tiny_recommender: Recommender) -> None:
    answer = tiny_recommender.recommend(Ask(request_id="r", now_us=NOW_US, k=10, user_id="nobody"))
    assert len(set(answer.item_ids)) == 10
    assert answer.degraded == ()
