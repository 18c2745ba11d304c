"""Model card: the README.md of an export, for a reader who was not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.expect.expected import Expected, in_words
from analysis.models.card_config import SESSION, as_code, configuration, own_code
from analysis.models.evaluate import Judged
from analysis.models.graphs import OPSET, TOLERANCE, Written
from analysis.models.preprocessing import in_steps
from analysis.models.resizing import Elsewhere
from visionsweep.core.tasks import task_kind
from visionsweep.core.text import duration
from visionsweep.run_dir.run import Run

MOST_CLASSES = 50
TITLES = {
    "binary": "A binary classifier of images",
    "multiclass": "A classifier of images",
    "multilabel": "A tagger of images (any number of labels each)",
    "segmentation": "A semantic segmenter of images",
}


@dataclass(frozen=True)
class Facts:
    """Content of a card: what is known of the model, its data and its search.

    metrics     as in metrics.json
    checked_on  the kind of images that graphs were checked on
    run         where it was found, None where nothing was searched
    judged      scores with intervals, None for the reason `why_not`
    expected    of the run's best trial on new photos, None where nobody can say
    elsewhere   how predictions differ without OpenCV, None where it was not measured
    """

    name: str
    classes: Sequence[str]
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    graphs: Sequence[Written]
    checked_on: str
    python: str
    version: str
    run: Run | None = None
    judged: Judged | None = None
    why_not: str = ""
    elsewhere: Elsewhere | None = None
    expected: Expected | None = None


def card(facts: Facts) -> str:
    """Return the card as Markdown."""
    parts = [what_it_is, scores, _how_to_run, data_of, how_found, _configuration, limits]
    return "\n\n".join("\n".join(part(facts)).strip() for part in parts) + "\n"


def what_it_is(facts: Facts) -> Iterator[str]:
    """Yield what the model is, and its classes."""
    classes = [*facts.classes[:MOST_CLASSES]]
    more = f" and {len(facts.classes) - MOST_CLASSES} more (`classes.txt`)" if len(facts.classes) > MOST_CLASSES else ""
    yield f"# {facts.name}"
    yield ""
    yield f"{TITLES[facts.config['task']]}, trained and exported by visionsweep {facts.version}."
    yield ""
    yield f"Classes ({len(facts.classes)}): {', '.join(map(as_code, classes))}{more}."
    if task_kind(facts.config["task"]).one_output:
        positive = as_code(facts.classes[1])
        threshold = facts.config["threshold"]
        yield f"The positive class is {positive}, from a probability of {threshold:g} on."
    if task_kind(facts.config["task"]).tags:
        yield f"A label is given from a probability of {facts.config['threshold']:g} on."


def scores(facts: Facts) -> Iterator[str]:
    """Yield its scores on the validation split."""
    counts = facts.data.get("counts", {})
    yield "## Scores"
    yield ""
    again = facts.metrics.get("solved_again")
    num = counts.get("val", "?") if again is None else again["judged_on"]
    of_all = f" of the {counts['val'] + counts['unjudged']}" if "unjudged" in counts else ""
    yield f"On {'' if of_all else 'the '}{num}{of_all} images of the validation split, by which the model was chosen."
    if again is not None:
        yield (
            f"Then the heads of its probes were solved again on all {again['images']} images, these among them; the "
            "scores are of the heads before that."
        )
    if facts.judged is None:
        values = {name.removeprefix("val/"): {"value": value} for name, value in _floats(facts.metrics)}
        yield f"Without intervals: {facts.why_not}." if facts.why_not else ""
    else:
        values = facts.judged.metrics
        yield "Intervals are of 95%, from drawing these images again a thousand times (bootstrap); fractions of one."
    yield ""
    yield "| metric | value | 95% interval |"
    yield "|---|---|---|"
    yield from (f"| {name} | {row['value']:.4f} | {_interval(row)} |" for name, row in values.items())
    if facts.judged is not None and facts.judged.classes:
        yield ""
        yield from _class_table(facts.judged.classes)


def _class_table(classes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    shown = list(classes.items())[:MOST_CLASSES]
    columns = list(dict.fromkeys(column for _, row in shown for column in row))
    yield f"| class | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for name, row in shown:
        yield f"| {as_code(name)} | {' | '.join(_cell(row.get(column)) for column in columns)} |"


def _how_to_run(facts: Facts) -> Iterator[str]:
    yield "## How to run it"
    yield ""
    yield "    visionsweep predict THIS_FOLDER IMAGES..."
    yield "    visionsweep evaluate THIS_FOLDER --data LABELLED_DATA"
    yield "    visionsweep train THIS_FOLDER/config.yaml --data DATA --out ANOTHER_FOLDER    # train it again"
    yield ""
    yield f"`requirements.txt` has the versions that it was exported with, Python {facts.python} among them."
    # Without a graph the steps of the preprocessing are all that there is to say.
    written = [graph for graph in facts.graphs if not graph.problem]
    yield from (f"\n{graph.file} is not here: {graph.problem}." for graph in facts.graphs if graph.problem)
    if not written:
        yield ""
        yield "What happens to an image before the network sees it:"
        yield ""
        yield from _numbered(in_steps(facts.preprocessing))
        return
    # Otherwise the graph's input and outputs, and code that calls it.
    yield ""
    yield f"Without visionsweep, from {' or '.join(as_code(graph.file) for graph in written)}:"
    yield ""
    *to_size, normalised = in_steps(facts.preprocessing)
    yield from _numbered([*to_size, f"(inside the graph) {normalised}"])
    yield ""
    sides = [f"{graph.side} x {graph.side} in `{graph.file}`" for graph in written if graph.side]
    sizes = ", ".join(["N is free", *sides]) if sides else "N, height and width are free"
    task = task_kind(facts.config["task"])
    last = ", height, width" if task.pixels else ""
    columns = "1 (the positive class)" if task.one_output else f"{len(facts.classes)} classes"
    bands = facts.config["model"].get("bands")
    channels = 3 if bands is None else len(bands["mean"])
    dtype = "uint8" if bands is None or bands["dtype"] == "uint8" else "float32"
    shape = f"{dtype} (N, height, width, {channels})"
    yield f"Input `images`: {shape}; {sizes}. Outputs `logits` and `probabilities`: float32"
    yield f"(N, {columns}{last}), in the order of `classes.txt`."
    yield ""
    if any(graph.file == "model.onnx" for graph in written):
        resize = facts.preprocessing["resize"]
        code = own_code(resize, facts.config["task"], facts.elsewhere, facts.checked_on)
        yield from code if bands is None else SESSION
    # What was measured of the graphs, and what they leave out.
    for graph in written:
        kind = f"opset {OPSET}; what stands here about images is in its metadata, too" if "onnx" in graph.file else ""
        yield (
            f"`{graph.file}`{f' ({kind})' if kind else ''} was compared with torch on {graph.num_images} "
            f"{facts.checked_on}: the largest difference was {graph.difference:.1e} "
            f"({TOLERANCE:.0e} would have been accepted)."
        )
    if facts.config["evaluation"] == "tiled":
        yield "The graphs are the network alone: windows that overlap and are averaged are left to the caller."
    if facts.config["precision"] != "fp32":
        used = facts.metrics.get("precision", facts.config["precision"])
        yield f"The graphs compute in float32. The training computed in {used}."
        yield f"`predict` takes {facts.config['precision']} on hardware that has it, and float32 on a CPU without it."


def data_of(facts: Facts) -> Iterator[str]:
    """Yield what it was trained on."""
    counts = {name: number for name, number in facts.data.get("counts", {}).items() if number}
    yield "## Data"
    yield ""
    yield f"- images: {', '.join(f'{number} {name}' for name, number in counts.items())}"
    yield f"- split: {facts.data.get('split_origin', 'not known')}"
    yield f"- fingerprint of names, contents and labels: `{facts.data.get('fingerprint', 'not known')}`"
    yield "- which images were in the validation split: `data.json`"
    yield from (f"- {note}" for note in facts.data.get("notes", ()))


def how_found(facts: Facts) -> Iterator[str]:
    """Yield how the search found it."""
    yield "## How it was found"
    yield ""
    if facts.run is None:
        yield "One configuration, trained with `visionsweep train`; nothing was searched."
        return
    search = facts.run.search.get("search", {})
    options = facts.run.search.get("options", {})
    counts = Counter(trial.status for trial in facts.run.trials)
    epochs = sum(len(trial.epochs) for trial in facts.run.trials)
    seconds = sum(trial.seconds for trial in facts.run.trials)
    budget = options.get("budget_s")
    goals = search.get("objectives") or [f"{search.get('metric')} ({search.get('mode')})"]
    soup = facts.metrics.get("soup")
    members = facts.metrics.get("members")
    which = f"the mean of the weights of {', '.join(soup)}" if soup else f"trial {facts.metrics.get('trial_id')}"
    which = f"an ensemble of {', '.join(members)}" if members else which
    yield f"- {which} of the run `{facts.run.run_dir.name}`"
    yield f"- trials: {len(facts.run.trials)} ({', '.join(f'{n} {status}' for status, n in counts.items())})"
    yield f"- trained in all: {epochs} epochs, {seconds / 3600:.2f} hours of trials"
    folds = facts.metrics.get("folds")
    if folds:
        mean = f"{folds[search.get('metric')]:.4f} ± {folds['deviation'] or 0:.4f}"
        yield (
            f"- its configuration over {folds['number']} folds: {search.get('metric')} {mean}. These weights have not "
            "seen the first fold, which is scored above"
        )
    if budget:
        yield f"- budget: {duration(budget)} of wall-clock"
    yield f"- compared by: {', '.join(map(str, goals))}, at the best of up to {search.get('epochs')} epochs"
    yield f"- sampler: {search.get('sampler')}; pruner: {search.get('pruner')}; seed: {options.get('seed')}"


def _configuration(facts: Facts) -> Iterator[str]:
    yield "## The configuration"
    yield ""
    yield from (f"- {line}" for line in configuration(facts.config))
    yield ""
    yield "All of it: `config.yaml`."


def limits(facts: Facts) -> Iterator[str]:
    """Yield what it cannot be relied on for."""
    counts = facts.data.get("counts", {})
    yield "## Limits"
    yield ""
    yield "- It knows its classes only: an image of anything else is given probabilities of these all the same."
    if not task_kind(facts.config["task"]).pixels:
        yield "- Its probabilities were not calibrated."
    if facts.run is not None:
        judged = sum(bool(trial.epochs) for trial in facts.run.trials)
        several = facts.metrics.get("soup") or facts.metrics.get("members")
        what = "It was made of the best" if several else "It is the best"
        yield (
            f"- {what} of {judged} trials, at its best epoch, on the very images that are scored above: the "
            "scores are somewhat too good, and the intervals do not show by how much."
        )
        if facts.expected is not None:
            whose = "The best trial alone" if several else "It"
            yield f"- {whose}, corrected for that choice: {in_words(facts.expected).removeprefix('On new photos ')}"
    else:
        yield "- Its epoch was chosen on the very images that are scored above: the scores are somewhat too good."
    if counts.get("test"):
        yield "- The data has a test split, which nothing was chosen by: `visionsweep evaluate` judges the model on it."
    else:
        yield "- No images were kept back: judge it on new ones (`visionsweep evaluate`) before anything depends on it."
    yield "- Photos of another kind than the training's (camera, light, distance, place) may be judged much worse."
    few = (
        []
        if facts.judged is None
        else [name for name, row in facts.judged.classes.items() if row.get("images", 99) < 20]
    )
    if few:
        listed = ", ".join(map(as_code, few[:10])) + (" and others" if len(few) > 10 else "")
        yield f"- Fewer than 20 validation images show {listed}: what is said of these is a guess."


def _floats(metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in metrics.items() if isinstance(value, float) and name.startswith("val/")]


def _interval(row: Mapping[str, float]) -> str:
    return f"{row['low']:.4f} to {row['high']:.4f}" if "low" in row else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value['value']:.3f} ({_short(value)})"


def _short(row: Mapping[str, float]) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else "no interval"


def _numbered(steps: Sequence[str]) -> Iterator[str]:
    return (f"{number}. {step}." for number, step in enumerate(steps, start=1))
