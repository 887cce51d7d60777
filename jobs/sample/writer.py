"""Writes a sample storefront day by day, so that size costs disk and time but no memory."""

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from features.errors import DataError
from jobs.sample.sessions import logged_day
from jobs.sample.storefront import Storefront
from jobs.sample.texts import item_frame
from recsys.progress import Progress

ITEMS_AT_ONCE = 10_000
PILOT_VISITS = 2_000  # enough to know events a visit to about 2 %


def write_sample(storefront: Storefront, out: Path, progress: Progress) -> int:
    """Fills `out` with items.jsonl, events/, slates/ and storefront.json; returns the events.

    An earlier sample in `out` is replaced; a folder with anything else in it is refused. Equal
    storefronts write equal bytes.
    """
    _clear(out)
    _write_items(storefront, out / "items.jsonl")
    n_visits = visits_a_day(storefront)
    n_events = 0
    days = progress.track(
        range(storefront.size.n_days), total=storefront.size.n_days, label="days of shopping"
    )
    for day in days:
        n_events += _write_day(storefront, out, day, n_visits)
    facts = {
        "seed": storefront.seed,
        "n_events": storefront.size.n_events,
        "n_days": storefront.size.n_days,
        "first_day": str(_date(storefront, 0)),
        "events_written": n_events,
    }
    (out / "storefront.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return n_events


def is_written(folder: Path) -> bool:
    """False for a sample cut short, as for none at all."""
    facts = folder / "storefront.json"
    return facts.is_file() and "events_written" in json.loads(facts.read_text("utf-8") or "{}")


def visits_a_day(storefront: Storefront) -> int:
    """How many visits make the wanted number of events, by trying a middle day."""
    size = storefront.size
    pilot = sum(
        part.events.height for part in logged_day(storefront, size.n_days // 2, PILOT_VISITS)
    )
    return max(1, round(size.n_events / size.n_days * PILOT_VISITS / pilot))


def _write_items(storefront: Storefront, path: Path) -> None:
    with path.open("wb") as file:
        for start in range(0, storefront.size.n_items, ITEMS_AT_ONCE):
            stop = min(start + ITEMS_AT_ONCE, storefront.size.n_items)
            item_frame(storefront.catalogue, np.arange(start, stop)).write_ndjson(file)


def _write_day(storefront: Storefront, out: Path, day: int, n_visits: int) -> int:
    n_events = 0
    for number, part in enumerate(logged_day(storefront, day, n_visits)):
        for name, table in (("events", part.events), ("slates", part.slates)):
            folder = out / name / f"day={_date(storefront, day)}"
            folder.mkdir(parents=True, exist_ok=True)
            table.write_parquet(folder / f"part-{number:05d}.parquet")
        n_events += part.events.height
    return n_events


def _clear(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / "storefront.json").is_file():
        raise DataError(
            f"found other files in {out}; expected an empty folder or an earlier sample; "
            "choose another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name in ("events", "slates"):
        shutil.rmtree(out / name, ignore_errors=True)
    # Written first and last: a sample cut short is still known as one and can be replaced.
    (out / "storefront.json").write_text("{}\n", encoding="utf-8")


def _date(storefront: Storefront, day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=storefront.first_day + day)
