"""A regime of adapters is left out where the backbone that was set has nothing to adapt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launch.search.preflight import with_fitting_regimes
from search_spaces.regimes import regimes_of
from search_spaces.search import Search
from search_spaces.shipped import SEARCHES
from visionsweep.core.errors import ConfigError

SMALL = SEARCHES["classification-gpu-small"]


def test_a_convolutional_backbone_leaves_the_regime_of_adapters_out_and_that_is_said() -> None:
    search, (note,) = with_fitting_regimes(SMALL.with_set({"model.backbone": "test_resnet"}))
    assert set(regimes_of(search.space)) == {"probe", "finetune", "finetune_layer_norm"}
    assert {config["regime"] for config in search.warm_start} == set(regimes_of(search.space))
    said = "model.adapter is for the linear layers of attention, and backbone 'test_resnet' has none"
    assert note == f"Regime lora is left out: {said}."


@pytest.mark.parametrize("settings", [{}, {"model.backbone": "test_vit"}])
def test_a_transformer_and_a_choice_of_backbones_keep_it(settings: dict[str, str]) -> None:
    search = SMALL.with_set(settings)
    assert with_fitting_regimes(search) == (search, ())


def test_where_no_regime_is_left_the_search_is_refused() -> None:
    alone = SMALL.with_set({"regime": "lora", "model.backbone": "test_resnet"})
    with pytest.raises(ConfigError, match=r"backbone 'test_resnet' has none\. Set model\.backbone to a transformer"):
        with_fitting_regimes(alone)
    space = {"model": {"backbone": "test_resnet", "adapter": {"name": "lora"}}}
    plain: Search = replace(alone, space=space, fixed={}, warm_start=())
    with pytest.raises(ConfigError, match=r"or model\.adapter=null"):
        with_fitting_regimes(plain)
