"""Section that holds the values of each choice against each other: SGD or Adam?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.figures.compare import Compared, choices, compared, corrected, effects_figure, same_trials
from analysis.figures.fixed_epoch import LEAST_TRIALS, ScoresAtEpoch
from analysis.report.plots import Plots
from analysis.report.section import Section
from search_spaces.regimes import within
from visionsweep.core.words import counted

# The choices that people ask about first, with their titles.
ASKED = {
    "regime": "Probes or fine-tunings",
    "optimizer": "Optimizers",
    "schedule": "Schedules",
    "model/backbone": "Backbones",
    "model/architecture": "Decoders",
    "loss": "Losses",
    "model/freeze": "Frozen parts",
    "model/head": "Heads",
}
MOST_OTHERS = 6
MOST_SAID = 6
AUGMENTATION = "Augmentation: on against off"


@dataclass(frozen=True)
class _Group:
    """Comparisons that share a figure. untested: values with too few trials for a test."""

    title: str
    tested: list[Compared]
    untested: list[Compared]


def comparisons(seen: ScoresAtEpoch, plots: Plots) -> Section:
    section = Section("compare", "One against another")
    num = len(seen.table)
    if num < LEAST_TRIALS:
        many = f"{counted(num, 'trial')} can be compared" if num else "No trial can be compared yet"
        section.sentences = [f"{many}: too few to say that one optimizer, backbone or augmentation is better."]
        return section
    groups = _corrected([group for group in _groups(seen) if group.tested])
    if not groups:
        section.sentences = ["No choice has enough trials of two values yet."]
        return section
    section.sentences = [
        _clear([one for group in groups for one in group.tested], num),
        seen.sentence(),
        "A point is the chance that a trial with the value beats one with another value, with its 95% interval. It is "
        "filled where a permutation test, corrected for all tests of this section (Holm), is clear.",
        "The trials were chosen by the search, not dealt out evenly: what came along with a value is part of it.",
    ]
    for number, group in enumerate(groups):
        name = "augment" if group.title == AUGMENTATION else f"compare-{number}"
        section.grid.append(plots.add(name, effects_figure(group.tested), group.title, _too_few(group.untested)))
    return section


def _groups(seen: ScoresAtEpoch) -> list[_Group]:
    names = choices(seen)
    asked = [name for one in ASKED for name in names if within(name)[1] == one]
    groups = []
    for name in [*asked, *_other_choices(names)]:
        regime, own = within(name)
        title = ASKED.get(own, own) + (f" ({regime})" if regime else "")
        found = compared(seen, name)
        groups.append(
            _Group(title, [one for one in found if one.is_tested], [one for one in found if not one.is_tested])
        )
    switches: list[Compared] = []
    for name in (one for one in names if _is_switch(one, seen)):
        switches += [
            _relabelled(one, within(name)[1].removeprefix("augment/"))
            for one in compared(seen, name)
            if str(one.value) == "True"
        ]
    merged = sorted(same_trials(switches), key=lambda one: -one.chance)
    return [*groups, _Group(AUGMENTATION, [one for one in merged if one.is_tested],
                            [one for one in merged if not one.is_tested])]  # fmt: skip


def _corrected(groups: list[_Group]) -> list[_Group]:
    """Return the groups with p-values corrected for the tests of them all."""
    left = corrected([one for group in groups for one in group.tested])
    found = []
    for group in groups:
        found.append(_Group(group.title, left[: len(group.tested)], group.untested))
        left = left[len(group.tested) :]
    return found


def _clear(found: list[Compared], num_trials: int) -> str:
    """Return a sentence that names what is clear, or says that nothing is."""
    # Of two values, the loser is the winner's mirror image.
    clear = [one for one in found if one.is_clear and (one.num_values > 2 or one.chance > 0.5)]
    clear.sort(key=lambda one: one.p_holm)
    if not clear:
        return f"Nothing is clear: in {counted(num_trials, 'trial')}, differences like these arise by chance."
    told = [_in_words(one) for one in clear[:MOST_SAID]]
    more = f", and {len(clear) - MOST_SAID} more" if len(clear) > MOST_SAID else ""
    return f"Clear: {'; '.join(told)}{more}."


def _in_words(one: Compared) -> str:
    regime, own = within(one.parameter)
    kind = "" if own.startswith("augment/") else f"{own.rpartition('/')[2]} "
    where = f" ({regime})" if regime else ""
    wins = one.chance >= 0.5
    share = one.chance if wins else 1 - one.chance
    verb = "beats" if wins else "loses to"
    return (
        f"{kind}{one.label}{where} {verb} another value in {share:.0%} of pairs "
        f"({one.num_trials} against {counted(one.num_others, 'trial')}, p = {one.p_holm:.2g})"
    )


def _too_few(untested: list[Compared]) -> str:
    if not untested:
        return ""
    listed = [f"{one.label} ({one.num_trials})" for one in untested]
    more = f", and {len(listed) - MOST_SAID} more" if len(listed) > MOST_SAID else ""
    return f"Too few trials for a comparison: {', '.join(listed[:MOST_SAID])}{more}."


def _other_choices(names: list[str]) -> list[str]:
    """Return further choices that every configuration has, such as the batch size, but none inside an arm."""
    return [name for name in names if (own := within(name)[1]) not in ASKED and own.count("/") == 0][:MOST_OTHERS]


def _is_switch(name: str, seen: ScoresAtEpoch) -> bool:
    values = set(map(str, getattr(seen.ranges[name], "choices", ())))
    return within(name)[1].startswith("augment/") and values == {"True", "False"}


def _relabelled(one: Compared, name: str) -> Compared:
    regime = within(one.parameter)[0]
    return replace(one, label=f"{name} ({regime})" if regime else name)
