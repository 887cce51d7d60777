"""`python -m api` as a process of its own: killed, told to stop, and started wrongly."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from features.store import Store
from recsys.settings import PREFIX, Settings
from tests.api.conftest import event, until


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def started(settings: Settings) -> Iterator[Server]:
    port = _free_port()
    log = settings.data_dir / f"api-{port}.log"
    environment = {**os.environ, f"{PREFIX}DATA_DIR": str(settings.data_dir)}
    with log.open("wb") as file, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port)], env=environment, stderr=file
        )
        server = Server(process, client, log)
        try:
            until(server.is_ready, within_s=60)
            yield server
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tell_on(server: Server, teller: int, told: list[str]) -> None:
    """Batches of events, until the server is gone; what was acknowledged goes to `told`."""
    n = 0
    while True:
        ids = [f"{teller}-{n}-{i}" for i in range(5)]
        try:
            answer = server.client.post("/v1/events", json={"events": [event(i) for i in ids]})
        except httpx.TransportError:
            return
        assert answer.status_code == 200, answer.text
        told.extend(ids)
        n += 1


def stored_ids(settings: Settings) -> set[str]:
    with Store.open(settings.database_url) as store:
        return {event_id for part in store.events_after(0) for event_id in part["event_id"]}


def test_no_acknowledged_event_is_lost_when_the_server_is_killed(real_settings: Settings) -> None:
    told: list[str] = []
    for life in range(2):  # a second life starts from what the first one left
        with started(real_settings) as server, ThreadPoolExecutor(3) as pool:
            tellers = [pool.submit(tell_on, server, 10 * life + n, told) for n in range(3)]
            n_before = len(told)
            until(lambda n=n_before: len(told) > n + 100, within_s=30)  # type: ignore[misc]
            server.process.send_signal(signal.SIGKILL)
            for teller in tellers:
                teller.result()
    assert {*told} <= stored_ids(real_settings)
    assert len({*told}) == len(told)


def test_a_server_told_to_stop_answers_everyone_and_loses_nothing(real_settings: Settings) -> None:
    request_ids: list[str] = []
    told: list[str] = []
    stopping = threading.Event()

    def shop_on(server: Server, shopper: int) -> None:
        while True:
            try:
                answer = server.client.post("/v1/recommend", json={"user_id": f"u{shopper}"})
            except httpx.TransportError:
                assert stopping.is_set(), "the server left before it was told to"
                return
            assert answer.status_code == 200, answer.text
            request_ids.append(answer.json()["request_id"])

    with started(real_settings) as server, ThreadPoolExecutor(5) as pool:
        busy = [pool.submit(shop_on, server, n) for n in range(3)]
        busy += [pool.submit(tell_on, server, n, told) for n in range(2)]
        until(lambda: len(request_ids) > 100 and len(told) > 100, within_s=30)
        stopping.set()
        server.process.send_signal(signal.SIGTERM)
        for one in busy:
            one.result()
        ended = server.process.wait(timeout=20)
        log = server.log.read_text()
    assert ended == -signal.SIGTERM, log  # uvicorn hands the signal on when all is done
    assert "slate_log_closed" in log
    assert "Traceback" not in log
    assert {*told} <= stored_ids(real_settings)
    with Store.open(real_settings.database_url) as store:
        assert all(store.slate(request_id) is not None for request_id in request_ids)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RECSYS_POLL_INTERVAL_S": "soon"}, "RECSYS_POLL_INTERVAL_S"),
        ({"RECSYS_DATADIR": "/tmp"}, "RECSYS_DATADIR"),
        ({"RECSYS_DATABASE_URL": "nonsense"}, "database URL"),
        ({"RECSYS_EVENT_TYPES_PATH": "/nowhere.json"}, "/nowhere.json"),
    ],
)
def test_a_server_started_wrongly_says_why_in_a_line(
    variables: dict[str, str], words: str, tmp_path: Path
) -> None:
    environment = {**os.environ, f"{PREFIX}DATA_DIR": str(tmp_path), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "api", "--port", str(_free_port())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
