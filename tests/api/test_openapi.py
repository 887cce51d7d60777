"""What /docs promises is what is answered."""

from typing import Any

import pytest
from pydantic import BaseModel

from api import answers, answers_told
from api import experiment_answers as told
from api.experiment_bodies import DESIGN
from tests.api.conftest import Client, event

ENDPOINTS = {
    ("/v1/recommend", "post"),
    ("/v1/recommend/next", "post"),
    ("/v1/recommend/many", "post"),
    ("/v1/placements", "get"),
    ("/v1/placements/{name}", "get"),
    ("/v1/placements/{name}", "put"),
    ("/v1/placements/{name}", "delete"),
    ("/v1/rules", "get"),
    ("/v1/rules/{rule_id}", "get"),
    ("/v1/rules/{rule_id}", "put"),
    ("/v1/rules/{rule_id}", "delete"),
    ("/v1/rules/preview", "post"),
    ("/v1/experiments", "get"),
    ("/v1/experiments/{name}", "get"),
    ("/v1/experiments/{name}", "put"),
    ("/v1/experiments/{name}", "delete"),
    ("/v1/experiments/{name}/start", "post"),
    ("/v1/experiments/{name}/stop", "post"),
    ("/v1/experiments/{name}/decide", "post"),
    ("/v1/experiments/{name}/assignment", "get"),
    ("/v1/experiments/{name}/report", "get"),
    ("/v1/holdout", "get"),
    ("/v1/holdout", "put"),
    ("/v1/events", "post"),
    ("/v1/items/{item_id}", "put"),
    ("/v1/items/{item_id}", "get"),
    ("/v1/items/{item_id}", "delete"),
    ("/v1/items/{item_id}", "patch"),
    ("/v1/items", "get"),
    ("/v1/bulk/items", "get"),
    ("/v1/bulk/items", "post"),
    ("/v1/users/{user_id}", "put"),
    ("/v1/users/{user_id}", "get"),
    ("/v1/users/{user_id}", "delete"),
    ("/v1/users/{user_id}", "patch"),
    ("/v1/users", "get"),
    ("/v1/bulk/users", "get"),
    ("/v1/bulk/users", "post"),
    ("/v1/exports/users/{user_id}", "get"),
    ("/v1/erasures/{receipt_id}", "get"),
    ("/v1/sessions", "post"),
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
        assert {"400", "500"} <= operation["responses"].keys()
        assert ("requestBody" in operation) == (verb in ("post", "put", "patch"))
        for status, response in operation["responses"].items():
            schema = next(iter(response["content"].values()))["schema"]
            is_error = schema.get("$ref", "").endswith("/ErrorAnswer")  # rows have no model
            assert is_error == (status >= "300")


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


_NAMES = dict.fromkeys(("item_id", "user_id", "receipt_id", "name", "rule_id"), "new")


def test_the_examples_work(document: dict[str, Any], client: Client) -> None:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            if "requestBody" not in operation:
                continue
            content = operation["requestBody"]["content"]
            if "application/json" not in content:  # rows, tried in test_bulk
                continue
            schema = content["application/json"]["schema"]
            for example in schema["examples"]:
                answer = client.request(verb, path.format_map(_NAMES), json=example)
                expected = 404 if path.endswith("/next") else 200  # nobody was shown that slate
                assert answer.status_code == expected, (path, answer.text)


def test_docs_are_served(early_client: Client) -> None:
    assert early_client.get("/docs").status_code == 200


_RULE = {"then": {"action": "pin", "item_id": "i01", "position": 0}}


def test_answers_have_the_documented_shape(client: Client) -> None:
    sent: list[tuple[str, str, object, type[BaseModel]]] = [
        ("POST", "/v1/recommend", {}, answers.SlateAnswer),
        ("POST", "/v1/recommend", {"explain": True}, answers.SlateAnswer),
        ("POST", "/v1/recommend", {"validate_only": True}, answers.ValidAnswer),
        ("POST", "/v1/recommend", {"query": "title"}, answers.SlateAnswer),
        ("POST", "/v1/recommend/many", {"slates": [{}, {"k": 2}]}, answers.ManyAnswer),
        ("GET", "/v1/placements", None, answers.PlacementsAnswer),
        ("PUT", "/v1/placements/new", {"k": 3}, answers.PlacementWritten),
        ("GET", "/v1/placements/new", None, answers.PlacementAnswer),
        ("DELETE", "/v1/placements/new", None, answers.Deleted),
        ("PUT", "/v1/rules/new", _RULE, answers.RuleWritten),
        ("GET", "/v1/rules/new", None, answers.RuleAnswer),
        ("GET", "/v1/rules", None, answers.RulesAnswer),
        ("POST", "/v1/rules/preview", {"rule": _RULE, "ask": {}}, answers.PreviewAnswer),
        ("DELETE", "/v1/rules/new", None, answers.Deleted),
        ("PUT", "/v1/experiments/new", DESIGN, told.ExperimentAnswer),
        ("GET", "/v1/experiments/new", None, told.ExperimentAnswer),
        ("GET", "/v1/experiments", None, told.ExperimentsAnswer),
        ("PUT", "/v1/holdout", {"share": 0.1}, told.HoldoutAnswer),
        ("POST", "/v1/experiments/new/start", {}, told.ExperimentAnswer),
        (
            "GET",
            "/v1/experiments/new/assignment?unit_id=u",
            None,
            told.WouldGetAnswer,
        ),
        ("POST", "/v1/recommend", {"user_id": "u"}, answers.SlateAnswer),
        ("GET", "/v1/holdout", None, told.HoldoutAnswer),
        ("POST", "/v1/events", {"events": [event("e1"), 1]}, answers_told.EventsAnswer),
        ("PUT", "/v1/items/new", {"title": "x"}, answers_told.ItemStored),
        ("GET", "/v1/items/new", None, answers_told.Item),
        ("DELETE", "/v1/items/new", None, answers_told.ItemDeleted),
        ("GET", "/healthz", None, answers.Alive),
        ("GET", "/readyz", None, answers.Ready),
        ("GET", "/nowhere", None, answers.ErrorAnswer),
    ]
    for method, path, body, shape in sent:
        answer = client.request(method, path, json=body)
        read = shape.model_validate_json(answer.content)
        assert read.model_dump()["request_id"] == answer.headers["X-Request-ID"]
