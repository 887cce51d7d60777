"""A search finds what is planted, goes on where it stopped, and never sees what it is tested by."""

import math
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError, DataError
from features.events import DEFAULT_EVENT_TYPES, US_PER_DAY
from features.interactions import Interactions
from jobs.night_config import NightConfig, changed
from jobs.plan import Plan
from jobs.steps import Workshop
from jobs.tuning import Found, Judge, search
from jobs.tuning_bench import Bench, Questions, best_rows, first_unseen, judged_by
from jobs.tuning_data import TuningSet, by_size, from_log, from_sequences, read_set
from jobs.tuning_spaces import COVISITATION, PARTS, RANKER, SEQUENCE, Choice, Part, part_named
from jobs.tuning_table import toml_lines
from recsys.progress import Silent
from recsys.training.recipe import RecipeConfig, TrainingData
from tests.jobs.test_benchmark import LENGTH, N_USERS, sequences
from tests.tiny import TINY_COLORS, TINY_THINGS, item_row, tiny_config, tiny_events, tiny_items

EASY, HARD = "easy", "hard"


class Planted:
    """Judges by how near to the planted optimum a configuration is; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str, recipe: RecipeConfig) -> float:
        self.asked.append(name)
        config = recipe.covisitation
        far = (config.distance_decay - 0.6) ** 2 + (config.backward - 0.9) ** 2
        return (0.9 if name == EASY else 0.01) * math.exp(-4 * far)


def searched(
    folder: Path,
    judge: Judge,
    *,
    trials: int,
    names: tuple[str, ...] = (EASY, HARD),
    world: int = 0,
) -> Found:
    return search(
        COVISITATION,
        names,
        RecipeConfig(),
        judge,
        trials=trials,
        seed=0,
        file=folder / "study.db",
        world={"world": world},
        progress=Silent(),
    )


def test_a_search_finds_a_planted_optimum(tmp_path: Path) -> None:
    found = searched(tmp_path, Planted(), trials=40)
    best, defaults = found.best, found.tried[found.place_of_defaults - 1]
    assert best.values["distance_decay"] == pytest.approx(0.6, abs=0.12)
    assert best.values["backward"] == pytest.approx(0.9, abs=0.12)
    assert defaults.value == 1
    assert found.place_of_defaults > 3
    matters = found.importance["distance_decay"] + found.importance["backward"]
    assert matters > 0.6


def test_an_easy_data_set_counts_as_much_as_a_hard_one(tmp_path: Path) -> None:
    def torn(name: str, recipe: RecipeConfig) -> float:
        x = recipe.covisitation.backward
        return 0.9 * (1 + x) if name == EASY else 0.01 * (2 - x)

    found = searched(tmp_path, torn, trials=12)
    for tried in found.tried:
        x = tried.values["backward"]
        assert isinstance(x, float)
        assert tried.value == pytest.approx(((1 + x) / 1.5 + (2 - x) / 1.5) / 2)


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first, second = Planted(), Planted()
    before = searched(tmp_path, first, trials=4, names=(EASY,))
    after = searched(tmp_path, second, trials=7, names=(EASY,))
    assert (len(first.asked), len(second.asked)) == (4, 3)
    assert {tried.number for tried in before.tried} <= {tried.number for tried in after.tried}
    distinct = {tuple(tried.values.items()) for tried in after.tried}
    assert len(distinct) == 7  # a resumed sampler does not draw the same again
    third = Planted()
    assert searched(tmp_path, third, trials=7, names=(EASY,)) == after
    assert not third.asked


def test_a_search_killed_at_its_first_trial_still_begins_with_the_defaults(tmp_path: Path) -> None:
    def killed(name: str, recipe: RecipeConfig) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path, killed, trials=3)
    found = searched(tmp_path, Planted(), trials=3)
    assert found.tried[found.place_of_defaults - 1].value == 1


def test_a_study_of_another_world_is_refused(tmp_path: Path) -> None:
    searched(tmp_path, Planted(), trials=1)
    with pytest.raises(ConfigError, match="other data, seeds or defaults"):
        searched(tmp_path, Planted(), trials=2, world=1)


def test_what_is_behind_on_one_data_set_is_not_asked_about_the_next(tmp_path: Path) -> None:
    judge = Planted()
    found = searched(tmp_path, judge, trials=25)
    assert found.pruned > 0
    assert judge.asked.count(HARD) == 25 - found.pruned == len(found.tried)


def test_defaults_that_find_nothing_cannot_be_compared_with(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="defaults found nothing"):
        searched(tmp_path, lambda name, recipe: 0.0, trials=1)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_shipped_defaults_lie_within_every_space(part: Part) -> None:
    for parameter, value in zip(part.space, part.known(RecipeConfig()).values(), strict=True):
        if isinstance(parameter, Choice):
            assert value in [str(choice) for choice in parameter.values]
        else:
            assert isinstance(value, int | float)
            assert parameter.low <= value <= parameter.high


def test_an_unknown_part_is_named_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'rankr', expected one of ranker, sequence"):
        part_named("rankr")


def test_the_lines_for_a_night_are_what_a_night_reads(tmp_path: Path) -> None:
    found = searched(tmp_path, Planted(), trials=6, names=(EASY,))
    read = changed(NightConfig(), tomllib.loads(toml_lines(found)), "test")
    assert COVISITATION.values(read.recipe) == found.best.values
    ranker = replace(found, part="ranker", tried=(replace(found.best, values={"hidden": (8, 4)}),))
    assert tomllib.loads(toml_lines(ranker)) == {"recipe": {"ranker": {"hidden": [8, 4]}}}


def walks() -> TuningSet:
    items = pl.DataFrame([item_row(c, t) for c in TINY_COLORS for t in TINY_THINGS])
    return from_sequences("walks", items.cast({"published_at_us": pl.Int64}), sequences())


def test_the_last_items_of_sequences_are_never_seen() -> None:
    tuned = walks()
    log, items = tuned.data.log, tuned.data.items["item_id"].to_list()
    assert len(log) == N_USERS * (LENGTH - 1)
    questions = tuned.questions(1_000)
    for query, user in enumerate(questions.users):
        number = int(log.user_ids[user].removeprefix("u"))
        walk = [
            f"{TINY_COLORS[number % 6]}-{TINY_THINGS[(number + p) % 10]}" for p in range(LENGTH)
        ]
        target = questions.label_rows[questions.label_indptr[query]]
        history = questions.queries.history_rows[query]
        assert [items[target]] == walk[-2:-1]
        assert [items[row] for row in history[history >= 0]] == walk[:-2]


def test_some_shoppers_of_a_file_bring_only_their_own_items() -> None:
    items = pl.DataFrame([item_row(c, t) for c in TINY_COLORS for t in TINY_THINGS])
    rows = sequences().with_columns(item_id=pl.col("user_id") + "-" + pl.col("item_id"))
    tuned = from_sequences("some", items.cast({"published_at_us": pl.Int64}), rows, shoppers=20)
    assert len(tuned.data.log.user_ids) == 20
    assert len(tuned.data.items) == 20 * LENGTH
    assert len(tuned.questions(7)) == 7


def stored() -> TrainingData:
    items = tiny_items()
    log = Interactions.build(tiny_events(), items["item_id"].to_list(), DEFAULT_EVENT_TYPES)
    return TrainingData(items, log, DEFAULT_EVENT_TYPES)


def test_the_days_that_evaluate_judges_by_are_never_seen() -> None:
    data = stored()
    tuned = from_log("shop", data)
    end_us = (int(data.log.time_us.max()) // US_PER_DAY + 1) * US_PER_DAY
    tested_from = Plan.of(data.log, end_us, None).evaluation_us
    assert tuned.end_us == tested_from < end_us
    assert tuned.label_us < tuned.validation_us < tuned.end_us
    assert tuned.data.log.time_us.max() < tested_from
    questions = tuned.questions(1_000)
    assert (questions.queries.now_us == tuned.validation_us).all()
    assert (questions.queries.history_time_us < tuned.validation_us).all()


def test_a_data_set_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    def read(name: str) -> TuningSet:
        return read_set(
            name, stored=stored, event_types=DEFAULT_EVENT_TYPES, shoppers=None, progress=Silent()
        )

    with pytest.raises(ConfigError, match=r"no items\.jsonl\.gz and no sequences\.csv\.gz"):
        read(str(tmp_path))
    with pytest.raises(ConfigError, match="'sample-x', expected sample-SEED"):
        read("sample-x")
    assert read("store").name == "store"
    with pytest.raises(ConfigError, match="expected each once"):
        by_size([read("store"), read("store")])


def test_ranked_lists_leave_out_what_was_seen() -> None:
    past = walks().questions(2)
    seen = past.seen_rows[past.seen_indptr[0] : past.seen_indptr[1]]
    other = next(row for row in range(60) if row not in seen)
    lists = np.array([[seen[0], other, -1], [-1, -1, -1]], np.int32)
    assert first_unseen(lists, past, 2).tolist() == [[other, -1], [-1, -1]]


def test_candidates_are_ordered_by_score_then_by_row() -> None:
    asked = Questions(
        offsets=np.array([0, 3, 3, 5]),
        item_rows=np.array([4, 7, 9, 1, 2], np.int32),
        features=np.empty((5, 0), np.float32),
    )
    scores = np.array([0.1, 0.5, 0.5, 0.0, 1.0], np.float32)
    assert best_rows(asked, scores, 2).tolist() == [[7, 9], [-1, -1], [2, 1]]


@pytest.fixture(scope="module")
def make_bench(
    tiny_text_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Silent], tuple[Bench, RecipeConfig]]:
    folder = tmp_path_factory.mktemp("bench")
    recipe = tiny_config(tiny_text_encoder).recipe
    tuned = from_log("shop", stored())

    def made(progress: Silent) -> tuple[Bench, RecipeConfig]:
        workshop = Workshop(folder, progress)
        return Bench(tuned, recipe, workshop, queries=100, progress=progress), recipe

    return made


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_ranker_is_judged_on_kept_rows(
    make_bench: Callable[[Silent], tuple[Bench, RecipeConfig]],
) -> None:
    heard = Listening()
    bench, recipe = make_bench(heard)
    score = bench.score(RANKER, recipe)
    assert score > 0.2  # by chance about .1: 10 of the 60 items are of one's colour
    assert any(text.endswith("working") for text in heard.said)
    lazy = RANKER.changed(recipe, {"epochs": 1, "learning_rate": 1e-6})
    heard.said.clear()
    again, _ = make_bench(heard)
    assert again.score(RANKER, lazy) < score == again.score(RANKER, recipe)
    assert not any(text.endswith("working") for text in heard.said)


def test_a_sequence_model_is_judged_by_the_funnel_around_it(
    make_bench: Callable[[Silent], tuple[Bench, RecipeConfig]],
) -> None:
    bench, recipe = make_bench(Silent())
    judge = judged_by({"shop": bench}, SEQUENCE)
    other = SEQUENCE.changed(recipe, {"dim": 16, "learning_rate": 1e-2})
    scores = [judge("shop", other), judge("shop", other), judge("shop", recipe)]
    assert scores[0] == scores[1] != scores[2]
    assert min(scores) > 0.2


def test_co_visited_alone_is_judged_where_one_item_follows_another(tmp_path: Path) -> None:
    recipe = RecipeConfig()
    workshop = Workshop(tmp_path, Silent())
    bench = Bench(walks(), recipe, workshop, queries=100, progress=Silent())
    sharp = COVISITATION.changed(recipe, {"max_distance": 1, "backward": 0.0})
    assert bench.score(COVISITATION, sharp) > 0.9
    nobody = COVISITATION.changed(recipe, {"neighbours": 0})
    assert bench.score(COVISITATION, nobody) == 0
    assert not list(tmp_path.iterdir())  # it needs neither texts nor models
