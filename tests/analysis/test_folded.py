"""With few validation images, other images help to recommend the better model and not the luckier one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept_run import PROBE, SMALL, kept_run, opened, truths
from support import Outcome, make_photos

from analysis.models import folded as folded_module
from analysis.models.recommend import recommend
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.rank import ranking_frame
from visionsweep.run_dir.recommended import in_sentences, stored

CPU = torch.device("cpu")
LUCKY = "0000"
BETTER = "0001"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", {"red": 60, "blue": 60}, (16, 16))


def answers(truth: np.ndarray, wrong_each: int, sure: float = 1.0) -> np.ndarray:
    """Return (N, 1) logits that are wrong for every `wrong_each`-th image."""
    right = np.where(np.arange(len(truth)) % wrong_each == wrong_each - 1, -1.0, 1.0)
    return (sure * right * (truth * 2.0 - 1))[:, None].astype(np.float32)


def run_of(tmp_path: Path, photos: Path, sure: float = 1.0, *others: np.ndarray) -> Any:
    """A run of two probes, then fine-tunings with other predictions of the validation images.

    On the 24 validation images the first probe has 2 mistakes and the second 3. On the 96 training images, which heads
    of folds predicted, they have 24 and 12.
    """
    data = opened(photos)
    val = truths(data)
    train = truths(data, "train")
    assert (len(val), len(train)) == (24, 96)
    logits = [answers(val, 12), answers(val, 8), *others]
    configs = [PROBE, {**PROBE, "views": 1}, *[SMALL for _ in others]]
    return kept_run(tmp_path / "run", photos, logits, configs, [answers(train, 4, sure), answers(train, 8, sure)])


def test_among_probes_all_images_choose_and_the_last_lines_say_so(
    tmp_path: Path, photos: Path, visionsweep: Callable[..., Outcome]
) -> None:
    data = run_of(tmp_path, photos)
    run = load_run(tmp_path / "run")
    assert ranking_frame(run)["trial_id"][0] == LUCKY
    told = recommend(run, data, CPU)
    assert told is not None
    assert (told["single"]["trial_id"], told["chosen_on"]) == (BETTER, 120)
    lines = in_sentences(told)
    assert any(line.startswith("All 120 images chose, each predicted by a head of the probe") for line in lines)
    assert any(
        "on the validation images trial 0000 is the first (0.9167; trial 0001: 0.8750)" in line for line in lines
    )

    (tmp_path / "run" / "recommended.json").write_text(json.dumps({**told, "kind": "single"}))
    done = visionsweep("export", tmp_path / "run", "--out", tmp_path / "best")
    assert f"Exported trial {BETTER} (epoch 1)" in done.out
    done = visionsweep("export", tmp_path / "run", "--single", "--out", tmp_path / "first")
    assert f"Exported trial {LUCKY} (epoch 1)" in done.out


@pytest.mark.parametrize(("of_val", "of_train", "chosen"), [(24, 48, "0001"), (4, 4, "0000")])
def test_of_probes_that_cannot_be_told_apart_the_one_with_more_backbones_is_recommended(
    tmp_path: Path, photos: Path, of_val: int, of_train: int, chosen: str
) -> None:
    """The first probe has no mistake. The second has 3 in 120, which is luck, or 30, which is not."""
    data = opened(photos)
    val = truths(data)
    train = truths(data, "train")
    wide = {**PROBE, "model": {**PROBE["model"], "backbone": "test_resnet+test_efficientnet"}}
    unseen = [answers(train, 1000), answers(train, of_train)]
    data = kept_run(tmp_path / "run", photos, [answers(val, 1000), answers(val, of_val)], [PROBE, wide], unseen)
    told = recommend(load_run(tmp_path / "run"), data, CPU)
    assert told is not None
    assert (told["single"]["trial_id"], told["chosen_on"]) == (chosen, 120)


def test_folds_that_say_something_else_than_val_choose_nothing(tmp_path: Path, photos: Path) -> None:
    """Folds may disagree with val if photos of one object are in several of them: then they reward having seen it."""
    data = opened(photos)
    val = truths(data)
    train = truths(data, "train")
    unseen = [answers(train, 50, 4.0), answers(train, 90, 4.0)]
    data = kept_run(tmp_path / "run", photos, [answers(val, 3), answers(val, 2)], [PROBE, PROBE], unseen)
    told = recommend(load_run(tmp_path / "run"), data, CPU)
    assert told is not None
    assert (told["single"]["trial_id"], told["chosen_on"]) == (LUCKY, None)
    assert any(
        note.startswith("The validation images alone chose. Left out in turn, the training") for note in told["notes"]
    )


def test_beside_a_fine_tuning_folds_choose_the_probes_and_val_the_rest(tmp_path: Path, photos: Path) -> None:
    val = truths(opened(photos))
    worse = answers(val, 6)
    better = answers(val, 24, 2.0)
    for number, tuned in enumerate((worse, better)):
        place = tmp_path / str(number)
        data = run_of(place, photos, 1.0, tuned)
        told = recommend(load_run(place / "run"), data, CPU)
        assert told is not None
        assert told["chosen_on"] is None
        assert told["single"]["trial_id"] == ("0002" if number else BETTER)
        members = {one["trial_id"] for one in (told["ensemble"] or {"members": []})["members"]}
        assert LUCKY not in members


def test_of_equal_scores_the_lower_loss_is_recommended_where_few_images_validate(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    val = truths(opened(photos))
    data = kept_run(tmp_path / "run", photos, [answers(val, 8, 6.0), answers(val, 8)])
    run = load_run(tmp_path / "run")
    told = recommend(run, data, CPU)
    assert told is not None
    assert told["single"]["trial_id"] == BETTER
    monkeypatch.setattr(folded_module, "ENOUGH_TO_CHOOSE", 24)
    told = recommend(run, data, CPU)
    assert told is not None
    assert told["single"]["trial_id"] == ranking_frame(run)["trial_id"][0] == "0000"


def test_a_number_of_images_that_is_none_is_damaged(tmp_path: Path, photos: Path) -> None:
    data = run_of(tmp_path, photos)
    told = recommend(load_run(tmp_path / "run"), data, CPU)
    (tmp_path / "run" / "recommended.json").write_text(json.dumps({**(told or {}), "chosen_on": "all"}))
    with pytest.raises(RunError, match="'chosen_on' is no number of images"):
        stored(tmp_path / "run")
