"""The tuning loop on a table of vectors instead of a network."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from features.arrays import Float32Array, Int64Array
from recsys.progress import Silent
from recsys.training.curves import NoCurves
from recsys.training.encoder.batches import ContrastiveBatch
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.drift import anchor_similarity, neighbour_examples
from recsys.training.encoder.outcome import Outcome
from recsys.training.encoder.sequences import DistinctSequences
from recsys.training.encoder.tuning import contrastive_loss, tune
from recsys.training.encoder.tuning_plan import TuningPlan
from recsys.training.encoder.validation import Recalls
from tests.recsys.encoder_fixtures import color_shoppers, shop_texts

CONFIG = EncoderConfig(epochs=20, learning_rate=0.03, evaluate_every=3, patience=2)


class Table:
    """A strategy whose parameters are the vectors themselves."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(1)
        self.rows = nn.Parameter(torch.from_numpy(rng.normal(size=(n, 16)).astype(np.float32)))

    def parameters(self) -> list[nn.Parameter]:
        return [self.rows]

    def encode(self, rows: Int64Array) -> Tensor:
        return nn.functional.normalize(self.rows[torch.from_numpy(rows)], dim=1)

    @torch.no_grad()
    def vectors(self) -> Float32Array:
        return np.asarray(self.encode(np.arange(len(self.rows))).numpy(), np.float32)

    def finish(self) -> None: ...


class Board:
    """Curves, remembered."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self.steps[step] = dict(figures)


@pytest.fixture(scope="module")
def plan() -> TuningPlan:
    shoppers = DistinctSequences.of(color_shoppers(300))
    return TuningPlan.of(shop_texts(), shoppers, CONFIG, None, None)


def test_the_loop_leaves_the_weights_of_the_best_look(plan: TuningPlan) -> None:
    looks: list[Float32Array] = []
    table = Table(len(plan.items))

    def only_the_second(_start: Recalls, _later: Recalls) -> bool:
        looks.append(table.vectors())
        return len(looks) == 2

    tuned = tune(table, plan, CONFIG, Silent(), NoCurves(), only_the_second)
    assert tuned.best.step == 6
    np.testing.assert_array_equal(table.vectors(), looks[1])
    np.testing.assert_array_equal(tuned.best.vectors, looks[1])
    assert tuned.highest is not None
    assert tuned.highest.all > tuned.start.recalls.all


def test_a_loop_in_which_no_look_is_acceptable_changes_nothing(plan: TuningPlan) -> None:
    table = Table(len(plan.items))
    before = table.vectors()
    tuned = tune(table, plan, CONFIG, Silent(), NoCurves(), lambda _start, _later: False)
    assert tuned.best.step == 0
    np.testing.assert_array_equal(table.vectors(), before)


def test_a_short_tuning_is_looked_at_three_times_and_stops_when_nothing_rises(
    plan: TuningPlan,
) -> None:
    every = len(plan.batches) // 3
    rare = dataclasses.replace(CONFIG, evaluate_every=40, patience=2)
    tuned = tune(Table(len(plan.items)), plan, rare, Silent(), NoCurves(), lambda _s, _l: True)
    looks = [point.step for point in tuned.curve if point.validation_recall is not None]
    assert looks[:3] == [every, 2 * every, 3 * every]
    idle = dataclasses.replace(rare, learning_rate=1e-9)
    tuned = tune(Table(len(plan.items)), plan, idle, Silent(), NoCurves(), lambda _s, _l: True)
    assert (tuned.stopped_early, len(tuned.curve)) == (True, 2 * every)


def test_curves_tell_loss_rate_temperature_and_what_held_out_shoppers_say(
    plan: TuningPlan,
) -> None:
    board = Board()
    tuned = tune(Table(len(plan.items)), plan, CONFIG, Silent(), board, lambda _s, _l: True)
    assert board.steps[0] == {"validation_recall": tuned.start.recalls.all}
    assert set(board.steps[1]) == {"loss", "learning_rate", "temperature"}
    assert set(board.steps[3]) == {"loss", "learning_rate", "temperature", "validation_recall"}
    asked = [figures for figures in board.steps.values() if "loss" in figures]
    rates = [figures["learning_rate"] for figures in asked]
    assert rates[0] == pytest.approx(CONFIG.rate / 10)
    peak = int(np.argmax(rates))
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


def batch(question_weights: list[float], excluded: list[list[bool]]) -> ContrastiveBatch:
    return ContrastiveBatch(
        items=np.arange(4),
        weights=np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32),
        targets=np.array([1, 2]),
        excluded=np.array(excluded),
        question_weights=np.array(question_weights, np.float32),
    )


def test_the_loss_is_that_of_the_next_item_among_those_not_excluded() -> None:
    vectors = torch.eye(4)  # centred: every pair at cosine -1/3, each with itself at 1
    own = [[True, False, False, False], [True, True, False, False]]
    loss = contrastive_loss(vectors, batch([1.0, 1.0], own), torch.tensor(0.5))
    assert loss.item() == pytest.approx((np.log(3) + np.log(2)) / 2, rel=1e-5)
    weighted = contrastive_loss(vectors, batch([0.5, 1.5], own), torch.tensor(0.5))
    assert weighted.item() == pytest.approx((0.5 * np.log(3) + 1.5 * np.log(2)) / 2, rel=1e-5)


def test_an_encoder_is_as_similar_to_itself_as_can_be_and_its_mirror_image_the_opposite() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    everything = np.arange(50)
    assert anchor_similarity(rows, rows + 3.0, everything) == pytest.approx(1.0, abs=1e-5)
    assert anchor_similarity(rows, -rows, everything) == pytest.approx(-1.0, abs=1e-5)
    assert anchor_similarity(rows, rows, everything[:0]) is None


def test_examples_name_the_nearest_items_by_their_rows() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(40, 6)).astype(np.float32)
    after = before.copy()
    after[7] = after[30]  # what tuning taught
    example = neighbour_examples(before, after, np.arange(40) + 100, np.array([7]))[0]
    assert example.item_row == 107
    assert example.after[0] == 130
    assert example.before[0] != 130
    assert len(example.before) == len(example.after) == 5


def test_old_items_may_lose_no_more_than_is_tolerated_when_continuing() -> None:
    begun, gained = np.array([2, 1, 3, 2]), np.array([3, 2, 4, 3])
    start = Recalls(0.2, 100, new=0.1, n_new=50, old=0.3, n_old=50, found=begun)
    paid = Recalls(0.3, 100, new=0.4, n_new=50, old=0.26, n_old=50, found=gained)
    spared = Recalls(0.3, 100, new=0.3, n_new=50, old=0.28, n_old=50, found=gained)
    config = EncoderConfig(old_tolerance=0.1)
    continued = Outcome("base", config, is_continued=True)
    assert not continued.acceptable(start, paid)
    assert continued.acceptable(start, spared)
    assert Outcome("base", config, is_continued=False).acceptable(start, paid)
    assert continued.acceptable(start, Recalls(0.3, 50, new=0.3, n_new=50, found=gained))


def test_a_gain_of_a_few_shoppers_that_others_lose_is_luck() -> None:
    outcome = Outcome("base", EncoderConfig(), is_continued=False)
    start = Recalls(0.25, 40, found=np.array([1] * 10))
    lucky = Recalls(0.275, 40, found=np.array([2, 2, 2, 0, 0, 1, 1, 1, 1, 1]))
    broad = Recalls(0.325, 40, found=np.array([2, 2, 2, 1, 1, 1, 1, 1, 1, 1]))
    assert not outcome.acceptable(start, lucky)
    assert outcome.acceptable(start, broad)
