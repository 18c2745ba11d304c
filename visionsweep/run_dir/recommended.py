"""What a run recommends to use: its best trial, an ensemble or a soup. RUN/recommended.json, read and in words.

    metric, mode       by what it was decided
    kind               single, ensemble or soup: the one that is recommended
    single             trial_id, epoch, value, latency_ms of the best model alone; where few images validate it need not
                       be the best trial by its rank (see `analysis/models/recommend.py`)
    chosen_on          of how many images halves chose and judged; null: the validation images alone
    ensemble, soup     null where there is none; else what an export takes of it (members, metrics, ...), and
                       held_out: its gain over the best alone on images that did not choose, with its standard error
                       latency_ms: to predict one image
    solved_again       null, or what heads of probes learned from the validation images too (see
                       `analysis/models/solved_again.py`)
    notes              sentences for the user

RUN/recommended.npz holds the soup's validation predictions, recommended.safetensors the heads. All three files are
deleted when the search is resumed, because it may delete the weights that they refer to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionsweep.core.errors import RunError
from visionsweep.core.files import read_object
from visionsweep.run_dir.shapes import (
    ensemble_problem,
    is_count,
    is_number,
    is_object,
    is_text,
    is_trial_id,
    list_of,
    none_or,
    object_of,
    search_problems,
)

RECOMMENDED_FILE = "recommended.json"
CLEAR = 2  # standard errors
PREDICTIONS_FILE = "recommended.npz"
HEADS_FILE = "recommended.safetensors"
SEVERAL = ("ensemble", "soup")
KINDS = ("single", "soup", "ensemble")  # of equal gains, the first is taken: it predicts faster


def kind_of(gains: Mapping[str, float | None]) -> str:
    """Return the kind to recommend, given each one's held-out gain over the best model alone, None where unknown.

    The kind with the largest positive gain wins, even within its standard error. One of them must be taken, and the
    held-out mean is the best guess at which. It is a cautious guess, since only half of the images chose.
    """
    positive = {kind: gain for kind in KINDS if (gain := gains.get(kind) or 0.0) > 0}
    return max(positive, key=positive.__getitem__, default="single")


def forget(run_dir: Path) -> None:
    """Delete the run's recommendation."""
    for name in (RECOMMENDED_FILE, PREDICTIONS_FILE, HEADS_FILE):
        (run_dir / name).unlink(missing_ok=True)


def stored(run_dir: Path) -> dict[str, Any] | None:
    """Return the run's recommendation, or None. Raises RunError if the file is damaged, or another program's."""
    path = run_dir / RECOMMENDED_FILE
    if not os.path.lexists(path):
        return None
    next_move = f"`visionsweep export {run_dir} --single --out DIR` exports the best trial alone."
    recommended = read_object(path, next_move)
    if (problem := _problem(recommended)) is not None:
        raise RunError(f"{path}: is damaged ({problem}). {next_move}")
    return recommended


def gain_of(recommended: Mapping[str, Any], kind: str) -> float | None:
    """Return the held-out gain of a candidate, or None if there is none or it could not be judged."""
    held_out = (recommended.get(kind) or {}).get("held_out")
    return None if held_out is None else float(held_out["gain"])


def one_network(recommended: Mapping[str, Any]) -> str:
    """Return the kind to recommend among those that are a single network."""
    return kind_of({"soup": gain_of(recommended, "soup")})


def in_short(recommended: Mapping[str, Any]) -> str:
    """Return what is recommended, in a line or two: with the gain of several models, also where the best one is."""
    kind = recommended["kind"]
    alone = _alone(recommended)
    if kind != "single":
        return f"Recommended: {_several(recommended, kind)} over {alone}."
    judged = {name: gain for name in SEVERAL if (gain := gain_of(recommended, name)) is not None}
    if not judged:
        return f"Recommended: {alone}."
    return f"Recommended: {alone}. Instead {_several(recommended, max(judged, key=judged.__getitem__))}."


def in_sentences(recommended: Mapping[str, Any]) -> list[str]:
    """Return sentences: what is recommended, then what each of the others would give."""
    single = recommended["single"]
    kind = recommended["kind"]
    alone = _alone(recommended)
    described = {"single": f"{alone}{_time(single)}"}
    for name in SEVERAL:
        if (one := recommended[name]) is not None:
            described[name] = f"{_several(recommended, name)}{_time(one)}"
    first = described[kind]
    others = [(_verdict(recommended, name), words) for name, words in described.items() if name != kind]
    judged = any(gain_of(recommended, name) is not None for name in SEVERAL)
    num_images = recommended.get("chosen_on")
    where = "the validation split" if num_images is None else f"these {num_images} images"
    how = f"Gains are over {alone}, ± their standard error, on halves of {where} that did not choose."
    lines = [f"Recommended: {first}.", *(f"{verdict}: {words}." for verdict, words in others)]
    again = recommended.get("solved_again")
    if again is not None:
        whose = "the probe's head" if len(again["trials"]) == 1 else "the heads of its probes"
        lines.append(f"What is exported has {whose} solved again on all {again['images']} images, after these scores.")
    return [*lines, *([how] if judged else []), *recommended["notes"]]


def _alone(recommended: Mapping[str, Any]) -> str:
    return f"trial {recommended['single']['trial_id']} alone"


def _several(recommended: Mapping[str, Any], name: str) -> str:
    """Return an ensemble or a soup in words, with its gain over the best model alone."""
    held_out = recommended[name]["held_out"]
    gain = "no gain could be judged" if held_out is None else f"{recommended['metric']} {_signed(held_out)}"
    return f"{'an' if name == 'ensemble' else 'a'} {name} of {len(recommended[name]['members'])} models, {gain}"


def _verdict(recommended: Mapping[str, Any], kind: str) -> str:
    """Return how a candidate that is not recommended compares with the best trial alone."""
    held_out = (recommended.get(kind) or {}).get("held_out")
    return "Worse" if held_out is not None and held_out["gain"] < -CLEAR * held_out["error"] else "Instead"


def _signed(held_out: Mapping[str, Any]) -> str:
    return f"{held_out['gain']:+.4f} ± {held_out['error']:.4f}"


def _time(one: Mapping[str, Any]) -> str:
    return "" if one["latency_ms"] is None else f", {one['latency_ms']:.3g} ms an image"


def _problem(recommended: Mapping[str, Any]) -> str | None:
    single: Any = recommended.get("single")
    if (
        not is_object(single)
        or not is_trial_id(single.get("trial_id"))
        or not none_or(is_number)(single.get("latency_ms", ""))
    ):
        return "'single' is not the best trial"
    if (
        recommended.get("kind") not in KINDS
        or not is_text(recommended.get("metric"))
        or not list_of(is_text)(recommended.get("notes"))
    ):
        return "'kind', 'metric' or 'notes' is not what it must be"
    if not none_or(_is_again)(recommended.get("solved_again")):
        return "'solved_again' is not what it must be"
    if not none_or(is_count)(recommended.get("chosen_on")):
        return "'chosen_on' is no number of images"
    if recommended["kind"] != "single" and not is_object(recommended.get(recommended["kind"])):
        return f"'{recommended['kind']}' is missing"
    for kind in ("ensemble", "soup"):
        one: Any = recommended.get(kind)
        if one is None:
            continue
        if not is_object(one):
            return f"'{kind}' is no object"
        if (problem := ensemble_problem(one) or _candidate_problem(one)) is not None:
            return f"{kind}: {problem}"
    return None


def _candidate_problem(one: dict[str, Any]) -> str | None:
    held_out = one.get("held_out")
    metrics = one.get("metrics")
    if not object_of(is_number)(metrics):
        return "'metrics' are no numbers"
    if held_out is not None and not _judged(held_out):
        return "'held_out' has no gain"
    return None if _is_time(one) else "'latency_ms' is no number"


def _is_again(one: Any) -> bool:
    return (
        is_object(one)
        and list_of(is_trial_id)(one.get("trials"))
        and is_number(one.get("images"))
        and is_number(one.get("judged_on"))
        and not list(search_problems({"data": one.get("data")}))
    )


def _is_time(one: dict[str, Any]) -> bool:
    return none_or(is_number)(one.get("latency_ms", ""))


def _judged(held_out: Any) -> bool:
    return is_object(held_out) and is_number(held_out.get("gain")) and is_number(held_out.get("error"))
