"""A run's recommendation is judged on images that did not choose it, so luck is not recommended. It is exported."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept_run import SMALL, kept_run, opened, truths
from safetensors.torch import load_file, save_file
from support import Outcome, make_photos

from analysis.models.held_out import OutOfTime, halves, judge
from analysis.models.kept import Kept
from analysis.models.predictor import ExportedEnsemble, ExportedModel, load_export
from analysis.models.recommend import recommend
from analysis.models.soup import ingredients, mean_weights, start_of
from trainables.config.io import parse_config
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.recommended import forget, in_sentences, in_short, kind_of, stored

CLI = Callable[..., Outcome]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos") / "photos", {"red": 200, "blue": 200}, (16, 16))


@pytest.fixture(scope="module")
def truth(photos: Path) -> np.ndarray:
    """The labels, (N, 1) of 1 and -1."""
    return truths(opened(photos))[:, None] * 2.0 - 1


def noisy(truth: np.ndarray, seed: int, noise: float) -> np.ndarray:
    """Logits that are right, but for errors of their own."""
    return (truth + noise * np.random.default_rng(seed).normal(size=truth.shape)).astype(np.float32)


# --- the judge ---------------------------------------------------------------------------------------------------


def test_the_two_halves_share_no_image_and_leave_none_out(photos: Path) -> None:
    data = opened(photos)
    targets = truths(data)
    for first, second in halves(targets):
        assert sorted([*first, *second]) == list(range(len(targets)))
        assert abs(targets[first].mean() - targets[second].mean()) < 0.05


def test_groups_share_a_half_unless_there_are_too_few_of_them() -> None:
    targets = np.arange(80) % 2
    groups = np.arange(80) // 4
    for first, second in halves(targets, groups):
        assert not set(groups[first]) & set(groups[second])
        assert sorted([*first, *second]) == list(range(80))
        assert len(first) == len(second) == 40
    few = np.arange(80) // 40
    assert any(set(few[first]) & set(few[second]) for first, second in halves(targets, few))


def test_a_gain_is_the_mean_over_both_halves_and_its_error_comes_from_their_difference() -> None:
    scores = iter([(0.9, 0.8), (0.7, 0.7), (0.8, 0.8), (0.9, 0.8)])
    pairs = [(np.arange(2), np.arange(2, 4))] * 2
    found = judge(pairs, lambda choosing, judging: next(scores), 1)
    assert found is not None
    assert (found.gain, found.error, found.estimates) == (pytest.approx(0.05), pytest.approx(0.05), 4)
    assert (found.chosen, found.single) == (pytest.approx(0.825), pytest.approx(0.775))
    worse = judge(pairs[:1], lambda choosing, judging: (0.9, 0.8), -1)
    assert worse is not None
    assert worse.gain == pytest.approx(-0.1)


def test_halves_without_a_score_say_nothing_and_what_time_allowed_counts() -> None:
    pairs = [(np.arange(2), np.arange(2, 4))] * 3
    assert judge(pairs, lambda choosing, judging: None, 1) is None
    calls = itertools.count()

    def until_the_third(choosing: np.ndarray, judging: np.ndarray) -> tuple[float, float]:
        if next(calls) == 3:
            raise OutOfTime
        return 0.9, 0.8

    found = judge(pairs, until_the_third, 1)
    assert found is not None
    assert found.estimates == 2


def test_the_largest_gain_above_zero_is_recommended_and_of_equal_ones_the_faster() -> None:
    assert kind_of({"ensemble": None, "soup": None}) == "single"
    assert kind_of({"ensemble": 0.0, "soup": -0.1}) == "single"
    assert kind_of({"ensemble": 0.001, "soup": None}) == "ensemble"
    assert kind_of({"ensemble": 0.02, "soup": 0.02}) == "soup"
    assert kind_of({"ensemble": 0.03, "soup": 0.02}) == "ensemble"


# --- the choice --------------------------------------------------------------------------------------------------


def test_an_ensemble_whose_members_err_apart_is_recommended(photos: Path, truth: np.ndarray, tmp_path: Path) -> None:
    data = kept_run(tmp_path / "a", photos, [noisy(truth, seed, 2.0) for seed in range(6)])
    told = recommend(load_run(tmp_path / "a"), data, CPU)
    assert told is not None
    assert told == stored(tmp_path / "a")
    assert told["kind"] == "ensemble"
    held_out = told["ensemble"]["held_out"]
    members = told["ensemble"]["members"]
    assert held_out["gain"] > held_out["error"] > 0
    assert told["ensemble"]["latency_ms"] == 2.0 * len(members) > told["single"]["latency_ms"]
    first, *others = in_sentences(told)
    assert first.startswith(f"Recommended: an ensemble of {len(members)} models, val/accuracy +0.")
    assert first.endswith(" ms an image.")
    assert others[0] == f"Instead: trial {told['single']['trial_id']} alone, 2 ms an image."
    alone = f"trial {told['single']['trial_id']} alone"
    assert re.fullmatch(
        rf"Recommended: an ensemble of \d models, val/accuracy \+0\.\d+ ± 0\.\d+ over {alone}\.", in_short(told)
    )
    lost = {**told["ensemble"], "held_out": {**held_out, "gain": -3 * held_out["error"]}}
    assert re.match(
        rf"Recommended: {alone}\. Instead an ensemble of \d models, val/accuracy -0\.",
        in_short({**told, "kind": "single", "ensemble": lost}),
    )
    assert in_sentences({**told, "kind": "single", "ensemble": lost})[1].startswith("Worse: an ensemble of ")


def test_luck_is_not_recommended(photos: Path, truth: np.ndarray, tmp_path: Path) -> None:
    """One good model and guesses look better together, but only on the images that chose them."""
    guesses = [noisy(0 * truth, seed, 1.5) for seed in range(1, 8)]
    data = kept_run(tmp_path / "a", photos, [noisy(truth, 0, 1.3), *guesses])
    told = recommend(load_run(tmp_path / "a"), data, CPU)
    assert told is not None
    assert told["single"]["trial_id"] == "0000"
    assert told["ensemble"]["metrics"]["val/accuracy"] > told["single"]["value"]
    assert told["ensemble"]["held_out"]["gain"] <= 0
    assert told["kind"] == "single"
    assert in_sentences(told)[0] == "Recommended: trial 0000 alone, 2 ms an image."


def test_without_time_or_a_second_model_nothing_is_recommended(photos: Path, truth: np.ndarray, tmp_path: Path) -> None:
    data = kept_run(tmp_path / "a", photos, [noisy(truth, seed, 2.0) for seed in range(2)])
    assert recommend(load_run(tmp_path / "a"), data, CPU, lambda: 0.0) is None
    data = kept_run(tmp_path / "b", photos, [noisy(truth, 0, 2.0)])
    assert recommend(load_run(tmp_path / "b"), data, CPU) is None
    assert not list(tmp_path.glob("*/recommended.*"))


def test_where_time_ends_while_it_is_judged_nothing_is_claimed(photos: Path, truth: np.ndarray, tmp_path: Path) -> None:
    data = kept_run(tmp_path / "a", photos, [noisy(truth, seed, 2.0) for seed in range(3)])
    asked = itertools.count()
    told = recommend(load_run(tmp_path / "a"), data, CPU, lambda: 0.0 if next(asked) > 40 else 1.0)
    assert told is not None
    assert (told["kind"], told["soup"], told["ensemble"]["held_out"]) == ("single", None, None)
    assert "no gain could be judged" in in_sentences(told)[1]
    assert in_short(told) == f"Recommended: trial {told['single']['trial_id']} alone."


# --- the soup ----------------------------------------------------------------------------------------------------


def test_trainings_that_began_at_the_same_weights_are_mixed_and_no_others(
    photos: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    base = parse_config(SMALL)
    same = ({"optimizer": {"name": "sgd", "lr": 0.1}}, {"model": {**SMALL["model"], "freeze": "stage1"}})
    assert {start_of(parse_config({**SMALL, **one})) for one in same} == {start_of(base)}
    other = {**SMALL["model"], "head": {"name": "mish_mlp"}}
    for one in ({"seed": 1}, {"model": {**SMALL["model"], "backbone": "test_efficientnet"}}, {"model": other}):
        assert start_of(parse_config({**SMALL, **one})) != start_of(base)
    assert ingredients([]) == []

    def kept(values: dict[str, Any]) -> Kept:
        return Kept("0000", 1, parse_config(values), 0.5, {})

    solved = {**SMALL, "model": {**SMALL["model"], "freeze": "all"}, "views": 1, "optimizer": {"name": "lbfgs"}}
    assert len(ingredients([kept(SMALL), kept({**SMALL, "batch_size": 16}), kept(solved)])) == 2
    assert ingredients([kept(solved), kept({**solved, "views": 2})]) == []  # a head that is solved began nowhere


def test_a_soup_is_the_mean_of_its_members_weights_batch_norm_included(tmp_path: Path) -> None:
    first = {"w": torch.tensor([1.0, 2.0]), "bn.running_mean": torch.tensor([0.5]), "n": torch.tensor(3)}
    second = {"w": torch.tensor([3.0, 6.0]), "bn.running_mean": torch.tensor([1.5]), "n": torch.tensor(9)}
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for weights, file in zip((first, second), files, strict=True):
        save_file(weights, file)
    mixed = mean_weights(files)
    assert mixed["w"].tolist() == [2.0, 4.0]
    assert mixed["bn.running_mean"].tolist() == [1.0]
    assert (mixed["n"].item(), mixed["w"].dtype) == (3, torch.float32)
    save_file({**second, "w": torch.zeros(3)}, files[1])
    with pytest.raises(RunError, match="has weights of other shapes than"):
        mean_weights(files)


@pytest.fixture
def mixed(photos: Path, truth: np.ndarray, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run of two trainings from one start, and what it recommends."""
    run_dir = tmp_path / "runs" / "a"
    data = kept_run(run_dir, photos, [noisy(truth, seed, 2.0) for seed in range(2)])
    told = recommend(load_run(run_dir), data, CPU)
    assert told is not None
    return run_dir, told


def decided(run_dir: Path, told: dict[str, Any], kind: str) -> None:
    """Write the recommendation as if `kind` had been the best."""
    (run_dir / "recommended.json").write_text(json.dumps({**told, "kind": kind}))


def test_a_recommended_soup_is_exported_as_one_model_that_predicts(
    visionsweep: CLI, mixed: tuple[Path, dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    run_dir, told = mixed
    assert len(told["soup"]["members"]) == 2
    assert told["soup"]["latency_ms"] == told["single"]["latency_ms"]
    decided(run_dir, told, "soup")
    done = visionsweep("export", run_dir, "--out", "mixed")
    assert done.code == 0, done.err
    assert "Exported the soup of 2 models to" in done.out
    files = [run_dir / "checkpoints" / f"{number:04d}" / "epoch-0001.safetensors" for number in range(2)]
    weights = load_file(tmp_path / "mixed" / "model.safetensors")
    for name, one in weights.items():
        first, second = (load_file(file)[name] for file in files)
        expected = (first + second) / 2 if one.is_floating_point() else first
        torch.testing.assert_close(one, expected)
    assert isinstance(load_export(tmp_path / "mixed", CPU), ExportedModel)
    assert "the mean of the weights of" in (tmp_path / "mixed" / "README.md").read_text()
    assert "95% interval" in (tmp_path / "mixed" / "README.md").read_text()
    # What was judged at the search's end is what the export predicts.
    judged = visionsweep("evaluate", "mixed", "--data", photos, "--split", "val", "--json")
    assert judged.code == 0, judged.err
    found = json.loads(judged.out)[0]["metrics"]["accuracy"]["value"]
    assert found == pytest.approx(told["soup"]["metrics"]["val/accuracy"])
    assert visionsweep("predict", "mixed", photos / "red" / "00.png").code == 0


# --- the export --------------------------------------------------------------------------------------------------


def test_what_is_recommended_is_exported_and_single_or_a_trial_where_that_is_asked(
    visionsweep: CLI, mixed: tuple[Path, dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    run_dir, told = mixed
    decided(run_dir, told, "ensemble")
    done = visionsweep("export", run_dir, "--out", "best")
    assert done.code == 0, done.err
    assert "Exported the ensemble of 2 models to" in done.out
    assert isinstance(load_export(tmp_path / "best", CPU), ExportedEnsemble)
    card = (tmp_path / "best" / "README.md").read_text()
    for folder in (tmp_path / "best" / "members").iterdir():
        assert f"| `members/{folder.name}` | 1 | 0." in card
    assert " over one model." in card
    assert visionsweep("predict", "best", photos / "red" / "00.png").code == 0

    alone = visionsweep("export", run_dir, "--single", "--out", "best")
    assert f"Exported trial {told['single']['trial_id']} (epoch 1) to" in alone.out
    assert isinstance(load_export(tmp_path / "best", CPU), ExportedModel)
    assert "Exported trial 0001 (epoch 1) to" in visionsweep("export", run_dir, "--trial", "1", "--out", "best").out
    both = visionsweep("export", run_dir, "--single", "--trial", "1", "--out", "best")
    assert (both.code, "takes --single or --trial, got --trial 1 too" in both.err) == (2, True)

    graph = visionsweep("export", run_dir, "--pt2", "--out", "graph")
    assert graph.code == 0, graph.err
    assert "The run recommends an ensemble, of which there is no one graph. Exported is the " in graph.out
    assert (tmp_path / "graph" / "model.pt2").is_file()

    forget(run_dir)
    assert "Exported trial" in visionsweep("export", run_dir, "--out", "best").out


def test_an_ensemble_mixes_sizes_and_backbones_and_no_soup_is_made_of_them(
    visionsweep: CLI, photos: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    other = {**SMALL, "image_size": 24, "model": {**SMALL["model"], "backbone": "test_efficientnet"}}
    logits = [noisy(truth, seed, 2.0) for seed in range(2)]
    data = kept_run(tmp_path / "a", photos, logits, [SMALL, other])
    told = recommend(load_run(tmp_path / "a"), data, CPU)
    assert told is not None
    assert told["soup"] is None
    assert {one["trial_id"] for one in told["ensemble"]["members"]} == {"0000", "0001"}
    decided(tmp_path / "a", told, "ensemble")
    assert visionsweep("export", "a", "--out", "both").code == 0
    export = load_export(tmp_path / "both", CPU)
    assert isinstance(export, ExportedEnsemble)
    assert {member.config.image_size for member in export.members} == {24, 32}
    assert visionsweep("evaluate", "both", "--data", photos, "--split", "val").code == 0


def test_a_recommendation_that_cannot_be_followed_is_one_sentence(
    visionsweep: CLI, mixed: tuple[Path, dict[str, Any]]
) -> None:
    run_dir, told = mixed
    file = run_dir / "recommended.json"
    single = f"`visionsweep export {run_dir} --single --out DIR` exports the best trial alone."
    of_soup = {**told["soup"], "held_out": {"gain": "much"}}
    for text, problem in (
        ("{", "is damaged ("),
        ("[]", "must hold a JSON object"),
        (json.dumps({**told, "kind": "best"}), "is damaged ('kind', 'metric' or 'notes' is not what it must be)"),
        (json.dumps({**told, "kind": "soup", "soup": None}), "is damaged ('soup' is missing)"),
        (json.dumps({**told, "single": {}}), "is damaged ('single' is not the best trial)"),
        (json.dumps({**told, "soup": of_soup}), "is damaged (soup: 'held_out' has no gain)"),
        (json.dumps({**told, "ensemble": {**told["ensemble"], "members": [1]}}), "is damaged (ensemble: 'members' is"),
    ):
        file.write_text(text)
        done = visionsweep("export", run_dir, "--out", "x")
        assert done.code == 2, text
        assert problem in done.err
        assert single in done.err
    assert visionsweep("export", run_dir, "--single", "--out", "x").code == 0
    foreign = [{**one, "trial_id": "0099"} for one in told["soup"]["members"]]
    decided(run_dir, {**told, "soup": {**told["soup"], "members": foreign}}, "soup")
    assert "has no trial '0099'" in visionsweep("export", run_dir, "--out", "x").err
    (run_dir / "checkpoints" / "0001" / "epoch-0001.safetensors").unlink()
    for kind in ("soup", "ensemble"):
        decided(run_dir, told, kind)
        gone = visionsweep("export", run_dir, "--out", "x")
        assert (gone.code, "has not kept the weights of trial 0001" in gone.err) == (2, True)
