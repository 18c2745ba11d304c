"""Model card of an ensemble: the README.md of its export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.models.card import Facts, data_of, how_found, limits, scores, what_it_is

NO_INTERVALS = "the same images chose the members; the gain below is of images that did not choose"


def ensemble_card(facts: Facts, members: Sequence[Mapping[str, Any]], combine: str) -> str:
    """Return the card as Markdown.

    facts    of the ensemble, with the first member's configuration
    members  as in ensemble.json
    combine  as in ensemble.json
    """
    parts = [what_it_is(facts), scores(facts), _members(facts, members, combine), _how_to_run(), data_of(facts)]
    parts += [how_found(facts), limits(facts)]
    return "\n\n".join("\n".join(part).strip() for part in parts) + "\n"


def _members(facts: Facts, members: Sequence[Mapping[str, Any]], combine: str) -> Iterator[str]:
    yield "## Members"
    yield ""
    how = "vote on each pixel" if combine == "vote" else "probabilities are averaged"
    yield f"Their {how}, by weight. Each sees an image at its own size; predicting takes all of their time."
    yield ""
    yield "| folder | weight | alone |"
    yield "|---|---|---|"
    yield from (f"| `members/{one['folder']}` | {one['weight']} | {one['value']:.4f} |" for one in members)
    held_out = facts.metrics.get("held_out")
    if held_out is not None:
        error = held_out.get("error", held_out.get("deviation"))  # `ensemble` tells the deviation of one half
        yield ""
        yield (
            "On halves of the validation split that did not choose, it gains "
            f"{held_out['gain']:+.4f} ± {error:.4f} over one model."
        )


def _how_to_run() -> Iterator[str]:
    yield "## How to run it"
    yield ""
    yield "    visionsweep predict THIS_FOLDER IMAGES..."
    yield "    visionsweep evaluate THIS_FOLDER --data LABELLED_DATA"
    yield ""
    yield "An ensemble is no single graph: `export --single --onnx` writes the best trial's."
