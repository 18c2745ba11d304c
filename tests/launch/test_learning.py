"""--learn-from: trials of earlier runs are observations of the sampler's model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_search import CONDITIONAL, SQUARE, Searching, bumpy, quadratic, rising, search

from launch.samplers.encoding import Encoder
from launch.samplers.learned import MOST, SAME, Learned
from launch.search.learning import check_sources, learned_from
from launch.search.records import Records
from launch.search.searcher import StudySearcher
from search_spaces.grammar import Float, Space
from search_spaces.search import Search
from search_spaces.serial import search_to_json
from visionsweep.core.errors import ConfigError, RunError

DATA = {"fingerprint": "0123456789abcdef", "val": ["a.png", "b.png"]}


def earlier(folder: Path, space: Space = SQUARE, trials: int = 14, curve: Any = quadratic, **data: Any) -> str:
    """A run of some trials, as it stands in its folder."""
    chosen = search(space)
    running = Searching(folder, chosen, curve)
    running.records.write_search({"search": search_to_json(chosen), "data": {**DATA, **data}})
    for _ in range(trials):
        running.step()
    return str(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return earlier(tmp_path_factory.mktemp("earlier") / "run")


def proposals(folder: Path, learned: list[dict[str, Any]], number: int, chosen: Search | None = None) -> list[Any]:
    records = Records.create(folder, {"search": {}})
    chosen = chosen or search(SQUARE)
    searcher = StudySearcher(chosen, records, 1, None, None, lambda config: None, learned=learned)
    found = [searcher.suggest(str(place)) for place in range(number)]
    return [one["config"] for one in found if isinstance(one, dict)]


def off(config: dict[str, Any]) -> float:
    return math.dist((config["a"], config["b"]), (0.7, 0.2))  # of the best of `quadratic`


@pytest.mark.parametrize("data", [{}, {"fingerprint": "f" * 16}], ids=["the same data", "other data"])
def test_the_first_proposals_are_near_the_best_of_an_earlier_run(
    run: str, tmp_path: Path, data: dict[str, Any]
) -> None:
    learned, notes = learned_from(search(SQUARE), {**DATA, **data}, [run])
    assert {one["source"] for one in learned} == ({1} if data else {SAME})
    judged = "; judged on other images, so its scores count by their ranks." if data else "."
    assert notes == [f"Learned from 14 trials of {run}{judged}"]
    plain = proposals(tmp_path / "plain", [], 6)
    taught = proposals(tmp_path / "taught", learned, 6)
    assert plain != taught
    hearing = taught[::2] if data else taught  # every second proposal hears nothing of other data
    assert np.median([off(config) for config in hearing]) < 0.6 * np.median([off(config) for config in plain])
    assert (taught[1::2] == plain[1::2]) == bool(data)
    assert taught == proposals(tmp_path / "again", json.loads(json.dumps(learned)), 6)  # as a resumed run reads it


def test_a_search_that_an_earlier_run_misleads_finds_the_best_all_the_same(tmp_path: Path) -> None:
    def elsewhere(config: dict[str, Any]) -> list[float]:
        return quadratic({"a": 1 - config["a"], "b": 1 - config["b"]})

    run = earlier(tmp_path / "run", trials=30, curve=elsewhere)
    learned, _ = learned_from(search(SQUARE), {**DATA, "fingerprint": "f" * 16}, [run])
    misled = Searching(tmp_path / "misled", search(SQUARE), quadratic, learned=learned)
    taught = [off(misled.step()) for _ in range(30)]
    assert taught[0] > 0.6, "the first is where the earlier run was good"
    assert misled.best() > 0.9


def test_each_run_on_other_data_is_marked_and_the_searchs_own_trials_are_not() -> None:
    stored = [
        {"params": {"a": 0.1 * source, "b": 0.5}, "shown": [[1.0, [source]]], "infeasible": False, "source": source}
        for source in (2, SAME, 5)
    ]
    learned = Learned.of(Encoder(SQUARE), stored, 1)
    assert learned is not None
    assert learned.num_others == 2
    assert learned.marks(1).tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]]


def test_what_diverged_earlier_is_kept_away_from(tmp_path: Path) -> None:
    def half(config: dict[str, Any]) -> list[float]:
        return [0.1, math.nan] if config["a"] > 0.5 else rising(1 - config["b"])

    learned, _ = learned_from(search(SQUARE), DATA, [earlier(tmp_path / "run", curve=half)])
    assert any(one["infeasible"] for one in learned)
    taught = proposals(tmp_path / "new", learned, 8)
    assert sum(config["a"] > 0.5 for config in taught) <= 2


def test_trials_outside_of_the_space_are_left_out_and_counted(run: str) -> None:
    smaller = search({"a": Float(0, 0.5), "b": Float(0, 1)})
    learned, (note,) = learned_from(smaller, DATA, [run])
    assert all(one["params"]["a"] <= 0.5 for one in learned)
    assert (
        note
        == f"Learned from {len(learned)} trials of {run}; {14 - len(learned)} outside of this search's space left out."
    )
    longer, _ = learned_from(search(SQUARE, epochs=30), DATA, [run])
    assert len(longer) == 14
    assert max(fidelity for one in longer for fidelity, _ in one["shown"]) == pytest.approx(1)
    for space in ({**SQUARE, "c": Float(0, 1)}, {**SQUARE, "image_size": 64}):
        with pytest.raises(ConfigError, match=r"none of its 14 trials lies in the space of this search"):
            learned_from(search(space), DATA, [run])
    with pytest.raises(ConfigError, match="and has its metric"):
        learned_from(replace(search(SQUARE), metric="val/f1"), DATA, [run])


def test_a_mean_over_folds_is_what_a_full_training_showed(tmp_path: Path) -> None:
    run = earlier(tmp_path / "run")
    plain, _ = learned_from(search(SQUARE), DATA, [run])
    path = tmp_path / "run" / "epochs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    last = max(row["epoch"] for row in rows)
    means = []
    for row in rows:
        if row["epoch"] == last:
            row["fold"] = 1
            means.append({**row, "epoch": last + 1, "fold": 2, "metrics": dict.fromkeys(row["metrics"], 0.125)})
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *means)))
    folded, _ = learned_from(search(SQUARE), DATA, [run])
    assert means
    whole = {one["params"]["a"]: one["shown"] for one in folded if one["shown"][-1][1] == (0.125,)}
    assert len(whole) == len(means)
    for one in plain:
        if one["params"]["a"] in whole:
            before, now = one["shown"], whole[one["params"]["a"]]
            assert [fidelity for fidelity, _ in now] == [fidelity for fidelity, _ in before]
            assert now[:-1] == before[:-1]
    assert max(fidelity for shown in whole.values() for fidelity, _ in shown) == pytest.approx(1)


def test_a_space_with_arms_learns_from_whole_configurations(tmp_path: Path) -> None:
    run = earlier(tmp_path / "run", CONDITIONAL, trials=6, curve=bumpy)
    learned, _ = learned_from(search(CONDITIONAL), DATA, [run])
    assert len(learned) == 6
    taught = proposals(tmp_path / "new", learned, 12, search(CONDITIONAL))
    assert len(taught) == 12


@pytest.mark.parametrize(
    ("source", "changes", "said"),
    [
        ("nowhere", {}, "takes a run directory, and 'nowhere' is none"),
        (".", {}, "has no search.json|is not a run"),
        (None, {"sampler": "tpe"}, "teaches the model of the sampler fidelity, and the search's is 'tpe'"),
        (None, {"task": "multilabel", "metric": "val/f1"}, "is for multiclass, and this search is for multilabel"),
    ],
)
def test_a_source_that_teaches_nothing_is_refused_in_a_sentence(
    run: str, source: str | None, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigError, RunError), match=said):
        check_sources(replace(search(SQUARE), **changes), [source or run])


def test_a_hundred_observations_are_kept_with_the_best_of_each_run() -> None:
    encoder = Encoder(SQUARE)
    rng = np.random.default_rng(0)
    stored = [
        {"params": {"a": rng.random(), "b": 0.5}, "shown": [[1.0, [value]]], "infeasible": False, "source": value % 2}
        for value in range(400)
    ]
    learned = Learned.of(encoder, stored, 1)
    assert learned is not None
    assert len(learned.rows) == MOST
    assert learned.num_trials == 400
    assert {398, 399} <= set(learned.values[:, 0])
    # Other data is ranked apart: its middle has the score 0, though its values are no worse.
    scores = learned.scores(np.array([500.0, 600.0]), 0)
    assert scores[2:][learned.source == 1].mean() == pytest.approx(0, abs=1e-9)
    assert scores[2:][learned.source == SAME].max() < scores[:2].min()
    with pytest.raises(RunError, match="Delete its key 'learned'"):
        Learned.of(encoder, [{"params": {}, "shown": [[1.0, [1, 2]]], "infeasible": False, "source": 0}], 1)
