"""The live release as a night meets it: where its own night was cut, and what it would show."""

from pathlib import Path

import polars as pl

from features.arrays import Int32Array
from features.errors import ReleaseError
from features.views import views_hash
from jobs.plan import Cuts
from recsys.bundle import Bundle
from recsys.evaluation.trial import Window, live_lists
from recsys.policy import Policy
from recsys.progress import Progress
from recsys.releases import Releases
from recsys.training.recipe import TrainingData

TRAINING_THREADS = 2


class LiveRelease:
    """Also none at all, or a damaged one: `error` says why it is not on trial though it should."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.error: str | None = None
        current = releases.current()
        try:
            self._manifest = releases.verify(current) if current else None
        except ReleaseError as error:
            self._manifest = None
            self._cannot(error)

    @property
    def cuts(self) -> Cuts | None:
        return Cuts.of(self._manifest) if self._manifest else None

    @property
    def encoder(self) -> Path | None:
        if self._manifest is None:
            return None
        return self._releases.path(self._manifest.release_id) / "encoder"

    def lists(
        self,
        data: TrainingData,
        events: pl.DataFrame,
        window: Window,
        policy: Policy,
        progress: Progress,
    ) -> Int32Array | None:
        """(n_users, depth) rows of `data`; None if it learned from the window or by other views."""
        if self._manifest is None or self._manifest.data_end_us > window.start_us:
            return None
        if self._manifest.feature_views_hash != views_hash():
            progress.say("the live release was made by other code: not compared with")
            return None
        try:
            folder = self._releases.path(self._manifest.release_id)
            live = Bundle.load(folder, threads=TRAINING_THREADS)
        except ReleaseError as error:
            self._cannot(error)
            return None
        return live_lists(
            live,
            events,
            window,
            user_ids=data.log.user_ids,
            item_ids=data.items["item_id"].to_list(),
            policy=policy,
            progress=progress,
        )

    def _cannot(self, error: ReleaseError) -> None:
        self.error = f"the live release cannot be compared with: {error}"
