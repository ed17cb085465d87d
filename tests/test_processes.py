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
TASKS = ["eicap", "eicap_circular_en", "eicap_gen_en", "eicap_cf_ar", "eicap_chain_en"]


def run(processes: int, out: Path) -> Any:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
    ]
    command += [str(HERE / "two_processes.py"), str(out), *TASKS]
    env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "LOCAL_RANK": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    one, ids_of_one, signed_by_one = run(1, tmp_path / "one.json")
    two, ids_of_two, signed_by_two = run(2, tmp_path / "two.json")
    assert ids_of_one == ids_of_two
    assert signed_by_one == signed_by_two
    assert one.keys() == two.keys()
    assert len(ids_of_one) == 8 + 4 * 4
    compared = set()
    for task, scores in one.items():
        for metric, value in scores.items():
            if isinstance(value, float):
                assert two[task][metric] == pytest.approx(value, abs=1e-12, nan_ok=True), (task, metric)
                compared.add(metric.split(",")[0])
    assert compared >= {
        "acc",
        "brier_score",
        "acc_circular",
        "consistency",
        "position_bias",
        "parse_rate",
        "acc_parsed",
    }
    assert compared >= {"acc_bytes", "acc_mutual_info", "acc_1", "acc_2", "acc_3", "acc_4"}
    assert 0 < one["eicap"]["acc,none"] < 1
