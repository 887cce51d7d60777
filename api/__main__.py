"""`python -m api` serves the current release until it is told to stop."""

import argparse
import sys

import uvicorn

from api.app import create_app
from api.logs import configure
from features.errors import RecsysError
from features.store import Store
from recsys.settings import Settings, read_settings

GRACE_S = 20  # for answers that are on their way when the server is told to stop


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="there are no keys yet: keep it local")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"]
    )
    options = parser.parse_args()
    configure(options.log_level)
    try:
        settings = _checked_settings()
    except RecsysError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
    uvicorn.run(
        create_app(settings),
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )


def _checked_settings() -> Settings:
    """What would fail while the application starts fails here, in one line."""
    settings = read_settings()
    settings.event_types()
    Store.open(settings.database_url).close()
    return settings


if __name__ == "__main__":
    main()
