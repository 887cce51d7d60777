"""What the night's page tells, and in which order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.page import Chapter, Page, render, write_text
from jobs.page_audit import audit_section
from jobs.page_sections import (
    encoder_section,
    index_section,
    item_map_section,
    steps_section,
    trial_section,
)
from jobs.page_words import Report, Section, minute, shortened


@dataclass(frozen=True, slots=True)
class StepTaken:
    """A step, whether it ran now or found its result, and what it reported."""

    name: str
    ran: bool
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NightPage:
    """One night in JSON values, as steps keep them; whatever is None has no section.

    `titles` are in the order of item rows; a row beyond them is called by its number.
    """

    now_us: int
    release_id: str | None  # None: nothing was published, and nothing stays live
    published: bool
    reason: str  # the gate's
    trial: Report | None = None  # TrialResult
    decision: Report | None = None  # what the schedule wanted of the encoder, and why
    encoder: Report | None = None  # EncoderReport; None where the live one was kept
    item_map: Report | None = None
    indexes: Mapping[str, Report] = field(default_factory=dict)  # by what is searched
    audits: Sequence[Report] = ()  # one after the other, until one passed
    steps: Sequence[StepTaken] = ()
    titles: Sequence[str] = ()


def render_page(page: NightPage) -> str:
    return render(
        Page(
            when=f"Night of {minute(page.now_us)}",
            headline=_headline(page),
            verdict=_verdict(page),
            mood="good" if page.published else "plain" if page.release_id else "bad",
            reason=page.reason,
            chapters=(Chapter(tuple(_sections(page))),),
        )
    )


def write_page(path: Path, page: NightPage) -> None:
    write_text(path, render_page(page))


def _sections(page: NightPage) -> Iterator[Section]:
    def title(row: int) -> str:
        known = page.titles[row] if 0 <= row < len(page.titles) else ""
        return shortened(known) or f"item {row}"

    if page.trial is not None:
        yield trial_section(page.trial)
    if page.encoder is not None or page.decision is not None:
        yield encoder_section(page.decision, page.encoder, title)
    if page.item_map is not None:
        yield item_map_section(page.item_map)
    for name, report in page.indexes.items():
        yield index_section(name, report)
    for number, audit in enumerate(page.audits):
        yield audit_section(audit, number)
    if page.steps:
        yield steps_section([(step.name, step.ran, step.report) for step in page.steps])


def _headline(page: NightPage) -> str:
    if page.published:
        return f"Published {page.release_id}"
    return f"{page.release_id} stays live" if page.release_id else "Published nothing"


def _verdict(page: NightPage) -> str:
    if page.published:
        return "published"
    return "unchanged" if page.release_id else "refused"
