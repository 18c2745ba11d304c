"""What still fits into a budget: costs before a trial of a kind has run, and a search's last minutes."""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from benchmarks.ours import Recorder
from benchmarks.simulate import Clock, Simulation, simulate
from benchmarks.simulate_ray import RayMethod
from launch.pruners.pruning import build_scheduler
from launch.samplers.cost_model import TrialCosts
from launch.samplers.encoding import Encoder
from launch.samplers.fitting import Fitting
from launch.samplers.history import EPOCH_SECONDS, TRIAL_ID
from launch.samplers.lengths import Lengths
from launch.samplers.work import GFLOPS_PER_S_OF_A_CORE, Known, Work
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces import Branch, Pick
from search_spaces.classification import CPU, LITE
from search_spaces.finite import drawn_as, identity
from search_spaces.search import Search
from trainables.models import known
from trainables.models.flops import counted
from trainables.models.known import forward_gflops

SEARCH = CPU.for_task("multiclass")
GFLOPS = {LITE[0]: 0.77, LITE[1]: 1.0, LITE[2]: 1.28}
REAL = {LITE[0]: 1.0, LITE[1]: 1.45, LITE[2]: 2.0}  # seconds are not in proportion to FLOPs
NUM_IMAGES = 240
KNOWN = Known(NUM_IMAGES, NUM_IMAGES // 4, GFLOPS.__getitem__)


def probe(backbone: str, size: int = 224, views: int = 1, fit: str = "crop") -> dict[str, Any]:
    own = {"model/backbone": backbone, "image_size": size, "views": views, "fit_image": fit}
    return {"regime": "probe", **{f"regime/probe/{name}": value for name, value in own.items()}}


def finetune(backbone: str, freeze: str = "none") -> dict[str, Any]:
    own = {"model/backbone": backbone, "image_size": 224, "model/freeze": freeze, "model/head_init": "probe"}
    return {"regime": "finetune", **{f"regime/finetune/{name}": value for name, value in own.items()}}


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(SEARCH.full_space, Lengths(SEARCH.full_space, Encoder(SEARCH.full_space), SEARCH.epochs), KNOWN)


def of(work: Work, params: Mapping[str, Any], **more: Any) -> float:
    return float(work.of(work.lengths.encoder.encode(params)[None], **more)[0])


def test_work_is_passes_times_the_backbone_and_the_area(work: Work) -> None:
    one = of(work, probe(LITE[0]))
    assert one == pytest.approx(300 * 0.77)
    assert of(work, probe(LITE[0], size=128)) == pytest.approx(one * (128 / 224) ** 2)
    assert of(work, probe(LITE[2])) == pytest.approx(300 * 1.28)
    assert of(work, probe("+".join(LITE))) == pytest.approx(300 * (0.77 + 1.0 + 1.28))
    assert of(work, probe(LITE[0], views=2)) == pytest.approx((300 + 240) * 0.77)
    assert of(work, finetune(LITE[0])) == pytest.approx((3 * 240 + 60) * 0.77)
    assert of(work, finetune(LITE[0], freeze="stage3")) < of(work, finetune(LITE[0], freeze="stage1"))


def test_what_stands_beside_the_regimes_counts_in_all_of_them() -> None:
    parts = {name: {"model": {"backbone": LITE[0], "freeze": freeze}} for name, freeze in (("a", "all"), ("b", "none"))}
    space = {"regime": Branch(parts), "image_size": Pick(112, 224)}
    beside = Work(space, Lengths(space, Encoder(space), 4), KNOWN)
    for regime, passes in (("a", 300), ("b", 3 * 240 + 60)):
        large, small = (of(beside, {"regime": regime, "image_size": size}) for size in (224, 112))
        assert large == pytest.approx(passes * 0.77)
        assert small == pytest.approx(large / 4)


def test_features_that_are_kept_are_no_work(work: Work) -> None:
    kept = work.keeps(work.lengths.encoder.encode(probe(LITE[0])))
    assert of(work, probe(LITE[0]), kept=kept) == 0
    assert of(work, probe(LITE[0], views=2), kept=kept) == pytest.approx(240 * 0.77)
    assert of(work, probe("+".join(LITE[:2])), kept=kept) == pytest.approx(300 * 1.0)
    assert of(work, probe(LITE[0], fit="squash"), kept=kept) == of(work, probe(LITE[0]))
    assert work.keeps(work.lengths.encoder.encode(finetune(LITE[1]))) == set()


def test_two_probes_tell_what_a_fine_tuning_costs() -> None:
    study = optuna.create_study()
    costs = {True: TrialCosts(SEARCH.full_space), False: TrialCosts(SEARCH.full_space)}
    costs[True] = Fitting(SEARCH, KNOWN).cost
    photos = Photos(0)
    for params in (probe(LITE[0]), probe(LITE[1], fit="squash")):
        study.enqueue_trial(params)
        trial = study.ask()
        config = SEARCH.draw(trial)
        trial.set_user_attr(EPOCH_SECONDS, photos.seconds_per_epoch(config))
        study.tell(trial, 0.5)
    truth = 0.2 + 0.02 * 2.0 * NUM_IMAGES * 3.25
    found = {known: cost.seconds(finetune(LITE[2]), study.get_trials()) for known, cost in costs.items()}
    assert found[True] == pytest.approx(truth, rel=0.35)
    assert (found[False] or math.inf) < 0.4 * truth


def test_probes_of_features_that_an_earlier_run_has_kept_do_not_make_fine_tunings_cheap() -> None:
    """Two probes took half a second each, as all their features were in the cache."""
    study = optuna.create_study()
    kept = frozenset((backbone, 224, fit, False) for backbone in LITE for fit in ("crop", "squash"))
    cost = Fitting(SEARCH, replace(KNOWN, kept=kept)).cost
    told_nothing = Fitting(SEARCH, KNOWN).cost
    for params in (probe(LITE[0]), probe(LITE[1], fit="squash")):
        study.enqueue_trial(params)
        trial = study.ask()
        SEARCH.draw(trial)
        trial.set_user_attr(EPOCH_SECONDS, 0.5)
        study.tell(trial, 0.5)
    seconds = cost.seconds(finetune(LITE[2]), study.get_trials())
    usual = GFLOPS[LITE[2]] * (3 * NUM_IMAGES + NUM_IMAGES // 4) / GFLOPS_PER_S_OF_A_CORE
    assert seconds == pytest.approx(usual, rel=0.35)
    assert (told_nothing.seconds(finetune(LITE[2]), study.get_trials()) or math.inf) < 0.2 * usual
    assert cost.seconds(probe(LITE[2]), study.get_trials()) == pytest.approx(0.5, rel=0.35)


def test_heads_on_kept_features_are_cheap_after_probes_that_all_computed_theirs() -> None:
    """658 scans: the seconds of the first four probes of a search of a minute, 7 s before its end."""
    cost = Fitting(SEARCH, replace(KNOWN, num_train=526, num_val=132)).cost
    study = optuna.create_study()
    timed = {
        13.9: probe(LITE[0], fit="squash"), 14.1: probe(LITE[0]), 16.3: probe(LITE[1]), 16.1: probe(LITE[1], fit="squash")
    }  # fmt: skip
    for seconds, params in timed.items():
        study.enqueue_trial(params)
        trial = study.ask()
        SEARCH.draw(trial)
        trial.set_user_attr(EPOCH_SECONDS, seconds)
        study.tell(trial, 0.8)
    kept = cost.seconds(probe("+".join(LITE[:2])), study.get_trials())
    fresh = cost.seconds(probe(LITE[2]), study.get_trials())
    assert kept is not None
    assert fresh is not None
    assert kept < 1.0
    assert 14 < fresh < 22


def test_features_that_a_running_trial_computes_are_not_paid_again() -> None:
    study = optuna.create_study()
    cost = Fitting(SEARCH, KNOWN).cost
    photos = Photos(0)
    for params in (probe(LITE[0]), probe(LITE[1]), probe(LITE[2])):
        study.enqueue_trial(params)
        trial = study.ask()
        config = SEARCH.draw(trial)
        if params != probe(LITE[2]):
            trial.set_user_attr(EPOCH_SECONDS, photos.seconds_per_epoch(config))
            study.tell(trial, 0.5)
    joined = probe("+".join(LITE))
    not_yet = cost.seconds(joined, study.get_trials())  # drawn, and perhaps drawn again
    trial.set_user_attr(TRIAL_ID, "0002")
    running = cost.seconds(joined, study.get_trials())
    assert not_yet is not None
    assert running is not None
    assert running < 0.25 * not_yet


def test_flops_are_counted_without_computing() -> None:
    assert {name: round(counted(name), 4) for name in known.GFLOPS} == known.GFLOPS
    assert counted("resnet18") == pytest.approx(3.627, rel=0.01)
    assert counted("alexnet") > 1.0  # torchvision's
    assert counted("vit_base_patch16_siglip_224.v2_webli") == pytest.approx(35.42, rel=0.01)  # has a learned query
    assert forward_gflops("no such backbone") == 1.0


class Photos:
    """Trainings of `classification-cpu` by what they cost: features that are kept are computed once."""

    mode: str = "max"
    epochs: int = SEARCH.epochs
    space: Mapping[str, Any] = SEARCH.full_space

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.kept = set[tuple[Any, ...]]()

    def chance(self, config: Mapping[str, Any], kind: int) -> float:
        return float(np.random.default_rng([zlib.crc32(identity(config).encode()), self.seed, kind]).normal())

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        final = 0.8 + 0.02 * math.log2(config["image_size"] / 128) + 0.01 * self.chance(config, 0)
        if config["regime"] == "finetune":
            final += 0.03 - 0.03 * math.exp(-config["epochs"] / 5)
        shares = np.arange(1, config["epochs"] + 1) / config["epochs"]
        return np.asarray(final - 0.1 * (1 - shares) ** 2)

    def seconds_per_epoch(self, config: Mapping[str, Any]) -> float:
        parts = config["model"]["backbone"].split("+")
        image_s = 0.02 * (config["image_size"] / 224) ** 2
        if config["regime"] == "probe":
            seconds = 0.6
            for key in ((part, view) for part in parts for view in range(config["views"])):
                name = (*key, config["image_size"], config["fit_image"])
                seconds += 0 if name in self.kept else NUM_IMAGES * image_s * REAL[key[0]] * 1.25
                self.kept.add(name)
        else:
            backward = {"none": 2.0, "stage1": 1.6, "stage2": 1.2, "stage3": 0.8}[config["model"]["freeze"]]
            seconds = 0.2 + NUM_IMAGES * image_s * REAL[parts[0]] * (1.25 + backward)
        return seconds * math.exp(0.12 * self.chance(config, 1))


def searched(seed: int, budget_s: float, search: Search = SEARCH) -> Simulation:
    clock = Clock()
    folder = tempfile.TemporaryDirectory()
    with folder:
        records = Records.create(Path(folder.name) / "run", {"name": "fitting"})
        searcher = StudySearcher(search, records, seed, None, budget_s, now=clock, known=KNOWN)
        recorder = Recorder(records, folder)
        method = RayMethod(searcher, build_scheduler(search), search.metric or "", search.epochs, recorder)
        return simulate(method, Photos(seed), workers=2, budget_s=budget_s, clock=clock)


@pytest.mark.parametrize("budget_s", [60.0, 200.0])
def test_workers_are_busy_until_the_budget_ends_and_few_trials_are_cut_off(budget_s: float) -> None:
    found = [searched(seed, budget_s) for seed in range(3)]
    for one in found:
        assert one.spent_s > 2 * budget_s - 8.0  # the cheapest of what is not kept takes two seconds
        assert one.suggest_s.max() < 3.0  # also where nothing fits any more, it was 5 to 13 with a hundred drawn first
    cut = [sum(trial.status == "interrupted" for trial in one.trials.values()) for one in found]
    assert sum(cut) <= 3
    assert all(len(one.trials) >= 8 for one in found)


def test_the_end_is_given_to_the_best_that_fits(tmp_path: Path) -> None:
    """A minute before the end no fine-tuning of the largest kind fits any more, and shorter ones are proposed."""
    clock = Clock()
    records = Records.create(tmp_path / "run", {"name": "end"})
    searcher = StudySearcher(SEARCH, records, 0, None, 1000.0, now=clock, known=KNOWN)
    photos = Photos(0)
    for number in range(24):
        proposal = searcher.suggest(str(number))
        assert isinstance(proposal, dict)
        value = photos.curve(proposal["config"])[-1]
        seconds = photos.seconds_per_epoch(proposal["config"])
        last = {"epoch": proposal["config"]["epochs"], "seconds": seconds, "val/accuracy": value, "status": "complete"}
        searcher.on_trial_complete(str(number), last)
    clock.now_s = 960.0
    late = [searcher.suggest(f"late{number}") for number in range(6)]
    configs = [one["config"] for one in late if isinstance(one, dict)]
    assert len(configs) == 6
    rows = np.stack([searcher.fitting.encoder.encode(SEARCH.encode(config)) for config in configs])
    assert searcher._fit(rows).all()
    assert all(identity(drawn_as(SEARCH.full_space, SEARCH.encode(config))) == identity(config) for config in configs)
    assert sum(photos.seconds_per_epoch(config) * config["epochs"] < 50.0 for config in configs) >= 5
