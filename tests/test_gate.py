"""The pipeline example: it runs again what is not done, and ends with status 1 on a regression."""

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


def called(folder: Path) -> list[str]:
    """The commands since the last time, and what they compared."""
    file = folder / "calls"
    lines = file.read_text().splitlines()
    file.unlink()
    return [line if line.startswith("compare ") else line.partition(" ")[0] for line in lines]


def test_the_gate(tmp_path: Path, with_stand_in: dict[str, str]) -> None:
    worse = gate("good", "says-a", tmp_path, with_stand_in)
    assert worse.returncode == 1, worse.stderr
    assert "regression: " in worse.stderr
    assert (tmp_path / "out" / "compare" / "compare.png").is_file()
    assert [call.partition(" ")[0] for call in called(tmp_path)] == ["run", "run", "compare"]
    for run in ("base", "other"):
        assert len(list(tmp_path.glob(f"out/{run}-*/*/results_*.json"))) == 1


FAKE = """#!/bin/sh
echo "$@" >> {folder}/calls
[ $1 = run ] || exit 0
while [ $1 != --output_path ]; do shift; done
mkdir $2/model
touch $2/model/results_1.json
[ ! -e {folder}/broken ]
"""


def test_what_is_done_again(tmp_path: Path, with_stand_in: dict[str, str]) -> None:
    """All but a run with the same arguments that ended well."""
    (tmp_path / "bin" / "eicap").write_text(FAKE.format(folder=tmp_path))
    clock = tmp_path / "bin" / "date"  # a second for every call
    clock.write_text(f"#!/bin/sh\necho x >> {tmp_path}/seconds\nwc -l < {tmp_path}/seconds | tr -d ' '\n")
    clock.chmod(0o755)

    def compared(base: int, other: int) -> str:
        options = " ".join(f"--fail-on-regression {name}" for name in ("tracking", "cause", "appraisal", "response"))
        runs = f"base=out/base-{base} other=out/other-{other}"
        return f"compare {runs} --out out/compare {options} --fail-on-regression overall:2"

    (tmp_path / "broken").touch()
    assert gate("a", "b", tmp_path, with_stand_in).returncode == 1
    assert called(tmp_path) == ["run"]
    (tmp_path / "broken").unlink()
    assert gate("a", "b", tmp_path, with_stand_in).returncode == 0
    assert called(tmp_path) == ["run", "run", compared(2, 3)]  # not base-1, which has a result file, too
    assert gate("a", "b", tmp_path, with_stand_in).returncode == 0
    assert called(tmp_path) == [compared(2, 3)]
    assert gate("a", "c", tmp_path, with_stand_in).returncode == 0
    assert called(tmp_path) == ["run", compared(2, 4)]
    words = ["sh", str(SCRIPT), "pretrained=a", "pretrained=b", "out", "--limit", "9"]
    subprocess.run(words, cwd=tmp_path, env=with_stand_in, check=True)
    assert called(tmp_path) == ["run", "run", compared(5, 6)]
    assert gate("a", "b", tmp_path, with_stand_in).returncode == 0
    assert called(tmp_path) == [compared(2, 3)]
    assert sorted(file.parent.parent.name for file in tmp_path.glob("out/*/*/results_1.json")) == [
        "base-1", "base-2", "base-5", "other-3", "other-4", "other-6",
    ]  # fmt: skip


def test_the_workflow_calls_the_script() -> None:
    workflow = yaml.safe_load((ROOT / "examples" / "regression_gate.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["compare"]["steps"]]
    assert steps[1] == 'pip install "$EICAP_TASKS"'
    assert workflow["env"] == {"EICAP_TASKS": "git+https://github.com/OWNER/eicap-tasks@TAG"}
    assert steps[2].startswith('sh regression_gate.sh "$BASE" "$OTHER" results')
