"""The scripts under examples/ run; the whole benchmark is `make bench`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import benchmark  # noqa: E402
import picture  # noqa: E402


def test_a_picture_is_drawn_from_what_lm_eval_writes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "readme_command.py"), "eicap", "run", "--model", "hf"]
    command += ["--model_args", "pretrained=my/model", "--tasks", "eicap", "--limit", "3", "--output_path", "results"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    picture.main(tmp_path / "results", tmp_path / "out.svg")
    svg = (tmp_path / "out.svg").read_text(encoding="utf-8")
    shown = re.sub(r"<[^>]+>", "", svg).replace("&#160;", " ")
    assert shown.count("1.000 ± 0.000") == 10  # four layers and all four, in two languages
    assert "zero-shot" in shown
    assert "@font-face" not in svg


def test_a_picture_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"found no results_\*\.json"):
        picture.main(tmp_path, tmp_path / "out.svg")


def test_the_benchmark_compares_equal_requests(capsys: pytest.CaptureFixture[str]) -> None:
    """`building` ends the process where lm-eval's stock path builds other requests than ours."""
    benchmark.building()
    row = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"\| building all requests, \d+ probes \| [\d.]+ s \| [\d.]+ s \| [\d.]+ \|", row)


def test_the_median_of_paired_differences() -> None:
    first, second = iter([9.0, 1.0, 2.0, 3.0]), iter([9.0, 1.0, 1.0, 1.0])
    assert benchmark.alternate(lambda: next(first), lambda: next(second), runs=3) == (2.0, 1.0, 1.0)
