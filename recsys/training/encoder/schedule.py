"""When the encoder learns: anew from its base, further from the live one, or not tonight."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from features.arrays import BoolArray
from features.errors import ConfigError
from features.events import US_PER_DAY
from features.interactions import Interactions
from recsys.training.encoder.sequences import DistinctSequences

STATE_FILE = "state.json"

Action = Literal["refresh", "continue", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSchedule:
    """How often a live encoder is tuned further and when it begins again."""

    refresh_days: int = 30  # continued tuning drifts from the base; a month bounds how far
    min_new_shoppers: int = 200  # with two items, one of them first met since; as a first tuning
    max_new_items: float = 0.5  # share of what was taken lately that the encoder has not met
    retry_days: int = 7  # a base that validation or the audit preferred is tuned again after these

    def __post_init__(self) -> None:
        least = min(self.refresh_days, self.min_new_shoppers, self.retry_days)
        if least < 1 or not 0 < self.max_new_items <= 1:
            raise ConfigError(
                f"EncoderSchedule: found {asdict(self)}, expected at least one day, one shopper"
                " and a share in (0, 1]. Correct the value."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderState:
    """What a released encoder has learned; lies beside it."""

    config: str  # digest of the configuration it was tuned with
    shipped: str  # base, tuned, kept or continued
    refreshed_us: int  # end of the events when it last began at its base
    learned_until_us: int
    tried_until_us: int  # later where what was learned last did not ship
    refused: str | None = None  # why the audit sent back what was learned last
    has_map: bool = True  # False: the audit sent the item map back too

    def save(self, folder: Path) -> None:
        path = folder / STATE_FILE
        path.unlink(missing_ok=True)  # it may be a link to another release's
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "EncoderState | None":
        """None where a release tells nothing: its encoder cannot be continued."""
        try:
            return cls(**json.loads((folder / STATE_FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Decision:
    """What tonight does with the encoder, and why."""

    action: Action
    reason: str


def decide(
    state: EncoderState | None,
    config: str,
    log: Interactions,
    until_us: int,
    schedule: EncoderSchedule,
) -> Decision:
    """`log` holds positive events before `until_us`; `config` is the digest of tonight's settings.

    An encoder that has learned from events at or after `until_us` would know the ranker's labels,
    so it is not kept then.
    """
    if state is None:
        return Decision("refresh", "there is no live encoder to continue")
    if state.config != config:
        return Decision("refresh", "the encoder's configuration has changed")
    if state.learned_until_us > until_us:
        return Decision("refresh", "the live encoder has learned from the ranker's label window")
    age_days = (until_us - state.refreshed_us) / US_PER_DAY
    shoppers = len(DistinctSequences.of(log).users_since(state.tried_until_us))
    found = f"{shoppers} shoppers met another item since it was last taught"
    if shoppers < schedule.min_new_shoppers:
        return Decision("keep", f"{found}, {schedule.min_new_shoppers} are needed")
    if age_days >= schedule.refresh_days:
        return Decision("refresh", f"begun {age_days:.0f} days ago, {schedule.refresh_days} is due")
    if state.shipped == "base":
        waited = (until_us - state.tried_until_us) / US_PER_DAY
        if waited < schedule.retry_days:
            needed = f"tuned in vain {waited:.0f} days ago, {schedule.retry_days} must pass"
            return Decision("keep", needed)
        return Decision("refresh", "the base encoder was live: tried again with more shoppers")
    unmet = _share_of_unmet_items(log, log.time_us >= state.learned_until_us)
    if unmet > schedule.max_new_items:
        return Decision("refresh", f"drift: {unmet:.0%} of what was taken since is new items")
    return Decision("continue", found)


def _share_of_unmet_items(log: Interactions, new: BoolArray) -> float:
    met = np.unique(log.item_rows[~new])
    return float(np.mean(~np.isin(log.item_rows[new], met)))
