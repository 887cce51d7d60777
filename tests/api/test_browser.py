"""The documentation and the snippet as files; tests/api/test_snippet.py runs them in a browser."""

import re

from api.browser import SNIPPET
from tests.api.conftest import Client


def test_the_documentation_needs_nothing_from_elsewhere(early_client: Client) -> None:
    page = early_client.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(addresses) == 3
    for address in addresses:
        assert "//" not in address
        asset = early_client.get(f"/{address}")
        assert asset.status_code == 200
        assert len(asset.content) > 1_000
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0]


def test_an_asset_that_is_none_is_not_found(early_client: Client) -> None:
    for path in ("/docs/assets/../../../app.py", "/docs/assets/core.py", "/docs/assets/none.js"):
        assert early_client.get(path).status_code == 404


def test_the_snippet_is_cached_and_checked_by_its_tag(early_client: Client) -> None:
    first = early_client.get("/snippet.js")
    assert first.status_code == 200
    assert first.content == SNIPPET
    assert first.headers["content-type"].startswith("text/javascript")
    assert "max-age" in first.headers["cache-control"]
    tag = first.headers["etag"]
    again = early_client.get("/snippet.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    other = early_client.get("/snippet.js", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


def test_the_snippet_is_a_few_kilobytes_and_writes_no_markup() -> None:
    assert len(SNIPPET) < 6_000
    text = SNIPPET.decode("ascii")
    for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval"):
        assert way not in text
