"""A power cut at every request of a search whose run is on a real S3 server.

The contents of S3 are then resumed, on another machine or on the one where the power failed. Nothing that S3 had is
lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from test_power_cut import CONFIG, SEARCH, result

from launch.remote.lock import LOCK_FILE, RemoteLock
from launch.remote.mirror import Mirror
from launch.search.records import Records
from trainables.checkpoint import TrialFiles
from trainables.stored_rows import stored_rows
from trainables.worker.trial_mirror import ROWS_FILE, TrialMirror
from visionsweep.core.s3 import Remote
from visionsweep.run_dir.files import TRIAL_ROOMS
from visionsweep.run_dir.load import load_run
from visionsweep.run_dir.syncing import Syncer
from visionsweep.run_dir.trials import Trial

LINES = ("trials.jsonl", "epochs.jsonl")


class Searching:
    """A search as its processes write it, without trainings.

    send_at: the steps of a trial after which the driver's thread sends: proposed, trained, recorded, ended. In a real
    search it sends every few seconds.
    """

    def __init__(self, run: Remote, home: Path, send_at: frozenset[str]) -> None:
        self.run = run
        self.home = home
        self.send_at = send_at
        self.records = Records(home / "run")
        self.mirror = Mirror(run, home / "run", RemoteLock(run))
        self.created = False

    def __call__(self) -> None:
        self.mirror.lock.acquire(lambda said: None)
        try:
            self.records = Records.create(self.home / "run", SEARCH, self.mirror)
            with self.records.locked():
                self.mirror._send()
                self.created = True
                self.trial("0000", [0.5, 0.7, 0.6], "complete")
                self.trial("0001", [0.1], "pruned")
                self.trial("0002", [0.6, 0.8, 0.9], "complete")
                self.trial("0003", [0.2, 0.3], None)
            self.mirror._send()
        finally:
            self.mirror.lock.release()

    def trial(self, trial_id: str, values: list[float], status: str | None) -> None:
        self.records.proposed(trial_id, {"lr": 0.1}, CONFIG, "sampler")
        self.records.started(trial_id)
        self.sends("proposed")
        scratch = self.home / "scratch"
        rooms = scratch / "checkpoints" / trial_id, scratch / "predictions" / trial_id
        files = TrialFiles(*rooms, "val/f1", "max", 1)
        sent = TrialMirror(self.run.uri, trial_id, files)
        sent.bring()
        sent.send()
        for epoch, value in enumerate(values, start=1):
            trained = result(epoch, value, last=epoch == 3)
            files.save(trained, resumable=not trained.last)
            sent.send(trained.row())
            self.sends("trained")
            self.records.epoch({"trial_id": trial_id, **trained.row()})
            self.sends("recorded")
        sent.leave()
        if status is not None:
            self.records.ended(trial_id, status, "")
            best = max(self.records.trials.values(), key=lambda trial: trial.best("val/f1", "max") or (0.0, 0))
            self.records.keep_only([best.trial_id])
            self.records.write_best(best)
            self.sends("ended")

    def sends(self, step: str) -> None:
        if step in self.send_at:
            self.mirror._send()


class Checked:
    """Copy and resume the contents of S3 after every request that changes something.

    The machine's own folder is gone, as it was, or with half of its last line.
    """

    def __init__(self, searching: Searching, bucket: str, home: Path) -> None:
        self.searching = searching
        self.bucket = bucket
        self.home = home
        self.num_moments = self.num_states = 0
        self.quiet = False
        self.content: dict[str, bytes] = {}  # of S3, by name

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        write = Remote.write
        upload = Remote.upload
        delete = Remote.delete

        def told_write(remote: Remote, name: str, content: bytes, **how: object) -> bool:
            done = write(remote, name, content, **how)  # type: ignore[arg-type]
            self.moment(name)
            return done

        def told_upload(remote: Remote, path: Path, name: str) -> None:
            upload(remote, path, name)
            self.moment(name)

        def told_delete(remote: Remote, names: Iterable[str]) -> None:
            for name in names:
                delete(remote, [name])
                self.moment(name)

        patch.setattr(Remote, "write", told_write)
        patch.setattr(Remote, "upload", told_upload)
        patch.setattr(Remote, "delete", told_delete)

    def moment(self, name: str) -> None:
        if self.quiet or name == LOCK_FILE:
            return
        self.quiet = True
        self.num_moments += 1
        if name.startswith(TRIAL_ROOMS) and name not in self.searching.run.listing(name):
            self.content.pop(name)
        else:
            found = self.searching.run.read(name)
            assert found is not None
            assert name not in LINES or found.content.startswith(self.content.get(name, b"")), "S3 has what it had"
            self.content[name] = found.content
        if self.searching.created:
            for here in ("gone", "there" if self.num_moments % 2 else "torn"):
                self.num_states += 1
                copy = Remote(self.bucket, f"copies/{self.num_states}")
                for name, content in self.content.items():
                    copy.write(name, content)
                self._check_resume(copy, self._folder(here))
        self.quiet = False

    def _folder(self, here: str) -> Path:
        folder = self.home / str(self.num_states) / "run"
        if here != "gone":
            shutil.copytree(self.searching.home / "run", folder)
        if here == "torn":
            for name in LINES:
                whole = (folder / name).read_bytes()
                last = whole.rstrip(b"\n").rfind(b"\n") + 1
                (folder / name).write_bytes(whole[: (last + len(whole)) // 2])
        return folder

    def _check_resume(self, copy: Remote, folder: Path) -> None:
        mirror = Mirror(copy, folder, RemoteLock(copy))
        mirror.lock.acquire(lambda said: None)
        mirror.fetch()
        assert (folder / "trials.jsonl").read_bytes().startswith(self.content.get("trials.jsonl", b""))
        records = Records(folder, mirror)
        with records.locked():
            for trial in records.trials.values():
                self._is_whole(copy, folder, trial)
            for room in ("checkpoints/", "predictions/"):
                assert {name.split("/")[1] for name in copy.listing(room)} <= records.trials.keys()
            number = f"{records.next_number:04d}"
            records.proposed(number, {"lr": 0.2}, CONFIG, "sampler")
        mirror._send()
        mirror.lock.release()
        again = copy.read("trials.jsonl")
        assert again is not None
        assert json.loads(again.content.splitlines()[-1])["trial_id"] == number
        assert len(load_run(folder).trials) == len(records.trials)

    def _is_whole(self, copy: Remote, folder: Path, trial: Trial) -> None:
        """Check that an ended trial has all its epochs, and that another resumes from its own state or begins anew."""
        epochs = [row["epoch"] for row in trial.epochs]
        assert epochs == list(range(1, len(epochs) + 1))
        if trial.status not in ("running", "interrupted"):
            assert len(epochs) == trial.num_epochs_told
            return
        sent = self.content.get(f"checkpoints/{trial.trial_id}/{ROWS_FILE}", b"")
        assert [json.loads(line)["epoch"] for line in sent.splitlines()] <= epochs, "what the trial sent is recorded"
        scratch = folder.parent / "scratch"
        rooms = scratch / "checkpoints" / trial.trial_id, scratch / "predictions" / trial.trial_id
        files = TrialFiles(*rooms, "val/f1", "max", 1)
        TrialMirror(copy.uri, trial.trial_id, files).bring()
        if files.last.exists():
            stored = torch.load(files.last, weights_only=True)["row"]["epoch"]
            told = {row["epoch"] for row in stored_rows(files.last, trial.trial_id)}
            assert {*epochs, *told} >= set(range(1, stored + 1))
        assert len(files._stored()) <= 2, "the best epoch, and one that displaces it"


@pytest.mark.parametrize(
    "send_at",
    [{"ended"}, {"proposed", "trained"}],
    ids=["at ends", "behind by an epoch"],
)
def test_whatever_a_power_cut_leaves_on_s3_is_gone_on_with(
    send_at: set[str], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Syncer, "start", lambda self: None)
    searching = Searching(Remote(bucket, "runs/r"), tmp_path / "home", frozenset(send_at))
    checked = Checked(searching, bucket, tmp_path / "copies")
    with monkeypatch.context() as patch:
        checked.watch(patch)
        searching()
    print(f"{checked.num_moments} moments, {checked.num_states} states")
    assert checked.num_moments > 50
