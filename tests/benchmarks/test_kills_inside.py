"""kill -9 inside the commands that write exports, choices, refits, caches and pages.

`benchmarks/kills.py` does more.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from running import ROOT

COMMANDS = ("export", "ensemble", "refit", "cache", "report")


@pytest.mark.timeout(300)
def test_a_killed_command_leaves_the_old_or_the_new_and_the_next_one_mends_the_rest() -> None:
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "1", "--seed", "3", "--inside", *COMMANDS]
    # A process of its own: the commands are forked from it, before it has any threads.
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name in COMMANDS:
        assert re.search(rf"^{name} +1 kills, [01] of them while it wrote; then 1 \w+; faults 0 ", ended.stdout, re.M)
