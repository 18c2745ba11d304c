"""The digits are scikit-learn's, read without importing it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from trainables.data.digits import _scans

ROOT = Path(__file__).parents[2]


def test_the_digits_are_those_of_scikit_learn_to_the_last_bit() -> None:
    scans, labels = _scans()
    expected = load_digits()
    assert scans.dtype == np.float32
    assert scans.tobytes() == (expected.images / 16).astype(np.float32).tobytes()
    assert np.array_equal(labels, expected.target)


def test_digits_are_scanned_without_importing_scikit_learn() -> None:
    code = "import sys; from trainables.data.digits import scan_digits; scan_digits(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
