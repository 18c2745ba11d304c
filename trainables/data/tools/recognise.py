"""Tell which annotation tool wrote a file, by the bytes at its two ends and its name."""

from __future__ import annotations

import re
from collections.abc import Callable

from trainables.data.tools.label_table import LABEL_TABLE
from trainables.data.tools.metadata import KEYS, METADATA

# Folders in which tools leave their files, for images that may lie beside such a folder.
FOLDERS = (
    "annotations", "annotation", "anns", "ann", "labels", "label", "labelme", "images", "image", "imgs", "json",
    "jsons", "xml", "txt", "coco", "data",
)  # fmt: skip


def _has(*keys: str) -> Callable[[bytes], bool]:
    patterns = [re.compile(rf'"{key}"\s*:'.encode()) for key in keys]
    return lambda content: all(pattern.search(content) for pattern in patterns)


def is_coco(content: bytes, name: str) -> bool:
    is_object = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    pairs = (
        ("images", "annotations"),
        ("images", "categories"),
        ("annotations", "categories"),
        ("images", "file_name"),
    )
    return is_object and any(_has(*pair)(content) for pair in pairs)


def is_labelme(content: bytes, name: str) -> bool:
    return _has("shapes")(content) and (_has("imagePath")(content) or _has("imageHeight")(content))


_YOLO_LINE = re.compile(rb"\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*(\n|$)", re.IGNORECASE)


def is_yolo(content: bytes, name: str) -> bool:
    return _YOLO_LINE.match(content) is not None


def is_label_table(content: bytes, name: str) -> bool:
    return name == LABEL_TABLE and content.lstrip(b"\xef\xbb\xbf ").lower().startswith(b"filename")


def is_label_studio(content: bytes, name: str) -> bool:
    is_list = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    tasks = (_has("data", "annotations"), _has("data", "completions"), _has("annotation_id", "annotator"))
    return is_list and any(is_task(content) for is_task in tasks)


def is_cvat(content: bytes, name: str) -> bool:
    return (
        re.search(rb"<annotations[\s>]", content) is not None
        and re.search(rb"<(image|track|meta)[\s>]", content) is not None
    )


def is_via(content: bytes, name: str) -> bool:
    return _has("_via_img_metadata")(content) or _has("filename", "regions")(content)


def is_via_csv(content: bytes, name: str) -> bool:
    """Whether it has VIA's own columns. A column `image` makes it a table of the user's own."""
    lines = content.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()
    columns = {column.strip(b' "#').lower() for column in (lines[0].split(b",") if lines else ())}
    return {b"filename", b"region_shape_attributes"} <= columns and b"image" not in columns


def is_metadata(content: bytes, name: str) -> bool:
    """Whether it names labels. Without them, folders of classes may stand beside it."""
    if name not in METADATA:
        return False
    head = content.partition(b"\n")[0]
    if name == METADATA[0]:
        return _has("file_name")(head) and any(_has(key)(head) for key in KEYS)
    columns = {column.strip(b' "\r\xef\xbb\xbf').decode(errors="replace") for column in head.split(b",")}
    return "file_name" in columns and bool(columns & {"label", "labels"})
