"""The night's first steps: the encoder, what the catalogue's texts become with it, the audit."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
from pydantic import JsonValue, TypeAdapter

from features.errors import DataError
from jobs.audit import audit_folder
from jobs.encoder_training import CACHE
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
from recsys.training.encoder.schedule import Decision, EncoderState, decide
from recsys.training.recipe import TrainingData
from recsys.training.text import TextConfig, fit_text_encoder, fit_text_space

OpenCurves = Callable[[], AbstractContextManager[Curves]]


class TextSteps:
    """What the steps share; `live` is the live release's encoder folder, if it can be read."""

    def __init__(
        self,
        workshop: Workshop,
        data: TrainingData,
        plan: Plan,
        config: NightConfig,
        live: Path | None,
        progress: Progress,
    ) -> None:
        self._workshop = workshop
        self._data = data
        self._until_us = plan.label_us
        self._config = config
        self._live = live
        self._state = EncoderState.load(live) if live else None
        self._progress = progress

    def run(self, world: Mapping[str, object], open_curves: OpenCurves) -> "TextDone":
        """What was learned is shipped unless the audit proves that it does harm."""
        encoder = self._encoder(world, open_curves)
        text = self._text(encoder, self._config.recipe.text, world)
        audit = self._audit(encoder, text)
        self._progress.say(audit.report["reason"])
        if audit.report["passed"]:
            return TextDone(encoder, text, audit)
        plain = replace(self._config.recipe.text, item_map=ItemMapConfig(epochs=0))
        base = self._base_encoder(audit.report["reason"], world)
        return TextDone(base, self._text(base, plain, world), audit)

    def _encoder(self, world: Mapping[str, object], open_curves: OpenCurves) -> Done:
        """Tuned anew, tuned further, or the live one again, which counts as skipped."""
        config = self._config.recipe.encoder
        identity = digest_of(asdict(config))
        past = self._data.log.before(self._until_us).positive()
        decision = decide(
            self._state, identity, past, self._until_us, self._config.encoder_schedule
        )
        self._progress.say(f"encoder: {decision.action}, {decision.reason}")

        def work(folder: Path) -> dict[str, object]:
            if decision.action == "keep":
                return self._kept(folder, decision)
            with open_curves() as curves:
                report = fit_text_encoder(
                    self._data.items,
                    past,
                    config,
                    folder,
                    self._progress,
                    continued=self._continued() if decision.action == "continue" else None,
                    curves=curves,
                )
            self._new_state(decision, identity, report.shipped).save(folder / "encoder")
            return {"decision": asdict(decision), "fit": asdict(report)}

        inputs = {**self._inputs(decision, world), "config": identity}
        done = self._workshop.step("encoder", inputs, work)
        return replace(done, ran=False) if decision.action == "keep" else done

    def _base_encoder(self, why: str, world: Mapping[str, object]) -> Done:
        """The base as it came, where the tuned one must not be shipped."""
        config = replace(self._config.recipe.encoder, strategy="frozen")
        decision = Decision("refresh", why)

        def work(folder: Path) -> dict[str, object]:
            past = self._data.log.before(self._until_us)
            report = fit_text_encoder(self._data.items, past, config, folder, self._progress)
            identity = digest_of(asdict(self._config.recipe.encoder))
            self._new_state(decision, identity, "base").save(folder / "encoder")
            return {"decision": asdict(decision), "fit": asdict(report)}

        inputs = {"config": asdict(config), "until": self._until_us, "versions": world["versions"]}
        return self._workshop.step("base", inputs, work)

    def _text(self, encoder: Done, config: TextConfig, world: Mapping[str, object]) -> Done:
        """Known by the encoder's weights, not by how the night came by them."""
        cache = (
            self._frozen() / CACHE
            if state_of(encoder).shipped == "base"
            else self._workshop.root / "text_vectors.safetensors"
        )

        def work(folder: Path) -> dict[str, object]:
            report = fit_text_space(
                self._data.items,
                self._data.log.before(self._until_us),
                config,
                encoder.folder / "encoder",
                folder,
                self._progress,
                cache=cache,
            )
            return asdict(report)

        inputs = {
            **world,
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
                    frozen=self._frozen() if learned else None,
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
            "base": asdict(self._config.recipe.encoder),
            "gate": asdict(self._config.text_gate),
        }
        return self._workshop.step("audit", inputs, work)

    def _frozen(self) -> Path:
        """Where the base's vectors are kept from night to night."""
        config = self._config.recipe.encoder
        reads = (config.base, config.max_tokens, config.passage_prefix)
        return self._workshop.kept(f"frozen-{digest_of(reads)[:16]}")

    def _inputs(self, decision: Decision, world: Mapping[str, object]) -> dict[str, object]:
        """A kept encoder depends on nothing but itself; a continued one also on the live one."""
        live = EncoderCard.load(self._live).digest if self._live else None
        if decision.action == "keep":
            return {"kept": live}
        learned_from = live if decision.action == "continue" else None
        return {**world, "until": self._until_us, "continued": learned_from}

    def _kept(self, folder: Path, decision: Decision) -> dict[str, object]:
        assert self._live is not None
        link_tree(self._live, folder / "encoder")
        return {"decision": asdict(decision), "fit": None}

    def _continued(self) -> Continued:
        assert self._live is not None
        assert self._state is not None
        return Continued(self._live / TORCH_FOLDER, self._state.learned_until_us)

    def _new_state(self, decision: Decision, config: str, shipped: str) -> EncoderState:
        """An encoder that was continued in vain still has to learn what it was shown."""
        live = self._state if decision.action == "continue" else None
        return EncoderState(
            config=config,
            shipped=shipped,
            refreshed_us=live.refreshed_us if live else self._until_us,
            learned_until_us=(
                live.learned_until_us if live and shipped == "kept" else self._until_us
            ),
            tried_until_us=self._until_us,
        )


@dataclass(frozen=True, slots=True)
class TextDone:
    """The steps whose results a release is made of, and the audit of what was learned."""

    encoder: Done
    text: Done
    audit: Done


def text_facts(done: TextDone) -> dict[str, JsonValue]:
    """What a release's manifest says of its texts."""
    encoder, text = done.encoder, done.text
    folder = encoder.folder / "encoder"
    card, state = EncoderCard.load(folder), state_of(encoder)
    facts = {
        "base": card.base,
        "encoder": card.digest,
        "shipped": state.shipped,
        "learned_until_us": state.learned_until_us,
        "decision": encoder.report["decision"],
        "item_map": text.report["item_map"],
        "indexes": text.report["indexes"],
        "audit": done.audit.report["reason"],
    }
    return TypeAdapter(dict[str, JsonValue]).validate_json(orjson.dumps(facts))


def state_of(encoder: Done) -> EncoderState:
    state = EncoderState.load(encoder.folder / "encoder")
    assert state is not None  # every encoder step leaves one
    return state


def card_of(encoder: Done) -> EncoderCard:
    return EncoderCard.load(encoder.folder / "encoder")
