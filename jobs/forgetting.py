"""Where beside store and lake a shopper is known: refused rows, examples on a page, releases."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import orjson

from features.erasures import Erasure
from features.errors import ReleaseError
from features.interactions import shopper_id
from jobs.page_words import shortened
from recsys.releases import Releases

NOBODY = "erased"  # instead of a name


def forget_in_files(erasure: Erasure, rejects: Path | None, reports: Path) -> int:
    """How many refused rows were removed; on pages of examples the name alone goes."""
    names = {n for n in (erasure.user_id, *erasure.session_ids) if n is not None}
    shoppers = {shopper_id(erasure.user_id, None), *(shopper_id(None, s) for s in names)}
    for path in sorted(reports.glob("evaluation-*.json")):
        _rewrite(path, lambda text: _unnamed_json(text, shoppers))
    for path in sorted(reports.glob("evaluation-*.html")):
        _rewrite(path, lambda text: _unnamed_page(text, shoppers))
    if rejects is None:
        return 0
    return sum(_forget_refused(path, names) for path in sorted(rejects.glob("*.jsonl")))


def releases_before(releases: Releases, us: int) -> tuple[str, ...]:
    """Those whose night began before: they may hold what was learned of somebody erased at `us`."""
    found = []
    for release_id in releases.list():
        try:
            is_older = releases.manifest(release_id).created_at_us < us
        except ReleaseError:  # damaged: nothing says that it is not
            is_older = True
        if is_older:
            found.append(release_id)
    return tuple(found)


def _forget_refused(path: Path, names: set[str]) -> int:
    """Lines in which any value is one of the names: a file's columns may be called anything."""
    removed = 0

    def kept(text: bytes) -> bytes:
        nonlocal removed
        lines = text.splitlines(keepends=True)
        others = [line for line in lines if not _has(line, names)]
        removed = len(lines) - len(others)
        return b"".join(others)

    _rewrite(path, kept)
    return removed


def _has(line: bytes, names: set[str]) -> bool:
    raw = orjson.loads(line)["raw"]
    values = raw.values() if isinstance(raw, dict) else [raw]
    return any(str(value) in names for value in values)


def _unnamed_json(text: bytes, shoppers: set[str | None]) -> bytes:
    report = orjson.loads(text)
    if not _unname(report, shoppers):
        return text
    return orjson.dumps(report, option=orjson.OPT_INDENT_2)


def _unname(value: Any, shoppers: set[str | None]) -> bool:  # noqa: ANN401  JSON is whatever it is
    if isinstance(value, list):
        return sum(_unname(entry, shoppers) for entry in value) > 0  # each one, not the first
    if not isinstance(value, dict):
        return False
    is_named = value.get("user_id") in shoppers and value.get("user_id") is not None
    if is_named:
        value["user_id"] = NOBODY
    return is_named + sum(_unname(entry, shoppers) for entry in value.values()) > 0


def _unnamed_page(text: bytes, shoppers: set[str | None]) -> bytes:
    """As `jobs/evaluation_details.py` writes a name: to the end of its element."""
    for name in shoppers:
        if name is not None:
            shown = f"Shopper {escape(shortened(name))}<".encode()
            text = text.replace(shown, f"Shopper {NOBODY}<".encode())
    return text


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Whole or not at all, and only where something changes."""
    before = path.read_bytes()
    after = change(before)
    if after != before:
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_bytes(after)
        unfinished.replace(path)
