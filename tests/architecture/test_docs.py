"""What the documentation says about names, commands, endpoints and files is still so."""

import re
from pathlib import Path

import pytest
import typer

from api.app import create_app
from features.views_table import COMMAND, PATH, views_table
from jobs.__main__ import app as commands
from recsys.settings import PREFIX, Settings

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("features", "recsys", "jobs", "api")
DOCUMENTS = (
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "DECISIONS.md")),
    REPOSITORY / "CHANGELOG.md",
    *(REPOSITORY / room / "README.md" for room in (*ROOMS, "data")),
)
BRACED = re.compile(r"\{[^}]*\}")


def _text(*names: str) -> str:
    return "\n".join((REPOSITORY / name).read_text(encoding="utf-8") for name in names)


def test_the_page_of_feature_views_is_the_list_the_ranker_reads() -> None:
    assert PATH.read_text(encoding="utf-8") == views_table(), f"{PATH} is stale: run `{COMMAND}`"


def test_every_command_is_documented() -> None:
    group = typer.main.get_command(commands)
    assert isinstance(group, typer.core.TyperGroup)
    text = _text("README.md", "jobs/README.md")
    assert [name for name in group.commands if f"python -m jobs {name}" not in text] == []


def test_every_endpoint_is_documented(tmp_path: Path) -> None:
    lines = BRACED.sub("{}", _text("api/README.md")).splitlines()
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    endpoints = [(method.upper(), path) for path, found in paths.items() for method in found]
    assert endpoints
    missing = [
        (method, path)
        for method, path in endpoints
        if not any(method in line and BRACED.sub("{}", path) in line for line in lines)
    ]
    assert missing == []


def test_every_setting_is_documented() -> None:
    text = _text("README.md")
    settings = [f"`{PREFIX}{name.upper()}`" for name in Settings.model_fields]
    assert [setting for setting in settings if setting not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_documents_point_to_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)\s]+)\)|href=\"([^\"]+)\"", text)
    links = {(inline or tag).split("#")[0] for inline, tag in found if ":" not in inline + tag}
    missing = {link for link in links if link and not (document.parent / link).exists()}
    named = set(re.findall(r"`((?:features|recsys|jobs|api|tests)/[\w/.-]*\w)`", text))
    assert missing | {path for path in named if not (REPOSITORY / path).exists()} == set()
