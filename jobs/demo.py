"""The whole product in one command: a sample shop, its import, one night; then it can be served."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from features.store import Store
from jobs.console import Terminal
from jobs.importing import ColumnMap, Importer, ImportOptions
from jobs.importing.summary import show_reports
from jobs.night_config import night_config
from jobs.nightly import NightReport, run_night
from jobs.plan import Places, night_lock
from jobs.sample import Size, Storefront, is_written, write_sample
from recsys.settings import Settings

EVENTS, DAYS, SEED = 40_000, 30, 0  # about a thousand shoppers: a night of two minutes


@dataclass(frozen=True, slots=True)
class Demo:
    """A prepared shop and what to ask it."""

    night: NightReport
    user_id: str
    item_id: str
    now_us: int


def prepare_demo(settings: Settings, today: int, *, now_us: int, terminal: Terminal) -> Demo:
    """`today` is a day number; the sample ends with yesterday. Repeating it adds nothing."""
    folder = settings.data_dir / "sample"
    if not is_written(folder):
        size = Size.for_events(EVENTS, n_days=DAYS)
        write_sample(Storefront(SEED, size, first_day=today - DAYS), folder, terminal)
    with Store.open(settings.database_url) as store, night_lock(settings.work_dir):
        _import(folder, store, settings, now_us, terminal)
        report = run_night(
            store,
            Places.of(settings),
            settings.event_types(),
            night_config(settings),
            now_us=now_us,
            progress=terminal,
        )
        user_id, item_id = _somebody(store)
    return Demo(report, user_id, item_id, now_us)


def _import(
    folder: Path, store: Store, settings: Settings, now_us: int, terminal: Terminal
) -> None:
    importer = Importer(
        store=store,
        rejects_dir=settings.rejects_dir,
        event_types=settings.event_types(),
        now_us=now_us,
    )
    options = ImportOptions("auto", ColumnMap.parse([]), None, "view")
    show_reports(terminal, importer.import_path(folder, options, terminal))


def _somebody(store: Store) -> tuple[str, str]:
    """The shopper of the latest event that has one, and its item."""
    for batch in store.events_after(max(store.last_event_seq() - 1_000, 0), batch_size=1_000):
        known = batch.drop_nulls("user_id")
        if len(known):
            return known["user_id"][-1], known["item_id"][-1]
    return "ann", str(store.items()["item_id"][0])


def what_to_try(demo: Demo, url: str) -> str:
    """Three curl lines: ask, tell, ask again and be told why."""
    ask = f'{{"user_id": "{demo.user_id}", "k": 5}}'
    tell = (
        f'{{"events": [{{"event_id": "demo-{demo.now_us}", "user_id": "{demo.user_id}", '
        f'"item_id": "{demo.item_id}", "event_type": "share"}}]}}'
    )
    again = f'{{"user_id": "{demo.user_id}", "k": 5, "explain": true}}'
    header = "-H 'content-type: application/json'"
    return "\n".join(
        f"  curl -s {url}{path} {header} -d {shlex.quote(body)}"
        for path, body in (
            ("/v1/recommend", ask),
            ("/v1/events", tell),
            ("/v1/recommend", again),
        )
    )
