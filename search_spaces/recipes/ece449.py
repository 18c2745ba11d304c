"""ECE 449 final project, team "3080Ti": 43 actor-action tags of video frames (A2D) at 224 px.

Its further findings: SGD converged faster and better than Adam. Vertical flips, transposition and sharpening did not
help. Several dense layers, very large batches and very large or small rates hurt. Mish in the head gave about two
points of F1.
"""

from __future__ import annotations

from search_spaces.recipes.parts import Recipe, adam, augment, bce, classifier, rest, sgd


def resnet34() -> Recipe:
    """ResNet-34, a baseline, 43 actor-action tags.

    Source: report ECE 449 "3080Ti", Table 2, row 1.
    Result: F1 45.8, precision 48.4, recall 46.0 (validation)
    Settings: ImageNet weights, 224 px, BCE, SGD with rate 0.05, momentum 0.9, weight decay 5e-5, times 0.25 at epochs
        5, 10, 20, 40 and 75, mixed precision (O1).
    Chosen: multistep, because the convergence that the report gives (epochs 44 and 87) comes right after its
        milestones. 90 epochs in batches of 64, as for SE-ResNeXt101. No augmentation and a linear head, because Table 2
        marks only its last two rows with augmentation and Mish. The whole frame is squashed to a square.
    Run: visionsweep train --recipe report-3080ti/resnet34 --data DIR
    """
    return _plain(classifier("resnet34.tv_in1k"))  # the weights that PyTorch's users had in 2020


def pnasnet5_frozen() -> Recipe:
    """PNASNet-5-large, not fine-tuned, a baseline, 43 actor-action tags.

    Source: report ECE 449 "3080Ti", Table 2, row 2.
    Result: F1 50.7, precision 51.3, recall 54.3 (validation)
    Settings: as report-3080ti/resnet34. The table says that the network was not fine-tuned.
    Chosen: as report-3080ti/resnet34. Everything but the head frozen, as the nearest reading of "not fine-tuned".
    Run: visionsweep train --recipe report-3080ti/pnasnet5-frozen --data DIR
    """
    return _plain(classifier("pnasnet5large", freeze="all"))


def efficientnet_b7() -> Recipe:
    """EfficientNet-B7 with a linear head, 43 actor-action tags.

    Source: report ECE 449 "3080Ti", Table 2, row 3, and Table 1.
    Result: F1 52.4, precision 54.1, recall 54.0 (validation)
    Settings: as report-3080ti/resnet34, in batches of 24, three of them to a step. Converged at epoch 87.
    Chosen: as report-3080ti/resnet34. timm's weights from ImageNet alone, because its default ones also saw the 300
        million photos of JFT.
    Run: visionsweep train --recipe report-3080ti/efficientnet-b7 --data DIR
    """
    return {**_plain(classifier("tf_efficientnet_b7.aa_in1k")), "batch_size": 24, "accumulate": 3}


def seresnext101() -> Recipe:
    """SE-ResNeXt101 with a linear head, 43 actor-action tags.

    Source: report ECE 449 "3080Ti", Table 2, row 4, and Table 1.
    Result: F1 57.5, precision 58.9, recall 59.8 (validation)
    Settings: as report-3080ti/resnet34, batches of 64. Converged at epoch 44.
    Chosen: as report-3080ti/resnet34.
    Run: visionsweep train --recipe report-3080ti/seresnext101 --data DIR
    """
    return _plain(classifier("seresnext101_32x4d"))


def efficientnet_b7_mish() -> Recipe:
    """EfficientNet-B7 with Mish in the head and augmentation, 43 actor-action tags.

    Source: report ECE 449 "3080Ti", Table 2, row 5, and sections 1.1 and 2-b.
    Result: F1 56.1, precision 56.3, recall 58.9 (validation)
    Settings: as report-3080ti/efficientnet-b7. Head Linear(2560, 256), Mish, Dropout(0.5), Linear(256, 43).
        Augmentation as in report-3080ti/seresnext101-mish.
    Chosen: as report-3080ti/efficientnet-b7 and report-3080ti/seresnext101-mish.
    Run: visionsweep train --recipe report-3080ti/efficientnet-b7-mish --data DIR
    """
    return _mish(efficientnet_b7())


def seresnext101_mish() -> Recipe:
    """SE-ResNeXt101 with Mish in the head and augmentation, the report's best, 43 actor-action tags.

    Source: report ECE 449 "3080Ti", Table 2, row 6, and sections 1.1 and 2-b.
    Result: F1 59.2, precision 60.6, recall 61.1 (validation)
    Settings: as report-3080ti/seresnext101. Head Linear(features, 256), Mish, Dropout(0.5), Linear(256, 43). Each half
        the time: rotation by up to 10 degrees, horizontal flip, one of gamma 60-120 / hue 10 and saturation 20 /
        brightness and contrast 0.2, one of Gaussian, motion and median blur of up to 4 px, up to five black squares of
        8 px.
    Chosen: as report-3080ti/resnet34. Crop and pad by up to a tenth per side, half the time, for the cropping and
        padding into 224 x 224, of which the report gives no measures.
    Run: visionsweep train --recipe report-3080ti/seresnext101-mish --data DIR
    """
    return _mish(seresnext101())


def seresnext101_mish_batch80() -> Recipe:
    """The report's best in its other batch size, 80.

    Source: report ECE 449 "3080Ti", section 1.4.
    Result: no figure of its own (59.2 F1 is the better of 64 and 80)
    Settings: as report-3080ti/seresnext101-mish, batches of 80.
    Chosen: as report-3080ti/seresnext101-mish.
    Run: visionsweep train --recipe report-3080ti/seresnext101-mish-batch80 --data DIR
    """
    return {**seresnext101_mish(), "batch_size": 80}


def seresnext101_mish_cosine() -> Recipe:
    """The report's best under its first schedule: cosine over 150 epochs.

    Source: report ECE 449 "3080Ti", section 1.4.
    Result: no figure (fast at first, then less stable than multistep)
    Settings: as report-3080ti/seresnext101-mish. Cosine from 0.05 to 5e-6 with a half period of 150 epochs.
    Chosen: 150 epochs, one way down.
    Run: visionsweep train --recipe report-3080ti/seresnext101-mish-cosine --data DIR
    """
    schedule = {"name": "cosine", "period_epochs": 150, "final_fraction": 1e-4, "warmup_epochs": 0.0}
    return {**seresnext101_mish(), "schedule": schedule, "epochs": 150}


def seresnext101_mish_cosine_then_multistep() -> Recipe:
    """The report's best in two stages: cosine to come close, then multistep.

    Source: report ECE 449 "3080Ti", sections 1.4, 2.1 and 2.4.
    Result: no figure (the report proposes it for stable convergence)
    Settings: as report-3080ti/seresnext101-mish. Cosine first, then times 0.25 at epochs 5, 10, 20, 40 and 75.
    Chosen: 80 epochs each, which puts the second stage's milestones on just these epochs. The cosine ends at a tenth
        of its rate and the second stage starts there: five quarters later that is the 5e-6 that the report aims for.
    Run: visionsweep train --recipe report-3080ti/seresnext101-mish-cosine-then-multistep --data DIR
    """
    schedule = {
        "name": "cosine_then_multistep",
        "switch_fraction": 0.5,
        "final_fraction": 0.1,
        "gamma": 0.25,
        "spacing": "doubling",
        "warmup_epochs": 0.0,
    }
    return {**seresnext101_mish(), "schedule": schedule, "epochs": 160}


def seresnext101_mish_adam() -> Recipe:
    """The report's best with Adam instead of SGD, which did worse.

    Source: report ECE 449 "3080Ti", sections 1.4 and 2.2.
    Result: no figure (worse and slower than SGD)
    Settings: as report-3080ti/seresnext101-mish, with Adam.
    Chosen: rate 1e-3, PyTorch's default.
    Run: visionsweep train --recipe report-3080ti/seresnext101-mish-adam --data DIR
    """
    return {**seresnext101_mish(), "optimizer": adam(1e-3, weight_decay=5e-5)}


def _plain(model: Recipe) -> Recipe:
    return {
        "task": "multilabel",
        "model": model,
        "optimizer": sgd(0.05, weight_decay=5e-5),
        "loss": bce(),
        "schedule": {
            "name": "multistep",
            "gamma": 0.25,
            "milestones": [5, 10, 20, 40, 75],
            "spacing": "doubling",  # the milestones as shares of the training, for searches, which have no milestones
            "warmup_epochs": 0.0,
        },
        "augment": augment(),
        "epochs": 90,
        "batch_size": 64,
        "image_size": 224,
        "fit_image": "squash",
        "threshold": 0.5,
        **rest(precision="fp16"),
    }


def _mish(plain: Recipe) -> Recipe:
    """Return a recipe with the head and the augmentation of the last two rows of Table 2."""
    return {
        **plain,
        "model": {**plain["model"], "head": {"name": "mish_mlp", "hidden": 256, "dropout": 0.5}},
        "augment": augment(
            crop_and_pad={"p": 0.5, "fraction": 0.1},
            rotate={"p": 0.5, "degrees": 10.0},
            horizontal_flip={"p": 0.5},
            tone={"p": 0.5, "strength": 1.0},
            blur={"p": 0.5, "limit_px": 4, "kind": "any"},
            coarse_dropout={"p": 0.5, "num_holes": 5, "hole_px": 8},
        ),
    }
