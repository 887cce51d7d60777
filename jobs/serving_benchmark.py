"""How fast the day answers, at several sizes of the shop, beside what HTTP alone costs here.

A real server in a process of its own, SQLite, a load generator in another; the floor is measured
in turn with the server, because a shared machine is not equally fast all the time.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.key_text import make_key
from features.keys import KeyRecord
from features.store import Store
from jobs.serving_driver import BATCH, MANY_CLIENTS, Bodies, Driver, K, Load, Pace
from jobs.serving_moments import changed_answer, found_item, stages_of
from jobs.serving_profile import Hot, profiled
from jobs.serving_release import make_shop
from jobs.serving_server import ServerProcess, free_port
from jobs.serving_shop import Shop, ShopSize
from recsys.progress import Progress
from recsys.releases import Releases
from recsys.retrieval.shortlist import IndexReport

CHANGES, NEW_ITEMS = 50, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeReport:
    """One size of the shop."""

    items: int
    shoppers: int
    events: int
    prepared_s: float
    indexes: dict[str, IndexReport]
    ready_s: float
    loaded_mib: float  # resident once ready
    peak_mib: float  # after everything below
    of_files_mib: float  # of those: pages of mapped files
    loads: tuple[Load, ...]
    generator_per_s: float  # what the generator could ask at most, by its CPU time
    to_floor: float  # many clients: recommend / floor, by answers a second
    events_per_s: float  # acknowledged on disk
    mixed_events_per_s: float
    changed: int  # of CHANGES, how often the next answer was another one
    change_ms: float  # median, from sending an event to having read the changed answer
    item_s: float  # longest, from sending a new item to an answer that has it
    stages_ms: dict[str, float]  # median
    hot: tuple[Hot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingReport:
    """What `benchmark-serving` measured."""

    pace: Pace
    sizes: tuple[SizeReport, ...]


def run_serving(
    sizes: Sequence[int], encoder: Path, *, pace: Pace, shoppers: int, progress: Progress
) -> Iterator[SizeReport]:
    """One report a size, as soon as it is measured."""
    for items in sizes:
        with tempfile.TemporaryDirectory(prefix="serving-") as name:
            size = ShopSize(items=items, shoppers=shoppers)
            yield _measured(Shop(size, now_us()), encoder, Path(name), pace, progress)


def now_us() -> int:
    return time.time_ns() // 1_000


def _measured(
    shop: Shop, encoder: Path, folder: Path, pace: Pace, progress: Progress
) -> SizeReport:
    named = f"{shop.size.items:,} items"
    progress.say(f"{named}: making the shop and its release")
    began = time.perf_counter()
    url, releases = f"sqlite:///{folder / 'store.sqlite'}", Releases(folder / "releases")
    with Store.open(url) as store:
        made = make_shop(shop, encoder, store, releases, progress)
        key = _key(store)
        n_events = store.counts()["events"]
    prepared_s = time.perf_counter() - began
    with _floor(folder) as floor, _server(folder) as server:
        loaded = server.memory()
        progress.say(f"{named}: made in {prepared_s:.0f} s, ready in {server.ready_s:.1f} s")
        driver = Driver(floor.port, server.port, key, Bodies(shop, folder), pace)
        slates, generator_per_s, timings = driver.slates()
        written, mixed, beside = driver.events()
        changes = [changed_answer(server.port, key, shop, n) for n in range(CHANGES)]
        item_s = max(found_item(server.port, key, n) for n in range(NEW_ITEMS))
        peak = server.memory()
    per_s = {load.name: load.per_s for load in slates if load.clients == MANY_CLIENTS}
    shoppers = [shop.user_id(n) for n in range(shop.size.shoppers)]
    return SizeReport(
        items=shop.size.items,
        shoppers=shop.size.shoppers,
        events=n_events,
        prepared_s=prepared_s,
        indexes=made.indexes,
        ready_s=server.ready_s,
        loaded_mib=loaded.whole,
        peak_mib=peak.whole,
        of_files_mib=peak.of_files,
        loads=(*slates, written, mixed, beside),
        generator_per_s=generator_per_s,
        to_floor=per_s["recommend"] / per_s["floor"],
        events_per_s=BATCH * written.per_s,
        mixed_events_per_s=BATCH * beside.per_s,
        changed=sum(is_other for is_other, _ in changes),
        change_ms=float(np.median([ms for _, ms in changes])),
        item_s=item_s,
        stages_ms=stages_of(timings),
        hot=profiled(releases.path(made.release_id), url, shoppers, K),
    )


def _key(store: Store) -> str:
    """A shop's server's, without a limit that would be reached."""
    key = make_key("server")
    store.keys.add(
        KeyRecord(
            key_id=key.key_id,
            name="benchmark",
            role=key.role,
            secret_hash=key.secret_hash,
            origins=(),
            rate_per_s=1e6,
            burst=1_000_000,
            max_body_bytes=1_000_000,
            created_at_us=now_us(),
        )
    )
    return key.full_text


def _floor(folder: Path) -> ServerProcess:
    port = free_port()
    command = ("jobs.serving_floor", str(port))
    return ServerProcess(command, port, folder / "floor.log", {}, "/docs")


def _server(folder: Path) -> ServerProcess:
    port = free_port()
    environment = {"RECSYS_DATA_DIR": str(folder)}
    command = ("api", "--port", str(port))
    return ServerProcess(command, port, folder / "server.log", environment, "/readyz")
