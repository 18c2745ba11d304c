"""Build a configuration's model, whatever the task."""

from __future__ import annotations

from trainables.config.model import ClassifierConfig, SegmenterConfig
from trainables.models.classifiers import Classifier, build_classifier
from trainables.models.segmenters import Segmenter, build_segmenter

Model = Classifier | Segmenter


def build_model(config: ClassifierConfig | SegmenterConfig, num_outputs: int, image_size: int) -> Model:
    """Build the configured model, untrained, for K = `num_outputs`.

    A classifier gives logits (B, K), a segmenter (B, K, H, W).
    """
    if isinstance(config, SegmenterConfig):
        return build_segmenter(config, num_outputs, image_size)
    return build_classifier(config, num_outputs, image_size)
