"""Keys are made, listed and revoked by command."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from features.errors import ConfigError
from features.key_text import MAX_BODY_BYTES, Role, is_secret, parse_key
from features.store import Store
from jobs.__main__ import app
from jobs.keys_commands import checked_origin
from recsys.settings import Settings

DAY_US = 86_400_000_000


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    monkeypatch.setenv("RECSYS_DATA_DIR", str(tmp_path))
    with Store.open(Settings(data_dir=tmp_path).database_url) as opened:
        yield opened


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)


def create(*arguments: str, role: Role = "browser") -> Result:
    made = keys("create", "--role", role, "--name", "web shop", *arguments)
    assert made.exit_code == 0, made.output
    return made


def test_a_key_is_printed_once_and_only_its_hash_is_kept(store: Store, tmp_path: Path) -> None:
    made = create("--origin", "https://shop.example", "--origin", "http://localhost:3000")
    key = parse_key(made.stdout.removesuffix("\n"))
    assert key is not None
    (record,) = store.keys.all()
    assert (record.key_id, record.role, record.name) == (key.key_id, "browser", "web shop")
    assert is_secret(key.secret, record.secret_hash)
    assert record.origins == ("https://shop.example", "http://localhost:3000")
    assert record.max_body_bytes == MAX_BODY_BYTES["browser"]
    assert record.expires_at_us is None
    assert "only time" in made.stderr
    assert "first key" in made.stderr
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.secret.encode() not in kept
    assert record.secret_hash.encode() in kept


def test_limits_are_what_was_asked_for(store: Store) -> None:
    create("--rate", "2.5", "--burst", "7", "--max-body-kb", "12", "--expires-days", "3")
    (record,) = store.keys.all()
    assert (record.rate_per_s, record.burst, record.max_body_bytes) == (2.5, 7, 12_000)
    assert record.expires_at_us == record.created_at_us + 3 * DAY_US


def test_what_a_key_cannot_do_is_said_when_it_is_made() -> None:
    assert "every web page is refused" in create().stderr
    assert "No admin key exists" in create().stderr
    admin = create(role="admin").stderr
    assert "No admin key exists" not in admin
    assert "first key" not in admin
    assert "make a browser key" in create("--origin", "https://a.example", role="server").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "0"),
        ("--burst", "0"),
        ("--max-body-kb", "0"),
        ("--expires-days", "0"),
        ("--role", "root"),
    ],
)
def test_options_that_make_no_sense_make_no_key(store: Store, arguments: tuple[str, str]) -> None:
    assert keys("create", "--role", "server", "--name", "x", *arguments).exit_code == 2
    assert store.keys.all() == []


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_name_is_something_to_recognise(store: Store, name: str) -> None:
    with pytest.raises(ConfigError, match="correct --name"):
        keys("create", "--role", "server", "--name", name)
    assert store.keys.all() == []


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://shop.example", "https://shop.example"),
        ("HTTPS://Shop.Example/", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_kept_as_a_browser_writes_it(given: str, origin: str) -> None:
    assert checked_origin(given) == origin


@pytest.mark.parametrize(
    "given",
    [
        *("*", "null", "", "https://", "shop.example", "https://*.shop.example", "file:///x"),
        *("https://shop.example/path", "https://shop.example?x", "https://user@shop.example"),
        *("https://shop.example:0x1", "https://shop.example:99999", "https://bücher.example"),
        *("https://shop.example https://b.example", "https://shop.example#x", "javascript://x"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="found the origin"):
        checked_origin(given)


def test_the_list_has_every_key_and_no_secret(store: Store) -> None:
    assert "There are no keys" in keys("list").output
    texts = [create(role=role).stdout.strip() for role in ("admin", "browser", "server")]
    found = [parse_key(text) for text in texts]
    store.keys.revoke(store.keys.all()[0].key_id, at_us=1)
    listed = keys("list").output
    for key in found:
        assert key is not None
        assert key.key_id in listed
        assert key.secret not in listed
        assert key.secret_hash[:12] not in listed
    assert "revoked" in listed


def test_a_revoked_key_stays_revoked(store: Store) -> None:
    text = create().stdout.strip()
    key = parse_key(text)
    assert key is not None
    assert "is revoked" in keys("revoke", key.key_id).output
    (record,) = store.keys.all()
    assert record.revoked_at_us is not None
    again = keys("revoke", text)  # the key itself will do
    assert "was revoked before" in again.output
    assert key.secret not in again.output
    assert store.keys.all() == [record]


@pytest.mark.parametrize("key_id", ["00000000", "rk_browser_secret-that-is-not-whole", ""])
def test_revoking_what_is_no_key_says_so_and_repeats_no_secret(key_id: str) -> None:
    with pytest.raises(ConfigError, match="found no key") as refused:
        keys("revoke", key_id)
    assert "secret-that" not in str(refused.value)
