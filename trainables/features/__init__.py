"""Kept features of frozen backbones, and the heads that are solved on them."""
