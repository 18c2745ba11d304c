"""CV Homework 4 (2019): faces in two classes, and street scenes (CamVid)."""

from __future__ import annotations

from search_spaces.recipes.parts import (
    Recipe,
    adam,
    augment,
    bce,
    classifier,
    constant,
    cross_entropy,
    rest,
    segmenter,
    sgd,
)

# least share of the image in a random crop
LOOSE_CROP = 0.08
TIGHT_CROP = 0.75


def resnet18_frozen() -> Recipe:
    """A pretrained network as feature extractor, faces in two classes.

    Source: report "CV Homework 4", Q1-1.
    Result: accuracy 0.83 (validation)
    Settings: pretrained, everything frozen but one linear classifier. Random resized crop to 224 px.
    Chosen: ResNet-18, because the report names no network and its output is that of PyTorch's transfer-learning
        tutorial, which takes this one. The rest as there: SGD with rate 1e-3 and momentum 0.9, a tenth of it every 7
        epochs, 25 epochs, batches of 4, crops of 8 to 100 % of the image, flips. One output with BCE stands for two
        with cross-entropy. The two are the same function.
    Run: visionsweep train --recipe report-cv4/resnet18-frozen --data DIR
    """
    return _faces(classifier("resnet18.tv_in1k", freeze="all"), LOOSE_CROP)


def resnet18_frozen_tight_crop() -> Recipe:
    """The feature extractor on crops that show the whole face: worse.

    Source: report "CV Homework 4", Q1-5 and Q1-7 (the crop's scale in Q1-8).
    Result: accuracy 0.7825 (validation), 0.83 with loose crops
    Settings: as report-cv4/resnet18-frozen, crops of 75 to 100 % of the image.
    Chosen: as report-cv4/resnet18-frozen.
    Run: visionsweep train --recipe report-cv4/resnet18-frozen-tight-crop --data DIR
    """
    return _faces(classifier("resnet18.tv_in1k", freeze="all"), TIGHT_CROP)


def resnet18_finetuned() -> Recipe:
    """A pretrained network with all its layers trained, faces in two classes.

    Source: report "CV Homework 4", Q1-2.
    Result: accuracy 0.875 (validation)
    Settings: as report-cv4/resnet18-frozen, nothing frozen.
    Chosen: as report-cv4/resnet18-frozen.
    Run: visionsweep train --recipe report-cv4/resnet18-finetuned --data DIR
    """
    return _faces(classifier("resnet18.tv_in1k"), LOOSE_CROP)


def resnet18_finetuned_tight_crop() -> Recipe:
    """The fine-tuned network on crops that show the whole face: better.

    Source: report "CV Homework 4", Q1-6 and Q1-7 (the crop's scale in Q1-8).
    Result: accuracy 0.8925 (validation), 0.875 with loose crops
    Settings: as report-cv4/resnet18-finetuned, crops of 75 to 100 % of the image.
    Chosen: as report-cv4/resnet18-frozen.
    Run: visionsweep train --recipe report-cv4/resnet18-finetuned-tight-crop --data DIR
    """
    return _faces(classifier("resnet18.tv_in1k"), TIGHT_CROP)


def alexnet_scratch() -> Recipe:
    """AlexNet from scratch, faces in two classes.

    Source: report "CV Homework 4", Q1-3.
    Result: accuracy 0.7175 (validation)
    Settings: no pretrained weights, all layers trained.
    Chosen: the rest as in report-cv4/resnet18-frozen.
    Run: visionsweep train --recipe report-cv4/alexnet-scratch --data DIR
    """
    return _faces(classifier("alexnet", weights="none"), LOOSE_CROP)


def efficientnet_b2_autoaugment() -> Recipe:
    """EfficientNet-B2 with AutoAugment, Cutout and Adam, the best on faces in two classes.

    Source: report "CV Homework 4", Q1-8 and Q1-9.
    Result: accuracy 0.9075 (validation)
    Settings: ImageNet weights. Colour jitter 0.04, crops of 75 to 100 % of the image to 224 px, flips, AutoAugment's
        policy for CIFAR-10, Cutout. Adam with rate 1e-3.
    Chosen: Cutout as one black square of 16 px every time. Two flips in a row come to one. The linear layer stands on
        the features, not on the 1,000 ImageNet outputs.
        Epochs, batches and steps of the rate as in report-cv4/resnet18-frozen.
    Run: visionsweep train --recipe report-cv4/efficientnet-b2-autoaugment --data DIR
    """
    return {
        **_faces(classifier("efficientnet_b2"), TIGHT_CROP),
        "optimizer": adam(1e-3),
        "augment": augment(
            random_resized_crop={"scale_min": TIGHT_CROP, "scale_max": 1.0},
            horizontal_flip={"p": 0.5},
            color_jitter={"p": 1.0, "strength": 0.04},
            policy={"name": "autoaugment", "policy": "cifar10"},
            coarse_dropout={"p": 1.0, "num_holes": 1, "hole_px": 16},
        ),
    }


def fcn8s() -> Recipe:
    """FCN-8s on VGG with two skips, 11 classes of CamVid.

    Source: report "CV Homework 4", Q2-1.
    Result: mIoU 0.4295, pixel accuracy 0.8523 (validation, epoch 41)
    Settings: pretrained encoder, five transposed convolutions each with ReLU and batch norm, maps 3 and 4 added on the
        way up.
    Chosen: everything else. The forward pass is that of FCN8s in github.com/pochih/FCN-pytorch (python/fcn.py), where a
        map is added after the ReLU and before the batch norm. Batches of 6, rate 1e-4 and weight decay 1e-5 are those
        of its train.py, which also has RMSprop, StepLR(50, 0.5), 500 epochs and BCEWithLogitsLoss. This recipe has
        Adam, a constant rate, 50 epochs (some more than the best one) and cross-entropy. Frames of 240 px height,
        crops of 224, flips. That repository's IoU is the mean of the images' own IoUs, where ours comes from one
        confusion matrix over the split. If the report evaluated so, its 0.4295 cannot be compared one to one.
    Run: visionsweep train --recipe report-cv4/fcn8s --data DIR
    """
    return _street_scenes(skips=True)


def fcn8s_no_skips() -> Recipe:
    """FCN-8s without its skips, 11 classes of CamVid: two points worse.

    Source: report "CV Homework 4", Q2-1 and Q2-2.
    Result: mIoU 0.4055, pixel accuracy 0.8384 (validation, epochs 20 and 17)
    Settings: as report-cv4/fcn8s, without the two additions.
    Chosen: as report-cv4/fcn8s.
    Run: visionsweep train --recipe report-cv4/fcn8s-no-skips --data DIR
    """
    return _street_scenes(skips=False)


def fcn8s_3_classes() -> Recipe:
    """FCN-8s without its skips, CamVid's 11 classes merged to three.

    Source: report "CV Homework 4", Q2-3 and Q2-4.
    Result: mIoU 0.8261, pixel accuracy 0.9629 (validation, epoch 20)
    Settings: as report-cv4/fcn8s-no-skips, three classes.
    Chosen: sky, the standing scene, what moves. The report does not list the grouping. Its IoUs of 0.90, 0.96 and 0.62
        in this order fit: the sky had 0.89 alone, and cars, pedestrians and bicyclists had by far the worst.
    Run: visionsweep train --recipe report-cv4/fcn8s-3-classes --data DIR
    """
    return {
        **_street_scenes(skips=False),
        "merge": {
            "road_scene": ["building", "pole", "road", "pavement", "tree", "sign_symbol", "fence"],
            "moving": ["car", "pedestrian", "bicyclist"],
        },
    }


def _faces(model: Recipe, scale_min: float) -> Recipe:
    return {
        "task": "binary",
        "model": model,
        "optimizer": sgd(1e-3),
        "loss": bce(),
        "schedule": {"name": "multistep", "gamma": 0.1, "milestones": [7, 14, 21], "warmup_epochs": 0.0},
        "augment": augment(random_resized_crop={"scale_min": scale_min, "scale_max": 1.0}, horizontal_flip={"p": 0.5}),
        "epochs": 25,
        "batch_size": 4,
        "image_size": 224,
        "fit_image": "crop",
        "threshold": 0.5,
        **rest(),
    }


def _street_scenes(skips: bool) -> Recipe:
    return {
        "task": "segmentation",
        "model": segmenter({"name": "fcn8s", "skips": skips}),
        "optimizer": adam(1e-4, weight_decay=1e-5),
        "loss": cross_entropy(),
        "schedule": constant(),
        "augment": augment(horizontal_flip={"p": 0.5}),
        "epochs": 50,
        "batch_size": 6,
        "image_size": 224,
        "short_side": 240,
        "fit_image": "crop",
        "evaluation": "whole",
        "merge": {},
        **rest(),
    }
