"""`python -m jobs keys`: make, list and revoke the keys that the API asks for."""

import re
import time
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from features.errors import ConfigError
from features.events import US_PER_DAY, US_PER_SECOND
from features.key_text import MAX_BODY_BYTES, Role, make_key, parse_key
from features.keys import KeyRecord
from features.store import Store
from jobs.console import Terminal
from recsys.settings import read_settings

# of one key in one process: a page's key is shared by all shoppers, and 200/s are 17 million a day
RATE_PER_S, BURST = 200.0, 400
MAX_NAME_LENGTH = 100

_PORTS = {"http": 80, "https": 443}

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="What it allows")],
    name: Annotated[str, typer.Option(help="What it is for, to recognise it in the list")],
    origins: Annotated[
        list[str] | None,
        typer.Option("--origin", help="https://shop.example: a site whose pages may use it"),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, max=1e6, help="Per second")] = RATE_PER_S,
    burst: Annotated[int, typer.Option(min=1, max=1_000_000, help="At once")] = BURST,
    max_body_kb: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Empty: what the role usually sends")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Empty: never")
    ] = None,
) -> None:
    """Print a new key, once: only its hash is kept. The key alone goes to standard output."""
    settings, notes, now_us = read_settings(), Terminal(Console(stderr=True)), _now_us()
    key = make_key(role)
    record = KeyRecord(
        key_id=key.key_id,
        name=_checked_name(name),
        role=role,
        secret_hash=key.secret_hash,
        origins=tuple(dict.fromkeys(map(checked_origin, origins or []))),
        rate_per_s=rate,
        burst=burst,
        max_body_bytes=MAX_BODY_BYTES[role] if max_body_kb is None else max_body_kb * 1_000,
        created_at_us=now_us,
        expires_at_us=None if expires_days is None else now_us + expires_days * US_PER_DAY,
    )
    with Store.open(settings.database_url) as store:
        others = store.keys.all()
        store.keys.add(record)
    typer.echo(key.full_text)
    for note in _notes(record, others):
        notes.say(note)


@app.command("list")
def list_keys() -> None:
    """Every key there ever was; never its secret, which nobody has."""
    terminal, now_us = Terminal(), _now_us()
    with Store.open(read_settings().database_url) as store:
        records = store.keys.all()
    if not records:
        terminal.say("There are no keys: on 127.0.0.1 everybody may do everything.")
        return
    terminal.table(
        "Keys",
        ("key", "name", "role", "state", "limits", "origins"),
        [_row(record, now_us) for record in records],
    )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Of `keys list`, or the key itself")],
) -> None:
    """Make a key worthless; every server follows within a poll interval."""
    settings = read_settings()
    key = parse_key(key_id)
    which = key_id if key is None else key.key_id
    with Store.open(settings.database_url) as store:
        if not any(record.key_id == which for record in store.keys.all()):
            raise ConfigError(
                f"found no key {which if len(which) <= 8 else 'of this text'!r}; expected an id "
                "of `python -m jobs keys list`"
            )
        is_new = store.keys.revoke(which, at_us=_now_us())
    Terminal().say(
        f"{which} is revoked; servers refuse it within {settings.poll_interval_s:g} s"
        if is_new
        else f"{which} was revoked before"
    )


def checked_origin(text: str) -> str:
    """As a browser writes it in its Origin header; ConfigError for what it never sends."""
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    scheme, host = parts.scheme, parts.hostname or ""
    shown = "" if port is None or port == _PORTS.get(scheme) else f":{port}"
    origin = f"{scheme}://{f'[{host}]' if ':' in host else host}{shown}"
    is_sound = scheme in _PORTS and re.fullmatch(r"[a-z0-9.:-]+", host) and port != -1
    if not is_sound or text.lower().rstrip("/") not in (origin, f"{origin}:{port}"):
        raise ConfigError(
            f"found the origin {text!r}; expected scheme and host, and the port if it is not the "
            "usual one, like https://shop.example or http://localhost:3000 (no path, no *, and "
            "names in other alphabets as xn--…); name each site by an --origin of its own"
        )
    return origin


def _checked_name(text: str) -> str:
    if not text.strip() or len(text) > MAX_NAME_LENGTH or not text.isprintable():
        raise ConfigError(
            f"found a name of {len(text)} characters; expected 1 to {MAX_NAME_LENGTH} that can be "
            "printed; correct --name"
        )
    return text


def _notes(record: KeyRecord, others: list[KeyRecord]) -> list[str]:
    notes = ["This is the only time the key is shown. Its secret cannot be read back."]
    if not others:
        notes.append("It is the first key: from now on every request needs one.")
    if record.role == "browser" and not record.origins:
        notes.append("It has no --origin: apps can use it, but every web page is refused.")
    if record.role in ("server", "admin") and record.origins:
        notes.append(
            f"Whoever opens a page that holds this key has it, and may do what {record.role} may. "
            "For pages of shoppers make a browser key."
        )
    if all(of.role != "admin" or of.revoked_at_us is not None for of in [*others, record]):
        notes.append("No admin key exists: rules, metrics and erasures are closed to everybody.")
    return notes


def _row(record: KeyRecord, now_us: int) -> list[object]:
    limits = f"{record.rate_per_s:g}/s, {record.burst} at once, {record.max_body_bytes / 1e3:g} kB"
    origins = "\n".join(record.origins)
    return [record.key_id, record.name, record.role, _state(record, now_us), limits, origins]


def _state(record: KeyRecord, now_us: int) -> str:
    if record.revoked_at_us is not None:
        return f"revoked {_day(record.revoked_at_us)}"
    if record.expires_at_us is None:
        return "live"
    is_over = record.expires_at_us <= now_us
    return f"{'expired' if is_over else 'live until'} {_day(record.expires_at_us)}"


def _day(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / US_PER_SECOND, UTC).date().isoformat()


def _now_us() -> int:
    return time.time_ns() // 1_000
