"""The contract of benchmarks/searcher_contract.py: ours keeps all of it, and its table shows the others."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from benchmarks import searcher_contract as contract


@pytest.mark.parametrize("sentence", contract.SCENARIOS)
def test_our_searcher_keeps_the_contract(sentence: str, tmp_path: Path) -> None:
    contract.SCENARIOS[sentence](contract.Ours(tmp_path))


@pytest.mark.parametrize("stock", ["stock", "stock, stored"])
def test_the_scenarios_can_be_passed_and_can_be_failed(stock: str) -> None:
    """Ray's own searcher passes what every searcher must do, and its known faults are found."""

    def why_not(sentence: str) -> str:
        return str(contract.outcome(contract.SCENARIOS[sentence], contract.ADAPTERS[stock]))

    assert why_not("a trial with an error is FAIL") == ""
    assert why_not("a killed driver is restored from its last word") == ""
    assert "COMPLETE" in why_not("a trial that the scheduler stopped is PRUNED")
    assert "RUNNING" in why_not("a trial that came to NaN is closed")


def test_the_command_prints_a_row_for_every_scenario_and_ours_passes_each(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(contract.__file__, run_name="__main__")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["visionsweep", "stock", "stock,", "stored"]
    for sentence, row in zip(contract.SCENARIOS, lines, strict=False):
        assert row.startswith(sentence)
        ours, *others = row.removeprefix(sentence).split()
        assert ours == "yes", row
        assert len(others) == 2
        assert set(others) <= {"yes", "no"}
