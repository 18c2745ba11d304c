"""CSC 449 final project, team "We need to go deeper": actors and actions in video frames (A2D), tags and masks."""

from __future__ import annotations

from search_spaces.recipes.parts import Recipe, augment, bce, classifier, cross_entropy, rest, segmenter, sgd


def inception_v3() -> Recipe:
    """Inception v3 with frozen convolutions, 43 actor-action tags.

    Source: report CSC 449 "We need to go deeper", task 1.
    Result: F1 46.9, precision 47.6, recall 50.0 (validation)
    Settings: ImageNet weights, all convolutions frozen, new main and auxiliary classifiers. BCE + 0.3 x auxiliary BCE.
        SGD with momentum 0.9 and a stepwise rate, batches of 10, converged at about 60 epochs. Images of 299 px.
        Rotation by up to 10 degrees, flip, crop and pad to 244, rescaling by 0.5 to 2, Gaussian blur (5 x 5, sigma to
        0.6, half the time).
    Chosen: rate 0.01, halved twice at equal distances, because the report gives no rates here and halves twice in its
        task 2. Crop and pad of a tenth per side stands for the window of 244 px, which depends on the frames' size.
        Rotation, rescaling, crop and pad every time: no chances are given. The blur's kernel is drawn, 3 or 5 px, where
        the report has 5.
    Run: visionsweep train --recipe report-deeper/inception-v3 --data DIR
    """
    return {
        "task": "multilabel",
        "model": {**classifier("inception_v3", freeze="all"), "aux_weight": 0.3},
        "optimizer": sgd(0.01),
        "loss": bce(),
        "schedule": {"name": "piecewise", "num_pieces": 3, "factor": 0.5, "warmup_epochs": 0.0},
        "augment": _augment(),
        "epochs": 60,
        "batch_size": 10,
        "image_size": 299,
        "fit_image": "squash",
        "threshold": 0.5,
        **rest(),
    }


def fcn32s() -> Recipe:
    """FCN-32s on VGG16 with a summed loss and tiny rates.

    Source: report CSC 449 "We need to go deeper", task 2.
    Result: mIoU 25.33, pixel accuracy 35.35 (validation)
    Settings: VGG16, one upsampling to the size of the image. Cross-entropy summed over the pixels that have a label.
        SGD with momentum 0.9, batches of 12. Rate 1e-10 in epochs 1-15, 5e-11 in 16-31, 2.5e-11 in 32-50. Augmentation
        as for the tags.
    Chosen: 244 px, the window of its cropping, because the 299 px belong to Inception. 7 x 7 kernels in the first dense
        layer as in the FCN paper. ImageNet weights, because the report speaks of fine-tuning.
    Run: visionsweep train --recipe report-deeper/fcn32s --data DIR
    """
    return _segmentation(segmenter({"name": "fcn32s", "fc_kernel": 7}))


def pspnet() -> Recipe:
    """PSPNet, given up for FCN-32s: it fell to the background class.

    Source: report CSC 449 "We need to go deeper", task 2, section 5.
    Result: fell to the background class, no figures
    Settings: the report names the network only.
    Chosen: ResNet-50 as backbone. The rest as in report-deeper/fcn32s, so that only the networks differ. To counter
        the background: --set loss.class_weights=median_frequency, with --set loss.reduction=mean and a rate to match.
    Run: visionsweep train --recipe report-deeper/pspnet --data DIR
    """
    return _segmentation(segmenter({"name": "pspnet"}, backbone="resnet50"))


def segnet() -> Recipe:
    """SegNet, given up for FCN-32s: it fell to the background class.

    Source: report CSC 449 "We need to go deeper", task 2, section 5.
    Result: fell to the background class, no figures
    Settings: the report names the network only.
    Chosen: ImageNet weights for its VGG16 encoder. The rest as in report-deeper/fcn32s.
    Run: visionsweep train --recipe report-deeper/segnet --data DIR
    """
    return _segmentation(segmenter({"name": "segnet"}))


def unet() -> Recipe:
    """U-Net, given up for FCN-32s: it fell to the background class.

    Source: report CSC 449 "We need to go deeper", task 2, section 5.
    Result: fell to the background class, no figures
    Settings: the report names the network only.
    Chosen: the network of the U-Net paper, from scratch. The rest as in report-deeper/fcn32s, whose tiny rates were
        made for pretrained weights.
    Run: visionsweep train --recipe report-deeper/unet --data DIR
    """
    return _segmentation(segmenter({"name": "unet_paper"}, weights="none"))


def _segmentation(model: Recipe) -> Recipe:
    return {
        "task": "segmentation",
        "model": model,
        "optimizer": sgd(1e-10),  # for a sum over some 700,000 pixels, near 1e-4 for a mean
        "loss": cross_entropy(reduction="sum"),
        "schedule": {
            "name": "piecewise",
            "boundaries": [15, 31],
            "fractions": [1.0, 0.5, 0.25],
            "warmup_epochs": 0.0,
        },
        "augment": _augment(),
        "epochs": 50,
        "batch_size": 12,
        "image_size": 244,
        "short_side": None,
        "fit_image": "crop",
        "evaluation": "whole",
        **rest(),
    }


def _augment() -> Recipe:
    return augment(
        rescale={"p": 1.0, "low": 0.5, "high": 2.0},
        crop_and_pad={"p": 1.0, "fraction": 0.1},
        rotate={"p": 1.0, "degrees": 10.0},
        horizontal_flip={"p": 0.5},
        blur={"p": 0.5, "limit_px": 5, "kind": "gaussian", "sigma_max": 0.6},
    )
