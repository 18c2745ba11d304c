"""A strip of training photos as the best trial saw them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_run import PROBE, SMALL, kept_run, opened
from PIL import Image
from support import make_photos

from analysis.figures.batches import NUM_SHOWN, Seen, seen_photos
from analysis.figures.overlays import open_data
from analysis.report import write_report
from visionsweep.core.errors import RunError
from visionsweep.run_dir.load import load_run


def seen(tmp_path: Path, config: dict[str, Any]) -> list[Seen]:
    counts = {"train/ants": 6, "train/bees": 6, "val/ants": 4, "val/bees": 4}
    photos = tmp_path / "photos"
    if not photos.exists():
        make_photos(photos, counts)
    num_val = len(opened(photos).dataset.indices("val"))
    kept_run(tmp_path / "run", photos, [np.ones((num_val, 1), np.float32)], [config])
    run = load_run(tmp_path / "run")
    return seen_photos(run, run.trials[0], open_data(run))


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"), float)


def test_training_photos_are_shown_as_judged_and_as_augmented(tmp_path: Path) -> None:
    found = seen(tmp_path, {**SMALL, "augment": {"coarse_dropout": {"num_holes": 4, "hole_px": 16, "p": 1.0}}})
    assert len(found) == NUM_SHOWN
    assert all(one.name.startswith("train/") for one in found)
    assert len({one.name for one in found}) == NUM_SHOWN
    for one in found:
        assert one.trained is not None
        assert pixels(one.judged).shape == (32, 32, 3)
        black = (pixels(one.trained) < 25).all(axis=2).mean()
        assert black > 0.2, "holes are cut out of what it trained on"
        assert black > (pixels(one.judged) < 25).all(axis=2).mean() + 0.1


def test_a_batch_that_is_mixed_is_shown_mixed_and_no_draw_of_others_changes(tmp_path: Path) -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    found = seen(tmp_path, {**SMALL, "augment": {"mix": {"name": "mixup", "alpha": 10.0, "p": 1.0}}})
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
    first, last = found[0], found[-1]
    assert first.trained is not None
    assert last.trained is not None
    # Nearly half of each is the other one: a batch's first and last images look alike.
    apart = np.abs(pixels(first.judged).mean(axis=(0, 1)) - pixels(last.judged).mean(axis=(0, 1))).max()
    mixed = np.abs(pixels(first.trained).mean(axis=(0, 1)) - pixels(last.trained).mean(axis=(0, 1))).max()
    assert mixed < max(12.0, apart / 2)


def test_a_probe_is_shown_what_it_was_solved_on(tmp_path: Path) -> None:
    assert {one.trained for one in seen(tmp_path, PROBE)} == {None}


def test_photos_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"train/ants": 6, "train/bees": 6, "val/ants": 4, "val/bees": 4})
    num_val = len(opened(photos).dataset.indices("val"))
    kept_run(tmp_path / "run", photos, [np.ones((num_val, 1), np.float32)])
    run = load_run(tmp_path / "run")
    data = open_data(run)
    for path in sorted(photos.glob("train/ants/*")):
        path.write_bytes(b"no image")
    assert {one.name.split("/")[1] for one in seen_photos(run, run.trials[0], data)} == {"bees"}
    for path in photos.glob("train/bees/*"):
        path.unlink()
    with pytest.raises(RunError, match="none of the training photos can be read"):
        seen_photos(run, run.trials[0], data)


def test_the_page_with_the_model_has_the_strip_and_the_one_without_has_not(tmp_path: Path) -> None:
    seen(tmp_path, SMALL)
    path = write_report([tmp_path / "run"])
    text = path.read_text(encoding="utf-8")
    assert "Your photos as it saw them" in text
    assert text.count(', augmented"') == NUM_SHOWN
    assert "saw them are not shown" not in text
    text = write_report([tmp_path / "run"], with_model=False).read_text(encoding="utf-8")
    assert "Your photos as it saw them" not in text
