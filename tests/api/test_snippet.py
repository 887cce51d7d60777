"""The snippet as a shop uses it: in a browser, on a page of another origin, with a browser key."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from api.browser import SNIPPET
from features.events import SEEN
from tests.api.conftest import Shop, item, items, until
from tests.api.fake_recommender import load_fake
from tests.api.serving import add_key, files_at, free_port, listening

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt-get install both)"
)

PAGE = """<!doctype html><meta charset="utf-8"><title>A shop</title>
<style>.recsys-item {{ display: block; height: 150px }}</style>
<script>window.errors = []; addEventListener("error", (e) => errors.push(e.message));
addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));</script>
<script src="recsys.js"></script>
<div style="height: 3000px"></div>
<div id="slate">bestsellers of the shop</div>
<script>recsys.init({init}); window.slate = recsys.render("#slate", {{ k: 4 }});</script>
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=800,700"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@dataclass(frozen=True)
class Site:
    """A shop's page, and what its visitors made the server store."""

    browser: Chrome
    shop: Shop
    address: str
    endpoint: str

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def slate(self) -> Any:
        """The answer that the page got."""
        return self.run("return window.slate")  # a promise is waited for

    def shown(self) -> list[str]:
        return [found.text for found in self.browser.find_elements(By.CLASS_NAME, "recsys-item")]

    def told(self) -> list[dict[str, Any]]:
        parts = list(self.shop.store.events_after(0))
        return pl.concat(parts).to_dicts() if parts else []

    def told_of(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.told() if event["event_type"] == event_type]


@pytest.fixture
def site(browser: Chrome, shop: Shop, tmp_path: Path) -> Iterator[Site]:
    """A server that is not up yet, and the page that will ask it."""
    shop.store.upsert_items(
        items(item("i19", title="<b>bold</b>", attributes='{"url":"/p/19"}')), updated_at_us=2
    )
    shop.publish("r1")
    folder, endpoint = tmp_path / "site", f"http://127.0.0.1:{free_port()}"
    folder.mkdir()
    (folder / "recsys.js").write_bytes(SNIPPET)
    with files_at(folder) as origin:
        key = add_key(shop.store, "browser", origin)
        init = json.dumps({"key": key, "endpoint": endpoint})
        (folder / "index.html").write_text(PAGE.format(init=init))
        yield Site(browser, shop, f"{origin}/index.html", endpoint)
        browser.get("about:blank")  # no page of this test talks to the server of the next


@pytest.fixture
def open_site(site: Site) -> Iterator[Site]:
    with listening(site.shop.app(load_fake), _port(site.endpoint)):
        _until_ready(site)
        site.browser.get(site.address)
        site.slate()
        yield site


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _until_ready(site: Site) -> None:
    until(lambda: httpx.get(f"{site.endpoint}/readyz").status_code == 200)


def test_a_slate_is_shown_as_text(open_site: Site) -> None:
    answer = open_site.slate()
    assert [entry["item_id"] for entry in answer["items"]] == ["i19", "i18", "i17", "i16"]
    assert open_site.shown() == ["<b>bold</b>", "Title of i18", "Title of i17", "Title of i16"]
    first = open_site.browser.find_element(By.CLASS_NAME, "recsys-item")
    assert first.get_attribute("href") == open_site.address.replace("index.html", "p/19")
    assert open_site.run("return errors") == []


def test_an_address_that_is_a_script_is_no_link(open_site: Site) -> None:
    attributes = json.dumps({"url": "javascript:alert(1)"})
    change = items(item("i19", attributes=attributes))
    open_site.shop.store.upsert_items(change, updated_at_us=3)
    href = """const place = document.body.appendChild(document.createElement("p"));
        return recsys.render(place, { k: 1 }).then(() => place.firstChild.getAttribute("href"))"""
    until(lambda: open_site.run(href) is None)


def test_a_shop_renders_items_as_it_likes(open_site: Site) -> None:
    text = open_site.run(
        """const card = (item) => Object.assign(document.createElement("p"),
             { textContent: `${item.properties.title} for ${item.properties.attributes.price}` });
           return recsys.render("#slate", { k: 2, exclude_ids: ["i19"] }, card)
             .then(() => document.querySelector("#slate").innerText)"""
    )
    assert text.split("\n\n") == ["Title of i18 for 10", "Title of i17 for 10"]


def test_a_click_is_stored_with_the_slate_it_came_from(open_site: Site) -> None:
    request_id = open_site.slate()["request_id"]
    open_site.browser.find_elements(By.CLASS_NAME, "recsys-item")[1].click()
    until(lambda: len(open_site.told_of("click")) == 1)
    (click,) = open_site.told_of("click")
    assert (click["item_id"], click["request_id"]) == ("i18", request_id)
    assert click["session_id"] == open_site.run("return localStorage['recsys.session']")
    slate = open_site.shop.store.slate(request_id)
    assert slate is not None
    assert slate.session_id == click["session_id"]


def test_a_click_that_leaves_the_page_is_stored(open_site: Site) -> None:
    open_site.browser.find_elements(By.CLASS_NAME, "recsys-item")[0].click()  # a link to /p/19
    until(lambda: [event["item_id"] for event in open_site.told_of("click")] == ["i19"])
    assert open_site.browser.current_url.endswith("/p/19")


def test_items_are_seen_when_they_are_scrolled_into_view_and_once(open_site: Site) -> None:
    request_id = open_site.slate()["request_id"]
    time.sleep(2.5)  # longer than a second in view and the pause before it is told
    assert open_site.told() == []
    open_site.run(
        "scrollTo(0, document.querySelector('.recsys-item').offsetTop + 200 - innerHeight)"
    )
    until(lambda: len(open_site.told_of(SEEN)) == 1)  # 200 pixels: the first, a third of the second
    open_site.run("scrollTo(0, 10000)")
    until(lambda: len(open_site.told_of(SEEN)) == 4)
    open_site.run("scrollTo(0, 0)")
    time.sleep(0.2)
    open_site.run("scrollTo(0, 10000)")
    time.sleep(2.5)
    seen = open_site.told_of(SEEN)
    assert [event["item_id"] for event in seen] == ["i19", "i18", "i17", "i16"]
    assert {event["request_id"] for event in seen} == {request_id}


def test_items_that_rush_by_are_not_seen(open_site: Site) -> None:
    open_site.run("scrollTo(0, 10000)")
    time.sleep(0.3)
    open_site.run("scrollTo(0, 0)")
    time.sleep(2.5)
    assert open_site.told() == []


def test_seen_items_stay_recommended(open_site: Site) -> None:
    open_site.run("scrollTo(0, 10000)")
    until(lambda: len(open_site.told_of(SEEN)) == 4)
    again = open_site.run("return recsys.recommend({ k: 4 })")
    assert [entry["item_id"] for entry in again["items"]] == ["i19", "i18", "i17", "i16"]


def test_what_waits_when_the_page_is_left_is_stored(open_site: Site) -> None:
    open_site.run("for (let n = 0; n < 120; n++) recsys.track('view', `i${n % 20}`)")
    open_site.browser.get("about:blank")
    until(lambda: len(open_site.told_of("view")) == 120)


def test_a_shopper_keeps_their_session_and_becomes_a_user_at_login(open_site: Site) -> None:
    session = "return localStorage['recsys.session']"
    before = open_site.run(session)
    assert len(before) == 32
    open_site.run("recsys.track('view', 'i01')")
    open_site.browser.refresh()
    assert open_site.run(session) == before
    linked = open_site.run("return recsys.login('u9')")
    assert "error" not in linked
    open_site.run("recsys.track('view', 'i02')")
    until(lambda: len(open_site.told_of("view")) == 2)
    assert [event["user_id"] for event in open_site.told_of("view")][1] == "u9"
    shown = open_site.run("return recsys.recommend({ k: 20 })")
    left_out = {f"i{n:02}" for n in range(20)} - {entry["item_id"] for entry in shown["items"]}
    assert left_out == {"i01", "i02"}  # what the session saw, the user has seen


def test_without_consent_nothing_is_kept_or_told(open_site: Site) -> None:
    open_site.run("recsys.allow(false); recsys.track('view', 'i01')")
    assert open_site.run("return localStorage.length") == 0
    open_site.browser.get("about:blank")
    time.sleep(0.5)
    assert open_site.told() == []


def test_a_page_stays_as_it_is_while_the_server_is_away(site: Site) -> None:
    with socket.socket() as silent:  # nobody listens, and nobody else may take the port
        silent.bind(("127.0.0.1", _port(site.endpoint)))
        site.browser.get(site.address)
        answer = site.slate()
        assert answer["items"] == []
        assert answer["error"]
        assert site.browser.find_element(By.ID, "slate").text == "bestsellers of the shop"
        site.run("recsys.track('view', 'i07')")
        time.sleep(1.5)
        assert site.run("return errors") == []
    with listening(site.shop.app(load_fake), _port(site.endpoint)):
        until(lambda: [event["item_id"] for event in site.told()] == ["i07"], within_s=20)


def test_the_documentation_works_under_its_own_policy(open_site: Site) -> None:
    browser = open_site.browser
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    browser.get(f"{open_site.endpoint}/docs")
    until(lambda: len(browser.find_elements(By.CLASS_NAME, "opblock")) > 5)
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
