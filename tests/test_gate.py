"""The pipeline example: it goes on after an interruption, and ends with status 1 on a regression."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "regression_gate.sh"


@pytest.fixture
def with_stand_in(tmp_path: Path) -> dict[str, str]:
    """An `eicap` whose models are scripted: "pretrained=good" knows every answer, another says A."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "eicap"
    command.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {sys.executable} {ROOT}/tests/readme_command.py eicap "$@"\n'
    )
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "tests")}


def gate(base: str, other: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = ["sh", str(SCRIPT), f"pretrained={base}", f"pretrained={other}", "out", "--limit", "8"]
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_gate(tmp_path: Path, with_stand_in: dict[str, str]) -> None:
    same = gate("good", "good", tmp_path, with_stand_in)
    assert same.returncode == 0, same.stderr
    assert "overall: no difference at all, 64 probes scored the same" in same.stdout
    assert (tmp_path / "out" / "compare" / "compare.png").is_file()
    again = gate("good", "good", tmp_path, with_stand_in)
    assert again.returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in calls] == ["run", "run", "compare", "compare"]
    (tmp_path / "out" / "other").rename(tmp_path / "kept")
    worse = gate("good", "says-a", tmp_path, with_stand_in)
    assert worse.returncode == 1, worse.stderr
    assert "regression: " in worse.stderr


def test_the_workflow_calls_the_script() -> None:
    workflow = yaml.safe_load((ROOT / "examples" / "regression_gate.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["compare"]["steps"]]
    assert any(step.startswith('sh regression_gate.sh "$BASE" "$OTHER" results') for step in steps)
