"""The night: from the day's events to one published release, or to nothing at all.

    ingest → encoder → text → audit → past → ranker → recent → serving → trial → gate → publish

`past` are the first stages as they were before the ranker's label window, `recent` before the
evaluation window, `serving` with everything. Each is warm-started from the one before.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import orjson

from features.errors import DataError
from features.events import EventType
from features.interactions import Interactions
from features.lake import Lake
from features.store import Store
from features.views import views_hash
from jobs.curves import open_curves
from jobs.gate import judge_release
from jobs.ingest import ingest
from jobs.live_release import TRAINING_THREADS, LiveRelease
from jobs.night_config import NightConfig
from jobs.plan import Places, Plan, end_of
from jobs.publishing import metrics_of, probe
from jobs.ranker_step import learn_ranker, past_slates, taught_by
from jobs.steps import Done, Workshop, digest_of, link_tree
from jobs.text_steps import TextDone, TextSteps, text_facts
from recsys.bundle import Bundle
from recsys.evaluation.trial import TrialResult, Window, run_trial
from recsys.experiments.stored import releases_needed
from recsys.placements import PLACEMENT, asked_about_else
from recsys.progress import Progress
from recsys.releases import Manifest, Releases
from recsys.retrieval.text_space import load_taste_vectors
from recsys.training.curves import Curves
from recsys.training.recipe import (
    TrainingData,
    daily_ticks,
    fit_first_stages,
    write_catalogue,
)

VERSIONED = ("faiss-cpu", "lightfm-next", "numpy", "onnxruntime", "polars", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class NightReport:
    """What the night did; `release_id` is None where nothing was published."""

    release_id: str | None
    published: bool
    reason: str
    trial: TrialResult | None
    texts: TextDone
    steps: tuple[Done, ...]  # those of the texts too
    titles: tuple[str, ...]  # of the items, in row order: steps report rows

    @property
    def skipped_steps(self) -> tuple[str, ...]:
        return tuple(done.name for done in self.steps if not done.ran)


def run_night(
    store: Store,
    places: Places,
    event_types: Sequence[EventType],
    config: NightConfig,
    *,
    now_us: int,
    progress: Progress,
    force: bool = False,
) -> NightReport:
    """Everything up to `now`; raises before anything is published if a step fails."""
    night = Night(store, places, tuple(event_types), config, now_us=now_us, progress=progress)
    return night.run(force=force)


class Night:
    """One run of the steps; holds what they share."""

    def __init__(
        self,
        store: Store,
        places: Places,
        event_types: tuple[EventType, ...],
        config: NightConfig,
        *,
        now_us: int,
        progress: Progress,
    ) -> None:
        self._config = config
        self._progress = progress
        self._now_us = now_us
        self._places = places
        self._releases = Releases(places.releases)
        self._workshop = Workshop(places.work, progress)
        self._change, _ = store.items_changed_after(0)
        lake = self._lake = Lake(places.lake)
        ingest(store, places, now_us, progress)
        self._untaught = asked_about_else(store.documents.all(PLACEMENT))
        self._documents = store.documents
        items = store.items()
        if items.is_empty():
            raise DataError("the catalogue is empty: import items before running a night")
        self._events = lake.scan_events(end_us=now_us).collect()
        log = Interactions.build(self._events, items["item_id"].to_list(), event_types)
        self._data = TrainingData(items, log, event_types)
        self._world: dict[str, object] = {
            "items": digest_of(items.hash_rows(seed=7).to_list()),
            "events": lake.digest(tables=("events",)),
            "event_types": [asdict(kind) for kind in event_types],
            "views": views_hash(),
            "versions": {name: version(name) for name in VERSIONED},
        }
        self._as_of_us = end_of(log, now_us)
        self._live = LiveRelease(self._releases)
        self._plan = Plan.of(log, self._as_of_us, self._live.cuts)

    def run(self, *, force: bool) -> NightReport:
        report = self._run(force=force)
        self._workshop.forget_unused()
        return report

    def _run(self, *, force: bool) -> NightReport:
        texts = self._texts()
        encoder, text = texts.encoder, texts.text
        past = self._stages("past", text, self._plan.label_us, self._plan.evaluation_us, None)
        ranker = self._ranker(encoder, text, past)
        recent = self._stages(
            "recent", text, self._plan.evaluation_us, self._plan.evaluation_us + 1, past
        )
        serving = self._stages("serving", text, self._as_of_us, self._as_of_us + 1, recent)
        report = partial(
            NightReport,
            texts=texts,
            steps=(*texts.steps, past, ranker, recent, serving),
            titles=tuple(self._data.items["title"].fill_null("")),
        )
        release_id = self._release_id((text, serving, ranker))
        if self._releases.current() == release_id:
            return report(release_id, False, "nothing new since the live release", None)
        known = release_id in self._releases.list()
        if known and self._releases.was_live(release_id) and not force:
            reason = (
                f"{release_id} was rolled back, and nothing is new since (--force: go back to it)"
            )
            return report(None, False, reason, None)
        trial = self._trial(encoder, text, recent, ranker)
        verdict = judge_release(
            trial,
            self._config.gate,
            has_live=self._releases.current() is not None,
            live_error=self._live.error,
        )
        if not verdict.passed and not force:
            return report(None, False, verdict.reason, trial)
        self._publish(release_id, texts, (serving, ranker), trial)
        compared = releases_needed(self._documents, self._releases.list())
        self._releases.prune(self._config.keep_releases, besides=compared)
        return report(release_id, True, verdict.reason, trial)

    def _texts(self) -> TextDone:
        return TextSteps(
            self._workshop,
            self._data,
            self._plan,
            self._config,
            self._world,
            self._live.encoder,
            self._open_curves,
            self._progress,
        ).run()

    def _open_curves(self) -> AbstractContextManager[Curves]:
        return open_curves(
            self._places.reports / "curves",
            run_name=f"{_minute(self._now_us)}-encoder",
            use_wandb=self._config.use_wandb,
            progress=self._progress,
        )

    def _stages(
        self, name: str, text: Done, until_us: int, ticks_until_us: int, warm: Done | None
    ) -> Done:
        recipe = self._config.recipe

        def work(folder: Path) -> dict[str, object]:
            fit_first_stages(
                self._data,
                until_us,
                recipe,
                folder,
                text_vectors=load_taste_vectors(text.folder / "text"),
                warm=warm.folder if warm else None,
                ticks_us=daily_ticks(until_us, ticks_until_us),
                progress=self._progress,
            )
            return {"until_us": until_us}

        inputs = {
            **self._world,
            "text": text.digest,
            "until": until_us,
            "ticks_until": ticks_until_us,
            "warm": warm.digest if warm else None,
            "config": self._config.recipe.as_json("covisitation", "collaborative", "sequence"),
        }
        return self._workshop.step(name, inputs, work)

    def _ranker(self, encoder: Done, text: Done, past: Done) -> Done:
        window = (self._plan.label_us, self._plan.evaluation_us)

        def work(folder: Path) -> dict[str, object]:
            shown = taught_by(self._lake.scan_exposures(end_us=window[1]), self._untaught)
            slates = past_slates(shown, self._releases, self._events, self._progress)
            with self._assembled(encoder, text, past) as bundle:
                recipe = self._config.recipe
                return learn_ranker(
                    self._data, bundle, folder, window, recipe, slates, self._progress
                )

        inputs = {
            "past": past.digest,
            "window": window,
            "slates": self._lake.digest(tables=("exposures",), end_us=window[1]),
            "untaught": self._untaught,
            "config": self._config.recipe.as_json(),
        }
        return self._workshop.step("ranker", inputs, work)

    def _trial(self, *parts: Done) -> TrialResult | None:
        window = Window(self._plan.evaluation_us, self._as_of_us)
        policy = self._config.recipe.policy
        live = self._live.lists(self._data, self._events, window, policy, self._progress)
        with self._assembled(*parts) as folder:
            bundle = Bundle.load(folder, threads=TRAINING_THREADS)
            return run_trial(bundle, self._data.log, window, policy, self._progress, live=live)

    @contextmanager
    def _assembled(self, *parts: Done) -> Iterator[Path]:
        """A bundle folder made of links to the parts; gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=".bundle-", dir=self._workshop.root))
        try:
            self._assemble(folder, parts)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _assemble(self, folder: Path, parts: tuple[Done, ...]) -> None:
        write_catalogue(self._data, folder)
        for part in parts:
            link_tree(part.folder, folder)

    def _release_id(self, parts: tuple[Done, ...]) -> str:
        day = datetime.fromtimestamp(self._as_of_us / 1e6, tz=UTC).strftime("%Y-%m-%d")
        return f"{day}-{digest_of([part.digest for part in parts])[:10]}"

    def _publish(
        self, release_id: str, texts: TextDone, rest: tuple[Done, ...], trial: TrialResult | None
    ) -> None:
        parts = (texts.encoder, texts.text, *rest)
        draft = self._releases.draft(release_id)
        shutil.rmtree(draft)
        draft.mkdir()
        self._assemble(draft, parts)
        probe(draft, release_id, self._now_us)
        log = self._data.log
        self._releases.publish(
            draft,
            Manifest(
                release_id=release_id,
                created_at_us=self._now_us,
                data_start_us=int(log.time_us.min()) if len(log) else self._as_of_us,
                data_end_us=self._as_of_us,
                catalogue_change=self._change,
                feature_views_hash=views_hash(),
                event_types=self._data.event_types,
                steps={part.name: part.digest for part in parts},
                text=text_facts(texts, self._plan.label_us),
                label_us=self._plan.label_us,
                evaluation_us=self._plan.evaluation_us,
                metrics=metrics_of(trial),
                configs={"recipe": orjson.loads(orjson.dumps(self._config.recipe.as_json()))},
                policy=self._config.recipe.policy.model_dump(),
                versions={name: version(name) for name in VERSIONED},
            ),
        )


def _minute(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, tz=UTC).strftime("%Y-%m-%dT%H%M")
