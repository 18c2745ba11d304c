"""Files of annotation tools with values of every other kind in them: each is read, or refused in one sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_annotations_coco as of_coco
import test_annotations_cvat as of_cvat
import test_annotations_label_studio as of_label_studio
import test_annotations_labelme as of_labelme
import test_annotations_metadata as of_metadata
import test_annotations_via as of_via
import test_annotations_via_csv as of_via_csv
import test_annotations_yolo as of_yolo
from drawn_masks import load

from visionsweep.core.errors import DataError

ODD = (
    None, True, -1, 0, 1.5, 1e308, 10**40, float("nan"), float("inf"), "", "x", "\ud800", "..", "\0", "0.png", "a/b",
    [], [[]], {}, {"a": 1}, [1, 2], ["x"],
)  # fmt: skip


def coco(root: Path) -> Path:
    return of_coco.write(root, of_coco.coco([of_coco.SQUARE], {"size": [16, 20], "counts": of_coco.OF_PYCOCOTOOLS}))


def labelme(root: Path) -> Path:
    shapes = (of_labelme.shape(), of_labelme.shape("b", "circle", [[5, 5], [6, 7]]), of_labelme.shape("c", "rectangle", [[1, 1], [6, 7]]))  # fmt: skip
    of_labelme.several(root, *shapes)
    return root / "0.json"


def label_studio(root: Path) -> Path:
    brush = of_label_studio.region("brushlabels", {"format": "rle", "rle": of_label_studio.BRUSH})
    box = of_label_studio.region("rectanglelabels", {"x": 50, "y": 25, "width": 20, "height": 12.5, "rotation": 90})
    regions = (of_label_studio.POLYGON, brush, box, of_label_studio.CHOICE)
    return of_label_studio.write(root, [of_label_studio.task(i, *regions) for i in range(4)])


def via(root: Path) -> Path:
    oval = {"name": "ellipse", "cx": 14, "cy": 8, "rx": 4, "ry": 2, "theta": 1.5}
    return of_via.write(root, of_via.region(kind="cat"), of_via.region(oval, kind={"bee": True, "ant": False}))


def metadata(root: Path) -> Path:
    path = of_metadata.write(root, of_metadata.labelled())
    path.write_text(json.dumps([json.loads(line) for line in path.read_text().splitlines()]))
    return path


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*above, key))


def damaged(document: Any, chance: random.Random) -> Any:
    """Replace one or two values of a document by odd ones, or remove them."""
    for _ in range(chance.choice((1, 2))):
        *above, last = chance.choice([place for place in places(document) if place])
        inner = document
        for step in above:
            inner = inner[step]
        if chance.random() < 0.15:
            del inner[last]
        else:
            inner[last] = chance.choice(ODD)
    return document


def outcome(spec: Path, **options: Any) -> str:
    """Return 'read', or the sentence of the refusal. Every other error fails the test."""
    try:
        load(spec, **options)
    except DataError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("write", [coco, labelme, label_studio, via, metadata])
def test_odd_values_are_read_or_refused_in_a_sentence(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    whole = path.read_text()
    chance = random.Random(0)
    outcomes = set()
    for number in range(60):
        document = damaged(json.loads(whole), chance)
        lines = write is metadata and isinstance(document, list)
        path.write_text("\n".join(map(json.dumps, document)) if lines else json.dumps(document))
        option = ("error", "skip")[number % 2]
        task = (None, "segmentation", "multilabel")[number % 3]
        outcomes.add(outcome(tmp_path if write is labelme else path, on_bad_image=option, task=task))
    assert not any("\n" in said for said in outcomes)
    assert len(outcomes) > 10, "most are refused, each for its own reason"
    assert "read" in outcomes, "some change nothing that matters"


@pytest.mark.parametrize("tool", ["cvat", "yolo", "via_csv"])
def test_odd_bytes_are_read_or_refused_in_a_sentence(tmp_path: Path, tool: str) -> None:
    if tool == "cvat":
        path = of_cvat.write(tmp_path, of_cvat.POLYGON, of_cvat.MASK)
    elif tool == "via_csv":
        path = of_via_csv.exported(tmp_path, of_via.region(kind="cat"), of_via.region(kind="dog"))
    else:
        of_yolo.write(tmp_path, "images", f"0 {of_yolo.SQUARE}", f"1 {of_yolo.SQUARE}")
        path = tmp_path / "labels" / "0.txt"
    whole = path.read_bytes()
    chance = random.Random(0)
    outcomes = set()
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 4))):
            content[chance.randrange(len(content))] = chance.choice(b"0159-.;,<>\"'&x \n\xff\0")
        path.write_bytes(content)
        outcomes.add(outcome(tmp_path if tool == "yolo" else path, on_bad_image=chance.choice(("error", "skip"))))
    assert len(outcomes) > 5
