"""Whole imports of files written here: what is stored, what is refused, what a repeat changes."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError, DataError
from features.events import US_PER_DAY
from features.store import Store
from jobs.importing import ColumnMap, ImportOptions
from jobs.importing.columns import guessed_time_unit
from jobs.importing.event_ids import EventIds
from jobs.importing.sequences import LAST_EVENT_US
from tests.jobs.importing import NOW_US, import_into, mapped, rejects, stored_events, write

HOUR_S = 1_700_000_000
EVENTS_CSV = (
    "user_id,item_id,event_type,event_time\n"
    f"ann,book,view,{HOUR_S}\n"
    f"ann,book,view,{HOUR_S}\n"
    f"bob,lamp,purchase,{HOUR_S + 5}\n"
)


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz"])
def test_importing_a_file_twice_changes_nothing(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, EVENTS_CSV)
    (first,) = import_into(tmp_path, path)
    (second,) = import_into(tmp_path, path)
    assert (first.read, first.new, first.known) == (3, 3, 0)  # the two equal rows are two events
    assert (second.read, second.new, second.known) == (3, 0, 3)
    assert stored_events(tmp_path)["event_time_us"].to_list() == [
        HOUR_S * 1_000_000,
        HOUR_S * 1_000_000,
        (HOUR_S + 5) * 1_000_000,
    ]


def test_events_come_the_same_from_csv_jsonl_and_parquet(tmp_path: Path) -> None:
    table = pl.read_csv(EVENTS_CSV.encode())
    for suffix in ("csv", "jsonl", "parquet"):
        folder = tmp_path / suffix
        path = write(folder / "events.csv", EVENTS_CSV).with_suffix(f".{suffix}")
        table.write_ndjson(path) if suffix == "jsonl" else None
        table.write_parquet(path) if suffix == "parquet" else None
        import_into(folder, path)
    csv, jsonl, parquet = (
        stored_events(tmp_path / s).drop("received_at_us") for s in ("csv", "jsonl", "parquet")
    )
    assert csv.equals(jsonl)
    assert csv.equals(parquet)


def test_columns_of_another_shop_are_mapped_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.csv",
        "who,sku_code,what,when,stars\nann,book,like,2024-05-01T10:00:00+02:00,4.5\n",
    )
    options = mapped("who=user_id", "sku_code=item_id", "what=event_type", "when=event_time")
    import_into(tmp_path, path, options)
    (event,) = stored_events(tmp_path).to_dicts()
    assert (event["user_id"], event["item_id"], event["event_type"]) == ("ann", "book", "like")
    assert event["event_time_us"] == 1_714_550_400_000_000


def test_a_mapping_to_an_unknown_field_or_from_a_missing_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="colour"):
        ColumnMap.parse(["x=colour"])
    path = write(tmp_path / "events.csv", EVENTS_CSV)
    for kind in ("auto", "events"):
        options = ImportOptions(kind, ColumnMap.parse(["whom=user_id"]))
        with pytest.raises(ConfigError, match="whom"):
            import_into(tmp_path, path, options)


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ([1_700_000_000], "s"),
        ([1_700_000_000_000], "ms"),
        ([1_700_000_000_000_000], "us"),
        (["1700000000"], "s"),
        (["2024-01-01T00:00:00Z"], None),
    ],
)
def test_the_unit_of_a_time_follows_from_its_size(numbers: list[object], unit: str | None) -> None:
    assert guessed_time_unit(pl.Series(numbers)) == unit


def test_refused_rows_are_kept_with_number_reason_and_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "events.csv",
        "user_id,item_id,event_type,event_time,value\n"
        f"ann,book,view,{HOUR_S},1\n"
        f"ann,book,stare,{HOUR_S},1\n"
        "ann,book\n"
        f",book,view,{HOUR_S},1\n"
        f"ann,book,view,{NOW_US // 1_000_000 + 3600},1\n"
        f"ann,book,view,{HOUR_S},much\n"
        f"ann,book,view,{HOUR_S},nan\n",
    )
    (report,) = import_into(tmp_path, path)
    assert (report.read, report.new, report.rejected) == (7, 1, 6)
    kept = {entry["row"]: entry for entry in rejects(report)}
    assert kept.keys() == {2, 3, 4, 5, 6, 7}
    assert "stare" in str(kept[2]["reason"])
    assert kept[3]["raw"] == "ann,book"
    assert "session_id" in str(kept[4]["reason"])
    assert "future" in str(kept[5]["reason"])
    assert kept[6]["reason"] == "value is much, expected a number"
    assert "finite" in str(kept[7]["reason"])
    assert kept[6]["raw"] == {
        "user_id": "ann",
        "item_id": "book",
        "event_type": "view",
        "event_time": str(HOUR_S),
        "value": "much",
    }


def test_a_clean_import_removes_the_rejects_of_an_earlier_one(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", EVENTS_CSV + "broken\n")
    (report,) = import_into(tmp_path, path)
    kept = report.rejects
    assert kept is not None
    assert kept.is_file()
    import_into(tmp_path, write(path, EVENTS_CSV))
    assert not kept.exists()


def test_ids_that_became_fractions_are_refused(tmp_path: Path) -> None:
    times = ["2024-01-01T00:00:00Z"] * 2  # pandas makes 17.0 of a column with 17 and a gap
    rows = {"user_id": [17.0, None], "session_id": ["s", "s"], "item_id": [3, 4]}
    pl.DataFrame({**rows, "event_time": times}).write_parquet(tmp_path / "events.parquet")
    (report,) = import_into(tmp_path, tmp_path / "events.parquet")
    assert {row["reason"] for row in rejects(report)} == {"user_id has type Float64, expected text"}


def test_a_folder_with_two_files_of_a_kind_is_refused(tmp_path: Path) -> None:
    for name in ("items.csv", "items.csv.gz"):
        write(tmp_path / "shop" / name, "item_id,title\nlamp,Lamp\n")
    with pytest.raises(DataError, match=r"items.csv, items.csv.gz"):
        import_into(tmp_path, tmp_path / "shop")


def test_times_without_a_zone_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "events.csv",
        "user_id,item_id,event_type,event_time\nann,book,view,2024-05-01T10:00:00\n",
    )
    (report,) = import_into(tmp_path, path)
    assert report.new == 0
    assert "zone" in str(rejects(report)[0]["reason"])


def test_equal_rows_in_the_next_batch_get_other_ids() -> None:
    row = {
        "event_id": None,
        "user_id": "ann",
        "session_id": None,
        "item_id": "book",
        "event_type": "view",
        "event_time_us": 1,
        "request_id": None,
        "value": None,
    }
    ids = EventIds()
    frame = pl.DataFrame([row, row], schema_overrides={"event_id": pl.String})
    seen = [*ids.filled(frame)["event_id"], *ids.filled(frame)["event_id"]]
    assert len(set(seen)) == 4
    assert seen[1] == f"{seen[0]}-1"
    assert seen[3] == f"{seen[0]}-3"
    # known answer: an id must never change, or importing again would store everything again
    assert seen[0] == EventIds().filled(frame)["event_id"][0] == "row-c55034c9521ebad113981850"


def test_items_keep_other_columns_as_attributes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "items.csv",
        "item_id,title,tags,price,brand,available\n"
        "lamp,A lamp,home|light,12.50,Lumen,yes\n"
        'cup,قدح 🍵,"[""home"", ""tea""]",,,no\n'
        "pan,A pan,,cheap,,\n"
        "pot,A pot,,,,perhaps\n",
    )
    (report,) = import_into(tmp_path, path)
    assert (report.new, report.rejected) == (2, 2)
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        lamp, cup = store.item("lamp"), store.item("cup")
    assert lamp is not None
    assert cup is not None
    assert lamp["tags"] == ["home", "light"]
    assert lamp["attributes"] == '{"brand":"Lumen","price":12.5}'
    assert (cup["title"], cup["tags"], cup["available"]) == ("قدح 🍵", ["home", "tea"], False)
    reasons = [str(entry["reason"]) for entry in rejects(report)]
    assert "price" in reasons[0]
    assert "perhaps" in reasons[1]


def test_items_from_json_lines_keep_lists_and_objects(tmp_path: Path) -> None:
    lines = [
        {"item_id": 7, "title": "A lamp", "tags": ["home"], "attributes": {"price": 3}},
        {"item_id": 8, "title": "A cup", "tags": ["tea"], "published_at": "2024-01-01T00:00:00Z"},
    ]
    path = write(tmp_path / "shop.jsonl.gz", "\n".join(json.dumps(line) for line in lines))
    (report,) = import_into(tmp_path, path)
    assert (report.target, report.new) == ("items", 2)
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        items = store.items()
    assert items["item_id"].to_list() == ["7", "8"]
    assert items["attributes"][0] == '{"price":3}'
    assert items["published_at_us"].to_list() == [None, 1_704_067_200_000_000]


def test_sequences_lie_right_aligned_on_days(tmp_path: Path) -> None:
    write(tmp_path / "shop" / "items.jsonl", '{"item_id":"a","title":"A"}\n')
    write(
        tmp_path / "shop" / "sequences.csv",
        "user_id,position,item_id\nann,0,a\nann,1,b\nann,2,c\nbob,0,d\nbob,one,e\n",
    )
    items, events = import_into(tmp_path, tmp_path / "shop")
    assert (items.new, events.new, events.rejected) == (1, 4, 1)
    stored = stored_events(tmp_path)
    days = ((stored["event_time_us"] - LAST_EVENT_US) // US_PER_DAY).to_list()
    assert dict(zip(stored["item_id"], days, strict=True)) == {"a": -2, "b": -1, "c": 0, "d": 0}
    end_us = LAST_EVENT_US + 1
    left_out = stored.filter(pl.col("event_time_us") >= end_us - US_PER_DAY)
    assert sorted(left_out["item_id"]) == ["c", "d"]
    assert set(stored["event_type"]) == {"view"}


def test_movielens_ratings_become_likes_views_and_dismissals(tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    write(
        folder / "movies.csv",
        'movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,"Odd, One",'
        "(no genres listed)\n",
    )
    write(
        folder / "ratings.csv",
        "userId,movieId,rating,timestamp\n9,1,4.0,964982703\n9,2,2,964982704\n8,1,3.5,964982705\n",
    )
    write(folder / "tags.csv", 'userId,movieId,tag,timestamp\n9,1,"fun, really",964982706\n')
    reports = import_into(tmp_path, folder)
    assert [(r.target, r.new) for r in reports] == [("items", 2), ("events", 3), ("events", 1)]
    stored = stored_events(tmp_path)
    assert stored["event_type"].to_list() == ["like", "dismiss", "view", "comment"]
    assert stored["value"].to_list() == [4.0, 2.0, 3.5, None]
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        toy, odd = store.item("1"), store.item("2")
    assert toy is not None
    assert odd is not None
    assert (toy["title"], toy["tags"]) == ("Toy Story", ["Animation", "Comedy"])
    assert toy["attributes"] == '{"year":1995}'
    assert (odd["title"], odd["tags"], odd["attributes"]) == ("Odd, One", [], "{}")


def test_open_bandit_impressions_become_slates_and_clicks(tmp_path: Path) -> None:
    folder = tmp_path / "obd" / "bts" / "men"
    write(
        folder / "item_context.csv",
        ",item_id,item_feature_0,item_feature_1\n0,0,-0.5,84c5238bc7df\n1,1,0.25,527a325f4624\n",
    )
    write(
        folder / "men.csv.gz",
        ",timestamp,item_id,position,click,propensity_score,user_feature_0\n"
        "0,2019-11-24 00:00:17.004101+00:00,1,3,1,0.25,x\n"
        "1,2019-11-24 00:00:18+00:00,0,1,0,0.5,x\n",
    )
    reports = import_into(tmp_path, tmp_path / "obd")
    assert [(r.target, r.new) for r in reports] == [("items", 2), ("slates", 2), ("events", 1)]
    with Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        slate = store.slate("bts-men-0")
    assert slate is not None
    assert (slate.item_ids, slate.first_position, slate.placement) == (("men-1",), 2, "men")
    np.testing.assert_allclose(slate.propensities, [0.25])
    (assignment,) = slate.assignments
    assert (assignment.experiment, assignment.variant) == ("open-bandit", "bts")
    (click,) = stored_events(tmp_path).to_dicts()
    assert (click["item_id"], click["request_id"]) == ("men-1", "bts-men-0")
    assert click["event_time_us"] == slate.shown_at_us == 1_574_553_617_004_101
    assert click["session_id"] == slate.session_id
    again = import_into(tmp_path, tmp_path / "obd")
    assert [r.new for r in again] == [0, 0, 0]


def test_what_cannot_be_told_apart_is_refused_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="colour, weight"):
        import_into(tmp_path, write(tmp_path / "a.csv", "colour,weight\nred,1\n"))
    with pytest.raises(DataError, match=r"notes\.txt"):
        import_into(tmp_path, write(tmp_path / "shop" / "notes.txt", "hello").parent)
    with pytest.raises(DataError, match="nothing at"):
        import_into(tmp_path, tmp_path / "missing")


def test_a_bad_slate_is_refused(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "request_id": ["a", "b", "c", "d"],
            "shown_at_us": [1_700_000_000_000_000] * 4,
            "item_ids": [["x", "y"], [], ["x"], ["x", "y"]],
            "propensities": [[0.5, 0.25], [], [1.5], [0.5]],
        }
    ).write_parquet(tmp_path / "slates.parquet")
    (report,) = import_into(tmp_path, tmp_path / "slates.parquet")
    assert (report.new, report.rejected) == (1, 3)
    reasons = [str(entry["reason"]) for entry in rejects(report)]
    assert ["item_ids" in reasons[0], "outside" in reasons[1], "holds 1" in reasons[2]] == [
        True
    ] * 3


def test_files_of_one_name_in_two_folders_keep_their_own_rejects(tmp_path: Path) -> None:
    for folder, kind in (("a", "stare"), ("b", "glance")):
        (tmp_path / folder).mkdir()
        write(
            tmp_path / folder / "events.csv", f"user_id,item_id,event_type,event_time\n1,2,{kind},5"
        )
    reports = [import_into(tmp_path, tmp_path / name / "events.csv")[0] for name in ("a", "b")]
    assert ["stare" in str(rejects(report)[0]["reason"]) for report in reports] == [True, False]
