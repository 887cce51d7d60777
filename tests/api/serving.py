"""A server that listens, beside the tests that talk to it over the network."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from features.key_text import Role, make_key
from features.keys import KeyRecord
from features.store import Store
from tests.api.conftest import until

OFTEN = 1_000_000  # requests a second: no test waits for its turn


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening(app: FastAPI, port: int | None = None) -> Iterator[str]:
    """The address of `app`, which runs in a thread; closed as a server that is told to stop."""
    port = port or free_port()
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def files_at(folder: Path) -> Iterator[str]:
    """The address of a site of static files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, name="site")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def add_key(store: Store, role: Role, *origins: str) -> str:
    """The text of a new key."""
    key = make_key(role)
    store.keys.add(
        KeyRecord(
            key_id=key.key_id,
            name=role,
            role=role,
            secret_hash=key.secret_hash,
            origins=origins,
            rate_per_s=OFTEN,
            burst=OFTEN,
            max_body_bytes=1_000_000,
            created_at_us=1,
        )
    )
    return key.full_text
