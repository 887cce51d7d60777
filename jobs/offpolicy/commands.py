"""`replay` and `benchmark-offpolicy`: what a policy would have earned, and whether that holds."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from jobs.benchmark_commands import JSON_OUT, among
from jobs.console import Terminal
from recsys.settings import read_settings


def replay(
    target: Annotated[
        Path | None,
        typer.Argument(
            help="Parquet or CSV of the target's chances: item_id, chance and maybe position; "
            "or request_id, position, chance"
        ),
    ] = None,
    exploration: Annotated[
        float | None,
        typer.Option(help="Instead of a table: had the same policy explored so often; 0: never"),
    ] = None,
    reward: Annotated[str, typer.Option(help="The event type that counts")] = "click",
    since: Annotated[str | None, typer.Option(help="YYYY-MM-DD; empty: all of the lake")] = None,
    placement: Annotated[str | None, typer.Option(help="Empty: every placement")] = None,
    per: Annotated[str, typer.Option(help="exposure or slate")] = "exposure",
    predicts: Annotated[
        str | None,
        typer.Option(
            help="EXPERIMENT/VARIANT that the target is: from slates before its start, kept for "
            "`experiments predictions`"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_out: Annotated[Path | None, JSON_OUT] = None,
) -> None:
    """What another policy would have earned on the slates in the lake. Exit code 1: refused."""
    from features.lake import Lake
    from jobs.offpolicy.predicted import Predicted
    from jobs.offpolicy.reading import lake_log, target_policy
    from jobs.offpolicy.tables import show_replay
    from jobs.reports import write_json
    from recsys.evaluation.offpolicy import replay as replaying

    (chosen,) = among(per, ("exposure", "slate"), "--per")
    terminal, settings = Terminal(), read_settings()
    placements, until_us, predicted = [placement] if placement else [], None, None
    if predicts is not None:
        predicted = Predicted.read(settings.database_url, predicts, reward, placement)
        placements = placements or [*predicted.experiment.design.placements]
        until_us = predicted.until_us
    lake = Lake(settings.lake_dir)
    log = lake_log(lake, reward=reward, since=since, until_us=until_us, placements=placements)
    config = replaying.ReplayConfig(per=cast('Literal["exposure", "slate"]', chosen), seed=seed)
    found = replaying.replay(log, target_policy(log, target, exploration), config)
    show_replay(terminal, found, reward)
    if json_out is not None:
        write_json(found, json_out)
    if found.verdict.standing == "refuse":
        raise typer.Exit(1)
    if predicted is not None:
        predicted.keep(settings.database_url, found)
        terminal.say(f"Kept as what {predicts} will do: see `experiments predictions`.")


def benchmark_offpolicy(
    json_out: Annotated[Path, JSON_OUT],
    replays: Annotated[int, typer.Option(min=2, help="Logs of the sample storefront")] = 500,
    shoppers: Annotated[int, typer.Option(min=50, help="Drawn for each log")] = 1_000,
    experiments: Annotated[
        int, typer.Option(min=1, help="Of the sample storefront, each replayed before")
    ] = 20,
    open_bandit: Annotated[
        Path | None, typer.Option(help="The Open Bandit folder; empty: left out")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """How often replays hold what they promise: a storefront's truth, one bandit by the other."""
    from jobs.offpolicy.open_bandit import CAMPAIGNS, judge_directions, replay_both
    from jobs.offpolicy.past import past_experiments
    from jobs.offpolicy.storefront import run_storefront_replays
    from jobs.offpolicy.tables import show_calibration, show_open_bandit, show_storefront
    from jobs.reports import write_json

    terminal = Terminal()
    told = None
    if open_bandit is not None:
        found = [one for name in CAMPAIGNS for one in replay_both(open_bandit, name, seed=seed)]
        told = judge_directions(found)
        show_open_bandit(terminal, told)
    shop = run_storefront_replays(replays=replays, shoppers=shoppers, seed=seed, progress=terminal)
    show_storefront(terminal, shop)
    past = past_experiments(
        experiments=experiments, shoppers=shoppers, seed=seed, progress=terminal
    )
    show_calibration(terminal, past)
    write_json({"storefront": shop, "experiments": past, "open_bandit": told}, json_out)
    terminal.say(f"Figures: {json_out}")
