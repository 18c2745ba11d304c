"""The csv of the VGG Image Annotator, version 1 and 2: a row for each region, with JSON in its cells.

Format: robots.ox.ac.uk/~vgg/software/via, "Export Annotations (as csv)". An image without regions has one row, with
`region_count` 0. Version 1 writes '#' before the header.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.data.tools.gathered import Gathered
from trainables.data.tools.via import Row, add_images, split_of_file
from visionsweep.core.errors import DataError
from visionsweep.core.files import parse_json, short
from visionsweep.core.words import below, counted, quoted

NAME = "filename"
SIZE = "file_size"
OF_FILE = "file_attributes"
COUNT = "region_count"
NUMBER = "region_id"
SHAPE = "region_shape_attributes"
OF_REGION = "region_attributes"
COLUMNS = (NAME, SIZE, OF_FILE, COUNT, NUMBER, SHAPE, OF_REGION)

Cells = dict[str, str]


@dataclass
class _Image:
    """The rows of one image, as they are read.

    line     of its first row
    count    its region_count
    of_file  its file_attributes, as text
    regions  by region_id: the line, and the region as VIA's json has it
    """

    line: int
    count: str
    of_file: str
    regions: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)


def read_via_csv(found: Gathered, files: Sequence[Path]) -> None:
    """Add the images of VIA's csv files. Raises DataError with the line that is wrong."""
    found.tool = "VIA"
    for file in files:
        called = found.called(file)
        images: dict[tuple[str, str], _Image] = {}
        bad = set[tuple[str, str]]()  # an image with a wrong row is left out whole, and counted once
        for line, cells in _rows(found, file, called):
            key = (cells[NAME], cells[SIZE])  # as VIA tells images apart
            if key not in bad:
                bad.add(key)
                with found.image_at(f"{called}, line {line}"):
                    _add_row(images, key, line, cells)
                    bad.discard(key)
        rows = []
        for key, image in images.items():
            if key in bad:
                continue
            where = f"{called}, image {short(key[0])}"
            with found.image_at(where):
                _check_count(image)
                of_file = parse_json(image.of_file or "{}")
                regions = tuple((f"line {line}", region) for line, region in image.regions.values())
                rows.append(Row(where, key[0], of_file, regions))
        add_images(found, called, rows, split_of_file(found, called, files))


def _add_row(images: dict[tuple[str, str], _Image], key: tuple[str, str], line: int, cells: Cells) -> None:
    """Add a row to its image. Raises DataError for cells that are not as VIA writes them, or contradict others."""
    _object(cells, OF_FILE)
    shape = _object(cells, SHAPE)
    of_region = _object(cells, OF_REGION)
    image = images.setdefault(key, _Image(line, cells[COUNT], cells[OF_FILE]))
    for column, first in ((COUNT, image.count), (OF_FILE, image.of_file)):
        if first != cells[column]:
            raise DataError(f"{column} is {short(cells[column])}, and {short(first)} in the image's line {image.line}")
    if cells[COUNT] == "0" and not shape:
        if line != image.line:
            raise DataError(f"the image has no regions, and stands in line {image.line} already")
        return
    number = cells[NUMBER]
    if number in image.regions:
        raise DataError(f"region {short(number)} of the image stands in line {image.regions[number][0]} already")
    image.regions[number] = (line, {"shape_attributes": shape, "region_attributes": of_region})


def _check_count(image: _Image) -> None:
    if image.count != str(len(image.regions)):
        raise DataError(
            f"line {image.line} says that it has {short(image.count)} regions, and the file has "
            f"{counted(len(image.regions), 'row')} of it"
        )


def _object(cells: Cells, column: str) -> dict[str, Any]:
    """Return the JSON object of a cell. An empty cell is an empty one. Raises DataError."""
    text = cells[column]
    try:
        value = parse_json(text) if text else {}
    except ValueError as error:
        raise DataError(f"its {column} {short(text)} are no JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"its {column} must be a JSON object, got {short(value)}")
    return value


def _rows(found: Gathered, file: Path, called: str) -> Iterator[tuple[int, Cells]]:
    """Yield (line, cells by column) of each row. Raises DataError for a file that is no csv of VIA."""
    end = 0
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            table = csv.reader(text, skipinitialspace=True, strict=True)
            header = [cell.strip().removeprefix("#").strip().lower() for cell in _first(table)]
            wrong = [name for name in COLUMNS if header.count(name) != 1]
            if wrong:
                raise found.error(
                    called, f"must have the columns {quoted(COLUMNS, 7)} once each, not so {quoted(wrong)}"
                )
            end = table.line_num
            for cells in table:
                begin, end = end + 1, table.line_num
                if not any(map(str.strip, cells)):
                    continue
                if len(cells) != len(header):
                    problem = f"has {counted(len(cells), 'cell')}, and the header {len(header)}"
                    raise found.error(f"{called}, line {begin}", problem, "Quote cells that hold a comma or a quote.")
                yield begin, dict(zip(header, map(str.strip, cells), strict=True))
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{below(found.spec, called)}' is not UTF-8 text ({error.reason}). Save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise found.error(f"{called}, line {end + 1}", f"is no csv ({error})") from error


def _first(table: Iterator[list[str]]) -> list[str]:
    return next((cells for cells in table if any(map(str.strip, cells))), [])
