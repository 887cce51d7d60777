import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.arrays import Float32Array, Int64Array
from features.errors import ConfigError, DataError
from recsys.progress import Silent
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.item_map import ItemMapConfig, ItemMapReport, fit_item_map
from recsys.training.encoder.item_map_batches import MapBatch, MapQuestions
from recsys.training.encoder.item_map_learner import MapLearner
from recsys.training.encoder.sequences import DistinctSequences
from recsys.training.encoder.validation import held_out_users
from tests.recsys.encoder_sequences import sequences

N_ITEMS, N_TASTES, DIM = 300, 10, 40
UNMET = 250  # items from here on are in nobody's sequence
CONFIG = ItemMapConfig(epochs=30, max_steps=80, learning_rate=2e-2, min_sequences=50)


def tastes() -> Int64Array:
    return np.arange(N_ITEMS) % N_TASTES


def vectors(seed: int = 0) -> Float32Array:
    """Ten quiet numbers tell the taste; thirty loud ones tell nothing shoppers care about."""
    rng = np.random.default_rng(seed)
    quiet = np.eye(N_TASTES)[tastes()] + rng.normal(size=(N_ITEMS, N_TASTES)) * 0.1
    return np.hstack([quiet * 0.5, rng.normal(size=(N_ITEMS, DIM - N_TASTES))]).astype(np.float32)


def loyal_shoppers(n_users: int = 300, seed: int = 0) -> DistinctSequences:
    """Each takes six items of one taste."""
    rng = np.random.default_rng(seed)
    shelves = [np.flatnonzero(tastes()[:UNMET] == taste) for taste in range(N_TASTES)]
    return sequences(*(rng.permutation(shelves[u % N_TASTES])[:6].tolist() for u in range(n_users)))


def aimless_shoppers(n_users: int = 300, seed: int = 0) -> DistinctSequences:
    rng = np.random.default_rng(seed)
    return sequences(*(rng.permutation(UNMET)[:6].tolist() for _ in range(n_users)))


def fit(
    shoppers: DistinctSequences, config: ItemMapConfig = CONFIG, raw: Float32Array | None = None
) -> tuple[Whitening | None, ItemMapReport]:
    raw = vectors() if raw is None else raw
    return fit_item_map(raw, Whitening.fit(raw), shoppers, config, Silent())


def neighbours_of_the_same_taste(space: Whitening, rows: Int64Array) -> float:
    mapped = space(vectors())
    cosine = mapped[rows] @ mapped.T
    cosine[np.arange(len(rows)), rows] = -np.inf
    nearest = np.argsort(-cosine, axis=1)[:, :10]
    return float((tastes()[nearest] == tastes()[rows][:, None]).mean())


@pytest.fixture(scope="module")
def learned() -> tuple[Whitening, ItemMapReport]:
    found, report = fit(loyal_shoppers())
    assert found is not None
    return found, report


def test_held_out_shoppers_find_more_with_the_map_than_with_the_whitening(
    learned: tuple[Whitening, ItemMapReport],
) -> None:
    _, report = learned
    assert report.shipped
    assert report.start_recall is not None
    assert report.map_recall is not None
    assert report.map_recall > report.start_recall + 0.1
    assert report.reason.startswith(f"item map shipped: recall@10 {report.map_recall:.4f} with it")
    asked, _ = held_out_users(loyal_shoppers())
    assert report.validation_questions == len(asked) * 5  # six items each


def test_the_shoppers_whom_the_encoder_is_judged_by_teach_the_map_nothing(
    learned: tuple[Whitening, ItemMapReport],
) -> None:
    shoppers = loyal_shoppers()
    held_out = np.setdiff1d(np.arange(300), held_out_users(shoppers)[1])
    other = [shoppers.items(user).tolist() for user in range(300)]
    for user in held_out:
        other[user].reverse()
    found, report = fit(sequences(*other))
    assert found is not None
    assert report.start_recall != learned[1].start_recall  # they are asked something else
    np.testing.assert_array_equal(found.projection, learned[0].projection)


def test_a_shop_whose_lots_hold_nobody_out_ships_no_map() -> None:
    shoppers = loyal_shoppers()
    found, report = fit(shoppers.only(held_out_users(shoppers)[1]))
    assert found is None
    assert report.reason == "no item map: nobody is held out"


def test_items_that_nobody_has_met_lie_among_those_of_their_taste(
    learned: tuple[Whitening, ItemMapReport],
) -> None:
    unmet = np.arange(UNMET, N_ITEMS)
    before = neighbours_of_the_same_taste(Whitening.fit(vectors()), unmet)
    assert neighbours_of_the_same_taste(learned[0], unmet) > before + 0.2


def test_every_row_is_a_unit_vector_also_of_an_empty_text(
    learned: tuple[Whitening, ItemMapReport],
) -> None:
    raw = np.vstack([vectors(), np.zeros((1, DIM), np.float32)])
    assert np.linalg.norm(learned[0](raw), axis=1) == pytest.approx(1, abs=1e-5)


def test_equal_seeds_give_equal_maps_and_others_do_not(
    learned: tuple[Whitening, ItemMapReport],
) -> None:
    again, said = fit(loyal_shoppers())
    other, _ = fit(loyal_shoppers(), dataclasses.replace(CONFIG, seed=1))
    assert again is not None
    assert other is not None
    assert np.array_equal(again.projection, learned[0].projection)
    assert said.curve[1:] == learned[1].curve[1:]  # the first has no loss, and NaN equals nothing
    assert not np.array_equal(other.projection, again.projection)


def test_the_best_look_is_shipped_and_the_curve_tells_all_of_them(
    learned: tuple[Whitening, ItemMapReport],
) -> None:
    report = learned[1]
    recalls = {point.step: point.validation_recall for point in report.curve}
    assert recalls[0] == report.start_recall
    assert recalls[report.best_step] == report.map_recall == max(filter(None, recalls.values()))
    assert report.curve[-1].step == report.steps


def test_shoppers_without_taste_ship_a_map_as_seldom_as_luck_may() -> None:
    reports = [fit(aimless_shoppers(seed=seed))[1] for seed in range(12)]
    assert sum(report.shipped for report in reports) <= 2  # of 12 at 5 %; 3 or more: 2 %
    refused = next(report for report in reports if not report.shipped)
    assert refused.reason.startswith("no item map")
    assert f"{refused.start_recall:.4f} whitened" in refused.reason


def test_learning_stops_when_the_held_out_shoppers_no_longer_gain() -> None:
    _, report = fit(aimless_shoppers(), dataclasses.replace(CONFIG, evaluate_every=5, patience=2))
    assert report.stopped_early
    assert report.steps == report.best_step + 10


def test_too_few_shoppers_ship_no_map_and_say_how_many_are_needed() -> None:
    found, report = fit(loyal_shoppers(20))
    assert found is None
    assert report.reason == "no item map: 20 shoppers with two items, 50 are needed to learn one"


def test_nobody_at_all_ships_no_map() -> None:
    found, report = fit(sequences())
    assert found is None
    assert "0 shoppers" in report.reason


def test_a_configuration_without_epochs_learns_nothing() -> None:
    found, report = fit(loyal_shoppers(), dataclasses.replace(CONFIG, epochs=0))
    assert found is None
    assert report.steps == 0


def test_a_catalogue_of_identical_texts_ships_no_map() -> None:
    found, report = fit(loyal_shoppers(), raw=np.ones((N_ITEMS, DIM), np.float32))
    assert found is None
    assert report.map_recall == 0


def test_a_catalogue_of_three_items_is_learned_from_without_error() -> None:
    pair = sequences(*([u % 3, (u + 1) % 3] for u in range(60)))
    found, report = fit(pair, raw=vectors()[:3])
    assert found is None  # all of three items are among the best ten anyway
    assert report.start_recall == report.map_recall == 1


def test_items_beyond_the_vectors_are_refused() -> None:
    with pytest.raises(DataError, match=r"found vectors of shape \(9, 40\), expected more than"):
        fit(loyal_shoppers(), raw=vectors()[:9])


def test_vectors_that_are_not_numbers_are_refused() -> None:
    raw = vectors()
    whitening = Whitening.fit(raw)
    raw[3, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit_item_map(raw, whitening, loyal_shoppers(), CONFIG, Silent())


@pytest.mark.parametrize(
    "wrong", [{"negatives": 0}, {"learning_rate": float("nan")}, {"temperature": 0.01}]
)
def test_values_out_of_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"ItemMapConfig: {next(iter(wrong))}="):
        ItemMapConfig(**wrong)  # type: ignore[arg-type]


def one_batch(shoppers: DistinctSequences, *, negatives: int, seed: int = 0) -> MapBatch:
    questions = MapQuestions(shoppers, shoppers.users_with(2), 10**6, negatives)
    return next(questions.batches(np.random.default_rng(seed)))


def test_a_batch_written_out() -> None:
    shoppers = sequences([4, 2, 7], [2, 9], [5], weights=[[1, 1, 3], [1, 2], [1]])
    batch = one_batch(shoppers, negatives=100)
    assert batch.items[:4].tolist() == [2, 4, 7, 9]  # met by those who answer questions
    assert set(batch.items[4:].tolist()) == {5}  # drawn: an item that somebody has met
    by_answer = {int(batch.items[t]): q for q, t in enumerate(batch.targets)}
    assert by_answer.keys() == {2, 7, 9}
    assert batch.weights[by_answer[2]] == pytest.approx([0, 1, 0, 0])
    assert batch.weights[by_answer[7]] == pytest.approx([1 / 1.7, 0.7 / 1.7, 0, 0])
    assert batch.excluded[by_answer[7]].tolist() == [True, True, False, False, False]
    assert batch.excluded[by_answer[9]].tolist() == [True, False, False, False, False]
    assert batch.question_weights[[by_answer[2], by_answer[7], by_answer[9]]] == pytest.approx(
        [0.5, 1.5, 1.0]
    )


def test_a_map_is_the_whitening_until_it_has_learned_something() -> None:
    whitening = Whitening.fit(vectors())
    learner = MapLearner(
        vectors(), whitening, n_steps=10, learning_rate=0.3, decay_to_start=0.0, temperature=0.1
    )
    np.testing.assert_array_equal(learner.map().projection, whitening.projection)
    learner.step(one_batch(loyal_shoppers(50), negatives=50))
    assert np.abs(learner.map().projection - whitening.projection).max() > 0.01


histories = st.lists(st.lists(st.integers(0, 40), unique=True, max_size=30), min_size=1, max_size=9)


@settings(max_examples=50, deadline=None)
@given(histories, st.integers(1, 20), st.integers(1, 20))
def test_a_round_asks_everybody_and_never_calls_an_own_item_wrong(
    users: list[list[int]], per_batch: int, negatives: int
) -> None:
    shoppers = sequences(*users)
    questions = MapQuestions(shoppers, shoppers.users_with(2), per_batch, negatives)
    batches = questions.batches(np.random.default_rng(0))
    asked = 0
    while asked < questions.n_questions:
        batch = next(batches)
        asked += len(batch.targets)
        assert len(set(batch.items.tolist())) == len(batch.items)
        assert batch.weights.sum(axis=1) == pytest.approx(np.ones(len(batch.targets)), abs=1e-5)
        assert not batch.excluded[np.arange(len(batch.targets)), batch.targets].any()
        for weights, target, excluded in zip(
            batch.weights, batch.targets, batch.excluded, strict=True
        ):
            history = set(batch.items[: len(weights)][weights > 0].tolist())
            answer = int(batch.items[target])
            asked_of = [user for user in users if history | {answer} <= set(user)]
            wrong = set(batch.items[~excluded].tolist()) - {answer}
            assert any(not wrong & set(user) for user in asked_of)
    assert asked == questions.n_questions
