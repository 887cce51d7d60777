"""What variants show, side by side, and what was done: for reports, and before anything runs."""

import math

from jobs.experiments.outlook import DAYS, Outlook
from jobs.experiments.side_by_side import SideBySide
from jobs.page import Chapter, Page, render
from jobs.page_words import Entry, Example, Listing, Section, day, shortened, table
from recsys.experiments.experiment import Design, Experiment, microseconds


def lists_of(design: Design, lists: SideBySide) -> Section:
    """What shoppers would see; marked is what the control does not show them."""
    control = design.variants[0].key
    examples = [
        Example(
            title=f"A shopper of {viewer.events_known:,} known events",
            words="Lately: " + ", ".join(f"{shortened(t)} ({kind})" for kind, t in viewer.latest),
            lists=tuple(
                Listing(
                    key,
                    tuple(
                        Entry(shortened(item.title), marked=item not in viewer.lists[control])
                        for item in items
                    ),
                )
                for key, items in viewer.lists.items()
            ),
        )
        for viewer in lists.viewers
    ]
    words = [
        f"{share:.0%} of what {key} shows them, the control does not show."
        if share
        else f"{key} shows them the same items as the control, perhaps in another order."
        for key, share in lists.differing(design).items()
        if lists.viewers
    ]
    return Section(
        anchor="lists",
        title="Side by side",
        words=tuple(words) or (f"No lists: {lists.problem}.",),
        examples_title=f"On {lists.placement}",
        examples=tuple(examples),
        notes=("As each would answer now, without exploration and other experiments.",),
    )


def duration(design: Design, ahead: Outlook) -> Section:
    """What the last days say of the next ones."""
    past = ahead.past
    if past is None:
        return Section(
            anchor="time", title="How long", words=(f"Nobody can tell: {ahead.problem}.",)
        )
    plan, total = design.plan, sum(past.units.values())
    needed = past.units_needed
    words = f"{total:,} units would have taken part in the last {DAYS} days."
    if needed is None:
        words += " Too little is known of the first goal to tell how long it takes."
    else:
        days = max(math.ceil(needed / (total / past.days)), plan.min_days)
        words += (
            f" A change of {plan.target_lift:.1%} in {plan.goals[0].name} would be found after "
            f"about {days:,} days, with a chance of {plan.power:.0%}."
        )
    rows = [
        [
            row.metric.name,
            row.variant,
            row.estimate.control_value,
            row.estimate.problem or f"{row.estimate.mde or 0:+.1%}",
        ]
        for row in past.rows
    ]
    columns = ("metric", "variant", "now", f"smallest lift found in {DAYS} days")
    return Section(
        anchor="time", title="How long", words=(words,), tables=(table("Metrics", columns, rows),)
    )


def render_preview(experiment: Experiment, lists: SideBySide, ahead: Outlook) -> str:
    """Before it starts: how long it will take, and the lists."""
    design = experiment.design
    return render(
        Page(
            when=f"Preview of experiment {design.name}",
            headline=design.hypothesis or design.name,
            verdict="preview",
            mood="plain",
            reason="What each variant would show now; nothing here counts as shown.",
            chapters=[
                Chapter((duration(design, ahead), lists_of(design, lists), decisions(experiment)))
            ],
        )
    )


def decisions(experiment: Experiment) -> Section:
    rows = [[day(microseconds(entry.at)), entry.action, entry.reason] for entry in experiment.log]
    return Section(
        anchor="log",
        title="What was done",
        tables=(table("Log", ("day", "action", "reason"), rows),),
    )
