"""Pictures of the training images whose features are kept, as many as the configuration's `views`.

views 1         the image as the network is judged on it
views 2         that, and its mirror image
views 3, ...    so many draws of the training's own augmentations, the same for every seed of a training
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainables.config.trial import TrialConfig
from trainables.config.views import MIRRORED
from trainables.data.augment import eval_transform, train_transform
from trainables.data.cache import CachedImages
from trainables.data.images import Images
from trainables.data.loader import Transform, TrialData
from trainables.data.on_demand import OnDemandImages
from trainables.data.steps import A
from trainables.data.view import View
from trainables.seeds import derived_seed

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class KeptView:
    """A picture of each image: `view(index)` is (S, S, 3) uint8.

    key: JSON values that identify the picture. seed: of a drawn picture, None if nothing is drawn.
    """

    images: Images
    transform: Transform
    key: dict[str, Any]
    mirrored: bool = False
    seed: int | None = None

    def __call__(self, index: int) -> Pixels:
        if self.seed is not None:  # by image: what is drawn depends on no order
            self.transform.set_random_seed(derived_seed(self.seed, index))  # type: ignore[attr-defined]
        pixels: Pixels = self.transform(image=self.images[index])["image"]
        return np.ascontiguousarray(pixels[:, ::-1]) if self.mirrored else pixels


def judged_view(
    config: TrialConfig, data: TrialData, indices: npt.NDArray[np.int64], mirrored: bool = False
) -> KeptView:
    """The images of `indices` as the network is judged on them, or their mirror images."""
    view = View.of(config)
    key = {"side": view.side, "squash": view.squash, "crop": view.crop, "mirrored": mirrored, "cv2": cv2.__version__}
    return KeptView(data.images.at(view, indices), eval_transform(config), key, mirrored)


def training_views(config: TrialConfig, data: TrialData, indices: npt.NDArray[np.int64]) -> list[KeptView]:
    """The `config.views` pictures of every image that is trained on, which `indices` are."""
    assert config.views is not None
    if config.views <= MIRRORED:
        return [judged_view(config, data, indices, mirrored=number == 1) for number in range(config.views)]
    return [_drawn(config, data, number) for number in range(config.views)]


def _drawn(config: TrialConfig, data: TrialData, number: int) -> KeptView:
    # The cached copy of a photo may be smaller than the photo, and a crop of it is then blurred.
    decoded = data.images.view.key if isinstance(data.images, (CachedImages, OnDemandImages)) else None
    augment = config.augment.model_dump_json()
    key = {
        "augment": augment,
        "number": number,
        "image_size": config.image_size,
        "fit_image": config.fit_image,
        "eval_crop": config.eval_crop,
        "decoded": decoded,
        "libraries": [A.__version__, cv2.__version__],
    }
    digest = hashlib.sha256(f"{data.dataset.fingerprint} {augment}".encode()).digest()
    seed = derived_seed(int.from_bytes(digest[:8], "big"), number)
    return KeptView(data.images, train_transform(config), key, seed=seed)
