"""Training tasks whose every outcome is known, read from ../shared/data/hpo and from benchmarks/curves.

LCBench (Zimmer et al. 2021, "Auto-PyTorch Tabular"), as the surrogate of YAHPO Gym (Pfisterer et al. 2022): multilayer
perceptrons on tabular data, 52 epochs, with times.

TaskSet (Metz et al. 2020): Adam's eight hyperparameters on recurrent text classifiers. It has 1,000 configurations
each, many of which diverge.

OwnCurves: photos, in a conditional space.

Develop on DEVELOPMENT, judge on JUDGING: a task that was tuned on is no test.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curves import read_curves
from benchmarks.simulate import Floats
from launch.samplers.encoding import Encoder
from search_spaces.grammar import Float, Int
from search_spaces.serial import search_from_json

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hpo"
CACHE = Path(__file__).resolve().parent / ".cache"  # named in .gitignore
OWN = Path(__file__).resolve().parent / "curves"

NUM_SAMPLE = 2000  # random configurations by which a task's scale is known

LCBENCH_EPOCHS = 52
# In the order of the surrogate's input, after the epoch. Ranges are those of lcbench/config_space.json.
LCBENCH_SPACE: dict[str, Float | Int] = {
    "batch_size": Int(16, 512, log=True),
    "learning_rate": Float(1e-4, 0.1, log=True),
    "momentum": Float(0.1, 0.99),
    "weight_decay": Float(1e-5, 0.1),
    "num_layers": Int(1, 5),
    "max_units": Int(64, 1024, log=True),
    "max_dropout": Float(0.0, 1.0),
}

# In the order of the tables. All eight are log-uniform, the betas as their distance to one (Metz et al. 2020, A.1).
TASKSET_SPACE: dict[str, Float] = {
    "learning_rate": Float(1e-8, 10.0, log=True),
    "one_minus_beta1": Float(1e-4, 1.0, log=True),
    "one_minus_beta2": Float(1e-6, 1.0, log=True),
    "epsilon": Float(1e-10, 1e3, log=True),
    "l1": Float(1e-8, 10.0, log=True),
    "l2": Float(1e-8, 10.0, log=True),
    "linear_decay": Float(1e-7, 1e-4, log=True),
    "exponential_decay": Float(1e-6, 1e-3, log=True),
}


class LCBench:
    """The surrogate of one OpenML task: validation accuracy as a share, and the surrogate's seconds.

    Curves are cached by configuration, as a call of the surrogate takes about a millisecond.
    """

    space: Mapping[str, Any] = LCBENCH_SPACE
    mode = "max"
    epochs = LCBENCH_EPOCHS

    def __init__(self, task: str) -> None:
        self.name = f"lcbench-{task}"
        self.code = json.loads((DATA / "lcbench" / "encoding.json").read_text())["OpenML_task_id"][task]
        self.known: dict[tuple[float, ...], tuple[Floats, float]] = {}

    def curve(self, config: Mapping[str, Any]) -> Floats:
        return self._outcome(config)[0]

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return self._outcome(config)[1]

    def sample(self, num: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Curves (num, epochs) and seconds of a full training (num,) of random configurations."""
        outcomes = [self._outcome(random_config(self.space, rng)) for _ in range(num)]
        return np.stack([curve for curve, _ in outcomes]), np.array([seconds for _, seconds in outcomes]) * self.epochs

    def _outcome(self, config: Mapping[str, Any]) -> tuple[Floats, float]:
        key = tuple(float(config[name]) for name in self.space)
        if key not in self.known:
            inputs = np.empty((self.epochs, 1 + len(key)), np.float32)
            inputs[:, 0], inputs[:, 1:] = np.arange(1, self.epochs + 1), key
            task = np.full((self.epochs, 1), self.code, np.int32)
            output = _surrogate().run(None, {"x_cat": task, "x_cont": inputs})[0]  # (epochs, 6): time, accuracy, ...
            # The surrogate's time is of all epochs so far.
            self.known[key] = output[:, 1].astype(np.float64) / 100, float(output[-1, 0]) / self.epochs
        return self.known[key]


class TaskSet:
    """A table of 1,000 trainings.

    A proposal gets the curve of the training nearest to it, in the unit cube of the logarithms. An epoch is one of 50
    equal stretches and takes a second.
    """

    space: Mapping[str, Any] = TASKSET_SPACE
    mode = "min"

    def __init__(self, name: str) -> None:
        self.name = f"taskset-{name}"
        with np.load(DATA / "taskset" / f"{name}.npz") as table:
            hp = table["hp"].copy()
            self.losses: Floats = table["valid_loss"][:, 1:].astype(np.float64)  # the first is before any training
        self.epochs = self.losses.shape[1]
        hp[:, 1:3] = 1 - hp[:, 1:3]
        ranges = TASKSET_SPACE.values()
        self.low = np.log([node.low for node in ranges])
        self.width = np.log([node.high for node in ranges]) - self.low
        self.points = (np.log(hp) - self.low) / self.width  # (1000, 8) in [0, 1]

    def curve(self, config: Mapping[str, Any]) -> Floats:
        point = (np.log([config[name] for name in self.space]) - self.low) / self.width
        return self.losses[_nearest(self.points, point)]  # type: ignore[no-any-return]

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return 1.0

    def sample(self, num: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """The table itself, of `num` at most: curves and seconds of a full training."""
        return self.losses[:num], np.full(len(self.losses[:num]), float(self.epochs))


class OwnCurves:
    """Trainings of one of our searches, recorded by `curves.py`, in its whole conditional space.

    An approximation: a proposal gets the curve of the nearest recorded training, of the same backbone if there is one.
    So some dozens of trainings stand for the whole space. Distances are Euclidean over `Encoder.features`. They are
    scaled so that two random values of any parameter, number or choice, are equally far apart on average.
    """

    def __init__(self, path: Path) -> None:
        table = read_curves(path)
        self.search = search_from_json(table["search"])
        trials = table["trials"]
        self.space: Mapping[str, Any] = self.search.full_space
        self.mode, self.epochs, self.encoder = str(self.search.mode), self.search.epochs, Encoder(self.space)
        self.points = self._points(np.stack([self.encoder.encode(trial["params"]) for trial in trials]))
        nothing = [math.nan] * self.epochs
        self.curves: Floats = np.array([(trial["values"] + nothing)[: self.epochs] for trial in trials])
        timed = np.flatnonzero([len(trial["seconds"]) > 0 for trial in trials])  # not one that diverged at once
        known = [timed[_nearest(self.points[timed], point)] for point in self.points]
        self.seconds = np.array([np.median(trials[number]["seconds"]) for number in known])

    def curve(self, config: Mapping[str, Any]) -> Floats:
        return self.curves[self._recorded(config)]  # type: ignore[no-any-return]

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        return float(self.seconds[self._recorded(config)])

    def sample(self, num: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return the first `num` recorded trainings. All are random draws but the search's own first ones."""
        return self.curves[:num], self.seconds[:num] * self.epochs

    def _recorded(self, config: Mapping[str, Any]) -> int:
        return _nearest(self.points, self._points(self.encoder.encode(self.search.encode(config))[None]))

    def _points(self, rows: Floats) -> Floats:
        features, owner = self.encoder.features(rows)
        # The mean squared distance of two uniform numbers is 1/6, and of two uniform choices out of m it is 1 - 1/m.
        weights = np.array([m / (m - 1) if m > 1 else 6.0 for m in self.encoder.choices])
        if "model/backbone" in self.encoder.column:
            weights[self.encoder.column["model/backbone"]] = weights.sum()  # farther apart than all else together
        return features * np.sqrt(weights[owner])  # type: ignore[no-any-return]


def _nearest(points: Floats, point: Floats) -> int:
    return int(((points - point) ** 2).sum(1).argmin())


@dataclass(frozen=True)
class Scale:
    """The scale of a task's values.

    best         known at any epoch
    median       of random configurations' last values, where a diverged one counts as the worst. On TaskSet, with
                 two classes and much divergence, it is at most ln 2, the loss of guessing
    mean_full_s  seconds of a full training, the mean of random configurations
    """

    mode: str
    best: float
    median: float
    mean_full_s: float

    def regret(self, value: float) -> float:
        """Return 0 at the best known value, and 1 at `median`, beyond it, and for NaN (nothing shown yet).

        How much worse than the median a value is means nothing, as losses of TaskSet reach 1e19.
        """
        share = (self.best - value) / (self.best - self.median)
        return 1.0 if np.isnan(share) else float(np.clip(share, 0.0, 1.0))


def scale(name: str) -> Scale:
    """Return the scale of a task by its name in TASKS.

    It is kept in CACHE, as LCBench's takes seconds. Our own are not kept, as their files change.
    """
    if name in OWN_TASKS:
        return measured(TASKS[name]())
    path = CACHE / f"{name}-{NUM_SAMPLE}.json"
    if not path.exists():
        found = measured(TASKS[name]())
        CACHE.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{np.random.default_rng().integers(2**32)}")  # several processes may ask at once
        partial.write_text(json.dumps(vars(found)))
        partial.replace(path)
    return Scale(**json.loads(path.read_text()))


def measured(black_box: LCBench | TaskSet | OwnCurves) -> Scale:
    curves, full_s = black_box.sample(NUM_SAMPLE, np.random.default_rng(0))
    worst, best = (-np.inf, np.nanmax) if black_box.mode == "max" else (np.inf, np.nanmin)
    last = np.where(np.isfinite(curves[:, -1]), curves[:, -1], worst)
    median = min(float(np.median(last)), math.log(2) if isinstance(black_box, TaskSet) else math.inf)
    return Scale(black_box.mode, float(best(curves)), median, float(full_s.mean()))


def random_config(space: Mapping[str, Any], rng: np.random.Generator) -> dict[str, float | int]:
    """Draw a configuration of a flat space of Float and Int."""
    config: dict[str, float | int] = {}
    for name, node in space.items():
        half = 0.5 if isinstance(node, Int) else 0.0  # the ends of a range of integers are as likely as the others
        ends = np.array([node.low - half, node.high + half])
        value = float(np.exp(rng.uniform(*np.log(ends))) if node.log else rng.uniform(*ends))
        config[name] = min(max(round(value), node.low), node.high) if isinstance(node, Int) else value
    return config


@functools.cache
def _surrogate() -> Any:
    onnxruntime = importlib.import_module("onnxruntime")  # not a dependency of the project: only this needs it
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # 52 rows, and searches run in parallel
    path = DATA / "lcbench" / "model.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


LCBENCH_DEVELOPMENT = ("126025", "126029", "167083", "167149", "167161", "167181", "167185", "167200", "168329")
LCBENCH_JUDGING = (
    "126026", "146212", "167104", "167152", "167168", "167184", "167190", "167201", "168330", "168331", "168335",
    "168868", "168908", "168910", "189354", "189862", "189865", "189866", "189873", "189905", "189906", "189908",
    "189909", "34539", "3945", "7593",
)  # fmt: skip
TASKSET_DEVELOPMENT = ("patch32_LSTM128_bs128", "patch32_IRNN64_relu_last_bs128", "patch128_LSTM128_avg_bs64")
TASKSET_JUDGING = ("patch32_GRU64_avg_bs128", "patch32_VRNN64_relu_avg_bs128", "patch128_LSTM128_embed128_bs64")

TASKS: dict[str, Callable[[], LCBench | TaskSet | OwnCurves]] = {
    **{f"lcbench-{task}": functools.partial(LCBench, task) for task in (*LCBENCH_DEVELOPMENT, *LCBENCH_JUDGING)},
    **{f"taskset-{name}": functools.partial(TaskSet, name) for name in (*TASKSET_DEVELOPMENT, *TASKSET_JUDGING)},
    **{f"own-{p.name.partition('.')[0]}": functools.partial(OwnCurves, p) for p in sorted(OWN.glob("*.json.gz"))},
}
DEVELOPMENT = (*(f"lcbench-{t}" for t in LCBENCH_DEVELOPMENT), *(f"taskset-{t}" for t in TASKSET_DEVELOPMENT))
JUDGING = (*(f"lcbench-{t}" for t in LCBENCH_JUDGING), *(f"taskset-{t}" for t in TASKSET_JUDGING))
OWN_TASKS = tuple(task for task in TASKS if task.startswith("own-"))
