"""Searches over probes: what is known of them before any time is spent, and their names."""

from __future__ import annotations

import pytest

from launch.search.preflight import check_names, check_weights
from search_spaces.grammar import Pick
from search_spaces.search import Search
from visionsweep.core.errors import ConfigError, WeightsError
from visionsweep.core.text import in_words


def search_of_probes(*backbones: str, pruner: str = "asha") -> Search:
    return Search(
        task="multiclass",
        space={"model": {"backbone": Pick(*backbones), "freeze": "all"}, "optimizer": {"name": "lbfgs"}},
        fixed={"views": 1, "batch_size": 16, "image_size": 32},
        epochs=1,
        grace_epochs=1,
        pruner=pruner,
    )


def test_a_space_of_probes_is_valid_and_a_misspelt_part_is_told() -> None:
    check_names(search_of_probes("resnet18", "resnet18+resnet34"))
    with pytest.raises(ConfigError, match="unknown backbone 'resnet43'"):
        check_names(search_of_probes("resnet18", "resnet18+resnet43"))


def test_population_training_of_heads_that_are_solved_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose another pruner, or take lbfgs out of the space"):
        check_names(search_of_probes("resnet18", "resnet34", pruner="pbt"))


def test_weights_are_asked_for_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="no ImageNet weights for test_byobnet: "):
        check_weights(search_of_probes("test_byobnet", "test_byobnet+tf_efficientnet_lite0"))


def test_a_probe_in_words_has_no_rate() -> None:
    config: dict[str, object] = {"model": {"backbone": "a+b", "freeze": "all"}, "optimizer": {"name": "lbfgs"}}
    assert in_words(config) == "a+b, lbfgs, frozen: all"
    assert in_words({**config, "optimizer": {"name": "lbfgs", "l2": 0.012}}) == "a+b, lbfgs 0.012, frozen: all"
