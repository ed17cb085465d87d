"""Comparisons: numbers by hand and by other tools, error rates by simulation, edges, and what the command prints."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artificial import dialogues
from rich.console import Console
from runs import items_file, made_up, noisy, write_run
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from eicap_tasks import comparison, results, results_cli, statistics, tables
from eicap_tasks.comparison import compare, regressions
from eicap_tasks.errors import EicapError

SHAPE = (100, 2, 4, 1)  # dialogues, languages, layers, probes


def draw(rng: np.random.Generator, effect: float = 0.0, shape: tuple[int, ...] = SHAPE) -> tuple[Any, Any]:
    """Draw two checkpoints: dialogues and probes differ in difficulty, both languages of a probe are alike."""
    dialogue = rng.normal(0, 0.8, (shape[0], 1, 1, 1))
    probe = rng.normal(0, 0.8, (shape[0], 1, *shape[2:]))
    ease = 0.3 + dialogue + probe
    drift = rng.normal(0, 0.5, (shape[0], 1, 1, 1))  # what training does to all probes of a dialogue
    right = [rng.random(shape) < 1 / (1 + np.exp(-(ease + e))) for e in (np.zeros(1), drift + effect)]
    return right[0].astype(float), right[1].astype(float)


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return draw(np.random.default_rng(5), 0.7)


def test_the_numbers_are_those_of_other_tools(pair: tuple[Any, Any]) -> None:
    base, other = pair
    found = compare(made_up("a", base), [made_up("b", other)])
    rows = {row.group: row for row in found.rows}
    assert list(rows) == [
        *("tracking", "cause", "appraisal", "response"),
        *(f"{name} emotions" for name in ("foundational", "dimensional", "appraisal", "value", "social")),
        "overall",
    ]
    row = rows["appraisal"]
    one, two = base[:, :, 2, :].ravel(), other[:, :, 2, :].ravel()
    assert (row.base, row.score) == (one.mean(), two.mean())
    assert row.difference == pytest.approx(two.mean() - one.mean())
    assert (row.probes, row.dialogues, row.tests) == (200, 100, 4)
    table = [[((one == b) & (two == o)).sum() for o in (1, 0)] for b in (1, 0)]
    assert row.mcnemar_p == pytest.approx(mcnemar(table, exact=True).pvalue)
    layers = [rows[name] for name in ("tracking", "cause", "appraisal", "response")]
    assert [r.holm_p for r in layers] == pytest.approx(multipletests([r.p for r in layers], method="holm")[1])
    per_dialogue = (other - base)[:, :, 2, :].mean(axis=(1, 2))
    boot = stats.bootstrap(
        (per_dialogue,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    )
    assert row.interval == pytest.approx(tuple(boot.confidence_interval), abs=0.006)
    test = stats.permutation_test(
        (per_dialogue, np.zeros_like(per_dialogue)), lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples", vectorized=True, n_resamples=20_000, rng=np.random.default_rng(2),
    )  # fmt: skip
    assert row.p == pytest.approx(test.pvalue, abs=0.01)


def test_the_smallest_detectable_effect_is_bloom_s(pair: tuple[Any, Any]) -> None:
    base, other = pair
    row = next(r for r in compare(made_up("a", base), [made_up("b", other)]).rows if r.group == "cause")
    per_dialogue = (other - base)[:, :, 1, :].mean(axis=(1, 2))
    se = per_dialogue.std(ddof=1) / np.sqrt(100)
    assert row.detectable == pytest.approx((stats.t.ppf(1 - 0.05 / 4 / 2, 99) + stats.t.ppf(0.8, 99)) * se)


def test_the_same_input_gives_the_same_numbers(pair: tuple[Any, Any]) -> None:
    runs = made_up("a", pair[0]), made_up("b", pair[1])
    assert compare(runs[0], [runs[1]]) == compare(runs[0], [runs[1]])


def test_with_one_probe_to_a_dialogue_the_test_is_mcnemar_s() -> None:
    rng = np.random.default_rng(3)
    base, other = ((rng.random(80) < p).astype(float) for p in (0.4, 0.6))
    clusters = np.arange(80)
    p = statistics.sign_flip_p((other - base)[:, None], clusters, 40_000)[0]
    assert p == pytest.approx(statistics.mcnemar_p(base, other), abs=0.005)


@pytest.mark.slow
def test_error_rates_over_two_thousand_pairs_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pairs without a difference 5 % (3.5 to 6.5) have a significant layer; 95 % (93 to 97) of intervals hold it."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels collects garbage in every correction: 0.1 s
    rng = np.random.default_rng(11)
    false, held, runs = 0, [], 2000
    base_frame = made_up("a", np.zeros((200, 2, 4, 1)))
    other_frame = made_up("b", np.zeros((200, 2, 4, 1)))
    for _ in range(runs):
        base, other = draw(rng, shape=(200, 2, 4, 1))
        base_frame.probes["acc"], other_frame.probes["acc"] = base.ravel(), other.ravel()
        found = compare(base_frame, [other_frame], families=("layers",), resamples=400)
        false += any(row.significant for row in found.rows if row.family == "layers")
        low, high = found.rows[-1].interval or (1.0, -1.0)
        held.append(low <= 0 <= high)
    assert 0.035 <= false / runs <= 0.065
    assert 0.93 <= sum(held) / runs <= 0.97


def test_identical_runs_have_exactly_no_difference(pair: tuple[Any, Any]) -> None:
    run = made_up("a", pair[0])
    for row in compare(run, [made_up("b", pair[0])]).rows:
        assert (row.difference, row.interval, row.p, row.mcnemar_p, row.holm_p) == (0.0, None, 1.0, 1.0, 1.0)
        assert row.detectable is None
        assert row.sentence == f"{row.group}: no difference at all, {row.probes} probes scored the same"


@pytest.mark.parametrize(
    ("base", "other", "difference"),
    [
        (np.zeros(SHAPE), np.ones(SHAPE), 1.0),
        (np.ones(SHAPE), np.ones(SHAPE), 0.0),
        (np.ones(SHAPE), np.zeros(SHAPE), -1.0),
    ],
)
def test_all_right_and_all_wrong(base: Any, other: Any, difference: float) -> None:
    rows = compare(made_up("a", base), [made_up("b", other)]).rows
    assert {row.difference for row in rows} == {difference}
    assert {row.interval for row in rows} == {None}
    if difference:
        assert rows[0].sentence == f"tracking: {100 * difference:+.1f} points –, significant after correction"
    assert all(row.significant == (difference != 0) for row in rows)


def test_one_dialogue_says_nothing_but_its_own_scores() -> None:
    base, other = np.zeros((1, 1, 4, 3)), np.zeros((1, 1, 4, 3))
    other[0, 0, 0, :2] = 1.0
    row = compare(made_up("a", base), [made_up("b", other)]).rows[0]
    assert row.difference == pytest.approx(2 / 3)
    assert (row.p, row.detectable, row.significant, row.interval) == (1.0, None, False, None)
    assert row.sentence == "tracking: +66.7 points; too few dialogues to say more"


def test_the_sentences() -> None:
    fields: dict[str, Any] = {
        "other": "b", "family": "layers", "probes": 400, "dialogues": 200, "base": 0.5, "score": 0.561, "p": 0.001,
        "mcnemar_p": 0.002, "tests": 4, "same": False, "se": 0.0202,
    }  # fmt: skip
    up = comparison.Difference(**fields, group="appraisal", difference=0.061, interval=(0.02, 0.102), holm_p=0.004)
    assert up.sentence == "appraisal: +6.1 points [+2.0, +10.2], significant after correction"
    flat = comparison.Difference(
        **{**fields, "p": 0.4}, group="tracking", difference=0.01, interval=(-0.03, 0.05), holm_p=0.8
    )
    assert (
        flat.sentence == "tracking: no significant difference; effects below 7 points could not have been seen reliably"
    )
    lucky = comparison.Difference(
        **{**fields, "p": 0.03}, group="cause", difference=0.04, interval=(0, 0.08), holm_p=0.09
    )
    assert lucky.sentence == (
        "cause: no significant difference (p 0.030 before correction); "
        "effects below 7 points could not have been seen reliably"
    )

    tiny = comparison.Difference(
        **{**fields, "se": 0.001}, group="response", difference=0.001, interval=(0, 0.002), holm_p=0.9
    )
    assert tiny.sentence.endswith("; effects below 0.3 points could not have been seen reliably")
    vast = comparison.Difference(
        **{**fields, "dialogues": 8, "se": 0.5}, group="response", difference=0.1, interval=(-0.9, 1), holm_p=0.9
    )
    assert vast.sentence == "response: +10.0 points; too few dialogues to say more"


@pytest.mark.parametrize(("dialogues", "enough"), [(7, False), (8, True)])
def test_with_few_dialogues_nothing_can_be_significant(dialogues: int, enough: bool) -> None:
    """Four tests: 2^-7 * 4 is below 0.05, 2^-6 * 4 is not."""
    before = np.ones((dialogues, 1, 4, 6))
    after = before.copy()
    after[:, :, :, :1] = 0.0
    after[0, :, :, 1] = 0.0  # so that something varies
    found = compare(made_up("a", before), [made_up("b", after)], families=("layers",))
    row = found.rows[0]
    assert (row.tests, row.dialogues_needed, row.significant) == (4, 8, enough)
    assert (row.detectable is not None) == enough
    if enough:
        assert comparison.regressions(found, ["tracking"]) == ["b: tracking fell by 18.8 points"]
    else:
        assert row.sentence == "tracking: -19.0 points; too few dialogues to say more"
        with pytest.raises(EicapError) as error:
            comparison.regressions(found, ["tracking"])
        assert str(error.value) == (
            "--fail-on-regression tracking: found 7 dialogues, expected 8 or more: with fewer no fall can be "
            "significant after correction; tracking:POINTS asks for no significance"
        )
    assert comparison.regressions(found, ["tracking:5"]) != []


def test_so_few_resamples_that_nothing_can_be_significant_are_refused(pair: tuple[Any, Any]) -> None:
    base, other = made_up("a", pair[0]), made_up("b", pair[1])
    assert len(compare(base, [other], resamples=100).rows) == 10
    with pytest.raises(EicapError) as error:
        compare(base, [other], resamples=99)
    assert str(error.value) == (
        "--resamples: found 99, expected at least 100: with fewer none of the 5 tests can be significant"
    )


def test_the_correction_covers_all_runs_of_a_family(pair: tuple[Any, Any]) -> None:
    base, other = pair
    third = draw(np.random.default_rng(6), -0.5)[1]
    found = compare(made_up("a", base), [made_up("b", other), made_up("c", third)], families=("languages",))
    own = [row for row in found.rows if row.family == "languages"]
    assert len(own) == 16
    assert {row.tests for row in own} == {16}
    assert [row.holm_p for row in own] == pytest.approx(statistics.holm([row.p for row in own]))
    alone = compare(made_up("a", base), [made_up("b", other)], families=("languages",)).rows[0]
    assert alone.detectable is not None
    assert own[0].detectable is not None
    assert own[0].detectable > alone.detectable  # sixteen tests instead of eight


def test_what_differs_is_named_and_refused(pair: tuple[Any, Any]) -> None:
    base = made_up("before", pair[0])
    other = made_up("after", pair[1], signature={"items": "z", "model": "m", "eicap": "2"})
    with pytest.raises(EicapError) as error:
        compare(base, [other])
    lines = str(error.value).splitlines()
    assert lines[0] == "before and after are not comparable:"
    assert lines[1] == "  eicap_appraisal_ar: items: found x and z, expected the same"
    assert lines[-1] == "--force compares"
    assert len(lines) == 10
    found = compare(base, [other], force=True)
    assert found.notes[0] == "forced:   eicap_appraisal_ar: items: found x and z, expected the same"
    assert found.notes[-1] == "versions of eicap differ: 2, unknown"


def test_a_missing_task_is_named(pair: tuple[Any, Any]) -> None:
    english = made_up("en", pair[0][:, :1])
    with pytest.raises(EicapError, match=r"eicap_cause_ar: found in before only, expected in both"):
        compare(made_up("before", pair[0]), [english])
    assert compare(english, [english]).rows[0].probes == 100


def test_a_group_without_a_probe_is_left_out_and_a_family_without_one_is_refused(pair: tuple[Any, Any]) -> None:
    base, other = made_up("a", pair[0]), made_up("b", pair[1])
    kept = base.probes["emotion_layer"] != "value"
    for run in (base, other):
        object.__setattr__(run, "probes", run.probes[kept])
    rows = [row for row in compare(base, [other], resamples=200).rows if row.family == "emotion-layers"]
    assert [row.group for row in rows] == [
        "foundational emotions", "dimensional emotions", "appraisal emotions", "social emotions"
    ]  # fmt: skip
    assert {row.tests for row in rows} == {4}
    base.probes["emotion_layer"] = "unknown"
    with pytest.raises(EicapError) as error:
        compare(base, [other])
    assert str(error.value) == (
        "--family emotion-layers: found no probe in any of its groups, expected some in foundational emotions, "
        "dimensional emotions, appraisal emotions, value emotions, social emotions"
    )
    assert [row.group for row in compare(base, [other], families=("layers",), resamples=200).rows][-1] == "overall"


def test_the_table_of_several_runs_has_80_columns(pair: tuple[Any, Any]) -> None:
    names = ["org/b", "a-very-long-organization-name/" + "x" * 60]
    found = compare(made_up("a", pair[0]), [made_up(name, pair[1]) for name in names], resamples=200)
    console = Console(width=80, file=io.StringIO())
    for table in comparison.tables_of(found):
        console.print(tables.terminal(table.rows, table.title))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for row in found.rows:
        assert f"{tables.percent(row.base)} {tables.percent(row.score)} {tables.points(row.difference)}" in flat


def test_missing_probes_are_named(pair: tuple[Any, Any]) -> None:
    short = made_up("short", pair[0][:99])
    with pytest.raises(EicapError, match=r"found 1 probes in one run only \(d00099-2-0\), expected the same probes"):
        compare(made_up("before", pair[0]), [short])


def test_runs_that_cannot_be_told_apart_are_refused(pair: tuple[Any, Any]) -> None:
    base, other = made_up("a", pair[0]), made_up("b", pair[1])
    with pytest.raises(EicapError, match=r"^found 2 runs of the name b to compare, expected NAME=PATH"):
        compare(base, [other, other])


def test_lines_name_the_run_where_there_are_several(pair: tuple[Any, Any]) -> None:
    base, other = made_up("a", pair[0]), made_up("b", pair[0])
    alone = "tracking: no difference at all, 200 probes scored the same"
    assert comparison.lines(compare(base, [other]))[0] == alone
    assert comparison.lines(compare(base, [other, made_up("c", pair[0])]))[0] == f"b: {alone}"


def test_runs_without_the_dialogue_come_with_a_note(pair: tuple[Any, Any]) -> None:
    blind = [made_up(name, scores, signature={"show": "choices"}) for name, scores in zip("ab", pair, strict=True)]
    assert compare(blind[0], blind[1:]).notes == ("the models did not see the dialogue, but choices: no measure of EI",)


def test_unknown_names_are_refused(pair: tuple[Any, Any]) -> None:
    run = made_up("a", pair[0])
    with pytest.raises(EicapError, match=r"--family: found 'layer', allowed: layers, .*; did you mean 'layers'"):
        compare(run, [run], families=["layer"])
    with pytest.raises(EicapError, match="found no gen format in all runs"):
        compare(run, [run], format="gen")
    with pytest.raises(EicapError, match="--metric: found no acc_circular in these tasks, allowed: acc"):
        compare(run, [run], metric="acc_circular")
    with pytest.raises(EicapError, match="--metric: found 'gold', allowed: acc, acc_circular"):
        compare(run, [run], metric="gold")
    with pytest.raises(EicapError, match="found one run, expected a base and one or more"):
        compare(run, [])


def test_regressions(pair: tuple[Any, Any]) -> None:
    found = compare(made_up("a", pair[1]), [made_up("b", pair[0])])
    fall = {row.group: -100 * row.difference for row in found.rows}
    assert all(row.significant for row in found.rows if row.group == "overall")
    assert regressions(found, ["overall"]) == [f"b: overall fell by {fall['overall']:.1f} points"]
    assert regressions(found, [f"overall:{fall['overall'] + 0.1}"]) == []
    assert regressions(found, [f"cause:{fall['cause'] - 0.1}"]) == [f"b: cause fell by {fall['cause']:.1f} points"]
    with pytest.raises(EicapError, match=r"found 'apraisal', allowed: .*; did you mean 'appraisal'"):
        regressions(found, ["apraisal"])
    for wrong in ("cause:x", "cause:nan", "cause:-1"):
        with pytest.raises(EicapError, match=f"found '{wrong}', expected GROUP or GROUP:POINTS"):
            regressions(found, [wrong])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    data = items_file(folder, dialogues(20))
    return write_run(folder / "a", noisy(1, 0.2), data=data), write_run(folder / "b", noisy(1, 3.0), data=data)


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", *words],
        cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip


def test_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = folders
    out = command("compare", f"before={before}", f"after={after}", "--out", "diff", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    lines = [line for line in out.stdout.splitlines() if not line.startswith("wrote ")]
    assert len(lines) > 30
    assert max(map(len, lines)) <= 80
    assert "the four layers, all languages together (Holm over 4 tests)" in out.stdout
    assert {file.name for file in (tmp_path / "diff").iterdir()} == {
        f"compare.{ending}" for ending in ("md", "csv", "json", "png", "svg")
    }
    found = json.loads((tmp_path / "diff" / "compare.json").read_text())
    rows = list(csv.DictReader((tmp_path / "diff" / "compare.csv").open()))
    assert [row["group"] for row in rows] == [row["group"] for row in found["rows"]]
    assert (tmp_path / "diff" / "compare.png").read_bytes().startswith(b"\x89PNG")
    one, two = results.load([before, after])
    expected = float(two.probes["acc"].mean() - one.probes["acc"].mean())
    assert found["rows"][-1]["difference"] == pytest.approx(expected)
    for row in found["rows"]:  # no number is folded
        whole = [tables.percent(row["base"]), tables.percent(row["score"]), tables.points(row["difference"])]
        assert any(" ".join(whole) in " ".join(line.split()) for line in lines), row["group"]
    assert found["signatures"] == {"before": one.signatures, "after": two.signatures}
    markdown = (tmp_path / "diff" / "compare.md").read_text()
    signed = markdown.split("## Signatures\n\n")[1]
    assert signed == "\n".join(
        f"{name}:\n\n{''.join(f'    {line}' + chr(10) for line in run.signatures)}"
        for name, run in (("before", one), ("after", two))
    )
    again = command("compare", f"before={before}", f"after={after}", "--out", "again", cwd=tmp_path)
    assert again.returncode == 0
    for file in (tmp_path / "diff").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_the_base_is_one_run(folders: tuple[Path, Path]) -> None:
    both = folders[0].parent
    with pytest.raises(EicapError) as error:
        results_cli.compare(str(both), [str(folders[1])])
    assert str(error.value).startswith(f"{both}: found 2 runs (")


def test_the_command_fails_on_a_regression(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = folders
    out = command("compare", str(after), str(before), "--fail-on-regression", "overall", cwd=tmp_path)
    assert out.returncode == 1
    assert out.stderr.startswith("regression: org/model")
    out = command("compare", str(before), str(after), "--fail-on-regression", "overall:1", cwd=tmp_path)
    assert (out.returncode, out.stderr) == (0, "")


def test_markdown_and_csv_carry_no_markup_or_formula() -> None:
    rows = [{"name": "=1+1|<script>", "other": "*a*"}]
    assert tables.markdown(rows).splitlines()[2] == "| =1+1\\|&lt;script&gt; | \\*a\\* |"
    assert tables.as_csv(rows) == "name,other\r\n'=1+1|<script>,*a*\r\n"
