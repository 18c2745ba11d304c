"""The pipelines of five course reports as complete, named configurations.

    visionsweep recipes                                                       # lists them
    visionsweep recipes report-cv4/alexnet-scratch                            # its source, its result, its YAML
    visionsweep train --recipe report-cv4/alexnet-scratch --data photos/
    Search(..., warm_start=[recipe("report-3080ti/seresnext101-mish")])       # a search that starts there

A recipe is a plain function. Its docstring has five sections:

Source    where it comes from
Result    the report's result
Settings  what the report says
Chosen    what it does not say and was chosen here, and why
Run       the command

Weight decay spares biases and the parameters of norms in all recipes. PyTorch's defaults, and so probably the reports,
do not.
"""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.recipes import csc449, cv_homework_4, dlcv_hw1, ece449, ucsd_voc
from search_spaces.recipes.parts import Recipe
from visionsweep.core.names import pick

RECIPES: dict[str, Callable[[], Recipe]] = {
    "report-deeper/inception-v3": csc449.inception_v3,
    "report-deeper/fcn32s": csc449.fcn32s,
    "report-deeper/pspnet": csc449.pspnet,
    "report-deeper/segnet": csc449.segnet,
    "report-deeper/unet": csc449.unet,
    "report-3080ti/resnet34": ece449.resnet34,
    "report-3080ti/pnasnet5-frozen": ece449.pnasnet5_frozen,
    "report-3080ti/efficientnet-b7": ece449.efficientnet_b7,
    "report-3080ti/seresnext101": ece449.seresnext101,
    "report-3080ti/efficientnet-b7-mish": ece449.efficientnet_b7_mish,
    "report-3080ti/seresnext101-mish": ece449.seresnext101_mish,
    "report-3080ti/seresnext101-mish-batch80": ece449.seresnext101_mish_batch80,
    "report-3080ti/seresnext101-mish-cosine": ece449.seresnext101_mish_cosine,
    "report-3080ti/seresnext101-mish-cosine-then-multistep": ece449.seresnext101_mish_cosine_then_multistep,
    "report-3080ti/seresnext101-mish-adam": ece449.seresnext101_mish_adam,
    "report-cv4/resnet18-frozen": cv_homework_4.resnet18_frozen,
    "report-cv4/resnet18-frozen-tight-crop": cv_homework_4.resnet18_frozen_tight_crop,
    "report-cv4/resnet18-finetuned": cv_homework_4.resnet18_finetuned,
    "report-cv4/resnet18-finetuned-tight-crop": cv_homework_4.resnet18_finetuned_tight_crop,
    "report-cv4/alexnet-scratch": cv_homework_4.alexnet_scratch,
    "report-cv4/efficientnet-b2-autoaugment": cv_homework_4.efficientnet_b2_autoaugment,
    "report-cv4/fcn8s": cv_homework_4.fcn8s,
    "report-cv4/fcn8s-no-skips": cv_homework_4.fcn8s_no_skips,
    "report-cv4/fcn8s-3-classes": cv_homework_4.fcn8s_3_classes,
    "report-voc/baseline": ucsd_voc.baseline,
    "report-voc/baseline-adam": ucsd_voc.baseline_adam,
    "report-voc/cosine": ucsd_voc.with_cosine,
    "report-voc/augmented": ucsd_voc.augmented,
    "report-voc/weighted": ucsd_voc.weighted,
    "report-voc/deeper": ucsd_voc.deeper,
    "report-voc/resnet18": ucsd_voc.resnet18,
    "report-voc/unet": ucsd_voc.unet,
    "report-dlcv/resnet101": dlcv_hw1.resnet101,
    "report-dlcv/fcn32s": dlcv_hw1.fcn32s,
    "report-dlcv/deeplabv3": dlcv_hw1.deeplabv3,
}


def recipe(name: str) -> Recipe:
    """Return a new, complete configuration, as `trainables.config.trial.TrialConfig` parses it. The caller may change
    it.

    Raises ConfigError with the nearest known name if there is no such recipe.
    """
    return pick(RECIPES, name, "recipe")()
