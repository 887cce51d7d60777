"""The serving benchmark runs a real server, and says what was missed and why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.events import EVENT_SCHEMA
from features.items import ITEM_SCHEMA
from jobs.serving_benchmark import CHANGES, ServingReport, SizeReport, run_serving
from jobs.serving_driver import Pace
from jobs.serving_load import Stream, requests_of
from jobs.serving_moments import stages_of
from jobs.serving_release import make_encoder
from jobs.serving_shop import Shop, ShopSize
from jobs.serving_table import goals_of, serving_page
from recsys.progress import Silent
from recsys.training.encoder.config import EncoderConfig
from tests.recsys.encoder_fixtures import tiny_encoder

PACE = Pace(seconds=0.4, rounds=1)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SizeReport:
    folder = tmp_path_factory.mktemp("serving")
    base = EncoderConfig(base=str(tiny_encoder(folder / "base")), max_tokens=16)
    encoder = make_encoder(base, folder / "encoder")
    (found,) = run_serving([1_000], encoder, pace=PACE, shoppers=60, progress=Silent())
    return found


def test_a_real_server_answers_every_load_and_the_floor_is_measured_beside_it(
    report: SizeReport,
) -> None:
    assert [(load.name, load.clients) for load in report.loads[:4]] == [
        ("floor", 1),
        ("recommend", 1),
        ("floor", 16),
        ("recommend", 16),
    ]
    assert all(load.failed == 0 for load in report.loads)
    assert all(load.answers > 0 for load in report.loads[:6])
    assert report.to_floor == pytest.approx(report.loads[3].per_s / report.loads[2].per_s)
    assert report.generator_per_s > report.loads[2].per_s
    assert {"sources", "ranker"} <= report.stages_ms.keys()
    assert any("feature_rows" in hot.function or hot.own_us > 0 for hot in report.hot)


def test_an_event_changes_the_next_answer_and_a_new_item_is_found(report: SizeReport) -> None:
    assert report.changed == CHANGES
    assert 0 < report.item_s < 30


def test_a_missed_goal_says_by_how_much_and_what_dominates(report: SizeReport) -> None:
    slow = tuple(
        replace(load, p99_ms=50.0) if load.name == "recommend" else load for load in report.loads
    )
    verdicts = {
        goal.what: goal.verdict
        for goal in goals_of(replace(report, loads=slow, stages_ms={"ranker": 7.0}))
    }
    assert verdicts["p99 of one client, ms"].startswith("missed, 10.0 times")
    assert "ranker 7.0 ms" in verdicts["p99 of one client, ms"]
    assert "reached" in {goal.verdict for goal in goals_of(report)}


def test_the_page_shows_goals_loads_and_profile(report: SizeReport) -> None:
    page = serving_page(ServingReport(pace=PACE, sizes=(report,)), "now")
    assert "goals reached" in page
    assert "1,000 items" in page
    assert report.hot[0].function.split(" ")[-1].split(".")[-1] in page


def test_a_made_shop_is_one_a_store_accepts_and_its_lists_are_of_other_items() -> None:
    shop = Shop(ShopSize(items=400, shoppers=30), 1_700_000_000_000_000)
    assert shop.items().schema == ITEM_SCHEMA
    assert shop.histories().schema == EVENT_SCHEMA
    lists = shop.neighbours()
    owner = np.repeat(np.arange(400), np.diff(lists.indptr))
    assert np.all(lists.item_rows != owner)
    assert np.allclose(np.linalg.norm(shop.vectors(32), axis=1), 1, atol=1e-5)


def test_requests_are_whole_and_begin_again_only_where_they_may(tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b'{"k":1}\n{"k":22}')
    stream = Stream(
        name="n", port=1, path="/p", bodies=str(bodies), clients=1, again=False, key="rk_x"
    )
    first, second = requests_of(stream)
    assert first.endswith(b'Content-Length: 7\r\n\r\n{"k":1}')
    assert b"Authorization: Bearer rk_x\r\n" in first
    assert second.endswith(b'Content-Length: 8\r\n\r\n{"k":22}')
    forever = requests_of(replace(stream, again=True))
    assert [next(forever) for _ in range(3)] == [first, second, first]


def test_stages_are_medians_over_server_timing_headers() -> None:
    timings = ["sources;dur=1.00, ranker;dur=2.00", "sources;dur=3.00, ranker;dur=8.00"]
    assert stages_of(timings) == {"sources": 2.0, "ranker": 5.0}
