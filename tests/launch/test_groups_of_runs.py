"""Groups and a kept back test split on their way: train, evaluate, refit, a run's data, and a search for a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Outcome, make_photos, tiny_config
from trained_run import trained_run

from analysis.figures.overlays import open_data
from launch.models.run_data import data_of_run
from search_spaces.search import Search
from trainables.data.formats import load_described
from trainables.data.read_as import ReadAs
from visionsweep.core.errors import DataError, RunError
from visionsweep.run_dir.load import load_run

CLI = Callable[..., Outcome]
CONFIG = tiny_config(epochs=1)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Twelve objects of each class, each photographed three times: red/o03_1.png and so on."""
    photos = make_photos(tmp_path / "photos", {"red": 36, "blue": 36})
    for file in photos.glob("*/*.png"):
        number = int(file.stem)
        file.rename(file.with_name(f"{file.parent.name[0]}{number // 3:02d}_{number % 3}.png"))
    return photos


def objects_of(names: list[str]) -> set[str]:
    return {Path(name).name.partition("_")[0] for name in names}


def write_groups(photos: Path, size: int) -> None:
    """Write a groups.csv in which an object and its neighbours make groups of `size` objects."""
    names = sorted(file.relative_to(photos).as_posix() for file in photos.glob("*/*.png"))
    rows = [f"{name},{Path(name).name[0]}{int(Path(name).name[1:3]) // size}" for name in names]
    (photos / "groups.csv").write_text("\n".join(["image,group", *rows]) + "\n")


def test_a_training_keeps_objects_whole_and_its_test_split_is_judged_when_it_is_asked_for(
    visionsweep: CLI, objects: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    command = ("train", "config.yaml", "--data", objects, "--group", "(.*)_", "--test", "25%", "--out", "kept")
    trained = visionsweep(*command)
    assert trained.code == 0, trained.err
    assert "stratified, 20% val, 25% test, seed 0; 24 groups by '(.*)_', each on one side)" in trained.out
    assert "--test 25% keeps 18 of 72 images back" in trained.out
    assert "test/" not in (tmp_path / "kept" / "metrics.json").read_text()
    described = json.loads((tmp_path / "kept" / "data.json").read_text())
    val, test = objects_of(described["val"]), objects_of(described["test"])
    assert not val & test
    assert (3 * len(val), 3 * len(test)) == (described["counts"]["val"], described["counts"]["test"])

    unasked = visionsweep("evaluate", "kept")
    assert "Split val, " in unasked.out
    assert "The test split is kept back: --split test judges the model on it." in unasked.out
    asked = visionsweep("evaluate", "kept", "--split", "test")
    assert "Split test, 18 images. The model was neither trained on these images" in asked.out


@pytest.fixture
def run_dir(objects: Path, tmp_path: Path) -> Path:
    """A run of one trial with groups of a file beside the data, and a test split that is kept back."""
    write_groups(objects, 2)
    space = {key: value for key, value in CONFIG.items() if key not in ("task", "epochs")}
    search = Search(task="classification", space=space, epochs=1)
    trained_run(tmp_path / "run", search, str(objects), [CONFIG], group="groups.csv", test="25%")
    return tmp_path / "run"


def test_the_data_of_a_run_has_its_groups_and_its_test_split_again(run_dir: Path) -> None:
    run = load_run(run_dir)
    dataset = data_of_run(run).dataset
    assert dataset.describe()["val"] == run.search["data"]["val"]
    assert dataset.describe()["test"] == run.search["data"]["test"]
    assert dataset.kept_back
    assert dataset.grouping == "12 groups by groups.csv, each on one side"


def test_a_report_and_a_card_do_without_the_file_of_groups(run_dir: Path, objects: Path) -> None:
    (objects / "groups.csv").unlink()
    run = load_run(run_dir)
    assert len(open_data(run).positions) == len(run.search["data"]["val"])
    described, _ = load_described(
        run.search["data"], str(objects), read_as=ReadAs(group="groups.csv"), short_side_px=32, cache_dir=None
    )
    assert len(described.indices("test")) == 12
    with pytest.raises(
        DataError, match=r"--group groups\.csv: there is no such file, neither beside the data nor there"
    ):
        data_of_run(run)


def test_a_file_of_groups_that_changed_since_is_refused(run_dir: Path, objects: Path) -> None:
    write_groups(objects, 4)
    with pytest.raises(RunError, match=r"is not the run's data: .* moved from "):
        data_of_run(load_run(run_dir))


def test_a_refit_on_train_and_val_does_not_look_at_what_was_kept_back(visionsweep: CLI, run_dir: Path) -> None:
    done = visionsweep("refit", run_dir, "--seeds", 1, "--on", "train+val")
    assert done.code == 0, done.err
    assert "the test split is kept back, so there is no score" in done.out
    export = run_dir / "refits" / "0000-train+val" / "seed-1"
    assert json.loads((export / "metrics.json").read_text()) == {"epoch": 1}
    judged = visionsweep("evaluate", export, "--split", "test")
    assert "Split test, 12 images." in judged.out


def test_an_export_of_the_run_is_judged_on_what_was_kept_back(visionsweep: CLI, run_dir: Path) -> None:
    exported = visionsweep("export", run_dir, "--out", "export")
    assert exported.code == 0, exported.err
    assert "Split test, 12 images." in visionsweep("evaluate", "export", "--split", "test").out
    assert "Split val, " in visionsweep("evaluate", "export").out


@pytest.mark.parametrize("command", ["train", "submit"])
def test_a_pattern_or_a_share_that_cannot_be_is_refused(
    visionsweep: CLI, objects: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    there = (
        ("quickstart", "--cluster", NOBODY, "--runs-dir", "/shared/runs") if command == "submit" else ("config.yaml",)
    )
    for options, sentence in (
        (("--group", "(.*_"), "--group '(.*_' is not a pattern: missing )"),
        (("--test", "15"), "got '15'. Did you mean 15%? 15% is usual."),
    ):
        refused = visionsweep(command, *there, "--data", objects, *options)
        assert refused.code == 2, refused.out
        assert sentence in refused.err


def test_a_file_of_groups_for_a_cluster_is_a_path_there_or_lies_beside_the_data(
    visionsweep: CLI, tmp_path: Path
) -> None:
    command = ("submit", "quickstart", "--data", "/shared/p", "--runs-dir", "/shared/runs", "--cluster", NOBODY)
    refused = visionsweep(*command, "--group", "my/groups.csv")
    assert (refused.code, "--group of a search that runs on a cluster is a path there" in refused.err) == (2, True)
    (tmp_path / "here.csv").write_text("image,group\n")
    refused = visionsweep(*command, "--group", "here.csv")
    assert (refused.code, "--group of a search that runs on a cluster is a path there" in refused.err) == (2, True)
    for good in ("groups.csv", "/shared/groups.csv", "(.*)_", "patient"):
        assert "no Ray dashboard answers" in visionsweep(*command, "--group", good).err


def test_the_groups_that_this_machine_sees_are_said_before_a_search_is_sent(visionsweep: CLI, objects: Path) -> None:
    command = ("submit", "quickstart", "--data", objects, "--runs-dir", "/shared/runs", "--cluster", NOBODY)
    sent = visionsweep(*command, "--group", "(.*)_")
    assert "photos: 72 images, 2 classes (blue 36, red 36); 24 groups by '(.*)_'" in sent.out


def test_a_file_of_groups_in_the_working_folder_is_found_from_anywhere_later(
    visionsweep: CLI, objects: Path, tmp_path: Path
) -> None:
    write_groups(objects, 2)
    (objects / "groups.csv").rename(tmp_path / "mine.csv")
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    trained = visionsweep("train", "config.yaml", "--data", objects, "--group", "mine.csv", "--out", "kept")
    assert trained.code == 0, trained.err
    assert json.loads((tmp_path / "kept" / "data.json").read_text())["group"] == str(tmp_path / "mine.csv")
