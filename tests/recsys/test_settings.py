import json
from pathlib import Path

import pytest

from features.errors import ConfigError
from features.events import DEFAULT_EVENT_TYPES, MAX_EVENT_TYPES, EventType
from recsys.settings import read_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_DATA_DIR", raising=False)


def test_everything_lies_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATA_DIR", "/srv/shop")
    settings = read_settings()
    assert settings.database_url == "sqlite:////srv/shop/store.sqlite"
    assert settings.lake_dir == Path("/srv/shop/lake")
    assert settings.releases_dir == Path("/srv/shop/releases")
    assert settings.event_types() == DEFAULT_EVENT_TYPES


def test_one_place_can_be_moved_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LAKE_DIR", "/mnt/lake")
    settings = read_settings()
    assert settings.lake_dir == Path("/mnt/lake")
    assert settings.work_dir == Path("data/work")


@pytest.mark.parametrize(
    ("name", "value"), [("RECSYS_KEEP_RELEASES", "many"), ("RECSYS_POLL_INTERVAL_S", "0")]
)
def test_a_value_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}='{value}'"):
        read_settings()


def test_a_misspelled_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATADIR", "x")
    with pytest.raises(ConfigError, match="RECSYS_DATADIR"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "text"), [("types.json", '{"view": 1, "skip": -2}'), ("types.toml", "view=1\nskip=-2")]
)
def test_event_types_come_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("RECSYS_EVENT_TYPES_PATH", str(tmp_path / name))
    assert read_settings().event_types() == (EventType("view", 1.0), EventType("skip", -2.0))


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"view": "much"}', '{"skip": -1}'])
def test_a_bad_file_of_event_types_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "types.json"
    path.write_text(text)
    monkeypatch.setenv("RECSYS_EVENT_TYPES_PATH", str(path))
    with pytest.raises(ConfigError, match=r"types\.json"):
        read_settings().event_types()


def test_more_event_types_than_a_history_can_tell_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "types.json"
    monkeypatch.setenv("RECSYS_EVENT_TYPES_PATH", str(path))
    path.write_text(json.dumps({f"kind-{n}": 1 for n in range(MAX_EVENT_TYPES)}))
    assert len(read_settings().event_types()) == MAX_EVENT_TYPES
    path.write_text(json.dumps({f"kind-{n}": 1 for n in range(MAX_EVENT_TYPES + 1)}))
    with pytest.raises(ConfigError, match="128 event types"):
        read_settings().event_types()
