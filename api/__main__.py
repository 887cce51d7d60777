"""`python -m api` serves the current release until it is told to stop."""

import argparse
import ipaddress
import os
import sys
from collections.abc import Mapping

import uvicorn
from starlette.middleware import Middleware

import api.one_thread  # noqa: F401  first of all that loads NumPy
from api.app import create_app
from api.logs import configure
from features.errors import ConfigError, RecsysError
from features.store import Store
from recsys.settings import Settings, read_settings

TRACES_TO = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
GRACE_S = 20  # for answers that are on their way when the server is told to stop


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="others than this machine's own need keys"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"]
    )
    parser.add_argument(
        "--without-keys",
        action="store_true",
        help="listen on any host without keys: whoever reaches it may do everything",
    )
    parser.add_argument("--log-format", default="text", choices=["text", "json"])
    options = parser.parse_args()
    configure(options.log_level, options.log_format)
    try:
        settings, around = _checked_settings(), tracing(os.environ)
        if not options.without_keys:
            check_host(settings, options.host)
    except RecsysError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
    uvicorn.run(
        create_app(settings, around=around),
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


def check_host(settings: Settings, host: str) -> None:
    """Without any key everybody is an admin: fine for this machine, not for a network."""
    with Store.open(settings.database_url) as store:
        is_open = not store.keys.all()
    if is_open and not _is_loopback(host):
        raise ConfigError(
            f"found --host {host} and no keys, so that everybody who reaches it could do "
            "everything; run `python -m jobs keys create --role admin --name me` first, or say "
            "--without-keys on a network you trust"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tracing(environment: Mapping[str, str]) -> list[Middleware]:
    """What OpenTelemetry's own variables ask for; nothing of it is imported unless they do."""
    asking = [name for name in TRACES_TO if environment.get(name)]
    if not asking:
        return []
    try:
        from api.traces import exporting
    except ImportError as error:
        raise ConfigError(
            f"found {asking[0]} set but OpenTelemetry not installed ({error}); "
            "pip install 'storefront-recsys[otel]', or unset it"
        ) from error
    return [exporting(environment)]


if __name__ == "__main__":
    main()
