from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import pytest

from jobs.benchmark import BenchmarkReport, read_items, read_sequences, run_benchmark, seeded
from recsys.progress import Silent
from recsys.training.recipe import RecipeConfig
from tests.tiny import TINY_COLORS, TINY_THINGS, item_row, tiny_config

N_USERS, LENGTH = 60, 6


def sequences() -> pl.DataFrame:
    """Everyone walks through the things of one colour in their order."""
    rows = [
        (f"u{user:02d}", position, f"{color}-{TINY_THINGS[(user + position) % 10]}")
        for user in range(N_USERS)
        for color in [TINY_COLORS[user % 6]]
        for position in range(LENGTH)
    ]
    return pl.DataFrame(rows, schema=["user_id", "position", "item_id"], orient="row")


@pytest.fixture(scope="module")
def report(tiny_text_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchmarkReport:
    folder = tmp_path_factory.mktemp("benchmark")
    pl.DataFrame([item_row(c, t) for c in TINY_COLORS for t in TINY_THINGS]).select(
        "item_id", "title", "tags"
    ).write_ndjson(folder / "items.jsonl")
    sequences().write_csv(folder / "sequences.csv")
    recipe = tiny_config(tiny_text_encoder).recipe
    return run_benchmark(
        read_items(folder / "items.jsonl"),
        read_sequences(folder / "sequences.csv"),
        dataset="walks",
        config=replace(recipe, ranker=replace(recipe.ranker, epochs=10)),
        seed=3,
        refit=False,
        progress=Silent(),
    )


def test_every_shoppers_last_item_is_a_question(report: BenchmarkReport) -> None:
    assert (report.users, report.items) == (N_USERS, 60)
    assert report.protocol == "sequences strict"
    assert set(report.ranker) == {"R@5", "N@5", "R@10", "N@10"}


def test_what_always_follows_is_found(report: BenchmarkReport) -> None:
    assert report.sources["co_visited"]["R@5"] > 0.9
    assert report.ranker["R@10"] > 0.8
    assert report.ranker["R@5"] > 3 * report.sources["trending"]["R@5"]
    assert report.candidate_recall > 0.95


def test_items_are_read_in_their_order_and_the_last_of_equals_counts(tmp_path: Path) -> None:
    rows = [{"item_id": f"i{n % 40}", "title": f"title {n}"} for n in range(50)]
    pl.DataFrame(rows).write_ndjson(tmp_path / "items.jsonl")
    first, second = (read_items(tmp_path / "items.jsonl") for _ in range(2))
    assert first.equals(second)
    assert len(first) == 40
    assert first.filter(pl.col("item_id") == "i3")["title"].to_list() == ["title 43"]


def _seeds(config: Mapping[str, object]) -> Iterator[object]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _seeds(value)
        elif name == "seed":
            yield value


def test_a_run_has_one_seed() -> None:
    found = list(_seeds(asdict(seeded(RecipeConfig(), 7))))
    assert len(found) == 6
    assert set(found) == {7}
