"""UCSD assignment 3: PASCAL VOC 2007 segmentation, 21 classes, 209 images to train on.

Each recipe up to `weighted` adds one thing to the one before. The last three networks have all of it. The report stops
by the loss and keeps the best epoch by IoU. Here `early_stopping_metric` and the task's objective, val/miou, do so.
"""

from __future__ import annotations

from search_spaces.recipes.parts import (
    Recipe,
    adam,
    adamw,
    augment,
    constant,
    cosine,
    cross_entropy,
    rest,
    segmenter,
)


def baseline() -> Recipe:
    """Five convolutions and five deconvolutions from scratch, VOC 2007.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 3.1 and 4.
    Result: IoU 0.05893, pixel accuracy 72.08 % (validation)
    Settings: Xavier initialisation, cross-entropy, AdamW, batches of 16, early stopping after 3 epochs without a lower
        loss, the best epoch by IoU kept.
    Chosen: rate 1e-3 and weight decay 0.01, PyTorch's defaults. At most 30 epochs, where the report's plots end. A
        constant rate, because the next recipe is the one that adds a schedule. Images squashed to 224 px, the size at
        which the maps of its Table 1 come out. The result is that of its Table 4, with a loss of 1.372. Its text says
        0.055 and 1.363.
    Run: visionsweep train --recipe report-voc/baseline --data DIR
    """
    return {
        "task": "segmentation",
        "model": segmenter({"name": "voc_baseline"}, weights="none"),
        "optimizer": adamw(1e-3),
        "loss": cross_entropy(),
        "schedule": constant(),
        "augment": augment(),
        "epochs": 30,
        "batch_size": 16,
        "image_size": 224,
        "short_side": None,
        "fit_image": "squash",
        "evaluation": "whole",
        "early_stopping_patience": 3,
        "early_stopping_metric": "val/loss",
        **rest(),
    }


def baseline_adam() -> Recipe:
    """The baseline with Adam, which did worse than AdamW.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", section 3.1.
    Result: no figure (worse than AdamW, IoU 0.05893)
    Settings: as report-voc/baseline, with Adam.
    Chosen: rate 1e-3, PyTorch's default.
    Run: visionsweep train --recipe report-voc/baseline-adam --data DIR
    """
    return {**baseline(), "optimizer": adam(1e-3)}


def with_cosine() -> Recipe:
    """The baseline and a cosine schedule.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 3.2 and 4 (4_a).
    Result: IoU 0.06136, pixel accuracy 71.58 % (validation)
    Settings: as report-voc/baseline, with cosine annealing.
    Chosen: one way down over the whole training. The report gives no period.
    Run: visionsweep train --recipe report-voc/cosine --data DIR
    """
    return {**baseline(), "schedule": cosine()}


def augmented() -> Recipe:
    """Cosine and three times the images, by augmentation.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 3.2 and 4 (4_b).
    Result: IoU 0.06393, pixel accuracy 70.99 % (validation)
    Settings: as report-voc/cosine. Flips, rotations and crops make the training set three times as large.
    Chosen: three passes an epoch, each drawn anew, for the set that was enlarged once. Rotation by up to 30 degrees
        half the time, crops of half the image or more: the report gives no measures.
    Run: visionsweep train --recipe report-voc/augmented --data DIR
    """
    return {
        **with_cosine(),
        "repeat": 3,
        "augment": augment(
            rotate={"p": 0.5, "degrees": 30.0},
            random_resized_crop={"scale_min": 0.5, "scale_max": 1.0},
            horizontal_flip={"p": 0.5},
        ),
    }


def weighted() -> Recipe:
    """Cosine, augmentation and a loss that weighs rare classes more.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 3.2 and 4 (4_c).
    Result: IoU 0.06786, pixel accuracy 69.11 % (validation)
    Settings: as report-voc/augmented. Classes weighted by the inverse of their frequency.
    Chosen: early stopping looks at the plain loss, as everywhere here. The report's own was the weighted one.
    Run: visionsweep train --recipe report-voc/weighted --data DIR
    """
    return {**augmented(), "loss": cross_entropy(class_weights="inverse_frequency")}


def deeper() -> Recipe:
    """A deeper network with max pooling and unpooling, and all improvements.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 5.3.1 and 4 (5_a).
    Result: IoU 0.07658, pixel accuracy 69.03 % (validation)
    Settings: as report-voc/weighted. The network of its Table 1, batches of 8 for want of memory.
    Chosen: as report-voc/weighted. Table 1 prints an output of 244. Ours has the 224 px of the input.
    Run: visionsweep train --recipe report-voc/deeper --data DIR
    """
    return {**weighted(), "model": segmenter({"name": "voc_deeper"}, weights="none"), "batch_size": 8}


def resnet18() -> Recipe:
    """Frozen ResNet-18 with five deconvolutions, and all improvements: the report's best.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 5.3.2 and 4 (5_b).
    Result: IoU 0.15017, pixel accuracy 74.45 % (validation)
    Settings: as report-voc/weighted. ImageNet weights, locked, and the decoder of its Table 2.
    Chosen: batches of 16. Five deconvolutions as in its Table 2, where the abstract counts four.
    Run: visionsweep train --recipe report-voc/resnet18 --data DIR
    """
    return {**weighted(), "model": segmenter({"name": "voc_resnet18"}, freeze="all")}


def unet() -> Recipe:
    """U-Net from scratch, and all improvements.

    Source: report UCSD "Convolutional Network Implementation for Semantic Segmentation", sections 5.3.3 and 4 (5_c).
    Result: IoU 0.08326, pixel accuracy 72.33 % (validation)
    Settings: as report-voc/weighted. The network of its Table 3.
    Chosen: batches of 16. The figures of the results table, from which the abstract's (0.087 and 67.7 %) differ.
    Run: visionsweep train --recipe report-voc/unet --data DIR
    """
    return {**weighted(), "model": segmenter({"name": "unet_paper"}, weights="none")}
