"""What callers rely on changes on purpose or not at all.

After a change that is meant: `RECSYS_WRITE_OPENAPI=1 .venv/bin/pytest tests/api/test_contract.py`,
then read the difference of openapi.json as whoever wrote a client for it would.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from api import answers, answers_told, experiment_answers
from api.app import create_app
from api.examples import ANSWERS, example
from recsys.settings import Settings

SNAPSHOT = Path(__file__).parent / "openapi.json"
WRITE = "RECSYS_WRITE_OPENAPI"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_the_openapi_document_is_the_one_that_was_agreed(document: dict[str, Any]) -> None:
    written = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get(WRITE):
        SNAPSHOT.write_text(written)
    agreed = SNAPSHOT.read_text()
    if written != agreed:
        first = next(
            (n, old, new)
            for n, (old, new) in enumerate(
                zip([*agreed.splitlines(), ""], [*written.splitlines(), ""], strict=False), 1
            )
            if old != new
        )
        pytest.fail(
            f"openapi.json, line {first[0]}: agreed {first[1]!r}, found {first[2]!r}. If that is "
            f"meant, run this test with {WRITE}=1 and commit the file."
        )


def test_the_examples_are_answers_that_could_be_given() -> None:
    models = {**vars(experiment_answers), **vars(answers_told), **vars(answers)}
    for name in ANSWERS:
        models[name].model_validate(example(name))


def test_every_success_shows_an_example(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    assert response["content"], (path, verb)
                    for kind, content in response["content"].items():
                        assert content.keys() & {"example", "examples"}, (path, verb, kind)


def test_every_error_is_documented_with_examples(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    content = response["content"]["application/json"]
                    assert content["examples"], (path, verb, status)
