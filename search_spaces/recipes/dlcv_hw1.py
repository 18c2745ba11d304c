"""DLCV Homework 1: photos in 50 classes, and masks in 7 classes."""

from __future__ import annotations

from search_spaces.recipes.parts import (
    Recipe,
    adam,
    augment,
    classifier,
    cosine,
    cross_entropy,
    rest,
    segmenter,
    sgd,
)


def resnet101() -> Recipe:
    """ResNet-101, predictions of five epochs averaged, photos in 50 classes.

    Source: report "DLCV HW 1", sections 1.1 and 1.2.
    Result: accuracy 0.8748 (validation, 2,187 of 2,500)
    Settings: a new last layer. The predictions of the five epochs with the least loss are averaged. 224 px, by the
        sizes of its maps.
    Chosen: validation loss for "the least losses". ImageNet weights, because only the segmenter is said to have none.
        Everything about its training: SGD with rate 0.01 and weight decay 1e-4, cosine, 30 epochs, batches of 64,
        cross-entropy, flips and crops of half the image or more.
    Run: visionsweep train --recipe report-dlcv/resnet101 --data DIR
    """
    return {
        "task": "multiclass",
        "model": classifier("resnet101.tv_in1k"),
        "optimizer": sgd(0.01, weight_decay=1e-4),
        "loss": cross_entropy(),
        "schedule": cosine(),
        "augment": augment(random_resized_crop={"scale_min": 0.5, "scale_max": 1.0}, horizontal_flip={"p": 0.5}),
        "epochs": 30,
        "batch_size": 64,
        "image_size": 224,
        "fit_image": "crop",
        "ensemble": 5,
        "ensemble_metric": "val/loss",
        **rest(),
    }


def fcn32s() -> Recipe:
    """FCN-32s on VGG16 with 1 x 1 dense layers, 7 classes.

    Source: report "DLCV HW 1", sections 2.1 and 2.3.
    Result: mIoU 0.6936 (validation, epoch 25)
    Settings: VGG16's convolutions, two 1 x 1 convolutions of 4,096 channels with dropout 0.5, one transposed
        convolution by 32.
    Chosen: ImageNet weights, because only the improved network is said to have none. Everything about its training:
        25 epochs, as many as the figure took, Adam with rate 1e-4, cosine, batches of 8, cross-entropy, flips, and
        512 px. The report's transposed convolution (7, 7, 64, 32) has no padding, ours pads 16, with which its output
        has the size of the image.
    Run: visionsweep train --recipe report-dlcv/fcn32s --data DIR
    """
    return _segmentation(segmenter({"name": "fcn32s", "fc_kernel": 1}))


def deeplabv3() -> Recipe:
    """DeepLabV3 on ResNet-101 from scratch, 7 classes.

    Source: report "DLCV HW 1", sections 2.2 and 2.3.
    Result: mIoU 0.7344 (validation, epoch 25)
    Settings: no pretraining.
    Chosen: no auxiliary classifier, because the report mentions none. The rest as in report-dlcv/fcn32s.
    Run: visionsweep train --recipe report-dlcv/deeplabv3 --data DIR
    """
    return _segmentation(segmenter({"name": "deeplabv3_resnet101", "aux_weight": 0.0}, weights="none"))


def _segmentation(model: Recipe) -> Recipe:
    return {
        "task": "segmentation",
        "model": model,
        "optimizer": adam(1e-4),
        "loss": cross_entropy(),
        "schedule": cosine(),
        "augment": augment(horizontal_flip={"p": 0.5}),
        "epochs": 25,
        "batch_size": 8,
        "image_size": 512,
        "short_side": None,
        "fit_image": "crop",
        "evaluation": "whole",
        **rest(),
    }
