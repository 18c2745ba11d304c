import cv2
import numpy as np
import pytest
import torch

from trainables.config import augment as parts
from trainables.config.augment import AUGMENTATIONS, AugmentConfig
from trainables.config.model import ClassifierConfig
from trainables.config.optimizer import Sgd
from trainables.config.trial import TrialConfig
from trainables.data.augment import eval_transform, mix_batch, train_transform

SIZE = 48

EXAMPLES = {
    "rescale": parts.Rescale(),
    "crop_and_pad": parts.CropAndPad(p=1),
    "rotate": parts.Rotate(p=1),
    "random_resized_crop": parts.RandomResizedCrop(),
    "horizontal_flip": parts.Flip(p=1),
    "tone": parts.Tone(p=1),
    "color_jitter": parts.ColorJitter(strength=0.2),
    "blur": parts.Blur(p=1),
    "policy": parts.AutoAugment(),
    "coarse_dropout": parts.CoarseDropout(p=1),
}
EXTREMES = [
    ("tone", parts.Tone(p=1, strength=4.0)),
    ("blur", parts.Blur(p=1, limit_px=3)),
    ("blur", parts.Blur(p=1, limit_px=4, kind="gaussian", sigma_max=0.6)),
    ("blur", parts.Blur(p=1, limit_px=31)),
    ("policy", parts.AutoAugment(policy="cifar10")),
    ("policy", parts.AutoAugment(policy="svhn")),
    ("policy", parts.RandAugment()),
    ("policy", parts.RandAugment(num_ops=8, magnitude=30)),
    ("coarse_dropout", parts.CoarseDropout(p=1, num_holes=64, hole_px=512)),
    ("coarse_dropout", parts.CoarseDropout(p=1, num_holes=1, hole_px=1)),
    ("crop_and_pad", parts.CropAndPad(p=1, fraction=0.49)),
    ("rescale", parts.Rescale(low=0.1, high=8.0)),
    ("rescale", parts.Rescale(low=1.0, high=1.5)),
    ("rotate", parts.Rotate(p=1, degrees=180)),
    ("color_jitter", parts.ColorJitter(strength=0.5)),
    ("random_resized_crop", parts.RandomResizedCrop(scale_min=0.01, scale_max=0.02)),
]
REPORT = AugmentConfig(
    rotate=parts.Rotate(),
    random_resized_crop=parts.RandomResizedCrop(),
    horizontal_flip=parts.Flip(),
    tone=parts.Tone(),
    blur=parts.Blur(),
    coarse_dropout=parts.CoarseDropout(),
)
SHAPES = [(SIZE, SIZE), (8, 8), (20, 90), (201, 150), (600, 333)]


def make_config(**values):
    return TrialConfig(
        task="multiclass",
        model=ClassifierConfig(backbone="resnet18"),
        optimizer=Sgd(lr=0.1),
        epochs=1,
        batch_size=2,
        **{"image_size": SIZE, **values},
    )


def make_image(height, width, seed=0):
    """Smooth colours, so that every augmentation has something to change."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def make_mask(height, width):
    return np.random.default_rng(1).choice(np.array([0, 7, 255], dtype=np.uint8), (height, width))


def test_the_pipeline_has_every_field_of_the_configuration_in_its_order():
    assert list(AUGMENTATIONS) == list(AugmentConfig.model_fields)
    # A foreground crop replaces the last crop and needs a mask. Batches are mixed after all of it.
    assert [*EXAMPLES, "mix"] == [name for name in AUGMENTATIONS if name != "foreground_crop"]


@pytest.mark.parametrize("fit_image", ["crop", "squash"])
@pytest.mark.parametrize(("field", "part"), [*EXAMPLES.items(), *EXTREMES])
def test_every_augmentation_alone_keeps_the_contract(field, part, fit_image):
    config = make_config(augment=AugmentConfig(**{field: part}), fit_image=fit_image)
    transform = train_transform(config)
    for height, width in SHAPES:
        out = transform(image=make_image(height, width), mask=make_mask(height, width))
        assert out["image"].shape == (SIZE, SIZE, 3)
        assert out["image"].dtype == np.uint8
        assert out["mask"].shape == (SIZE, SIZE)
        assert set(np.unique(out["mask"])) <= {0, 7, 255}


@pytest.mark.parametrize("field", EXAMPLES)
def test_every_augmentation_alone_changes_the_image_and_is_repeated_by_its_seed(field):
    config = make_config(augment=AugmentConfig(**{field: EXAMPLES[field]}), eval_crop=1.0)
    image = make_image(SIZE, SIZE)
    transform = train_transform(config)

    def series():
        transform.set_random_seed(5)
        return [transform(image=image)["image"] for _ in range(6)]

    first = series()
    again = series()
    assert any((out != image).any() for out in first)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))


def test_without_augmentation_an_image_of_the_final_size_stays_as_it_is():
    image = make_image(SIZE, SIZE)
    for make_transform in (train_transform, eval_transform):
        assert (make_transform(make_config(eval_crop=1.0))(image=image)["image"] == image).all()


def test_the_steps_of_a_seeded_pipeline_are_drawn_independently():
    """albumentations seeds all of them alike, so the first image would be flipped exactly when it is cut."""
    config = make_config(
        augment=AugmentConfig(horizontal_flip=parts.Flip(), coarse_dropout=parts.CoarseDropout(hole_px=SIZE)),
        eval_crop=1.0,
    )
    image = make_image(SIZE, SIZE) // 2 + 100  # nowhere black
    transform = train_transform(config)
    cut = []
    for seed in range(40):
        transform.set_random_seed(seed)
        out = transform(image=image)["image"]
        cut.append("cut" if (out == 0).all() else "flipped" if (out == image[:, ::-1]).all() else "same")
    assert set(cut) == {"cut", "flipped", "same"}  # 'flipped' alone needs one without the other


def test_a_policy_leaves_torchs_global_generator_alone():
    transform = train_transform(make_config(augment=AugmentConfig(policy=parts.AutoAugment())))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    transform(image=make_image(SIZE, SIZE))
    assert torch.equal(torch.rand(4), expected)


def test_coarse_dropout_cuts_black_squares_of_the_given_size():
    augment = AugmentConfig(coarse_dropout=parts.CoarseDropout(p=1, num_holes=1, hole_px=8))
    image = np.full((SIZE, SIZE, 3), 200, dtype=np.uint8)
    out = train_transform(make_config(augment=augment, eval_crop=1.0))(image=image)["image"]
    assert (out == 0).all(axis=2).sum() == 64


def test_tone_at_strength_one_stays_within_the_ranges_of_its_docstring():
    one_of = AUGMENTATIONS["tone"].load()(parts.Tone(), SIZE)
    gamma, hue, brightness = one_of.transforms
    assert gamma.gamma_limit == pytest.approx((60, 120))
    assert (hue.hue_shift_limit, hue.sat_shift_limit, hue.val_shift_limit) == ((-10, 10), (-20, 20), (0, 0))
    assert (brightness.brightness_limit, brightness.contrast_limit) == ((-0.2, 0.2), (-0.2, 0.2))


@pytest.mark.parametrize(("limit_px", "kernel_px"), [(3, 3), (4, 3), (5, 5), (31, 31)])
def test_blur_kernels_are_odd_and_within_the_limit(limit_px, kernel_px):
    one_of = AUGMENTATIONS["blur"].load()(parts.Blur(limit_px=limit_px), SIZE)
    assert [tuple(step.blur_limit) for step in one_of.transforms] == [(3, kernel_px)] * 3


def test_evaluation_shows_the_centre_crop_or_all_of_the_image():
    wide = np.zeros((SIZE, 3 * SIZE, 3), dtype=np.uint8)
    wide[:, SIZE : 2 * SIZE] = 255  # the middle third
    cropped = eval_transform(make_config(eval_crop=1.0))(image=wide)["image"]
    squashed = eval_transform(make_config(fit_image="squash"))(image=wide)["image"]
    assert (cropped == 255).all()
    assert squashed.mean() == pytest.approx(85, abs=3)


def test_evaluation_is_the_same_every_time_whatever_the_augmentation():
    image = make_image(90, 70)
    plain = eval_transform(make_config())
    augmented = eval_transform(make_config(augment=REPORT))
    assert (plain(image=image)["image"] == augmented(image=image)["image"]).all()
    assert (plain(image=image)["image"] == plain(image=image)["image"]).all()


@pytest.mark.parametrize("mix", [parts.MixUp(alpha=1.0), parts.CutMix()], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("num_images", [1, 2, 5, 8])
def test_mixing_mixes_targets_as_it_mixes_images(mix, num_images):
    np.random.seed(0)
    # Image i has the constant colour i and target i, so the mean of the mixture is its target.
    colours = torch.arange(num_images, dtype=torch.float32)
    images = colours.view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    mixed, targets = mix_batch(mix, images, colours.view(-1, 1))
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)), targets[:, 0], atol=1e-4)
    assert torch.equal(images[:, 0, 0, 0], colours)  # what went in is untouched
    if num_images % 2:
        assert targets[-1, 0] == num_images - 1
    if num_images > 2:
        assert not torch.allclose(targets[:, 0], colours)


def test_mixed_targets_of_a_class_each_still_sum_to_one():
    targets = torch.eye(6)[:, :4]
    targets[4:, 0] = 1
    _, mixed = mix_batch(parts.MixUp(alpha=1.0), torch.rand(6, 3, 8, 8), targets)
    assert torch.allclose(mixed.sum(dim=1), torch.ones(6))


def test_without_mixing_a_batch_is_returned_as_it_is():
    images = torch.rand(4, 3, 8, 8)
    targets = torch.rand(4, 2)
    assert mix_batch(None, images, targets) == (images, targets)
    never, same = mix_batch(parts.MixUp(p=0.0), images, targets)
    assert torch.equal(never, images)
    assert torch.equal(same, targets)
