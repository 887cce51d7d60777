"""What only a server can do: be away, come back, and be shared by machines."""

import threading
import time
import traceback
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.event import listen

from features.database import Database
from features.engines import STORE_ERRORS
from features.errors import ConfigError
from features.recent import RETRY_AFTER_S
from features.store import Store
from features.tables import events as events_table
from tests.features.rows import NOON_US, event, events
from tests.postgres import new_database


def recent(store: Store) -> list[str]:
    found = store.recent_events(user_id="ann", session_id=None, before_us=2 * NOON_US, limit=9)
    return list(found.item_ids)


def test_processes_see_each_others_events_at_once(postgres_url: str) -> None:
    with Store.open(postgres_url) as one, Store.open(postgres_url) as other:
        for number in range(20):
            teller, reader = (one, other) if number % 2 else (other, one)
            row = event(str(number), item_id=f"i{number}", event_time_us=NOON_US + number)
            teller.append_events(events(row), received_at_us=1)
            assert recent(reader)[-1] == f"i{number}"


def test_numbers_are_in_the_order_of_commits(postgres_url: str) -> None:
    """Or a reader that remembers the last number it saw would miss an event."""
    late = event("late", item_id="i1")
    with Store.open(postgres_url) as store, closing(Database(postgres_url)) as other:
        append = partial(store.append_events, events(late), received_at_us=1)
        with other.writing() as slow:
            row = event("slow", item_id="i0") | {"received_at_us": 1}
            slow.execute(insert(events_table).values(row))
            writer = threading.Thread(target=append)
            writer.start()
            writer.join(0.3)
            assert writer.is_alive()
            assert recent(store) == []  # readers wait for nobody
        writer.join()
        (found,) = store.events_after(0)
        assert found["event_id"].to_list() == ["slow", "late"]


def test_stores_survive_a_restart_of_the_server(postgres: Any) -> None:
    with Store.open(new_database(postgres)) as store:
        store.append_events(events(event("1")), received_at_us=1)
        assert recent(store) == ["lamp"]
        postgres._stop()
        with pytest.raises(STORE_ERRORS):
            recent(store)
        with pytest.raises(STORE_ERRORS):
            store.append_events(events(event("2")), received_at_us=1)
        tried: list[object] = []
        listen(store._database.engine, "do_connect", lambda *args: tried.append(args))
        for _ in range(100):  # no request pays for another connection meanwhile
            with pytest.raises(STORE_ERRORS):
                recent(store)
        assert len(tried) <= 2, "once each RETRY_AFTER_S"
        postgres.ensure_postgres_running()
        time.sleep(RETRY_AFTER_S)
        assert recent(store) == ["lamp"]
        assert store.append_events(events(event("2")), received_at_us=1).tolist() == [True]


def test_a_server_that_is_away_is_named_without_the_password() -> None:
    for wrong in (
        "postgresql://shop:secret@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?password=secret&user=shop",
        "postgresql+psycopg://shop:secret@127.0.0.1:1/db",
        "postgres://shop:secret@127.0.0.1:1/db",
    ):
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1/db.*cannot be used") as refused:
            Store.open(wrong)
        assert "secret" not in "".join(traceback.format_exception(refused.value))


def test_ids_are_in_the_order_of_their_bytes_whatever_the_server_speaks(postgres_url: str) -> None:
    with Store.open(postgres_url) as store, store._database.reading() as connection:
        asked = text(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' "
            "AND column_name LIKE '%\\_id' AND collation_name IS DISTINCT FROM 'C'"
        )
        assert connection.execute(asked).scalar() == 0
