"""Groups of images: a column, a file or a pattern, the sides that they stand on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_folders import photo
from PIL import Image

from trainables.data.dataset import Dataset
from trainables.data.formats import load_dataset
from trainables.data.read_as import ReadAs
from trainables.data.summary import summary
from visionsweep.core.errors import DataError


def load(spec: Path, **options: object) -> Dataset:
    return load_dataset(str(spec), short_side_px=8, cache_dir=None, **options)[0]  # type: ignore[arg-type]


def refusal(spec: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load(spec, **options)
    return str(caught.value)


def patients(root: Path, num: int = 12, each: int = 4) -> Path:
    """Write slices of patients, half of them of each class: DIR/ill/patient00_slice0.png and so on."""
    for patient in range(num):
        for number in range(each):
            photo(root / ("ill" if patient % 2 else "well") / f"patient{patient:02d}_slice{number}.png")
    return root


def patient_of(name: str) -> str:
    return Path(name).name.partition("_")[0]


def sides(dataset: Dataset) -> dict[str, set[str]]:
    """Return the sides on which each patient stands."""
    found: dict[str, set[str]] = {}
    for name, side in zip(dataset.names, dataset.split.tolist(), strict=True):
        found.setdefault(patient_of(name), set()).add(side)
    return found


def write_groups(root: Path, header: str = "image,group", without: str = "") -> Path:
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [f"{name},{patient_of(name)}" for name in names if name != without]
    file = root / "groups.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def table(root: Path, column: str = "patient", split: bool = False) -> Path:
    """Write a labels.csv beside the patients' slices, with the patient in a column of its own."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    given = [",val" if number % 4 == 0 else ",train" for number in range(len(names))] if split else [""] * len(names)
    rows = [f"{name},{Path(name).parent},{patient_of(name)}{side}" for name, side in zip(names, given, strict=True)]
    file = root / "labels.csv"
    file.write_text("\n".join([f"image,label,{column}{',split' if split else ''}", *rows]) + "\n")
    return file


def test_without_groups_the_slices_of_a_patient_stand_on_both_sides(tmp_path: Path) -> None:
    assert {"train", "val"} in sides(load(patients(tmp_path))).values()


@pytest.mark.parametrize("group", [r"(patient\d+)_", r"(.*)_slice\d", r"/(.*)_slice", "groups.csv", "patient"])
@pytest.mark.parametrize("seed", range(3))
def test_each_patient_stands_on_one_side_whatever_says_who_it_is(tmp_path: Path, group: str, seed: int) -> None:
    patients(tmp_path)
    write_groups(tmp_path)
    if group == "patient":
        table(tmp_path)
    dataset = load(tmp_path, group=group, seed=seed)
    assert all(len(where) == 1 for where in sides(dataset).values())
    for side, share in (("train", 5), ("val", 1)):  # of the six patients of each class
        found = [patient_of(dataset.names[i]) for i in dataset.indices(side)]
        assert {int(name[-2:]) % 2 for name in found} == {0, 1}
        assert len(set(found)) == 2 * share
    assert "; 12 groups by " in summary(dataset)
    assert summary(dataset).endswith(", each on one side)")
    assert dataset.groups is not None
    assert len(np.unique(dataset.groups)) == 12


def test_a_seed_draws_other_groups_and_draws_them_again(tmp_path: Path) -> None:
    patients(tmp_path)
    drawn = [load(tmp_path, group="(.*)_", seed=seed).split.tolist() for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({tuple(one) for one in drawn}) > 1


def test_what_two_brackets_hold_is_a_group_together(tmp_path: Path) -> None:
    for number in range(40):
        photo(tmp_path / "ab"[number % 2] / f"{number // 10}_{number % 10:02d}_{'L' if number % 3 else 'R'}.png")
    dataset = load(tmp_path, group=r"(\d+)_\d+_(L|R)")
    assert "8 groups by '(\\d+)_\\d+_(L|R)'" in summary(dataset)


def test_groups_may_span_classes_and_every_class_keeps_its_share(tmp_path: Path) -> None:
    for house in range(40):
        for room in ("bath", "bed", "kitchen"):
            photo(tmp_path / room / f"{house}_{room}.png")
    dataset = load(tmp_path, group=r"(\d+)_")
    val = dataset.targets[dataset.indices("val")]
    assert np.bincount(val).tolist() == [8, 8, 8]


def test_a_file_may_leave_out_folders_and_lie_elsewhere(tmp_path: Path) -> None:
    data = patients(tmp_path / "data")
    rows = [f"{path.name},{patient_of(path.name)}" for path in data.rglob("*.png")]
    file = tmp_path / "who.csv"
    file.write_text("\n".join(["image,who", *rows, "gone.png,patient99"]) + "\n")
    dataset = load(data, group=str(file))
    assert all(len(where) == 1 for where in sides(dataset).values())
    assert "1 row of who.csv not used: the data has no such image." in dataset.notes


def test_images_in_no_group_stand_alone_and_are_counted(tmp_path: Path) -> None:
    photo(patients(tmp_path) / "ill" / "stray.png")
    dataset = load(tmp_path, group=r"(.*)_slice")
    assert "1 image in no group, as the pattern does not match: 'ill/stray.png'." in dataset.notes
    assert "13 groups" in summary(dataset)


def test_copies_and_groups_are_joined(tmp_path: Path) -> None:
    patients(tmp_path)
    one = tmp_path / "ill" / "patient01_slice0.png"
    (tmp_path / "ill" / "patient03_slice9.png").write_bytes(one.read_bytes())
    for seed in range(5):
        found = sides(load(tmp_path, group="(.*)_", seed=seed))
        assert found["patient01"] == found["patient03"]


def test_groups_of_masks_are_kept_whole_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        for room, pixels in (("images", rng.integers(0, 255, (8, 8, 3))), ("masks", rng.integers(0, 2, (8, 8)))):
            (tmp_path / room).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / room / f"patient{number // 4}_{number}.png")
    dataset = load(tmp_path, group="(.*)_")
    assert all(len(where) == 1 for where in sides(dataset).values())
    assert len(dataset.indices("val")) == 4


def test_a_given_split_that_tears_groups_apart_is_kept_and_warned_about(tmp_path: Path) -> None:
    table(patients(tmp_path), split=True)
    dataset = load(tmp_path, group="patient")
    assert len(dataset.indices("val")) == 12
    assert (
        "12 groups of 12 stand in train and in val (48 images), such as 'ill/patient01_slice0.png', "
        "'ill/patient01_slice1.png', 'ill/patient01_slice2.png' and 1 more: scores on val will look better than on new "
        "groups. Move each group to one side, or give no split and let it be drawn."
    ) in dataset.notes
    assert summary(dataset).endswith("12 groups by column 'patient', some on two sides)")


def test_names_that_look_like_groups_are_asked_about_and_only_then(tmp_path: Path) -> None:
    (asked,) = (note for note in load(patients(tmp_path)).notes if "Names look like" in note)
    assert asked.startswith(
        "Names look like 12 groups, such as 'ill/patient01_slice0.png', 'ill/patient01_slice1.png'."
    )
    pattern = asked.partition("pass --group '")[2].partition("'")[0]
    dataset = load(tmp_path, group=pattern)
    assert all(len(where) == 1 for where in sides(dataset).values())
    assert not any("Names look like" in note for note in dataset.notes)
    write_groups(tmp_path)
    assert ("'groups.csv' lies beside the data and is not used: --group groups.csv keeps its groups together.") in load(
        tmp_path
    ).notes


@pytest.mark.parametrize("name", ["cat_{}.png", "{}.png", "train_web-{}.png", "IMG{}.png"])
def test_numbered_names_are_no_groups(tmp_path: Path, name: str) -> None:
    for number in range(20):
        photo(tmp_path / ("a" if number % 2 else "b") / name.format(f"{number:04d}"))
    assert load(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ("", "--group is empty. Name a column of the table, a file groups.csv, or a pattern on names."),
        (r"patient\d+", r"--group 'patient\d+' says nothing of what names have in common. Put brackets round what "),
        ("(patient", "--group '(patient' is not a pattern: missing ), unterminated subpattern at position 0."),
        ("(doctor.*)_", "--group '(doctor.*)_' matches no name, such as 'patient01_slice0'. It is looked for in names"),
        ("patient", "is not a table with such a column. Name a file groups.csv with the columns image and group, or a"),
        ("who.csv", "--group who.csv: there is no such file, neither beside the data nor there."),
        ("(pat)", "--group by '(pat)' puts 48 images into 1 group, and a group stays on one side: 2 sides need as"),
        (r"patient\d(\d)_", None),
    ],
)
def test_a_group_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, group: str, sentence: str | None) -> None:
    patients(tmp_path)
    if sentence is None:
        assert load(tmp_path, group=group).grouping.startswith("10 groups")
    else:
        assert sentence in refusal(tmp_path, group=group)


def test_a_class_of_one_group_is_refused_by_name(tmp_path: Path) -> None:
    photos = patients(tmp_path, num=2)
    assert refusal(photos, group="(.*)_").startswith(
        "class 'ill' stands in one group only (by '(.*)_': 'ill/patient01_slice0.png', 'ill/patient01_slice1.png', "
        "'ill/patient01_slice2.png' and 1 more), and a group stays on one side. A class needs two groups at least."
    )


def test_a_file_that_misses_an_image_or_contradicts_itself_is_refused(tmp_path: Path) -> None:
    file = write_groups(patients(tmp_path), without="ill/patient03_slice2.png")
    assert refusal(tmp_path, group="groups.csv").startswith(
        "groups.csv says nothing of 1 image: 'ill/patient03_slice2.png'. Add a row for each, with its path as the data"
    )
    file.write_text(file.read_text() + "ill/patient03_slice2.png,a\nill/patient03_slice2.png,b\n")
    assert "image 'ill/patient03_slice2.png' is in group 'a' already, here in 'b'" in refusal(
        tmp_path, group="groups.csv"
    )
    write_groups(tmp_path, header="image,x").write_text("image,x,y\nill/patient01_slice0.png,1,2\n")
    assert "which column is the group? It has 'x', 'y'. Call it 'group'." in refusal(tmp_path, group="groups.csv")


def test_a_column_that_the_table_lacks_or_that_means_something_else_is_refused(tmp_path: Path) -> None:
    table(patients(tmp_path))
    assert "no column 'patiant', which --group names. Did you mean 'patient'?" in refusal(tmp_path, group="patiant")
    assert "--group label: that column gives the label." in refusal(tmp_path, group="label")


def test_an_unknown_column_offers_that_it_may_be_the_group(tmp_path: Path) -> None:
    table(patients(tmp_path))
    assert "--group patient" in refusal(tmp_path)


def test_data_that_is_only_judged_may_have_the_column_or_lack_it(tmp_path: Path) -> None:
    table(patients(tmp_path / "with"))
    file = table(patients(tmp_path / "without"))
    file.write_text("\n".join(line.rpartition(",")[0] for line in file.read_text().splitlines()))
    for folder in ("with", "without"):
        dataset = load(tmp_path / folder, group="patient", for_training=False)
        assert (len(dataset.names), dataset.classes) == (48, ("ill", "well"))


def test_groups_travel_in_the_options_of_a_run_and_stand_in_its_description(tmp_path: Path) -> None:
    read_as = ReadAs.of({"group": "(.*)_", "test": "25%", "layout": None, "seed": 3})
    dataset = load(patients(tmp_path), **read_as.options())
    described = dataset.describe()
    assert (described["group"], described["kept_back"]) == ("(.*)_", True)
    assert described["grouping"] == "12 groups by '(.*)_', each on one side"
    assert all(len(where) == 1 for where in sides(dataset).values())
