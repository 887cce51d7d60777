"""The sample storefront: what it writes agrees with what it says would happen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import Float64Array
from features.errors import ConfigError, DataError
from features.event_checks import check_events
from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA
from features.items import check_items
from jobs.sample import Shown, Size, Storefront, is_written, simulate_day, write_sample
from jobs.sample.logging_policy import LoggingPolicy
from jobs.sample.sessions import CHUNK, draw_visits, logged_day
from jobs.sample.texts import item_frame
from recsys.progress import Silent, T
from tests.jobs.importing import NOW_US, import_into

SIZE = Size.for_events(20_000, n_days=10)


@cache
def shop() -> Storefront:
    return Storefront(7, SIZE)


@cache
def log() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and slates of one busy day."""
    parts = list(logged_day(shop(), 5, 5_000))
    return pl.concat([p.events for p in parts]), pl.concat([p.slates for p in parts])


@cache
def shown() -> pl.DataFrame:
    """One row an exposure: position, clicked, and the true probability of a click."""
    events, slates = log()
    chances = [
        shop().click_probability(user or session, items, at_us, positions=range(len(items)))
        for user, session, items, at_us in slates.select(
            "user_id", "session_id", "item_ids", "shown_at_us"
        ).iter_rows()
    ]
    exposures = (
        slates.with_columns(
            truth=pl.Series([c.tolist() for c in chances]),
            position=pl.int_ranges(0, pl.col("item_ids").list.len()),
        )
        .explode("item_ids", "truth", "position", "propensities")
        .rename({"item_ids": "item_id"})
    )
    clicks = events.filter(pl.col("event_type") == "click").select("request_id", "item_id")
    return exposures.join(
        clicks.with_columns(clicked=pl.lit(1)), on=["request_id", "item_id"], how="left"
    ).with_columns(pl.col("clicked").fill_null(0))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in files}


def test_equal_seeds_write_equal_bytes_and_other_seeds_do_not(tmp_path: Path) -> None:
    size = Size.for_events(1_000, n_days=3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(Storefront(seed, size), tmp_path / name, Silent())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_a_day_needs_no_other_day() -> None:
    (alone,) = logged_day(Storefront(7, SIZE), 5, 100)
    list(logged_day(shop(), 2, 100))
    (later,) = logged_day(shop(), 5, 100)
    assert alone.events.equals(later.events)
    assert alone.slates.equals(later.slates)


def test_true_click_probabilities_are_what_happens() -> None:
    exposures = shown().sort("truth")
    observed, truth = exposures["clicked"].to_numpy(), exposures["truth"].to_numpy()
    for part in np.array_split(np.arange(len(truth)), 10):
        expected = truth[part].sum()
        deviation = np.sqrt((truth[part] * (1 - truth[part])).sum())
        assert abs(observed[part].sum() - expected) < 4 * deviation


def test_the_other_actions_happen_as_often_as_promised() -> None:
    events, slates = log()
    actions = ("view", "share", "cart", "purchase")
    looked = (1.0 + np.arange(8)) ** -0.5
    rows = slates.select("user_id", "session_id", "item_ids", "shown_at_us").iter_rows()
    told = [
        shop().action_probabilities(user or session, items, at_us)
        for user, session, items, at_us in rows
    ]
    from_slates = events.filter(pl.col("request_id").is_not_null())
    for action in actions:
        chance = np.array([t[action] for t in told]) * looked
        deviation = np.sqrt((chance * (1 - chance)).sum())
        observed = from_slates.filter(pl.col("event_type") == action).height
        assert abs(observed - chance.sum()) < 4 * deviation, action


def test_clicks_fall_with_the_position() -> None:
    by_position = shown().group_by("position").agg(pl.col("clicked").mean()).sort("position")
    rates = by_position["clicked"].to_numpy()
    assert rates[0] > 1.5 * rates[3] > 1.5 * rates[7] > 0


def test_propensities_are_the_frequencies_of_an_item_at_a_position() -> None:
    policy = LoggingPolicy.of_day(shop(), 3)
    rng = np.random.default_rng(0)
    n = 20_000
    rows, chances = policy.slates(np.full(n, 4), rng)
    told = np.full(rows.max() + 1, np.nan)
    told[rows.ravel()] = chances.ravel()
    np.testing.assert_allclose(chances, told[rows], err_msg="one context, one propensity an item")
    for position in (0, 5):
        counts = np.bincount(rows[:, position], minlength=len(told))
        known = ~np.isnan(told)
        deviation = np.sqrt(n * told * (1 - told))[known]
        assert (np.abs(counts - n * told)[known] < 5 * deviation + 1).all()
    assert np.nansum(told) == pytest.approx(1, abs=0.01)  # all but a few items were seen
    assert all(len(set(row)) == len(row) for row in rows[:500].tolist())


def test_everything_written_passes_the_checks() -> None:
    events, _ = log()
    checked = check_events(events, now_us=NOW_US, event_types=DEFAULT_EVENT_TYPES)
    assert checked.rejected.is_empty()
    assert dict(events.schema) == EVENT_SCHEMA
    items = item_frame(shop().catalogue, np.arange(SIZE.n_items))
    assert check_items(items).rejected.is_empty()
    assert items["title"].n_unique() > 0.9 * SIZE.n_items
    assert items["description"].str.count_matches(r"[.]").min() >= 1  # type: ignore[operator]


def test_anonymous_visits_still_have_a_shopper_behind_them() -> None:
    visits = draw_visits(shop(), 2, 0, 500, 500)
    frame = visits.frame()
    found = [shop().shopper_row(session) for session in frame["session_id"]]
    assert found == visits.user_rows.tolist()
    named = frame.filter(pl.col("user_id").is_not_null())
    assert 0.75 < named.height / frame.height < 0.95
    assert [shop().shopper_row(user) for user in named["user_id"]] == visits.user_rows[
        ~visits.anonymous
    ].tolist()


def test_new_items_arrive_through_the_days_and_nobody_meets_them_before(tmp_path: Path) -> None:
    arrival = {
        shop().catalogue.item_id(row): at
        for row, at in enumerate(shop().catalogue.arrival_us.tolist())
    }
    late: set[str] = set()
    for day in (0, 9):
        (part,) = logged_day(shop(), day, 2_000)
        first = part.events.group_by("item_id").agg(pl.col("event_time_us").min())
        assert all(at >= arrival[item] for item, at in first.iter_rows())
        met = {i for i in first["item_id"] if arrival[i] > shop().day_start_us(0)}
        assert not met if day == 0 else len(met) > len(late) + 20
        late |= met
    assert len(shop().catalogue) > SIZE.n_items  # and they go on arriving after the last day


def test_tastes_drift_but_slowly() -> None:
    users = np.arange(len(shop().shoppers))

    def tastes(day: int) -> Float64Array:
        return shop().tastes(users, np.full(len(users), shop().day_start_us(day))).astype(float)

    week, quarter = (np.einsum("ud,ud->u", tastes(0), tastes(day)) for day in (7, 45))
    assert week.mean() > 0.97
    assert quarter.mean() < 0.95
    assert quarter.min() < 0.7


def test_a_few_shoppers_make_many_of_the_visits() -> None:
    visits = draw_visits(shop(), 0, 0, 5_000, 5_000)
    counts = np.sort(np.bincount(visits.user_rows, minlength=len(shop().shoppers)))[::-1]
    assert counts[: len(counts) // 10].sum() > 0.35 * counts.sum()


@pytest.mark.parametrize("n_events", [1_000, 20_000])
def test_about_as_many_events_are_written_as_wanted(tmp_path: Path, n_events: int) -> None:
    storefront = Storefront(3, Size.for_events(n_events, n_days=10))
    written = write_sample(storefront, tmp_path, Silent())
    assert abs(written - n_events) < 0.15 * n_events
    reports = import_into(tmp_path / "store", tmp_path)
    assert [r.target for r in reports] == ["items", "events", "slates"]
    assert reports[0].new == storefront.size.n_items
    assert reports[1].new == written
    assert sum(r.rejected for r in reports) == 0


def test_shoppers_and_items_grow_more_slowly_than_events() -> None:
    sizes = [Size.for_events(n) for n in (1_000, 50_000, 1_000_000, 100_000_000)]
    assert (sizes[1].n_users, sizes[1].n_items) == (1_500, 800)
    for small, large in pairwise(sizes):
        growth = large.n_events / small.n_events
        assert 1 < large.n_items / small.n_items < large.n_users / small.n_users * 1.01 < growth
    with pytest.raises(ConfigError, match="0 events"):
        Size.for_events(0)


def test_a_large_day_comes_in_chunks_of_bounded_size() -> None:
    parts = list(logged_day(shop(), 1, CHUNK + 10))
    assert [p.slates["session_id"].n_unique() for p in parts] == [CHUNK, 10]
    ids = pl.concat([p.events["event_id"] for p in parts])
    assert ids.n_unique() == len(ids)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("do not lose")
    with pytest.raises(DataError, match="other files"):
        write_sample(shop(), tmp_path, Silent())
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_sample_cut_short_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    storefront = Storefront(3, Size.for_events(1_000, n_days=3))
    assert not is_written(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_sample(storefront, tmp_path, _Interrupted())
    assert (tmp_path / "items.jsonl").exists()
    assert not is_written(tmp_path)
    write_sample(storefront, tmp_path, Silent())
    assert is_written(tmp_path)


class _Interrupted(Silent):
    def track(self, items: Iterable[T], *, total: int | None, label: str) -> Iterator[T]:
        raise KeyboardInterrupt


def policy_of(
    choose: Callable[[str, int], Sequence[str]],
) -> Callable[[pl.DataFrame], list[Shown | None]]:
    def policy(visits: pl.DataFrame) -> list[Shown | None]:
        return [
            Shown(f"r-{n}", choose(user or session, at_us))
            for n, (session, user, at_us) in enumerate(visits.iter_rows())
        ]

    return policy


def test_a_policy_that_knows_the_truth_earns_what_it_expects_and_beats_chance() -> None:
    rng = np.random.default_rng(1)
    shelf = shop().catalogue.n_arrived(shop().day_start_us(11))

    def by_chance(_shopper: str, _at_us: int) -> list[str]:
        return [shop().catalogue.item_id(row) for row in rng.choice(shelf, 8, replace=False)]

    def knowing(shopper: str, at_us: int) -> list[str]:
        return shop().best_items(shopper, at_us, 8)

    clicks = []
    for choose in (by_chance, knowing):
        day = simulate_day(shop(), policy_of(choose), 11, n_visits=800)
        expected = sum(
            shop().slate_value(user or session, items, at_us)
            for user, session, items, at_us in day.slates.select(
                "user_id", "session_id", "item_ids", "shown_at_us"
            ).iter_rows()
        )
        on_slates = day.events.filter(pl.col("request_id").is_not_null())
        clicks.append(on_slates.filter(pl.col("event_type") == "click").height)
        assert abs(clicks[-1] - expected) < 4 * np.sqrt(expected)
        assert dict(day.events.schema) == EVENT_SCHEMA
    assert clicks[1] > 3 * clicks[0]


def test_a_policy_may_leave_visits_without_a_slate_but_must_answer_all() -> None:
    none = simulate_day(shop(), lambda visits: [None] * visits.height, 3, n_visits=50)
    assert none.slates.is_empty()
    assert none.events["request_id"].null_count() == none.events.height > 0
    with pytest.raises(DataError, match="one a visit"):
        simulate_day(shop(), lambda _: [], 3, n_visits=50)


def test_text_tells_something_about_taste_and_not_everything() -> None:
    items = shop().catalogue
    similarity = items.latent @ items.latent.T
    upper = np.triu(np.ones_like(similarity, dtype=bool), 1)
    same = np.equal.outer(items.category, items.category) & np.equal.outer(items.style, items.style)
    alike, others = similarity[same & upper], similarity[~same & upper]
    assert alike.mean() > others.mean() + 0.3
    assert alike.std() > 0.1  # what only other shoppers' behaviour reveals


def test_ids_of_another_shop_are_refused() -> None:
    with pytest.raises(DataError, match="shopper-"):
        shop().shopper_row("ann")
    with pytest.raises(DataError, match="item"):
        shop().item_rows(["book"])
