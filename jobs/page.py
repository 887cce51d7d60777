"""A report as one HTML page that needs no network, no script and no other file."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.page_words import Section

TEMPLATE = "page.html"
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # even a script would not run


@dataclass(frozen=True, slots=True)
class Chapter:
    """Sections under one title; a page of one chapter needs none."""

    sections: Sequence[Section]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What stands above the sections: a headline, and a verdict with its reason."""

    when: str
    headline: str
    verdict: str
    mood: Literal["good", "bad", "plain"]
    reason: str
    chapters: Sequence[Chapter]


def render(page: Page) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # titles are what sellers typed
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(page=page, policy=CONTENT_POLICY)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: whoever reads it meanwhile sees the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.chmod(0o644)  # a temporary file is its owner's alone, a report is for people
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
