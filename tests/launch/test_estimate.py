"""What a budget buys is printed once, and follows only from measured seconds."""

from __future__ import annotations

import pytest

from launch.search.estimate import Cost, Estimate, usual_epochs
from launch.search.estimating import Estimating
from search_spaces.grammar import Branch, Pick
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES

PLAIN = Search(task="multiclass", space={"image_size": Pick(64, 96, 160)}, epochs=4)


def of(cost: Cost, budget_s: float | None = 1200.0, unused_s: float = 60.0) -> Estimate:
    return Estimate({"": cost}, budget_s, unused_s, 1, (64, 96, 160))


def test_a_budget_buys_what_it_has_time_for_and_other_ways_are_named() -> None:
    (said,) = of(Cost(120.0, 160, 0.8)).sentences()
    assert said == ("--budget 20m buys about 9 full trainings; --budget 1h about 29; --set image_size=96 about 19.")


def test_the_share_that_does_not_grow_with_the_area_stays() -> None:
    assert Cost(100.0, 160, 0.8).at(80) == pytest.approx(20 + 80 / 4)
    # Half of the time is reading images: no smaller size halves the rest of it and the whole.
    (said,) = of(Cost(120.0, 160, 0.4)).sentences()
    assert "image_size" not in said


def test_without_a_measured_share_or_with_several_sizes_no_size_is_named() -> None:
    for cost in (Cost(120.0, 160, None), Cost(120.0, None, 0.8)):
        (said,) = of(cost).sentences()
        assert "image_size" not in said


def test_fewer_than_five_are_warned_of_with_a_way_out() -> None:
    bought, warned = of(Cost(300.0, 160, 0.8)).sentences()
    assert bought.startswith("--budget 20m buys about 3 full trainings;")
    assert warned == (
        "Fewer than 5 full trainings leave little to choose from: consider --budget 1h or --set image_size=96."
    )


def test_no_budget_is_named_that_would_leave_as_little() -> None:
    bought, warned = of(Cost(1000.0, 160, 0.8)).sentences()
    assert bought.startswith("--budget 20m buys about 1 full training; --budget 2h about 7;")
    assert "consider --budget 2h" in warned


def test_regimes_are_counted_one_by_one() -> None:
    costs = {"finetune": Cost(120.0, 160, 0.8), "probe": Cost(10.0), "other": Cost(1000.0)}
    said = Estimate(costs, 1200.0, 0.0, 1).sentences()[0]
    assert said.startswith("--budget 20m buys about 120 probes or 10 full fine-tunings or 1 'other' training;")


def test_trials_side_by_side_are_so_many_more() -> None:
    assert Estimate({"": Cost(100.0)}, 1000.0, 0.0, 4).number(100.0, 1000.0) == 40


def test_a_check_without_a_budget_speaks_of_two() -> None:
    assert of(Cost(120.0), None, 0.0).sentences() == [
        "--budget 20m buys about 10 full trainings; --budget 1h buys about 30 full trainings."
    ]


def test_nothing_is_said_of_what_nothing_is_known() -> None:
    assert Estimate({}, 1200.0, 0.0, 1).sentences() == []


def test_a_regime_counts_by_the_middle_of_its_lengths() -> None:
    assert usual_epochs(SEARCHES["classification-cpu"].for_task("multiclass")) == {"probe": 1, "finetune": 8}
    assert usual_epochs(PLAIN) == {"": 4}


class Watched:
    """An estimate on a clock that the test sets."""

    def __init__(self, search: Search, budget_s: float = 1200.0) -> None:
        self.at = 0.0
        self.said = list[str]()
        self.one = Estimating(search, budget_s, 0.0, budget_s - 40, budget_s, 1, self.said.append, lambda: self.at)

    def epoch(self, at: float, epoch: int, seconds: float, regime: str = "", waited_s: float = 0.0, trial: str = "0000",
              status: str = "running", start_s: float | None = None) -> None:  # fmt: skip
        self.at = at
        config = {"image_size": 160, **({"regime": regime} if regime else {})}
        row = {"epoch": epoch, "seconds": seconds, "waited_s": waited_s, "status": status}
        self.one.look(trial, config, row if start_s is None else {**row, "start_s": start_s})


def test_a_run_says_it_once_and_not_by_a_first_epoch_which_starts_more_than_it_trains() -> None:
    run = Watched(PLAIN)
    run.epoch(50, 1, 30.0)
    assert run.said == []
    run.epoch(75, 2, 25.0, waited_s=5.0)
    # 20 s before the first trial, 40 s after the last, and four epochs of 25 s, a fifth of which is reading images.
    assert run.said == [
        "--budget 20m buys about 11 full trainings; --budget 1h about 35; --set image_size=96 about 23."
    ]
    run.epoch(100, 3, 25.0)
    assert len(run.said) == 1


def test_each_trial_compiles_and_its_epochs_are_as_long_as_without() -> None:
    plain, compiled = Watched(PLAIN), Watched(PLAIN)
    plain.epoch(50, 1, 30.0)
    plain.epoch(75, 2, 25.0)
    compiled.epoch(150, 1, 30.0, start_s=100.0)
    compiled.epoch(175, 2, 25.0)
    (one,), (other,) = (run.one.estimate({"": 12.0}).costs.values() for run in (plain, compiled))
    assert (one.seconds, other.seconds) == (12 * 25.0, 100.0 + 12 * 25.0)
    assert plain.one.first_s == compiled.one.first_s == 20.0


def test_a_run_of_regimes_waits_for_each_and_then_no_longer() -> None:
    space = {"regime": Branch({"probe": {"epochs": 1}, "finetune": {"epochs": Pick(4, 8, 12)}}), "image_size": 160}
    search = Search(task="multiclass", space=space, epochs=12)
    run = Watched(search)
    run.epoch(20, 1, 10.0, "probe", status="complete")
    assert run.said == []
    run.epoch(60, 1, 20.0, "finetune", trial="0001")
    run.epoch(75, 2, 15.0, "finetune", trial="0001")
    assert run.said[0].startswith("--budget 20m buys about 115 probes or 9 full fine-tunings;")
    late = Watched(search)
    late.epoch(20, 1, 10.0, "probe", status="complete")
    late.epoch(450, 1, 10.0, "probe", trial="0001", status="complete")
    assert late.said[0].startswith("--budget 20m buys about 115 probes;")
