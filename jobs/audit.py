"""The text audit: is the encoder robust and fair, measured beside the frozen one."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from features.errors import DataError
from features.events import EVENT_SCHEMA
from features.interactions import Interactions
from features.store import Store
from jobs.console import Terminal
from jobs.encoder_training import CACHE, ENCODER, prepare_frozen
from jobs.evaluate import all_events
from jobs.night_config import changed
from recsys.evaluation.next_item import NextItems
from recsys.evaluation.text_audit import AuditedText, TextAudit, audit_text
from recsys.evaluation.text_quality import LOWER_IS_BETTER, QualityConfig
from recsys.progress import Progress
from recsys.releases import Manifest
from recsys.retrieval.encoder import OnnxEncoder
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.text import item_texts
from recsys.retrieval.text_space import TextMaps, TextSpace
from recsys.retrieval.whitening import Whitening
from recsys.training.encoder.config import EncoderConfig
from recsys.training.encoder.embedding import encode_catalogue
from recsys.training.encoder.sequences import DistinctSequences
from recsys.training.text import rows_to_whiten

FROZEN_NAME = "the frozen base, whitened"
SHOWN_GROUPS = 5
OF_THE_BASE = ("base", "max_tokens", "query_prefix", "passage_prefix")  # what tunes nothing reads
MIN_NEW_SHOPPERS = 300  # ten groups of the 30 that a group needs


def audit_folder(
    name: str,
    folder: Path,
    items: pl.DataFrame,
    log: Interactions,
    encoder: EncoderConfig,
    progress: Progress,
    *,
    frozen: Path | None,
    since_us: int,
    asks_everybody: bool = False,
    quality: QualityConfig | None = None,
) -> TextAudit:
    """`folder` is a release, or what a night's text steps wrote: it holds encoder/ and text/.

    `items` are its catalogue in row order, `log` events in these rows. Only shoppers who met
    something new at `since_us` or later are asked; name the end of all training there, or its own
    questions make the text look better than it is, as they do where it `asks_everybody`. `frozen`
    keeps the baseline's vectors from one audit to the next; None audits without a baseline.
    """
    sequences = DistinctSequences.of(log.positive())
    asked = NextItems.last(sequences, None if asks_everybody else since_us)
    if len(asked) == 0:
        raise DataError("the text audit found no shopper with two items: import more events")
    past = log.before(since_us).positive()
    subject = AuditedText.of(name, TextSpace.load(folder, threads=1))
    baseline = frozen_text(items, past, encoder, frozen, progress) if frozen else None
    found = audit_text(
        subject, items, asked, quality or QualityConfig(), progress, baseline=baseline
    )
    return replace(found, unseen=not asks_everybody)


def audit_release(
    folder: Path,
    manifest: Manifest,
    store: Store,
    encoder: EncoderConfig,
    progress: Progress,
    *,
    work: Path,
) -> TextAudit:
    """With what shoppers did since its texts were learned from, where that is enough.

    Beside its own base; `encoder` names one where the manifest does not.
    """
    items = pl.read_parquet(folder / "items.parquet")
    events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *all_events(store)])
    log = Interactions.build(events, items["item_id"].to_list(), manifest.event_types)
    until_us = learned_until_us(manifest)
    newer = DistinctSequences.of(log.positive()).users_since(until_us)
    return audit_folder(
        manifest.release_id,
        folder,
        items,
        log,
        _released_encoder(manifest, encoder),
        progress,
        frozen=work,
        since_us=until_us,
        asks_everybody=len(newer) < MIN_NEW_SHOPPERS,
    )


def learned_until_us(manifest: Manifest) -> int:
    """The item map may have learned from days that the encoder has not seen."""
    for name in ("text_learned_until_us", "learned_until_us"):
        found = manifest.text.get(name)
        if isinstance(found, int):
            return found
    return manifest.data_end_us


def _released_encoder(manifest: Manifest, otherwise: EncoderConfig) -> EncoderConfig:
    recipe = manifest.configs.get("recipe")
    told = recipe.get("encoder") if isinstance(recipe, dict) else None
    if not isinstance(told, dict):
        return otherwise
    values = {name: told[name] for name in OF_THE_BASE if name in told}
    return changed(otherwise, values, f"{manifest.release_id}, configs, recipe, encoder")


def frozen_text(
    items: pl.DataFrame,
    past: Interactions,
    config: EncoderConfig,
    folder: Path,
    progress: Progress,
) -> AuditedText:
    """The base without tuning, whitened as a release is; `folder` keeps its vectors."""
    prepare_frozen(items, past, config, folder, progress)
    raw = encode_catalogue(folder / ENCODER, item_texts(items), progress, cache=folder / CACHE)
    maps = TextMaps(Whitening.fit(rows_to_whiten(raw, past)), None)
    index = VectorIndex(maps.words(raw))
    space = TextSpace(OnnxEncoder.load(folder / ENCODER), maps, index, index)
    return AuditedText.of(FROZEN_NAME, space)


def show_audit(terminal: Terminal, report: TextAudit) -> None:
    rows = []
    for name, figure in report.figures.items():
        rival, change = report.baseline.get(name), report.differences.get(name)
        rows.append(
            [
                f"{name} (lower is better)" if name in LOWER_IS_BETTER else name,
                figure.mean,
                f"[{figure.low:.3f}, {figure.high:.3f}]",
                rival.mean if rival else None,
                f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]" if change else "",
                figure.texts,
            ]
        )
    columns = ("measure", "mean", "95 %", "baseline", "difference", "texts")
    beside = f", beside {report.baseline_name}" if report.baseline_name else ""
    terminal.table(f"Words: {report.subject}{beside}", columns, rows)
    _show_bias(terminal, report)


def _show_bias(terminal: Terminal, report: TextAudit) -> None:
    bias = report.bias
    whom = "shoppers" if report.unseen else "shoppers, learned from too (few are newer)"
    terminal.table(
        f"Taste in text: {bias.shoppers:,} {whom}, the groups that lie furthest back",
        ("group", "items", "targets", "catalogue", "demand", "first ten", "percentile", "down"),
        [
            [
                f"{group.kind} {group.name}",
                group.items,
                group.targets,
                group.catalogue_share,
                group.demand_share,
                group.exposure_share,
                f"{group.percentile.mean:+.3f} [{group.percentile.low:+.3f}, "
                f"{group.percentile.high:+.3f}]",
                "yes" if group.pushed_down else "no",
            ]
            for group in bias.worst[:SHOWN_GROUPS]
        ],
    )
    terminal.say(
        f"{bias.pushed_down} of {bias.groups} groups pushed down; {bias.never_shown:.1%} of the "
        f"items in nobody's first ten, Gini {bias.gini:.3f}, hubness {bias.hubness:.1f}"
    )
    losing = [change for change in report.group_changes if change.is_loss]
    for change in losing:
        terminal.say(
            f"  {change.kind} {change.name} lost against {report.baseline_name}: gain "
            f"{change.gain.mean:+.4f} [{change.gain.low:+.4f}, {change.gain.high:+.4f}] "
            f"of {change.baseline_gain:.4f}"
        )
