"""`visionsweep check --look`: one's own photos as training will see them, with nothing trained and no Ray."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import Outcome, make_photos, make_sides, tiny_config

from analysis.report.look import write_look
from launch.search.look import configurations
from search_spaces.shipped import SEARCHES
from trainables.config.io import parse_config
from trainables.data.formats import load_dataset

CLI = Callable[..., Outcome]


def pictures(text: str, words: str) -> list[np.ndarray]:
    """Return the pixels of the page's pictures whose alternative text ends so."""
    found = re.findall(rf'<img src="data:image/jpeg;base64,([^"]+)" alt="[^"]*{words}">', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_photos_are_shown_as_judged_and_augmented_with_their_labels(visionsweep: CLI, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", {"train/ants": 6, "train/<b>bees": 6, "val/ants": 4, "val/<b>bees": 4})
    said = visionsweep(
        "check", "quickstart", "--data", "photos", "--set", "batch_size=4", "--look", "--out", "seen/page.html"
    )
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == "Your photos as training will see them: seen/page.html"
    text = (tmp_path / "seen" / "page.html").read_text()
    assert len(pictures(text, ", as it is judged")) == len(pictures(text, ", augmented")) == 3 * 12
    assert text.count("<strong>ants</strong>") == 3 * 6
    assert text.count("<strong>&lt;b&gt;bees</strong>") == 3 * 6, "a class's name is text"
    assert "val/" not in text
    assert not (tmp_path / "runs").exists()
    refused = visionsweep("check", "quickstart", "--out", "seen/page.html")
    assert refused.code == 2
    assert "check takes --out with --look alone" in refused.err


def test_masks_are_laid_over_the_augmented_photos(visionsweep: CLI, tmp_path: Path) -> None:
    make_sides(tmp_path / "scenes", noise=10, brighter=60)
    said = visionsweep("check", "quickstart-segmentation", "--data", "scenes", "--look")
    assert said.code == 0, said.err
    text = (tmp_path / "look.html").read_text()
    plain, masked = pictures(text, ", augmented"), pictures(text, ", augmented, with its mask")
    assert len(plain) == len(masked) > 0
    for one, other in zip(plain, masked, strict=True):
        assert one.shape == other.shape
        assert np.abs(one.astype(int) - other).mean() > 5, "the colours of the classes lie over it"
    assert re.search(r"<strong>\w+ \d+%, \w+ \d+%", text), "the share of each class's pixels"


def test_a_mixed_photo_has_the_shares_of_both_labels(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", {"train/ants": 6, "train/bees": 6, "val/ants": 2, "val/bees": 2})
    dataset, _ = load_dataset(str(photos), short_side_px=32, cache_dir=None)
    mixed = parse_config(tiny_config(augment={"mix": {"name": "mixup", "alpha": 10.0, "p": 1.0}}))
    text = write_look([mixed], dataset, "mine", "", tmp_path / "page.html").read_text()
    shares = re.findall(r"<strong>(?:ants (\d+)%, bees (\d+)%|bees (\d+)%, ants (\d+)%)</strong>", text)
    assert shares
    for found in shares:
        assert sum(int(share) for share in found if share) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_shipped_search_has_something_to_look_at(name: str) -> None:
    search = SEARCHES[name]
    found = configurations(search.for_task("multiclass" if search.task == "classification" else search.task))
    assert found
    assert all(config.optimizer.name != "lbfgs" for config in found)
    assert len({config.augment.model_dump_json() for config in found}) == len(found)
