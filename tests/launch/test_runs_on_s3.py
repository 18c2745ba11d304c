"""Searches whose data and runs are on S3, through the command line, with real Ray and a real S3 server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from s3_server import keys, upload_folder
from support import Outcome

CLI = Callable[..., Outcome]

TINY = """
from search_spaces import Float, Pick, Search

SEARCH = Search(
    task="classification",
    space={"model": {"backbone": Pick("test_resnet", "test_efficientnet")},
           "optimizer": {"name": "sgd", "lr": Float(1e-2, 0.1, log=True)}, "batch_size": 8},
    fixed={"model": {"weights": "none"}, "image_size": 32},
    epochs=EPOCHS, grace_epochs=1, reduction_factor=2,
)
"""


@pytest.mark.usefixtures("ray_session")
def test_a_search_whose_data_and_run_are_on_s3_goes_on_on_a_machine_that_has_neither(
    visionsweep: CLI, bucket: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(photos, bucket, "photos")
    (tmp_path / "tiny.py").write_text(TINY.replace("EPOCHS", "3"))
    run = f"s3://{bucket}/runs/a"
    ran = visionsweep(
        "run", "tiny.py", "--data", f"s3://{bucket}/photos", "--runs-dir", f"s3://{bucket}/runs", "--name", "a",
        "--trials", 3, "--keep-trials", 1,
    )  # fmt: skip
    print(ran.out, ran.err)
    assert ran.code == 0, ran.err
    print(sorted(keys(bucket, "runs")))
    monkeypatch.setenv("VISIONSWEEP_CACHE_DIR", str(tmp_path / "other"))
    more = visionsweep("resume", run, "--trials", "+1")
    print(more.out, more.err)
    assert more.code == 0
    print(sorted(keys(bucket, "runs")))
    print(visionsweep("rank", run))
    print(visionsweep("export", run, "--out", "exp"))
    assert 0
