"""The benchmark of near duplicates: its table on small photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import main_of

from trainables.data.looks import MOST_BITS, NUM_SHARED, SAME


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders of soft scenes, of which the second holds a scene twice."""
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        photo = Image.fromarray(pixels).resize((80, 64), Image.Resampling.BICUBIC)
        folder = tmp_path / ("first" if number < 6 else "second")
        folder.mkdir(exist_ok=True)
        photo.save(folder / f"{number:02d}.png")
    photo.resize((70, 60)).save(tmp_path / "second" / "again.jpg")
    return [tmp_path / "first", tmp_path / "second"]


def test_the_table_counts_found_copies_and_other_photos(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main_of("near_copies", monkeypatch)("--data", *folders)
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "13 photos of 2 folders: 42 pairs across, 36 within"
    shares = {row[:40].strip(): [float(cell.rstrip("%")) for cell in row[40:110].split()] for row in rows}
    assert all(share == 100 for share in np.array(shares["pHash, 10 of 64 bits"])[[0, 1, 4]])
    (chosen,) = (row for row in rows if row.startswith(f"pHash {MOST_BITS}, details {SAME}, shared {NUM_SHARED} "))
    assert chosen.split()[-4:] == ["0", "1", "second", "1"]
    looser = np.array([shares[f"pHash, {bits} of 64 bits"] for bits in (4, 6, 8, 10, 12)])
    assert (np.diff(looser, axis=0) >= 0).all(), "more bits that may differ find at least as many copies"
