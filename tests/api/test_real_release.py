"""The server with a release that a real night trained: what shoppers and storefronts rely on."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from api.app import create_app
from api.shoppers import RECENT_EVENTS, shopper_of
from features.views import FEATURE_NAMES
from recsys.releases import Releases
from recsys.retrieval.text import item_text
from recsys.settings import PREFIX, Settings
from tests.api.conftest import POLL_S, Client, event, until
from tests.tiny import NOW_US, TINY_COLORS

COLOR = TINY_COLORS[1]
SHOPPER = "shopper-1"


@pytest.fixture
def client(real_settings: Settings) -> Iterator[Client]:
    with Client(create_app(real_settings)) as opened:
        until(lambda: opened.day.live.serving is not None)
        yield opened


def ordered(client: Client, **body: object) -> list[str]:
    """A slate without chance in it."""
    return client.shown(**body, policy={"exploration": 0})


def n_of_color(item_ids: list[str]) -> int:
    return sum(item_id.startswith(COLOR) for item_id in item_ids)


def found(client: Client, query: str, **body: object) -> list[str]:
    return client.shown(query=query, **body)


def similar(client: Client, item_id: str, **body: object) -> list[str]:
    return client.shown(placement="similar", context_item_ids=[item_id], **body)


def by_command(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, f"{PREFIX}DATA_DIR": str(settings.data_dir)}
    return subprocess.run(
        [sys.executable, "-m", "jobs", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stranger_and_an_unknown_user_get_full_slates(client: Client, second: str) -> None:
    for body in ({}, {"user_id": "never seen"}, {"session_id": "never seen"}):
        answer = client.recommend(**body)
        assert len({entry["item_id"] for entry in answer["items"]}) == 10
        assert answer["degraded"] == []
        assert answer["release_id"] == second
        assert all(entry["reasons"] for entry in answer["items"])


def test_whoever_loves_a_colour_sees_more_of_it(client: Client) -> None:
    stranger = n_of_color(client.shown(k=20, policy={"exploration": 0}))
    client.tell(*(event(f"e{i}", item_id=f"{COLOR}-{i}") for i in ("shirt", "hat", "sock")))
    assert n_of_color(ordered(client, user_id="u1", k=7)) > stranger / 2
    assert n_of_color(ordered(client, user_id="u1", k=20)) > stranger


def test_an_event_changes_the_very_next_answer(client: Client) -> None:
    body = {"user_id": "new", "k": 20, "explain": True, "policy": {"exploration": 0}}
    before = client.recommend(**body)["items"]
    bought = before[0]["item_id"]
    client.tell(event("e1", user_id="new", item_id=bought, event_type="purchase"))
    after = client.recommend(**body)["items"]
    assert bought not in [entry["item_id"] for entry in after]
    assert [e["item_id"] for e in before[1:]] != [e["item_id"] for e in after[:-1]]
    scores = {entry["item_id"]: entry["score"] for entry in before}
    both = [entry for entry in after if entry["item_id"] in scores]
    assert any(entry["score"] != scores[entry["item_id"]] for entry in both)
    assert any("similar_text" in entry["explanation"]["source_scores"] for entry in after)


def test_a_session_becomes_known_as_it_goes(client: Client) -> None:
    client.tell(event("e1", user_id=None, session_id="s", item_id=f"{COLOR}-hat"))
    answer = client.recommend(session_id="s", k=9, policy={"exploration": 0})
    items = [entry["item_id"] for entry in answer["items"]]
    assert f"{COLOR}-hat" not in items
    assert n_of_color(items) >= 5


def test_the_item_being_looked_at_steers_the_slate(client: Client) -> None:
    body = {"k": 20, "policy": {"exploration": 0}}
    stranger = n_of_color(client.shown(**body))
    answer = client.recommend(context_item_ids=[f"{COLOR}-hat", "ghost"], **body)
    items = [entry["item_id"] for entry in answer["items"]]
    assert f"{COLOR}-hat" not in items
    assert n_of_color(items) > stranger
    assert answer["missing_ids"] == ["ghost"]


def test_a_new_item_is_found_in_every_way_at_once(client: Client) -> None:
    title, tags = f"{COLOR} glove", [COLOR, "glove"]
    new = {"title": title, "tags": tags, "published_at": _today()}
    stored = client.put("/v1/items/fresh", json=new)
    assert stored.json()["retrievable"] is True
    words = item_text(title, "", tags, {})  # the tiny encoder matches little else
    assert "fresh" in found(client, words, k=2)  # beside the blue glove there was
    assert len(similar(client, "fresh")) == 10
    answer = client.recommend(k=100, explain=True)["items"]
    sources = {e["item_id"]: e["explanation"]["source_scores"] for e in answer}
    assert "new_items" in sources["fresh"]
    client.tell(event("e1", user_id="fan", item_id="fresh"))
    assert any(item_id.startswith(COLOR) for item_id in ordered(client, user_id="fan", k=3))


def test_a_new_item_without_a_date_counts_as_arrived_now(client: Client) -> None:
    undated = {"title": f"{COLOR} ring"}
    client.put("/v1/items/undated", json=undated)
    answer = client.recommend(k=100, explain=True)["items"]
    sources = {e["item_id"]: e["explanation"]["source_scores"] for e in answer}
    assert "new_items" in sources["undated"]
    assert client.put("/v1/items/undated", json=undated).json()["changed"] is False
    dated = client.get("/v1/items/undated").json()["published_at"]
    client.put("/v1/items/undated", json={"title": "another title"})
    assert client.get("/v1/items/undated").json()["published_at"] == dated


def test_a_changed_item_is_what_it_is_now(client: Client) -> None:
    item_id = f"{COLOR}-sock"
    changed = {"title": "gold vest", "tags": ["gold", "vest"], "attributes": {"price": 999}}
    client.put(f"/v1/items/{item_id}", json=changed)
    assert item_id in found(client, "gold vest", k=2)
    assert item_id not in found(client, f"{COLOR} sock", k=2)
    assert ordered(client, filter="price >= 900") == [item_id]
    assert item_id not in ordered(client, k=100, filter=f"tags = '{COLOR}'")
    client.put(f"/v1/items/{item_id}", json={**changed, "available": False})
    assert ordered(client, filter="price >= 900") == []


def test_a_new_item_that_is_changed_again_is_what_it_is_now(client: Client) -> None:
    for title in (f"{COLOR} ring", "gold vest"):
        client.put("/v1/items/fresh", json={"title": title, "tags": title.split()})
    client.put("/v1/items/twin", json={"title": "gold vest", "tags": ["gold", "vest"]})
    serving = client.day.live.serving
    assert serving is not None
    bundle, row = serving.recommender.bundle, serving.recommender.catalog.row
    for index in (
        bundle.text.words,
        bundle.text.taste,
        bundle.sequence.index,
        bundle.factors.index,
    ):
        assert (index.vectors[row("fresh")] == index.vectors[row("twin")]).all()


def test_a_deleted_item_disappears_at_once(client: Client) -> None:
    gone = ordered(client, k=1)[0]
    assert client.delete(f"/v1/items/{gone}").status_code == 200
    assert gone not in client.shown(k=100)
    assert gone not in found(client, gone.replace("-", " "), k=100)
    assert gone not in similar(client, f"{COLOR}-hat")


def test_filters_hold_for_every_item_of_an_answer(client: Client) -> None:
    wanted = f"tags in ('{COLOR}', 'gold') and not tags = 'hat' and price between 15 and 40"
    for items in (
        client.shown(k=100, filter=wanted),
        found(client, "red shirt", k=100, filter=wanted),
    ):
        assert items
        for item_id in items:
            item = client.get(f"/v1/items/{item_id}").json()
            assert {COLOR, "gold"} & {*item["tags"]}
            assert "hat" not in item["tags"]
            assert 15 <= item["attributes"]["price"] <= 40
    one_color = client.shown(k=100, filter=f"color = '{COLOR}'")
    assert {item_id.split("-")[0] for item_id in one_color} == {COLOR}
    assert client.shown(filter=f"tags = '{COLOR}' and tags = 'no such tag'") == []


def test_an_attribute_may_be_one_of_several_values_and_true_is_not_one(client: Client) -> None:
    for name, value in (("a", True), ("b", 1), ("c", ["s", 1.0]), ("d", "1")):
        client.put(f"/v1/items/{name}", json={"title": "x", "attributes": {"size": value}})

    def having(values: str) -> set[str]:
        return {*client.shown(k=100, filter=f"size in ({values})")}

    assert having("true") == {"a"}
    assert having("1") == having("1.0") == {"b", "c"}
    assert having("'s', '1'") == {"c", "d"}


def test_what_is_excluded_is_in_no_answer(client: Client) -> None:
    excluded = client.shown(k=5)
    assert not {*excluded} & {*client.shown(k=100, exclude_ids=excluded)}
    best = found(client, f"{COLOR} shirt", k=5)
    assert not {*best} & {*found(client, f"{COLOR} shirt", k=100, exclude_ids=best)}


def test_explanations_name_sources_and_add_up(client: Client) -> None:
    client.tell(event("e1", item_id=f"{COLOR}-hat"))
    answer = client.recommend(user_id="u1", explain=True, k=5)
    assert answer["removed"] == {"viewed": 1}
    for entry in answer["items"]:
        why = entry["explanation"]
        assert why["source_scores"]
        assert all(0 <= chance <= 1 for chance in why["probabilities"].values())
        assert 0 < why["propensity"] <= 1
        told = why["contributions"].values(), why["adjustments"].values()
        total = why["baseline"] + sum(map(sum, told))
        assert total == pytest.approx(entry["score"], abs=1e-4)


def test_a_slate_is_stored_with_the_rows_it_was_scored_by(client: Client) -> None:
    answer = client.recommend(user_id="u1", k=5)
    until(lambda: client.day.slates.written == 1)
    slate = client.day.store.slate(answer["request_id"])
    assert slate is not None
    assert slate.features.shape == (5, len(FEATURE_NAMES))
    assert slate.scores.tolist() == [entry["score"] for entry in answer["items"]]


def test_releases_change_under_load_without_a_failed_request(
    client: Client, real_settings: Settings, first: str, second: str
) -> None:
    stop = threading.Event()
    seen: set[tuple[int, str]] = set()

    def shop_on(shopper: int) -> int:
        n = 0
        while not stop.is_set():
            answer = client.post("/v1/recommend", json={"user_id": f"shopper-{shopper}"})
            told = client.post("/v1/events", json={"events": [event(f"{shopper}-{n}")]})
            seen.update({(answer.status_code, answer.json()["release_id"]), (told.status_code, "")})
            n += 1
        return n

    shelf = Releases(real_settings.releases_dir)
    with ThreadPoolExecutor(2) as pool:
        shoppers = [pool.submit(shop_on, shopper) for shopper in range(2)]
        try:
            for release_id in (first, second, first):
                shelf.activate(release_id)
                until(lambda now=release_id: client.serves(now), within_s=30)  # type: ignore[misc]
        finally:
            stop.set()
    n_told = sum(shopper.result() for shopper in shoppers)
    assert seen == {(200, first), (200, second), (200, "")}
    assert client.day.live.n_swaps == 4
    with_events = client.day.store.counts()["events"]
    assert with_events >= n_told


def test_rolling_back_is_one_command(client: Client, real_settings: Settings, first: str) -> None:
    client.put("/v1/items/fresh", json={"title": f"{COLOR} glove"})
    done = by_command(real_settings, "rollback")
    assert (done.returncode, first in done.stdout) == (0, True), done.stderr
    until(lambda: client.serves(first))
    assert client.get("/readyz").json()["release_id"] == first
    assert "fresh" in found(client, f"{COLOR} glove", k=3), "items put today are in it, too"


@pytest.mark.parametrize(
    "name", ["items.parquet", "ranker/ranker.safetensors", "text/vectors.npy", "encoder/model.onnx"]
)
def test_a_tampered_release_is_refused_while_the_live_one_serves(
    client: Client, real_settings: Settings, first: str, second: str, name: str
) -> None:
    damaged = real_settings.releases_dir / first / name
    content = damaged.read_bytes()
    damaged.unlink()  # a release's files are links to the night's
    damaged.write_bytes(content[: len(content) // 2])
    refused = by_command(real_settings, "rollback")
    assert refused.returncode == 2
    assert name in refused.stderr
    assert "Traceback" not in refused.stderr
    (real_settings.releases_dir / "CURRENT").write_text(f"{first}\n")
    until(lambda: client.day.live.n_refused == 1)
    ready = client.get("/readyz").json()
    assert ready["release_id"] == second
    assert name in ready["refused"][0]["reason"]
    assert len(client.shown()) == 10


def test_a_catalogue_of_which_nothing_is_left_is_answered_with_nothing(client: Client) -> None:
    for item_id in client.day.store.items()["item_id"]:
        assert client.delete(f"/v1/items/{item_id}").status_code == 200
    assert client.shown(user_id=SHOPPER) == []
    assert found(client, "red shirt") == []
    client.put("/v1/items/only", json={"title": "red shirt"})
    assert client.shown(user_id=SHOPPER, k=5) == ["only"]
    assert found(client, "red shirt") == ["only"]
    assert similar(client, "only") == []


def test_a_night_without_items_says_so_and_the_server_waits(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, poll_interval_s=POLL_S)
    done = by_command(settings, "night")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "import items" in done.stderr
    with Client(create_app(settings)) as client:
        for path, body in (("/v1/recommend", {}), ("/v1/recommend", {"query": "x"})):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        assert client.get("/readyz").status_code == 503


def test_strange_titles_are_embedded_and_found(client: Client) -> None:
    titles = {"emoji": "🌙🪔 red", "rtl": "מנורה red", "han": "红色 red", "long": "red " * 400}
    for item_id, title in titles.items():
        assert client.put(f"/v1/items/{item_id}", json={"title": title}).status_code == 200
    assert {*titles} <= {*found(client, "red", k=100)}
    for query in ("🌙", "מנורה", "红", "\u202e", "x" * 1_000, "."):
        assert len(found(client, query, k=5)) == 5


def test_of_a_shopper_with_a_hundred_thousand_events_the_last_are_read(client: Client) -> None:
    times = pl.int_range(NOW_US, NOW_US + 100_000, eager=True)
    many = pl.select(
        event_id=pl.format("e{}", pl.lit(times)),
        user_id=pl.lit("busy"),
        session_id=pl.lit(None, pl.String),
        item_id=pl.lit(f"{COLOR}-hat"),
        event_type=pl.lit("view"),
        event_time_us=times,
        request_id=pl.lit(None, pl.String),
        value=pl.lit(None, pl.Float64),
    )
    client.day.store.append_events(many, received_at_us=NOW_US)
    assert len(client.shown(user_id="busy")) == 10
    shopper = shopper_of(client.day, "busy", None, NOW_US + 200_000)
    assert len(shopper.recent.item_ids) == RECENT_EVENTS
    assert shopper.recent.event_time_us[-1] == NOW_US + 99_999


def _today() -> str:
    return datetime.now(UTC).isoformat()


def test_json_of_an_explanation_has_no_numbers_that_json_lacks(client: Client) -> None:
    answer = client.post("/v1/recommend", json={"explain": True, "k": 100})
    json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"found {name}"))
