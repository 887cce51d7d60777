"""A few shoppers to look at: what they knew, what they took, what they would have been shown."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleShopper:
    """Item rows of the trial's catalogue; lists best first."""

    user_id: str
    events_known: int  # before the cut, of which `history` is the end
    history: tuple[int, ...]  # latest first
    history_events: tuple[str, ...]  # event type of each
    taken: tuple[int, ...]  # after the cut and new to them: what a list could hit
    lists: dict[str, tuple[int, ...]]  # ranker, trending, live → up to ten
    reasons: tuple[tuple[str, ...], ...]  # sentences for each item of the ranker's list
