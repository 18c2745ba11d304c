from __future__ import annotations

import pytest

from launch.cli.loading import parse_assignments, parse_duration
from visionsweep.core.errors import ConfigError
from visionsweep.core.text import duration, in_words


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800), ("1h30m", 5400)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "m", "1h30", "-5m", "0s", "5 months", ""])
def test_durations_without_a_unit_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a budget"):
        parse_duration(text)


def test_set_reads_values_as_yaml() -> None:
    read = parse_assignments(["a=3", "b=1e-3", "c.d=true", "e=none", "f=[1, 2]", "g=null", "h=x=y"])
    assert read == {"a": 3, "b": 1e-3, "c.d": True, "e": "none", "f": [1, 2], "g": None, "h": "x=y"}


def test_seconds_in_words() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 200, 7500)] == ["0s", "1m00s", "3m20s", "2h05m"]


def test_a_configuration_in_words_names_what_people_compare() -> None:
    config = {
        "model": {"backbone": "resnet18", "freeze": "all"},
        "optimizer": {"name": "sgd", "lr": 0.0512},
        "schedule": {"name": "cosine"},
    }
    assert in_words(config) == "resnet18, sgd 0.051, cosine, frozen: all"
    assert in_words({}) == "?"
