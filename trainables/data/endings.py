"""The endings of image files, and notes about files that are left out."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

from PIL import features

from visionsweep.core.words import counted

# Pillow's name of a format -> its endings. Pixels only: no format that Pillow passes to another program (PostScript) or
# knows only by name. No videos, documents, icons or measurements.
FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "DIB": (".dib",),
    "PCX": (".pcx",),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "TGA": (".tga",),
}
OTHER_ENDINGS = {"JPEG": (".jfif", ".jpe", ".mpo"), "PNG": (".apng",), "PPM": (".pbm", ".pnm")}  # of the same formats
_OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # what a Pillow may be built without
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
HEIC_NEEDS = "needs pillow-heif: pip install 'visionsweep[heic]'"

# Images, or files kept among them, that are not read here. They are counted, so that none is skipped silently.
RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef", ".mos",
    ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
OTHER_SUFFIXES = (
    ".ai", ".bw", ".cur", ".dcm", ".dcx", ".dds", ".dicom", ".djvu", ".emf", ".eps", ".exr", ".fit", ".fits", ".hdr",
    ".icns", ".ico", ".jls", ".jxl", ".jxr", ".kra", ".nii", ".npy", ".pam", ".pct", ".pdf", ".pfm", ".ps", ".psb",
    ".psd", ".ras", ".rgb", ".rgba", ".svg", ".svgz", ".wdp", ".wmf", ".xbm", ".xcf", ".xpm",
)  # fmt: skip
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


def _is_built_in(name: str) -> bool:
    feature = _OPTIONAL.get(name)
    known = feature in features.modules or feature in features.codecs  # an older Pillow warns of what it does not know
    return feature is None or (known and bool(features.check(feature)))


SAFE_FORMATS = tuple(name for name in FORMATS if _is_built_in(name))
READS_HEIC = find_spec("pillow_heif") is not None
IMAGE_SUFFIXES = (
    *(suffix for name in SAFE_FORMATS for suffix in FORMATS[name]),
    *(suffix for name in SAFE_FORMATS for suffix in OTHER_ENDINGS.get(name, ())),
    *(HEIC_SUFFIXES if READS_HEIC else ()),
)
NOT_READ = frozenset(
    {*RAW_SUFFIXES, *OTHER_SUFFIXES, *VIDEO_SUFFIXES, *(suffix for endings in FORMATS.values() for suffix in endings)}
    - {*IMAGE_SUFFIXES}
)
NO_ENDING = "no ending"
# The first bytes of files of these formats. An image may have a name without an ending.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")


def is_left_out(suffix: str) -> bool:
    """Whether a file of this ending (lower case, with its dot) is an image that is not read."""
    return suffix in NOT_READ or (suffix in HEIC_SUFFIXES and not READS_HEIC)


def begins_as_an_image(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of an image."""
    is_bmp = head[:2] == b"BM" and head[6:10] == bytes(4)  # text may begin with these letters too
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_BEGINNINGS) or is_bmp or is_webp or is_heic(head)


def is_heic(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of HEIC, whatever its name ends in."""
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def left_out_notes(left_out: Counter[str]) -> list[str]:
    """Return sentences about files that are left out for their ending: how many, and what to do."""
    notes = []
    heic = {suffix: count for suffix, count in left_out.items() if suffix in HEIC_SUFFIXES}
    if heic:
        endings = " and ".join(sorted(heic))
        notes.append(f"{counted(sum(heic.values()), 'file')} left out: {endings} {HEIC_NEEDS}.")
    others = sorted((-count, suffix) for suffix, count in left_out.items() if suffix not in heic)
    if others:
        listed = ", ".join(f"{suffix} ({-count:,})" for count, suffix in others)
        total = counted(-sum(count for count, _ in others), "file")
        only_unnamed = [suffix for _, suffix in others] == [NO_ENDING]
        move = "Add the ending of their format" if only_unnamed else "Convert them to JPEG or PNG"
        notes.append(f"{total} left out: {listed}. {move}.")
    return notes
