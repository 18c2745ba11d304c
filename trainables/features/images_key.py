"""The part of a feature's key that is of its images. It imports no torch, so that a driver can look features up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

KEY_VERSION = 2  # with the means of stages


def images_key(indices: npt.NDArray[np.int64], pixels: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies the images that a backbone is given, as plain values for JSON.

    indices  the images, in their order, which groups them: an image's last bits depend on the images beside it
    pixels   how the images are transformed to what the network sees
    """
    digest = hashlib.sha256(np.ascontiguousarray(indices, np.int64).tobytes()).hexdigest()
    return {"images": digest, "pixels": dict(pixels)}
