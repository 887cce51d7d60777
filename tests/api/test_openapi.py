"""What /docs promises is what is answered."""

from typing import Any

import pytest

from api import answers, answers_told
from tests.api.conftest import Client, event

ENDPOINTS = {
    ("/v1/recommend", "post"),
    ("/v1/search", "post"),
    ("/v1/events", "post"),
    ("/v1/items/{item_id}", "put"),
    ("/v1/items/{item_id}", "get"),
    ("/v1/items/{item_id}", "delete"),
    ("/v1/items/{item_id}/similar", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
}


@pytest.fixture
def document(early_client: Client) -> dict[str, Any]:
    found: dict[str, Any] = early_client.get("/openapi.json").json()
    return found


def test_every_endpoint_is_described_with_its_errors(document: dict[str, Any]) -> None:
    described = {(path, verb) for path, verbs in document["paths"].items() for verb in verbs}
    assert described == ENDPOINTS
    for path, verb in ENDPOINTS:
        operation = document["paths"][path][verb]
        assert operation["summary"]
        assert {"200", "400", "500"} <= operation["responses"].keys()
        assert ("requestBody" in operation) == (verb in ("post", "put"))
        for status, response in operation["responses"].items():
            schema = response["content"]["application/json"]["schema"]
            assert (schema["$ref"].endswith("/ErrorAnswer")) == (status != "200")


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def check(node: object) -> None:
        if isinstance(node, dict):
            assert "$defs" not in node
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/components/schemas/") in schemas
            for inner in node.values():
                check(inner)
        elif isinstance(node, list):
            for inner in node:
                check(inner)

    check(document)


def test_the_examples_work(document: dict[str, Any], client: Client) -> None:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            for example in schema["examples"]:
                answer = client.request(verb, path.format(item_id="new"), json=example)
                assert answer.status_code == 200, (path, answer.text)


def test_docs_are_served(early_client: Client) -> None:
    assert early_client.get("/docs").status_code == 200


def test_answers_have_the_documented_shape(client: Client) -> None:
    sent: list[tuple[str, str, object, type[answers.Shape]]] = [
        ("POST", "/v1/recommend", {}, answers.SlateAnswer),
        ("POST", "/v1/recommend", {"explain": True}, answers.SlateAnswer),
        ("POST", "/v1/search", {"query": "title"}, answers.SlateAnswer),
        ("POST", "/v1/events", {"events": [event("e1"), 1]}, answers_told.EventsAnswer),
        ("PUT", "/v1/items/new", {"title": "x"}, answers_told.ItemStored),
        ("GET", "/v1/items/new", None, answers_told.Item),
        ("GET", "/v1/items/new/similar", None, answers.SimilarAnswer),
        ("DELETE", "/v1/items/new", None, answers_told.ItemDeleted),
        ("GET", "/healthz", None, answers.Alive),
        ("GET", "/readyz", None, answers.Ready),
        ("GET", "/nowhere", None, answers.ErrorAnswer),
    ]
    for method, path, body, shape in sent:
        answer = client.request(method, path, json=body)
        read = shape.model_validate_json(answer.content)
        assert read.model_dump()["request_id"] == answer.headers["X-Request-ID"]
