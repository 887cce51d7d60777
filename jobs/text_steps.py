"""The night's first steps: the encoder, what the catalogue's texts become with it, the audit."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
from pydantic import JsonValue, TypeAdapter

from features.errors import DataError, ReleaseError
from jobs.audit import audit_folder
from jobs.encoder_training import CACHE, ENCODER, prepare_frozen
from jobs.gate import judge_text
from jobs.night_config import NightConfig
from jobs.plan import Plan
from jobs.steps import Done, Workshop, digest_of, link_tree
from recsys.progress import Progress
from recsys.retrieval.encoder import EncoderCard
from recsys.training.curves import Curves
from recsys.training.encoder.export import TORCH_FOLDER
from recsys.training.encoder.fit import Continued
from recsys.training.encoder.item_map import ItemMapConfig
from recsys.training.encoder.schedule import EncoderState, decide
from recsys.training.recipe import TrainingData
from recsys.training.text import fit_text_encoder, fit_text_space

VECTORS = "text_vectors.safetensors"
OpenCurves = Callable[[], AbstractContextManager[Curves]]


@dataclass(frozen=True, slots=True)
class TextDone:
    """The steps a release's texts come from, and what was tried and audited on the way."""

    tonight: Done  # the encoder as the schedule wanted it
    encoder: Done  # the one that ships
    text: Done
    audits: tuple[Done, ...]  # the last one passed

    @property
    def steps(self) -> tuple[Done, ...]:
        instead = (self.encoder,) if self.encoder.folder != self.tonight.folder else ()
        return (self.tonight, *instead, self.text, *self.audits)


class TextSteps:
    """What the steps share; `live` is the live release's encoder folder, if it can be read."""

    def __init__(
        self,
        workshop: Workshop,
        data: TrainingData,
        plan: Plan,
        config: NightConfig,
        world: Mapping[str, object],
        live: Path | None,
        open_curves: OpenCurves,
        progress: Progress,
    ) -> None:
        self._workshop = workshop
        self._data = data
        self._until_us = plan.label_us
        self._past = data.log.before(plan.label_us).positive()
        self._config = config
        self._world = world
        self._live, self._live_digest, self._state = _readable(live)
        self._open_curves = open_curves
        self._progress = progress
        encoder = config.recipe.encoder
        self._identity = digest_of([asdict(encoder), _files(encoder.base), world["versions"]])
        self._frozen = workshop.kept(f"frozen-{self._identity[:16]}")

    def run(self) -> TextDone:
        """What was learned ships unless the audit proves harm; then what it was learned from."""
        tonight = encoder = self._tonight()
        audits: list[Done] = []
        while True:
            text = self._text(encoder)
            audits.append(self._audit(encoder, text))
            found = audits[-1].report
            self._progress.say(found["reason"])
            if found["passed"]:
                return TextDone(tonight, encoder, text, tuple(audits))
            encoder = self._instead_of(encoder, found["reason"])

    def _tonight(self) -> Done:
        """Tuned anew, tuned further, or the live one again, which counts as skipped."""
        decision = decide(
            self._state, self._identity, self._past, self._until_us, self._config.encoder_schedule
        )
        self._progress.say(f"encoder: {decision.action}, {decision.reason}")
        if decision.action == "keep":
            assert self._state is not None
            done = self._linked_live("encoder", self._state)
            return replace(done, ran=False, report={"decision": asdict(decision), "fit": None})
        continued = self._continued() if decision.action == "continue" else None

        def work(folder: Path) -> dict[str, object]:
            with self._open_curves() as curves:
                report = fit_text_encoder(
                    self._data.items,
                    self._past,
                    self._config.recipe.encoder,
                    folder,
                    self._progress,
                    continued=continued,
                    curves=curves,
                )
            live = self._state if continued else None
            self._taught(live, report.shipped).save(folder / "encoder")
            return {"decision": asdict(decision), "fit": asdict(report)}

        inputs = {
            **self._world,
            "until": self._until_us,
            "continued": self._live_digest if continued else None,
            "config": self._identity,
        }
        return self._workshop.step("encoder", inputs, work)

    def _taught(self, live: EncoderState | None, shipped: str) -> EncoderState:
        """An encoder that was continued in vain still has to learn what it was shown."""
        in_vain = live is not None and shipped == "kept"
        return EncoderState(
            config=self._identity,
            shipped=shipped,
            refreshed_us=live.refreshed_us if live else self._until_us,
            learned_until_us=live.learned_until_us if live and in_vain else self._until_us,
            tried_until_us=self._until_us,
        )

    def _continued(self) -> Continued:
        assert self._live is not None
        assert self._state is not None
        return Continued(self._live / TORCH_FOLDER, self._state.learned_until_us)

    def _instead_of(self, refused: Done, reason: str) -> Done:
        """The live encoder if that was continued, else the base, at last without an item map."""
        state = state_of(refused)
        if state.shipped == "continued" and self._state is not None:
            again = replace(self._state, tried_until_us=self._until_us, refused=reason)
            return self._linked_live("instead", again)
        base = replace(self._taught(None, "base"), refused=reason, has_map=state.shipped != "base")

        def work(folder: Path) -> dict[str, object]:
            prepare_frozen(
                self._data.items,
                self._past,
                self._config.recipe.encoder,
                self._frozen,
                self._progress,
            )
            link_tree(self._frozen / ENCODER, folder / "encoder")
            base.save(folder / "encoder")
            return {"shipped": "the base", "reason": reason}

        return self._workshop.step("instead", {"state": asdict(base)}, work)

    def _linked_live(self, step: str, state: EncoderState) -> Done:
        """The live encoder in a folder of tonight's; it depends on nothing but itself."""
        live = self._live
        assert live is not None

        def work(folder: Path) -> dict[str, object]:
            link_tree(live, folder / "encoder")
            state.save(folder / "encoder")
            return {"shipped": "the live encoder", "reason": state.refused}

        inputs = {"kept": self._live_digest, "state": asdict(state)}
        return self._workshop.step(step, inputs, work)

    def _text(self, encoder: Done) -> Done:
        """Known by the encoder's weights, not by how the night came by them."""
        state, config = state_of(encoder), self._config.recipe.text
        if not state.has_map:
            config = replace(config, item_map=ItemMapConfig(epochs=0))
        is_base = state.shipped == "base"  # whose vectors the audit needs as well
        cache = self._frozen / CACHE if is_base else self._workshop.root / VECTORS

        def work(folder: Path) -> dict[str, object]:
            report = fit_text_space(
                self._data.items,
                self._past,
                config,
                encoder.folder / "encoder",
                folder,
                self._progress,
                cache=cache,
            )
            return asdict(report)

        inputs = {
            **self._world,
            "encoder": card_of(encoder).digest,
            "until": self._until_us,
            "config": asdict(config),
        }
        return self._workshop.step("text", inputs, work)

    def _audit(self, encoder: Done, text: Done) -> Done:
        """Beside the frozen base, unless that is what is audited."""
        learned = state_of(encoder).shipped != "base" or text.report["item_map"]["shipped"]

        def work(folder: Path) -> dict[str, object]:
            link_tree(encoder.folder, folder / "audited")
            link_tree(text.folder, folder / "audited")
            try:
                audit = audit_folder(
                    "tonight's text",
                    folder / "audited",
                    self._data.items,
                    self._data.log,
                    self._config.recipe.encoder,
                    self._progress,
                    frozen=self._frozen if learned else None,
                    since_us=self._until_us,
                )
            except DataError as error:
                return {"passed": True, "reason": f"text audit left out: {error}", "audit": None}
            finally:
                shutil.rmtree(folder / "audited")
            verdict = judge_text(audit, self._config.text_gate)
            return {**asdict(verdict), "audit": asdict(audit)}

        inputs = {
            "text": text.digest,
            "base": self._identity,
            "gate": asdict(self._config.text_gate),
        }
        return self._workshop.step("audit", inputs, work)


def _readable(live: Path | None) -> tuple[Path | None, str | None, EncoderState | None]:
    """The live encoder, its digest and its state; none of them where one is missing."""
    state = EncoderState.load(live) if live else None
    if live is None or state is None or not (live / TORCH_FOLDER).is_dir():
        return None, None, None
    try:
        return live, EncoderCard.load(live).digest, state
    except ReleaseError:  # of another version
        return None, None, None


def _files(base: str | None) -> list[tuple[str, int, int]]:
    """Name, size and time of a base folder's files: other weights are another base."""
    if base is None or not Path(base).is_dir():
        return []
    found = [(path, path.stat()) for path in Path(base).rglob("*") if path.is_file()]
    return sorted((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found)


def text_facts(done: TextDone, until_us: int) -> dict[str, JsonValue]:
    """What a release's manifest says of its texts."""
    card, state = card_of(done.encoder), state_of(done.encoder)
    facts = {
        "base": card.base,
        "encoder": card.digest,
        **asdict(state),
        "decision": done.tonight.report["decision"],
        "tuning": _verdict(done.tonight.report["fit"]),
        "text_learned_until_us": until_us,
        "item_map": _verdict(done.text.report["item_map"]),
        "indexes": done.text.report["indexes"],
        "audit": done.audits[-1].report["reason"],
    }
    return TypeAdapter(dict[str, JsonValue]).validate_json(orjson.dumps(facts))


def _verdict(report: Mapping[str, object] | None) -> dict[str, object] | None:
    """Without curves and examples, which the night's page shows."""
    if report is None:
        return None
    return {name: value for name, value in report.items() if not isinstance(value, list)}


def state_of(encoder: Done) -> EncoderState:
    state = EncoderState.load(encoder.folder / "encoder")
    assert state is not None  # every encoder step leaves one
    return state


def card_of(encoder: Done) -> EncoderCard:
    return EncoderCard.load(encoder.folder / "encoder")
