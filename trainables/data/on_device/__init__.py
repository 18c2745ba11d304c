"""Augmentation of whole batches on the training's device. The loader's processes crop, and draw the parameters."""
