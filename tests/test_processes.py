"""Scores do not depend on how many processes share the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def run(processes: int, out: Path) -> Any:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
    ]
    command += [str(HERE / "two_processes.py"), str(out), "eicap"]
    env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "LOCAL_RANK": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    one, ids_of_one = run(1, tmp_path / "one.json")
    two, ids_of_two = run(2, tmp_path / "two.json")
    assert ids_of_one == ids_of_two
    assert one.keys() == two.keys()
    assert len(ids_of_one) == 8
    for task in one:
        for metric in ("acc,none", "brier_score,none"):
            assert two[task][metric] == pytest.approx(one[task][metric], abs=1e-12), task
        assert two[task].get("sample_len") == one[task].get("sample_len")
    assert 0 < one["eicap"]["acc,none"] < 1
