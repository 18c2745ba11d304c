"""The first screen: the data, the result, the model, how far to trust it, and what to do next, with commands that run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from kept_run import SMALL, kept_run, opened, truths
from made_runs import write_run
from support import make_photos

from analysis.expect.chances import chances_of
from analysis.expect.ties import as_good
from analysis.figures.cost import incumbent
from analysis.figures.verdict import verdict
from analysis.report.commands import again, of_run
from analysis.report.digits import rank_digits, written
from analysis.report.headline import Headline, headline
from analysis.report.model_words import model_words
from analysis.report.next_steps import Step, next_steps
from analysis.report.page import write_report
from analysis.report.payload import trial_rows
from launch.cli.commands import app
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.trials import Trial

COMMAND = ["run", "classification-cpu", "--data", "my photos", "--budget", "5m", "--name", "first", "--set", "epochs=9"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two kept trials of two classes: the first is wrong on two of 40 images, the second, twice as fast, on six."""
    photos = make_photos(tmp_path / "photos", {"train/ants": 4, "train/bees": 4, "val/ants": 25, "val/bees": 15})
    sure = np.where(truths(opened(photos)) == 1, 3.0, -3.0).astype(np.float32)[:, None]
    first = sure.copy()
    second = sure.copy()
    first[-2:] *= -1
    second[:6] *= -1
    kept_run(tmp_path / "run", photos, [first, second])
    lines = (tmp_path / "run" / "epochs.jsonl").read_text().replace('"latency_ms": 2.0', '"latency_ms": 4.0', 1)
    (tmp_path / "run" / "epochs.jsonl").write_text(lines)
    return load_run(tmp_path / "run")


def screen(run: Run) -> Headline:
    return headline(run, verdict(run), chances_of(run))


def sentences(steps: Sequence[Step]) -> str:
    return " ".join(step.sentence for step in steps)


def test_the_first_screen_says_what_the_photos_are_and_how_good_the_model_is(run: Run) -> None:
    found = screen(run)
    assert found.data == "48 photos, 2 classes (ants, bees): 8 to train on, 40 to judge by."
    assert found.score == "95%"
    assert found.result == [
        "38 of 40 validation images are right: 95% (95% interval 83% to 99%). Always 'ants' would be 62%."
    ]
    assert (
        found.model[0].sentence
        == "Trial 0000: test_resnet, trained from scratch, adam with rate 0.001, images of 32 px."
    )
    assert found.model[0].command == shlex.join(["visionsweep", "export", str(run.run_dir), "--out", "exports/run"])


def test_the_page_takes_the_verdict_that_the_terminal_has_reached(run: Run) -> None:
    sentence = "38 of 40 validation images are right"
    found = verdict(run)
    assert found is not None
    assert sentence in write_report([run.run_dir], with_model=False).read_text()
    known = {run.run_dir: (replace(found, low=0.123), chances_of(run))}
    page = write_report([run.run_dir], with_model=False, known=known).read_text()
    assert sentence in page
    assert "95% interval 12% to" in page, "it is not reached a second time"


def test_the_first_screen_says_how_far_to_trust_it(run: Run) -> None:
    told = sentences(screen(run).trust)
    assert "Its lead over trial 0001 is not clear: 6 images only it gets right, 2 only the other" in told
    assert "Trial 0001, which cannot be told from it, predicts an image in 2 ms instead of 4 ms." in told
    assert "It was chosen among 2 trials by these 40 photos: expect about 9" in told
    assert "where resampled photos choose and the others judge." in told
    assert "No test photos were kept back" in told
    assert "Weakest class: bees, 13 of 15 found." in told
    kept_back = {**run.search["data"], "counts": {**run.search["data"]["counts"], "test": 12}}
    judged = next(step for step in screen(replace(run, search={**run.search, "data": kept_back})).trust if step.command
                  and "evaluate" in step.command)  # fmt: skip
    assert "12 test photos were kept back" in judged.sentence
    assert judged.command.endswith("--split test")


def test_every_command_of_the_first_screen_is_one_that_the_command_line_takes(run: Run) -> None:
    known_commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = {**run.search, "command": COMMAND}
    found = screen(replace(run, search=known))
    commands = [step.command for step in (*found.model, *found.trust, *found.steps) if step.command]
    assert len(commands) >= 4
    for command in commands:
        program, name, *arguments = shlex.split(command)
        assert program == "visionsweep"
        known_commands[name].make_context(name, arguments)  # raises for an option that it does not have


def test_a_search_like_this_one_has_the_new_setting_and_a_new_name(run: Run) -> None:
    known = replace(run, search={**run.search, "command": COMMAND})
    assert again(known, epochs=18) == (
        "visionsweep run classification-cpu --data 'my photos' --budget 5m --set epochs=18"
    )
    assert again(known, model__backbone="a+b").endswith("--set epochs=9 --set model.backbone=a+b")
    short = replace(run, search={**run.search, "command": ["run", "x", "--name=first", "--set=epochs=3"]})
    assert again(short) == "visionsweep run x --set epochs=3"
    assert again(replace(run, search={**run.search, "command": None})) == "", "not started by a command"
    assert of_run(replace(run, run_dir=Path("my runs/a")), "resume") == "visionsweep resume 'my runs/a'"


def trial(
    number: int, num_epochs: int, best: float, status: str = "complete", seconds: float = 1.0, **config: Any
) -> Trial:
    rows = [
        {
            "epoch": epoch,
            "metrics": {"val/accuracy": best * epoch / num_epochs},
            "seconds": seconds,
            "time": 10.0 * number,
        }
        for epoch in range(1, num_epochs + 1)
    ]
    return Trial(f"{number:04d}", {}, {**SMALL, "epochs": 9, **config}, rows, status)


def steps_of(run: Run, trials: Sequence[Trial], recommended: dict[str, Any] | None = None) -> str:
    made = replace(run, trials=list(trials), search={**run.search, "command": COMMAND})
    at = incumbent(made)
    assert at is not None
    return "\n".join(f"{one.sentence} [{one.command}]" for one in next_steps(made, at, None, recommended))


def test_a_search_with_few_complete_trials_or_a_late_best_goes_on(run: Run) -> None:
    many = [trial(number, 9, 0.8 - 0.01 * number) for number in range(12)]
    assert "search on" not in steps_of(run, many)
    assert "Only 3 trials trained to the end: search on." in steps_of(run, many[:3])
    late = [*many, trial(12, 9, 0.9)]
    assert "The best trial came after 100% of the training time: search on." in steps_of(run, late)
    stopped = [*many, trial(12, 3, 0.1, "interrupted")]
    assert "1 trial was interrupted: train it to the end. [visionsweep resume " in steps_of(run, stopped)
    running = [*many[:3], trial(12, 3, 0.1, "running")]
    assert "resume" not in steps_of(run, running)


def test_a_model_that_improved_in_its_last_epoch_trains_longer(run: Run) -> None:
    rising = trial(0, 9, 0.8)
    assert "still improving at its last epoch (9): train longer. [visionsweep run classification-cpu" in steps_of(
        run, [rising]
    )
    assert "--set epochs=18]" in steps_of(run, [rising])
    falling = trial(0, 9, 0.8)
    falling.epochs[-1]["metrics"]["val/accuracy"] = 0.1
    assert "train longer" not in steps_of(run, [falling])
    assert "train longer" not in steps_of(run, [trial(0, 1, 0.8)]), "a single epoch has no curve"


def test_the_largest_images_of_the_search_suggest_larger_ones(run: Run) -> None:
    best = trial(0, 9, 0.8, image_size=160)
    assert "--set image_size=224" in steps_of(run, [best, trial(1, 9, 0.7, image_size=96)])
    assert "image_size" not in steps_of(run, [best]), "one size alone says nothing"
    assert "try larger" not in steps_of(run, [best, trial(1, 9, 0.7, image_size=192)])


def test_a_trial_that_took_the_time_for_nothing_is_named_with_what_would_be_cheaper(run: Run) -> None:
    best = trial(0, 9, 0.8, image_size=96)
    costly = trial(1, 9, 0.5, seconds=9.0, image_size=160)
    told = steps_of(run, [best, costly])
    assert "Trial 0001 (160 px) took 90% of the training time (1m21s) and is not among the best." in told
    assert "--set image_size=96]" in told
    assert "of the training time" not in steps_of(run, [best, trial(1, 9, 0.5, seconds=9.0, image_size=96)]), (
        "nothing would be cheaper"
    )


def test_several_models_are_offered_where_the_run_has_not_compared_them(run: Run) -> None:
    assert f"[visionsweep ensemble {run.run_dir}]" in steps_of(run, run.trials)
    assert "ensemble" not in steps_of(run, run.trials, {"kind": "single"})


def test_the_digits_are_those_that_the_images_support(run: Run, tmp_path: Path) -> None:
    def of(count: int) -> Run:
        return replace(run, search={**run.search, "data": {**run.search["data"], "counts": {"val": count}}})

    assert (rank_digits(of(40)), rank_digits(of(505)), rank_digits(of(12_000))) == (2, 3, 4)
    assert (written(of(505), 0.8693), written(of(5000), 0.8693)) == ("0.87", "0.869")
    assert trial_rows(of(505))["digits"] == 3


def test_tied_trials_share_a_mark_in_the_ranking(run: Run) -> None:
    assert trial_rows(run, as_good(run))["tied"] == [True, True]
    assert trial_rows(run)["tied"] == [False, False]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"backbone": "resnet18", "freeze": "none", "weights": "imagenet"}, "resnet18, all of it trained"),
        ({"backbone": "resnet18", "freeze": "stage3"}, "resnet18, trained after stage 3"),
        ({"backbone": "a+b", "freeze": "all"}, "a and b, only its head trained"),
        ({"architecture": {"name": "unet"}, "backbone": "resnet18", "weights": "none"}, "unet on resnet18, trained from scratch"),
        ({}, "a model, all of it trained"),
    ],
)  # fmt: skip
def test_a_configuration_reads_as_words(model: dict[str, Any], words: str) -> None:
    assert model_words({"model": model}) == words


def test_a_damaged_recommendation_does_not_cost_the_page(run: Run) -> None:
    (run.run_dir / "recommended.json").write_text("{")
    assert screen(run).model[0].command.startswith("visionsweep export ")


def test_one_trial_is_not_called_trials(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "one", 1)
    told = screen(load_run(run_dir))
    words = json.dumps([told.sentence, sentences(told.trust), sentences(told.steps)])
    assert "1 trials" not in words
    assert "among 1 trial by" in words
    (run_dir / "epochs.jsonl").write_text("")
    assert screen(load_run(run_dir)).sentence.startswith("1 trial was proposed")


def test_a_search_that_had_only_noise_left_to_gain_is_told_when_that_was(run: Run) -> None:
    many = [trial(number, 9, 0.9 if number == 12 else 0.8 - 0.01 * number) for number in range(13)]
    settled = {"time": 95.0, "trials": 9, "gain": 0.0123, "noise": 0.0207, "score": 0.8}
    said = steps_of(replace(run, search={**run.search, "settled": settled}), many)
    assert "After 9 trials the search's model saw at most 0.0123 of val/accuracy to gain" in said
    assert "the standard error of the best score (0.0207): more photos" in said
    assert "27s of training came after." in said
    assert "search on" not in said
    assert "to gain" not in steps_of(replace(run, search={**run.search, "settled": {"time": "?"}}), many)
