"""The scripts under examples/ run; the whole benchmark is `make bench`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from models import ScriptedModel, always_a

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import benchmark  # noqa: E402
import measure  # noqa: E402


def test_the_benchmark_compares_equal_requests(capsys: pytest.CaptureFixture[str]) -> None:
    """`building` ends the process where lm-eval's stock path builds other requests than ours."""
    benchmark.building(runs=1)
    row = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"\| building all requests, \d+ probes \| [\d.]+ s \| [\d.]+ s \| [\d.]+ \|", row)


def test_the_median_of_paired_differences() -> None:
    first, second = iter([9.0, 1.0, 2.0, 3.0]), iter([9.0, 1.0, 1.0, 1.0])
    assert benchmark.alternate(lambda: next(first), lambda: next(second), runs=3) == (2.0, 1.0, 1.0)


def test_a_measured_model_is_named_in_the_signatures() -> None:
    row = measure.measure(ScriptedModel(always_a), "Some-Model, chat", "eicap_en", chat=True, limit=1)
    assert len(row["signatures"]) == 4
    assert all("|model:Some-Model, chat|" in signature for signature in row["signatures"])
    assert (row["probes"], row["letters"]) == (4, "A 100% B 0% C 0% D 0%")


def test_the_table_of_small_models() -> None:
    row = {"model": "m", "task": "eicap_en", "probes": 24, "acc": 0.25, "acc_stderr": 0.031, "brier_score": 0.754,
           "letters": "A 100%"}  # fmt: skip
    assert measure.line(row) == "| m | `eicap_en` | 24 | 0.25 ± 0.03 | `brier_score` 0.75, letters A 100% |"
    one = {"model": "m", "task": "eicap_gen_ar", "probes": 4, "acc": 0.0, "acc_stderr": "N/A", "parse_rate": 0.0,
           "acc_parsed": float("nan")}  # fmt: skip
    assert measure.line(one) == "| m | `eicap_gen_ar` | 4 | 0.00 ± N/A | `parse_rate` 0.00, `acc_parsed` nan |"
