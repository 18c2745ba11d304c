"""Find which classes a folder's masks have, and what their pixels mean.

The user's own files say so, or else the masks alone.

Pascal VOC's twenty-one names are taken for a folder of its layout only where no file names others and the masks fit.
They fit if they hold no value but 0 to 20 and 255. Moreover, either 18 of the 21 are there, or all images are named as
Pascal VOC's (2007_000032). Other data in that layout comes from an annotation tool and has classes of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.data.dataset import VOID
from trainables.data.mask_doubts import doubt, name_notes, palette_doubt, refusal
from trainables.data.mask_names import VALUE_FILE, Names, is_void, read_names
from trainables.data.mask_values import MANY, MaskValues, count_values, share
from trainables.data.masks import Coding, MaskFiles
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted, quoted

BINARY_CLASSES = ("background", "foreground")
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_ENOUGH = 18  # of the 21: a sample of Pascal VOC may lack a few
VOC_STEM = re.compile(r"(.*/)?20(0[7-9]|1[0-2])_\d+\.\w+$")
VOC_BORDER = (224, 224, 192)  # void's colour in Pascal VOC, which labelmap.txt does not list


def find_coding(
    spec: str,
    root: Path,
    names: Sequence[str],
    *,
    places: Sequence[str] = ("",),
    value_places: Sequence[str] = (),
    as_voc: bool = False,
    mask_values: str | None = None,
) -> tuple[Coding, list[str]]:
    """Return the coding of the masks `names` below `root`, and notes on what was assumed.

        places        folders in which files may name the classes
        value_places  folders in which _classes.csv may
        as_voc        whether the layout is Pascal VOC's, whose names are taken if they fit
        mask_values   'classes': every value is a class. None: values are class numbers

    The masks are decoded only where no file answers. That is to count the classes, or to see whether two are coded as 0
    and 255.

    Raises DataError where a file is wrong, two of them disagree, or the values do not look like class numbers.
    """
    # The user's files come first, from the most explicit one: colours, values, then lines.
    named = read_names(spec, root, places, value_places)
    if mask_values is not None:
        return _each_value(spec, root, names, named)
    if named.colors:
        return _palette_coding(spec, named), named.notes()
    if named.values:
        return _value_coding(named.values), named.notes()
    if named.lines:
        return _line_coding(spec, root, names, named.lines), named.notes()
    # No file names the classes: decode the masks. Pascal VOC needs only enough of them to recognise it.
    values = count_values(spec, root, names, enough=lambda seen: as_voc and _voc_fits(seen))
    if as_voc and (_voc_fits(values) or (_within_voc(values) and all(VOC_STEM.match(name) for name in names))):
        return index_coding(VOC_CLASSES), ["Pascal VOC's own 21 names are used. classes.txt names others."]
    # Take values as class numbers only if nothing speaks against it.
    values.settle_bits(spec)
    why = doubt(values)
    if why:
        raise refusal(spec, values, why)
    notes = name_notes(values)
    if values.is_binary and VOID in values.held:
        return _binary(BINARY_CLASSES), notes
    highest = max(values.numbers, default=0)
    return index_coding([f"class {index}" for index in range(highest + 1)]), notes


def index_coding(lines: Sequence[str]) -> Coding:
    """Line i of classes.txt names index i. A name like 'void' is no class: its index becomes VOID."""
    values = tuple(enumerate(_indices(lines)))
    return Coding(_classes(lines), values if len(values) > VOID else (*values, (VOID, VOID)))


def void_notes(reader: object, pixel_counts: np.ndarray | None) -> list[str]:
    """Return notes about void in a folder's masks, which is neither learnt nor judged.

    pixel_counts: (N, 256) as coded.
    """
    if not isinstance(reader, MaskFiles) or pixel_counts is None or not pixel_counts[:, VOID].any():
        return []
    coding = reader.coding
    void = pixel_counts[:, VOID]
    values = [str(value) for value, index in coding.values if index == VOID]
    if coding.colors:
        what = "What the palette calls void" if any(index == VOID for _, index in coding.colors) else "Value 255"
    else:
        what = f"Value {values[0]}" if len(values) == 1 else f"Values {' and '.join(values)}"
    verb = "are" if what.startswith("Values") else "is"
    num_read = int((pixel_counts.sum(axis=1) > 0).sum())
    notes = [
        f"{what} {verb} taken as void: {share(void.sum(), pixel_counts.sum())} of the pixels, in "
        f"{(void > 0).sum():,} of {counted(num_read, 'mask')}."
    ]
    # With two names, and masks of 0 and 255 beside masks of 0 and 1, the names do not settle what 255 is.
    second = pixel_counts[:, 1]
    if (
        len(coding.classes) == 2
        and not coding.colors
        and not second[void > 0].any()
        and (values == [str(VOID)] or not second.any())
    ):
        notes.append(
            "No mask holds both 1 and 255. If 255 is the second class in some of them, palette.txt says so "
            "('255 255 255 name')."
        )
    return notes


def _classes(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in lines if not is_void(name))


def _indices(lines: Sequence[str]) -> tuple[int, ...]:
    """Return the class index of each name, or VOID."""
    return tuple(VOID if is_void(name) else _classes(lines).index(name) for name in lines)


def _binary(classes: tuple[str, ...]) -> Coding:
    return Coding(classes, ((0, 0), (1, 1), (VOID, 1)))  # 1 is what the pixels of a 1-bit file hold


def _line_coding(spec: str, root: Path, names: Sequence[str], lines: tuple[str, ...]) -> Coding:
    """Return the coding of masks whose classes are named by line.

    Line i names value i - 1. Two classes without void may also be coded as 0 and 255.
    """
    if len(lines) == len(_classes(lines)) == 2:
        values = count_values(spec, root, names, enough=lambda seen: any(seen.numbers[-1:]))
        if not any(values.numbers) and (VOID in values.held or values.num_one_bit):
            return _binary(lines)
    return index_coding(lines)


def _value_coding(values: Sequence[tuple[int, str]]) -> Coding:
    """Return the coding of _classes.csv, which names each value. 255 is void unless the file names it."""
    names = [name for _, name in values]
    pairs = tuple(zip([value for value, _ in values], _indices(names), strict=True))
    return Coding(_classes(names), pairs if VOID in dict(values) else (*pairs, (VOID, VOID)))


def _each_value(spec: str, root: Path, names: Sequence[str], named: Names) -> tuple[Coding, list[str]]:
    """Each value is a class, 255 too. The names are the lines of classes.txt, in ascending order of the values."""
    if named.colors or named.values:
        file = named.palette or VALUE_FILE
        raise DataError(f"{spec}: {file} says what the masks mean. Remove it, or do without --mask-values classes.")
    values = count_values(spec, root, names)
    values.settle_bits(spec)
    held = values.held
    if palette_doubt(values):
        raise refusal(
            spec, values, palette_doubt(values), "Write palette.txt with a line 'R G B name' for each colour."
        )
    if len(held) > MANY:
        raise refusal(
            spec, values, f"more than {MANY} values are no classes, but smoothed edges",
            "Resize and save masks without smoothing, or write palette.txt with a line 'R G B name' for each value.",
        )  # fmt: skip
    if named.lines and len(named.lines) != len(held):
        raise DataError(
            f"{spec}: {named.file} has {counted(len(named.lines), 'line')}, and the masks hold "
            f"{counted(len(held), 'value')}: {values.counted()}. Name each value, or remove {named.file}."
        )
    lines = named.lines or tuple(f"value {value}" for value in held)
    pairs = list(zip(held, _indices(lines), strict=True))
    if VOID in held and 1 not in held:
        pairs.append((1, dict(pairs)[VOID]))  # 1 is what the pixels of a 1-bit file hold
    note = f"Each of the {counted(len(held), 'value')} in the masks is a class: {', '.join(map(str, held))}."
    return Coding(_classes(lines), tuple(pairs)), [note, *named.notes()]


def _palette_coding(spec: str, named: Names) -> Coding:
    """The names of the palette's lines are the classes in their order, unless classes.txt has others for them."""
    own = tuple(dict.fromkeys(name for _, name in named.colors))  # several colours may share a class
    lines = named.lines
    classes = _classes(lines)
    own_classes = _classes(own)
    moved = [name for name in classes if name in own_classes and classes.index(name) != own_classes.index(name)]
    if not lines:
        order = renamed = own
    elif moved and set(classes) == set(own_classes):
        # the names identify the classes, whatever their order
        order = lines
        renamed = own
    elif moved or (named.palette == "labelmap.txt" and classes != own_classes):
        raise DataError(
            f"{spec}: {named.palette} names {quoted(own)}, and {named.file} {quoted(lines)}. "
            "Make them agree line by line, or remove one of the files."
        )
    elif len(lines) == len(own):
        order = renamed = lines
    elif len(classes) == len(own_classes):  # one of the two files leaves void out
        rest = iter(classes)
        order = renamed = tuple(name if is_void(name) else next(rest) for name in own)
    else:
        raise DataError(
            f"{spec}: {named.palette} has {len(own)} names, and {named.file} {len(lines)}. "
            "Make them agree line by line, or remove one of the files."
        )
    coding = index_coding(order)
    index_of = {
        name: VOID if is_void(new) else coding.classes.index(new) for name, new in zip(own, renamed, strict=True)
    }
    colors = [(color, index_of[name]) for color, name in named.colors]
    if named.palette == "labelmap.txt" and VOC_BORDER not in dict(colors):
        colors.append((VOC_BORDER, VOID))
    return replace(coding, colors=tuple(colors), palette=named.palette)


def _within_voc(values: MaskValues) -> bool:
    return not values.num_one_bit and max(values.numbers, default=0) < len(VOC_CLASSES)


def _voc_fits(values: MaskValues) -> bool:
    return _within_voc(values) and len(values.numbers) >= VOC_ENOUGH
