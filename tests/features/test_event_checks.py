from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.event_checks import check_events, parse_times
from features.events import DEFAULT_EVENT_TYPES, EVENT_SCHEMA, MAX_CLOCK_SKEW_US, CheckedRows
from tests.features.rows import NOON_US, event


def check(*rows: dict[str, Any]) -> CheckedRows:
    frame = pl.DataFrame(list(rows), infer_schema_length=None)
    return check_events(frame, now_us=NOON_US, event_types=DEFAULT_EVENT_TYPES)


def test_a_sound_event_is_accepted_as_it_is() -> None:
    row = event("e1", session_id="s", request_id="r", value=2.5)
    checked = check(row)
    assert checked.accepted.schema == pl.Schema(EVENT_SCHEMA)
    assert checked.accepted.to_dicts() == [row]
    assert checked.rejected.is_empty()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event_id": None}, "event_id is missing, expected 1 to 256 characters"),
        ({"item_id": " "}, "item_id is empty, expected 1 to 256 characters"),
        ({"item_id": "i" * 300}, "item_id has 300 characters, expected 1 to 256 characters"),
        ({"user_id": "a\nb"}, "user_id contains a control character"),
        ({"user_id": None}, "user_id and session_id are both missing, expected at least one"),
        ({"request_id": ""}, "request_id is empty, expected 1 to 256 characters"),
        ({"event_time_us": None}, "event_time_us is missing"),
        (
            {"event_time_us": 1_700_049_600},
            "event_time_us 1700049600 is before 1980, expected microseconds since 1970",
        ),
        (
            {"event_time_us": NOON_US + MAX_CLOCK_SKEW_US + 1},
            "event_time_us 1700049900000001 (2023-11-15T12:05:00Z) is in the future, "
            "expected at most 2023-11-15T12:05:00Z",
        ),
        ({"value": float("nan")}, "value is NaN, expected a finite number to 1e+12"),
        ({"value": float("inf")}, "value is inf, expected a finite number to 1e+12"),
        ({"value": -1e300}, "value is -1e+300, expected a finite number to 1e+12"),
        (
            {"event_type": "stare"},
            'event_type is "stare", expected one of view, click, like, comment, share, cart, '
            "purchase, dismiss, seen",
        ),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    checked = check(event("good"), event("bad") | changes)
    assert checked.accepted["event_id"].to_list() == ["good"]
    assert checked.rejected.to_dicts() == [{"row": 1, "reason": reason}]


def test_the_first_failing_rule_gives_the_reason() -> None:
    checked = check(event("e", item_id="", event_type="stare", event_time_us=0))
    assert checked.rejected["reason"].to_list() == [
        "item_id is empty, expected 1 to 256 characters"
    ]


def test_a_session_alone_identifies_a_shopper() -> None:
    assert len(check(event("e", user_id=None, session_id="s")).accepted) == 1


def test_a_clock_that_is_a_little_fast_is_forgiven() -> None:
    assert len(check(event("e", event_time_us=NOON_US + MAX_CLOCK_SKEW_US)).accepted) == 1


def test_numeric_ids_become_text_and_missing_optional_columns_become_null() -> None:
    frame = pl.DataFrame(
        {"event_id": [7], "user_id": [1], "item_id": [2], "event_type": "view"}
    ).with_columns(event_time_us=pl.lit(NOON_US))
    row = check_events(frame, now_us=NOON_US, event_types=DEFAULT_EVENT_TYPES).accepted.row(0)
    assert row == ("7", "1", None, "2", "view", NOON_US, None, None)


def test_a_column_of_the_wrong_type_rejects_its_rows() -> None:
    assert check(event("e", item_id=[1])).rejected["reason"].to_list() == [
        "item_id has type List(Int64), expected text"
    ]
    assert "expected integer" in check(event("e", event_time_us="noon")).rejected["reason"][0]


def test_no_rows_and_no_columns_are_fine() -> None:
    checked = check_events(pl.DataFrame(), now_us=NOON_US, event_types=DEFAULT_EVENT_TYPES)
    assert checked.accepted.schema == pl.Schema(EVENT_SCHEMA)
    assert checked.rejected.schema == pl.Schema({"row": pl.UInt32, "reason": pl.String})


@pytest.mark.parametrize(
    "text",
    [
        "2023-11-15T12:00:00Z",
        "2023-11-15 12:00Z",
        "2023-11-15T14:00:00.000+02:00",
        "2023-11-15T06:30:00-0530",
    ],
)
def test_iso_times_with_a_zone_are_read(text: str) -> None:
    assert parse_times(pl.Series([text])).row(0) == (NOON_US, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2023-11-15T12:00:00", "has no time zone"),
        ("2023-11-15", "has no time zone"),
        ("", "event_time is empty"),
        ("noon", "cannot be read as a time"),
        ("2023-02-30T12:00:00Z", "cannot be read as a time"),
        ("1700049600", "is a number without a unit"),
    ],
)
def test_an_unreadable_time_reaches_the_rejected_rows_with_its_own_reason(
    text: str, reason: str
) -> None:
    rows = pl.DataFrame([event("e")], schema=EVENT_SCHEMA).drop("event_time_us")
    frame = rows.hstack(parse_times(pl.Series([text])))
    checked = check_events(frame, now_us=NOON_US, event_types=DEFAULT_EVENT_TYPES)
    assert reason in checked.rejected["reason"][0]


def test_numbers_are_read_in_the_told_unit_and_in_no_other() -> None:
    assert parse_times(pl.Series([1_700_049_600]), unit="s")["event_time_us"][0] == NOON_US
    assert parse_times(pl.Series(["1700049600000"]), unit="ms")["event_time_us"][0] == NOON_US
    assert parse_times(pl.Series([NOON_US + 0.0]), unit="us")["event_time_us"][0] == NOON_US
    assert "without a unit" in parse_times(pl.Series([NOON_US]))["event_time_problem"][0]
    too_large = parse_times(pl.Series([2**62, None, 1]), unit="s")
    assert too_large["event_time_us"].to_list() == [None, None, 1_000_000]
    assert "year 10000" in too_large["event_time_problem"][0]
    assert too_large["event_time_problem"].to_list()[1:] == [None, None]


def test_datetime_columns_need_a_zone() -> None:
    aware = pl.Series([datetime(2023, 11, 15, 12, tzinfo=UTC)])
    assert parse_times(aware)["event_time_us"][0] == NOON_US
    naive = parse_times(aware.dt.replace_time_zone(None))
    assert "has no time zone" in naive["event_time_problem"][0]


@given(st.lists(st.datetimes(timezones=st.timezones())))
def test_a_written_time_is_read_back_to_the_microsecond(times: list[datetime]) -> None:
    # offsets with seconds, as before standard time, are not ISO-8601
    times = [t for t in times if t.utcoffset().total_seconds() % 60 == 0]  # type: ignore[union-attr]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [
        (t - epoch).days * 86_400_000_000 + (t - epoch).seconds * 10**6 + (t - epoch).microseconds
        for t in times
    ]
    texts = pl.Series([t.isoformat() for t in times], dtype=pl.String)
    assert parse_times(texts)["event_time_us"].to_list() == expected


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "event_id": st.none() | st.text(),
                "item_id": st.text(),
                "user_id": st.none() | st.text(),
                "event_type": st.sampled_from(["view", "x"]),
                "event_time_us": st.none() | st.integers(-(2**63), 2**63 - 1),
                "value": st.none() | st.floats(),
            }
        )
    )
)
def test_each_row_is_accepted_or_rejected_exactly_once(rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(
        rows,
        schema={
            k: v
            for k, v in EVENT_SCHEMA.items()
            if k in ("event_id", "item_id", "user_id", "event_type", "event_time_us", "value")
        },
    )
    checked = check_events(frame, now_us=NOON_US, event_types=DEFAULT_EVENT_TYPES)
    assert len(checked.accepted) + len(checked.rejected) == len(rows)
    assert checked.rejected["reason"].null_count() == 0
    assert checked.rejected["row"].is_unique().all()


def test_times_as_browsers_write_them_are_read_as_all_others_are() -> None:
    usual = ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789+00:00", None]
    other = "2026-01-31 12:00Z"  # one of these, and all are read the general way
    fast = parse_times(pl.Series(usual))
    assert fast.equals(parse_times(pl.Series([*usual, other]))[:3])
    assert fast["event_time_us"].to_list() == [1769860800000000, 1769860800123456, None]
