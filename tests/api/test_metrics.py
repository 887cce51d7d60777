import math
import timeit

from prometheus_client.parser import text_string_to_metric_families

from api.metrics import BOUNDS_S, Metrics, Spread
from features.events import SEEN
from tests.api.conftest import Client, event


def scraped(client: Client) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name → labels → value."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_a_scrape_tells_what_was_answered(client: Client) -> None:
    slate = client.recommend(user_id="u1", k=4)
    client.recommend(k=3)
    client.get("/v1/items/i03")
    client.get("/v1/items/nobody-has-it")
    client.get("/nowhere/at/all")
    told = scraped(client)
    recommend = (("method", "POST"), ("route", "/v1/recommend"))
    assert told["recsys_requests_total"][*recommend, ("status", "200")] == 2
    assert told["recsys_request_seconds_count"][recommend] == 2
    item = (("method", "GET"), ("route", "/v1/items/{item_id}"))
    assert told["recsys_requests_total"][*item, ("status", "200")] == 1
    assert told["recsys_requests_total"][*item, ("status", "404")] == 1
    unknown = (("method", "any"), ("route", "none"), ("status", "404"))
    assert told["recsys_requests_total"][unknown] == 1
    home = (("placement", slate["placement"]),)
    assert told["recsys_slates_total"][home] == 2
    assert told["recsys_exposures_total"][home] == 7
    assert told["recsys_stage_seconds_count"][("stage", "sources"),] == 2


def test_buckets_add_up_to_the_count(client: Client) -> None:
    client.recommend()
    told = scraped(client)
    recommend = (("method", "POST"), ("route", "/v1/recommend"))
    buckets = {
        dict(labels)["le"]: n
        for labels, n in told["recsys_request_seconds_bucket"].items()
        if {*recommend} <= {*labels}
    }
    assert len(buckets) == len(BOUNDS_S) + 1
    assert buckets["+Inf"] == told["recsys_request_seconds_count"][recommend] == 1
    assert list(buckets.values()) == sorted(buckets.values())


def test_a_value_at_a_bound_is_below_it() -> None:
    spread = Spread((0.1, 0.2))
    for value in (0.1, 0.15, 0.2, 7):
        spread.add(value)
    assert spread.buckets() == [("0.1", 1), ("0.2", 3), ("+Inf", 4)]
    assert math.isclose(spread.total, 7.45)


def test_events_count_by_verdict_and_by_the_slate_they_come_from(client: Client) -> None:
    slate = client.recommend(user_id="u1", k=2)
    first = slate["items"][0]["item_id"]
    client.tell(
        event("e1", item_id=first, request_id=slate["request_id"]),
        event("e1", item_id=first, request_id=slate["request_id"]),
        event("e2", item_id=first, request_id=slate["request_id"], event_type=SEEN),
        event("e3", request_id="nobody-was-shown-this"),
        event("e4"),
        event("e5", event_type="dance"),
    )
    told = scraped(client)
    verdicts = {dict(labels)["verdict"]: n for labels, n in told["recsys_events_total"].items()}
    assert verdicts == {"accepted": 4, "duplicate": 1, "rejected": 1}
    place = ("placement", slate["placement"])
    clicks = told["recsys_attributed_events_total"][("event_type", "click"), place]
    assert clicks == 1
    assert told["recsys_attributed_events_total"][("event_type", SEEN), place] == 1
    assert clicks / told["recsys_exposures_total"][place,] == 0.5
    by_attribution = told["recsys_event_attribution_total"]
    assert by_attribution == {
        (("attribution", "ok"),): 2,
        (("attribution", "unknown_request"),): 1,
    }


def test_a_scrape_tells_the_state_of_the_server(client: Client) -> None:
    client.recommend()
    client.day.slates.close()
    told = scraped(client)
    assert told["recsys_ready"][()] == 1
    assert told["recsys_release_info"][("release_id", "r1"),] == 1
    assert 0 < told["recsys_release_age_seconds"][()] < 60
    assert told["recsys_items_available"][()] == 20
    assert told["recsys_releases_served_total"][()] == 1
    assert told["recsys_releases_refused_total"][()] == 0
    assert told["recsys_slates_written_total"][()] == 1
    assert told["recsys_slate_queue_waiting"][()] == 0
    assert told["recsys_event_queue_waiting"][()] == 0
    assert told["process_resident_memory_bytes"][()] > 10e6


def test_before_the_first_night_there_is_no_release_to_tell_of(early_client: Client) -> None:
    told = scraped(early_client)
    assert told["recsys_ready"][()] == 0
    assert "recsys_release_info" not in told


def test_counting_costs_a_request_little() -> None:
    metrics = Metrics()
    runs = timeit.repeat(
        lambda: metrics.answered("POST", "/v1/recommend", 200, 0.004), number=1_000, repeat=10
    )
    assert min(runs) * 1_000 < 15  # µs a request; 1 µs on a quiet machine
