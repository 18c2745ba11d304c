"""Decide whether the values of masks look like class numbers, and word the refusal.

Where no file names the classes, values are class numbers only if all of this holds:

    0, 1, 2, ... k without a gap, 255 apart. Grey levels (0, 85, 170), ids (7, 11, 26) and smoothed edges have gaps
    k is at most 63. More classes than that need names anyhow, and smoothed edges may leave no gap
    255 beside them is void only if it covers at most half of the pixels, and occurs beside a class number above 0: of
    two classes in most masks that have it, of more in some. Else some masks may be 0 and 1, and others 0 and 255
    a number has the same colour in all palette images: some programs number the colours of each file anew

0 and 255 alone are two classes. Everything else is refused: a wrong guess would train for hours on wrong classes.
"""

from __future__ import annotations

from trainables.data.dataset import VOID
from trainables.data.mask_values import MaskValues, listed
from visionsweep.core.errors import DataError
from visionsweep.core.words import counted

MOST_UNNAMED = 64  # class numbers that are believed without a file of names
MOST_VOID = 0.5  # share of the pixels up to which 255 is believed to be void
INSTANCES_FROM = 8  # classes from which on values that run from 0 in every mask may be instance ids


def doubt(values: MaskValues) -> str:
    """Return why the values are no class numbers, or '' if they are. The rule is at the top of this file."""
    numbers = values.numbers
    if values.is_binary and values.recoloured is None:
        return ""
    if values.look_smoothed:
        return "so many look like smoothed edges, which a mask must not have"
    if 0 not in numbers:
        return "class numbers begin at 0"
    if not values.has_no_gap:
        return "class numbers run from 0 without a gap"
    if values.recoloured is not None:
        return palette_doubt(values)
    if len(numbers) > MOST_UNNAMED:
        return f"more than {MOST_UNNAMED} classes need a file that names them"
    return _void_doubt(values)


def palette_doubt(values: MaskValues) -> str:
    if values.recoloured is None:
        return ""
    return f"{values.recoloured} has several colours in palette images, so files may number their colours differently"


def refusal(spec: str, values: MaskValues, why: str, move: str = "") -> DataError:
    """Return the error with the values and their counts.

    `move`: the next move. '' names the files and the option that help.
    """
    if _void_doubt(values):
        move = move or (
            "If 255 is void, name the classes in classes.txt, one a line. If it is a class, give it a name in "
            "palette.txt ('255 255 255 name'), where several values may share one."
        )
    smoothing = "Resize and save masks without smoothing. " if values.look_smoothed else ""
    example = next((value for value in values.held if value), 0)
    move = move or (
        f"{smoothing}Write palette.txt with a line 'R G B name' for each value ('{example} {example} {example} "
        "name'), or classes.txt, whose line i names the value i - 1. Or pass --mask-values classes to make each value "
        "a class."
    )
    return DataError(
        f"{spec}: masks hold the values {listed(values.held)}, which do not look like class numbers: {why}. "
        f"Counted: {values.counted()}. {move}"
    )


def _void_doubt(values: MaskValues) -> str:
    """Return why 255 beside class numbers may be no void, or ''."""
    numbers = values.numbers
    if VOID not in values.held or len(numbers) < 2 or not values.has_no_gap:
        return ""
    if values.pixels[VOID] > MOST_VOID * values.pixels.sum():
        return "255 would be void, and is more than half of all pixels"
    # With two classes, nearly every mask with a border of void shows the second. With many, each mask shows a few.
    few = values.with_numbers <= values.with_zero if len(numbers) == 2 else not values.with_numbers and values.with_zero
    if few:
        highest = numbers[-1]
        others = "1" if highest == 1 else f"any of 1 to {highest}"
        holders = f"only {values.with_numbers} of {counted(int(values.masks[VOID]), 'mask')} with 255 hold"
        if not values.with_numbers:
            holders = "no mask with 255 holds"
        return f"{holders} {others}, so some may have 0 and 255 where others have 0 to {highest}"
    return ""


def name_notes(values: MaskValues) -> list[str]:
    """Return notes on assumptions where no file names the classes."""
    numbers = values.numbers
    if values.is_binary and VOID in values.held:
        return ["No file names the classes: 0 is called 'background' and 255 'foreground'. classes.txt names others."]
    if len(numbers) < 2:
        return []
    to = "and" if len(numbers) == 2 else "to"
    notes = [
        f"No file names the classes: they are called 'class 0' {to} 'class {numbers[-1]}'. classes.txt names them."
    ]
    if len(numbers) > INSTANCES_FROM and values.prefix_ends and len(values.prefix_ends) > 2:
        notes.append(
            "In every mask the values run from 0 without a gap, as instance ids do. Masks need the class of each pixel."
        )
    return notes
