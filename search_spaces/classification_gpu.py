"""The shipped searches for photos with classes or tags on a GPU: probes, fine-tunings and adapters.

    visionsweep run classification-gpu-small --data photos/ --trials 100
    visionsweep run classification-gpu-large --data photos/ --budget 12h

Kinds of networks need different settings, hence the regimes. Networks with batch norm take high rates and SGD.
Transformers and ConvNeXts take AdamW, low rates, and lower ones in lower stages. Adapters take rates ten times as high.
`docs/backbones.md` lists the licences of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search_spaces.classification_parts import AUGMENT, BY_TASK, FIRST, HEAD, SCHEDULE, optimizer_branch
from search_spaces.grammar import Branch, Float, Pick
from search_spaces.search import Search

# --- networks, by timm's names ------------------------------------------------------------------------------------
DINO_S = "vit_small_patch16_dinov3"
DINO_B = "vit_base_patch16_dinov3"
DINO_TINY = "convnext_tiny.dinov3_lvd1689m"
DINO_SMALL = "convnext_small.dinov3_lvd1689m"
SIGLIP = "vit_base_patch16_siglip_224.v2_webli"
EVA_S = "eva02_small_patch14_336"
EVA_B = "eva02_base_patch14_448"

_TRANSFORMERS_SMALL = ("vit_small_patch16_224", DINO_S, EVA_S)
_TRANSFORMERS_LARGE = ("vit_base_patch16_224", DINO_S, DINO_B, SIGLIP, EVA_B)
_CONVNEXTS_SMALL = ("convnext_tiny", DINO_TINY, "convnextv2_nano", "convnextv2_tiny")
_CONVNEXTS_LARGE = ("convnext_tiny", "convnext_small", DINO_SMALL, "convnextv2_base")
_WITH_BATCH_NORM_SMALL = (
    "resnet18", "resnet34", "resnet50", "alexnet", "efficientnet_b0", "efficientnet_b2",
    "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "mobilenetv3_large_100", "regnety_016",
    "mobilenetv4_conv_small", "mobilenetv4_conv_medium", "fastvit_t12", "fastvit_sa12",
)  # fmt: skip
# The first five are the reports' winners and the networks that they tried beside them.
_WITH_BATCH_NORM_LARGE = (
    "seresnext101_32x4d", "tf_efficientnet_b7", "pnasnet5large", "inception_v3", "resnet34",
    "resnet101", "efficientnet_b2", "tf_efficientnetv2_s", "regnety_032", "mobilenetv4_hybrid_medium", "fastvit_sa24",
)  # fmt: skip


# --- regimes ------------------------------------------------------------------------------------------------------


def _probe(backbones: Sequence[str], sizes: Sequence[int]) -> dict[str, Any]:
    """A head that is solved on kept features, in one pass over the images and without a learning rate."""
    return {
        "model": {
            "backbone": Pick(*backbones),
            "freeze": "all",
            "head": {"name": "linear", "dropout": 0.0},
            "features": Pick("last", "stages"),
        },
        "optimizer": {"name": "lbfgs", "l2": None},
        "loss": None,
        "views": Pick(1, 2),
        "fit_image": Pick("crop", "squash"),
        "image_size": Pick(*sizes),
        "batch_size": 32,
        "epochs": 1,
    }


def _trained(
    sizes: Sequence[int], batches: Sequence[int], accumulate: Sequence[int], epochs: Sequence[int], ema: Sequence[float]
) -> dict[str, Any]:
    """The choices of every training with optimizer steps."""
    return {
        "schedule": SCHEDULE,
        "augment": AUGMENT,
        "batch_size": Pick(*batches),
        "accumulate": Pick(*accumulate),
        "fit_image": Pick("crop", "squash"),
        "image_size": Pick(*sizes),
        "epochs": Pick(*epochs),
        "ema_decay": Pick(None, *ema),
        "clip_grad_norm": Pick(1.0, 5.0),
    }


def _finetune(backbones: Sequence[str], trained: dict[str, Any]) -> dict[str, Any]:
    """Networks with batch norm.

    The usual settings are SGD with rate 0.01, momentum 0.9 and weight decay 1e-4. A solved head needs lower rates.
    Li et al. 2020, "Rethinking the hyperparameters for fine-tuning" (arXiv:2002.11770).
    """
    model = {
        "backbone": Pick(*backbones),
        "freeze": Pick("none", "stage1", "stage2", "stage3"),
        "head": {"name": "linear", "dropout": Float(0.0, 0.5)},
        "head_init": Pick("probe", "random"),
        "batch_norm": Pick("fixed", "trained"),
    }
    return {"model": model, "optimizer": optimizer_branch(sgd_lr=(3e-4, 0.1), adam_lr=(1e-5, 3e-3)), **trained}


def _finetune_layer_norm(backbones: Sequence[str], trained: dict[str, Any]) -> dict[str, Any]:
    """Transformers and ConvNeXts, with AdamW and lower rates in lower stages.

    `freeze` stage3 trains the last quarter of a transformer's blocks. ConvNeXt's authors fine-tune at 5e-5 with a decay
    of 0.8 a group of layers (arXiv:2201.03545, appendix). MAE's fine-tune a ViT-B with 0.65 a block (FINETUNE.md, base
    rate 5e-4 for 256 images). A stage has three blocks here, so 0.65 to 0.8 a block is 0.27 to 0.5 a stage.
    """
    model = {
        "backbone": Pick(*backbones),
        "freeze": Pick("none", "stage1", "stage2", "stage3"),
        "head": {"name": "linear", "dropout": Float(0.0, 0.5)},
        "head_init": Pick("probe", "random"),
    }
    optimizer = {
        "name": "adamw",
        "lr": Float(1e-5, 1e-3, log=True),
        "weight_decay": Float(1e-4, 0.1, log=True),
        "layer_decay": Float(0.2, 1.0),
    }
    return {"model": model, "optimizer": optimizer, **trained}


def _lora(backbones: Sequence[str], trained: dict[str, Any]) -> dict[str, Any]:
    """Adapters on a transformer's layers (Hu et al. 2021, arXiv:2106.09685).

    They train a hundredth of the weights, for which few photos suffice. The optimizer's state is as small.
    """
    model = {
        "backbone": Pick(*backbones),
        "freeze": Pick("none", "stage1", "stage2"),
        "adapter": {"name": "lora", "rank": Pick(4, 8, 16, 32), "alpha": Pick(8.0, 16.0, 32.0)},
        "head": {"name": "linear", "dropout": Float(0.0, 0.5)},
        "head_init": Pick("probe", "random"),
    }
    optimizer = {"name": "adamw", "lr": Float(5e-5, 5e-3, log=True), "weight_decay": Float(1e-4, 0.1, log=True)}
    return {"model": model, "optimizer": optimizer, **trained}


def _reports(backbones: Sequence[str], trained: dict[str, Any]) -> dict[str, Any]:
    """The reports' trainings: a random head of one or two layers, on all, some or no trained layers."""
    model = {
        "backbone": Pick(*backbones),
        "freeze": Pick("none", "stage1", "stage2", "stage3", "all"),
        "head": HEAD,
        "aux_weight": 0.3,  # of Inception's auxiliary head, which others lack (report "We need to go deeper")
    }
    return {"model": model, "optimizer": optimizer_branch(sgd_lr=(1e-4, 0.3), adam_lr=(1e-5, 1e-2)), **trained}


# --- the first trials: probes from the cheapest on, then usual fine-tunings -----------------------------------------


def _first_probe(backbone: str, image_size: int = 224, fit_image: str = "crop") -> dict[str, Any]:
    seen = {"image_size": image_size, "fit_image": fit_image, "views": 1}
    return {"regime": "probe", "model": {"backbone": backbone, "features": "last"}, **seen}


def _first(regime: str, model: dict[str, Any], optimizer: dict[str, Any], **sizes: Any) -> dict[str, Any]:
    head = {"head": {"name": "linear", "dropout": 0.1}, "head_init": "probe"}
    whole = {**FIRST, "regime": regime, "model": {**head, **model}, "optimizer": optimizer, **sizes}
    return {**whole, "fit_image": "crop", "ema_decay": None, "clip_grad_norm": 1.0}


def _resnet(backbone: str, **sizes: Any) -> dict[str, Any]:
    model = {"backbone": backbone, "freeze": "none", "batch_norm": "fixed"}
    sgd = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "backbone_lr_scale": 1.0}
    return _first("finetune", model, sgd, **sizes)


def _adamw(backbone: str, lr: float, layer_decay: float, freeze: str = "none", **sizes: Any) -> dict[str, Any]:
    adamw = {"name": "adamw", "lr": lr, "weight_decay": 0.05, "layer_decay": layer_decay}
    return _first("finetune_layer_norm", {"backbone": backbone, "freeze": freeze}, adamw, **sizes)


def _adapted(backbone: str, **sizes: Any) -> dict[str, Any]:
    model = {"backbone": backbone, "freeze": "none", "adapter": {"name": "lora", "rank": 8, "alpha": 16.0}}
    return _first("lora", model, {"name": "adamw", "lr": 5e-4, "weight_decay": 0.01}, **sizes)


# --- the searches -------------------------------------------------------------------------------------------------

_TRAINED_SMALL = _trained((160, 192, 224), (16, 32, 64), (1, 2, 4), (4, 8, 12, 20, 40), (0.99, 0.999))

GPU_SMALL = Search(
    description="One GPU of 8 to 16 GB: ResNet to ConvNeXt-tiny and small transformers, from probes to all layers.",
    task="classification",
    num_trials=100,
    epochs=40,
    space={
        "regime": Branch(
            {
                "probe": _probe(
                    (*_TRANSFORMERS_SMALL, SIGLIP, *_CONVNEXTS_SMALL, "resnet50", f"{DINO_S}+{DINO_TINY}",
                     f"{DINO_S}+{SIGLIP}"),
                    (224, 256, 288),
                ),
                "finetune": _finetune(_WITH_BATCH_NORM_SMALL, _TRAINED_SMALL),
                "finetune_layer_norm": _finetune_layer_norm((*_TRANSFORMERS_SMALL, *_CONVNEXTS_SMALL), _TRAINED_SMALL),
                "lora": _lora((*_TRANSFORMERS_SMALL, SIGLIP), {**_TRAINED_SMALL, "epochs": Pick(4, 8, 12, 20)}),
            }
        )
    },
    space_by_task=BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16"},
    warm_start=(
        _first_probe(DINO_S),
        _first_probe(DINO_TINY),
        _first_probe(SIGLIP),
        _first_probe("convnext_tiny"),
        _first_probe(f"{DINO_S}+{SIGLIP}", fit_image="squash"),
        _adamw("convnext_tiny", 1e-4, 0.7, image_size=224, batch_size=32, epochs=12),
        _adamw(DINO_S, 5e-5, 0.4, image_size=224, batch_size=32, epochs=12),
        _adapted(DINO_S, image_size=224, batch_size=32, epochs=12),
        _resnet("resnet50", image_size=224, batch_size=32, epochs=12),
    ),
)  # fmt: skip

_LENGTHS_LARGE = (4, 8, 12, 20, 40, 60)
_TRAINED_LARGE = _trained((224, 256, 288, 320), (16, 24, 32, 64, 80), (1, 2, 3, 4), _LENGTHS_LARGE, (0.999, 0.9995))

GPU_LARGE = Search(
    description="GPUs of 24 GB and more: the reports' winners (SE-ResNeXt101, EfficientNet-B7) and today's networks.",
    task="classification",
    num_trials=200,
    epochs=60,
    space={
        "regime": Branch(
            {
                "probe": _probe(
                    (DINO_B, SIGLIP, EVA_B, DINO_SMALL, "convnextv2_base", "vit_large_patch16_dinov3",
                     f"{DINO_B}+{SIGLIP}", f"{DINO_B}+{SIGLIP}+{DINO_SMALL}"),
                    (224, 256, 320),
                ),
                "finetune": _finetune(_WITH_BATCH_NORM_LARGE, _TRAINED_LARGE),
                "finetune_layer_norm": _finetune_layer_norm((*_TRANSFORMERS_LARGE, *_CONVNEXTS_LARGE), _TRAINED_LARGE),
                "lora": _lora(
                    (*_TRANSFORMERS_LARGE, "vit_large_patch16_dinov3"),
                    {**_TRAINED_LARGE, "batch_size": Pick(16, 32), "epochs": Pick(4, 8, 12, 20)},
                ),
                "reports": _reports(
                    (*_WITH_BATCH_NORM_LARGE[:5], "convnext_tiny", "vit_base_patch16_224"),
                    {**_TRAINED_LARGE, "image_size": Pick(224, 256, 299, 320), "epochs": Pick(20, 40, 60)},
                ),
            }
        )
    },
    space_by_task=BY_TASK,
    fixed={"model": {"weights": "imagenet"}, "precision": "bf16"},
    warm_start=(
        _first_probe(DINO_B),
        _first_probe(SIGLIP),
        _first_probe(DINO_SMALL),
        _first_probe(f"{DINO_B}+{SIGLIP}", 256, "squash"),
        _adamw("convnext_small", 1e-4, 0.7, image_size=224, batch_size=32, epochs=12),
        _adamw(DINO_B, 3e-5, 0.35, image_size=224, batch_size=32, epochs=12),
        _adapted(DINO_B, image_size=224, batch_size=32, epochs=12),
        _adamw(SIGLIP, 5e-5, 0.5, "stage3", image_size=224, batch_size=32, epochs=12),
        _resnet("seresnext101_32x4d", image_size=224, batch_size=64, epochs=20),
    ),
)  # fmt: skip
