"""Errors have one shape and codes that never change."""

import re
from pathlib import Path

import pytest

import api
from api.answers import ErrorAnswer
from api.errors import CODES, STATUS_CODES, ApiError
from tests.api.conftest import Client

ROOM = Path(str(api.__file__)).parent


def test_every_code_in_use_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in ROOM.glob("*.py"))
    used = set(re.findall(r'\bcode="([^"]+)"', sources))
    assert used
    assert used <= CODES.keys()


def test_every_code_an_endpoint_can_answer_is_in_its_description(early_client: Client) -> None:
    document = early_client.get("/openapi.json").json()
    found = set()
    for verbs in document["paths"].values():
        for operation in verbs.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/json", {})
                for code, example in content.get("examples", {}).items():
                    assert example["value"]["error"]["code"] == code
                    assert CODES[code][0] == int(status)
                    found.add(code)
    assert found == CODES.keys() - {"method_not_allowed"}  # that is of no endpoint


def test_every_status_has_a_code_of_its_own() -> None:
    for status, code in STATUS_CODES.items():
        assert CODES[code][0] == status
        assert ApiError(status, "x").code == code


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/items/x", {"DELETE", "GET", "PATCH", "PUT"}),
        ("GET", "/v1/recommend", {"POST"}),
        ("DELETE", "/healthz", {"GET"}),
        ("HEAD", "/v1/events", {"POST"}),
    ],
)
def test_405_names_every_method_the_path_has(
    client: Client, method: str, path: str, allow: set[str]
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == allow


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/recommend/", "/healthz/", "/%00", "//"])
def test_a_path_that_is_none_is_404_and_not_another_s(client: Client, path: str) -> None:
    answer = client.post(path)
    assert answer.status_code == 404
    assert ErrorAnswer.model_validate_json(answer.content).error.code == "not_found"
