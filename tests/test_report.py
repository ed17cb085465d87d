"""The report: every number against the samples themselves, and pages without foreign markup."""

from __future__ import annotations

import html
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from artificial import dialogues
from runs import items_file, noisy, write_run

from eicap_tasks import report, results
from eicap_tasks.report import Section, calibration_bins, expected_calibration_error
from eicap_tasks.results import Run
from eicap_tasks.vocabulary import LAYERS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    return write_run(made / "out", noisy(4, 1.0), data=items_file(made, dialogues(24)))


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return results.one(folder, documents=True)


@pytest.fixture(scope="module")
def found(run: Run) -> dict[str, Section]:
    return {section.key: section for section in report.sections(run)}


def test_accuracy_by_layer_and_language(run: Run, found: dict[str, Section]) -> None:
    rows = {row["task"]: row for row in found["scores"].rows}
    assert list(rows)[:5] == [
        *(f"{x}, English" for x in ("tracking", "cause", "appraisal", "response")),
        "all, English",
    ]
    own = run.probes.query("layer == 'cause' and lang == 'ar'")["acc"]
    assert rows["cause, Arabic"]["accuracy"] == own.mean()
    assert rows["cause, Arabic"]["probes"] == 24
    t, n = 2.0687, own.mean() * (1 - own.mean()) / (own.var(ddof=1) / 24)  # t(0.975, 23), effective number
    center, reach = own.mean() + t**2 / (2 * n), t * math.sqrt(own.mean() * (1 - own.mean()) / n + t**2 / (4 * n**2))
    expected = ((center - reach) / (1 + t**2 / n), (center + reach) / (1 + t**2 / n))
    assert rows["cause, Arabic"]["95 %"] == pytest.approx(expected, abs=1e-4)
    assert rows["all"]["probes"] == 192


def test_groups_add_up(run: Run, found: dict[str, Section]) -> None:
    for key in report.NAMES:
        rows = found[key].rows
        assert sum(row["probes"] for row in rows) == 192
        assert sum(row["probes"] * row["accuracy"] for row in rows) == pytest.approx(run.probes["acc"].sum())
    assert [row["evidence"] for row in found["reach"].rows] == ["1 or 2 turns before", "3 or 4 turns before"]


def test_the_gap_between_languages_is_paired(run: Run, found: dict[str, Section]) -> None:
    row = found["languages"].rows[-1]
    means = run.probes.groupby("lang")["acc"].mean()
    assert row["difference"] == pytest.approx(means["en"] - means["ar"])
    assert row["pairs"] == 96


def test_traps_by_hand() -> None:
    """Two probes: one wrong answer in the trap 'half_right', one right answer."""
    one = {"trap_0": "", "trap_1": "half_right", "trap_2": "surface_cue", "trap_3": "surface_cue"}
    rows = [
        {**one, "gold": 0, "acc": a, "parsed": 1.0, "dialogue": d, "lang": "en", "layer": "cause", "format": "cf",
         **{f"option_{i}": float(i == chosen) for i in range(4)}, **{f"place_{i}": 0.25 for i in range(4)},
         **{f"p_{i}": math.nan for i in range(4)}, "probe": d, **dict.fromkeys(report.NAMES, "x"), "reach": 1,
         **dict.fromkeys(("acc_circular", "consistency", "acc_bytes", "acc_mutual_info", "brier_score"), math.nan)}
        for a, d, chosen in ((0.0, "d1", 1), (1.0, "d2", 0))
    ]  # fmt: skip
    run = Run("x", Path("x"), 0.0, {}, pd.DataFrame(rows))
    (section,) = [s for s in report.sections(run) if s.key == "traps"]
    by_trap = {row["trap"]: row for row in section.rows}
    assert (by_trap["half_right"]["offered"], by_trap["half_right"]["chosen"]) == (2, 0.5)
    assert by_trap["half_right"]["expected"] == pytest.approx((1 / 3 + 0) / 2)
    assert by_trap["half_right"]["difference"] == pytest.approx(1 / 2 - 1 / 6)
    assert by_trap["surface_cue"]["offered"] == 4
    assert by_trap["surface_cue"]["difference"] == pytest.approx(0 - 1 / 6)


def test_the_chosen_traps_are_those_of_the_samples(run: Run, found: dict[str, Section]) -> None:
    chosen = sum(row["offered"] * row["chosen"] for row in found["traps"].rows)
    assert chosen == pytest.approx((1 - run.probes["acc"]).sum())
    assert sum(row["offered"] for row in found["traps"].rows) == 3 * 192
    assert sum(row["offered"] * row["difference"] for row in found["traps"].rows) == pytest.approx(0.0, abs=1e-9)


def test_calibration_by_hand() -> None:
    top = [0.95, 0.91, 0.65, 0.35]
    rest = [(1 - p) / 3 for p in top]
    probes = pd.DataFrame({"p_0": top, **{f"p_{i}": rest for i in (1, 2, 3)}, "acc": [1.0, 0.0, 1.0, 0.0]})
    found = calibration_bins(probes)
    assert [conf for conf, _, _ in found] == pytest.approx([0.35, 0.65, 0.93])
    assert [(acc, count) for _, acc, count in found] == [(0.0, 1), (1.0, 1), (0.5, 2)]
    assert expected_calibration_error(probes) == pytest.approx((0.35 + 0.35 + 2 * 0.43) / 4)


def test_position_bias(run: Run, found: dict[str, Section]) -> None:
    rows = found["places"].rows
    assert sum(row["chosen"] for row in rows) == pytest.approx(1.0)
    assert [row["right option there"] for row in rows] == [0.25] * 4


def test_generated_answers_have_their_parse_rate(tmp_path: Path) -> None:
    made = items_file(tmp_path, dialogues(8, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_gen_en"], data=made,
                       write=lambda doc: "B" if doc["layer"] == "cause" else "no idea")  # fmt: skip
    run = results.one(folder)
    rows = {row["metric"]: row for row in next(s for s in report.sections(run) if s.key == "metrics").rows}
    assert rows["answers that could be read"]["value"] == 8 / 32
    own = run.probes[run.probes["layer"] == "cause"]
    assert rows["accuracy among those"]["value"] == np.mean(own["gold"] == 1)


def test_a_chain_has_its_whole_dialogue_and_accuracy_by_place(tmp_path: Path) -> None:
    made = dialogues(6, ("en",))
    folder = write_run(tmp_path / "out", noisy(3), ["eicap_chain_en"], data=items_file(tmp_path, made))
    run = results.one(folder, documents=True)
    probes = {probe.id: (d, probe) for d in made for probe in d.probes}
    for (_, probe_id), doc in run.documents.items():
        d, probe = probes[probe_id]
        assert doc["setting"] == d.setting
        assert [turn["text"] for turn in doc["turns"]] == [turn.text for turn in d.turns[: probe.after_turn]]
    layers = list(LAYERS)
    for _, row in run.probes.iterrows():  # probes stand in the order of their turns, then of the layers
        own = sorted(probes[row["probe"]][0].probes, key=lambda probe: (probe.after_turn, layers.index(probe.layer)))
        assert [probe.id for probe in own].index(row["probe"]) == row["link"] - 1
    sections = report.sections(run)
    (section,) = [s for s in sections if s.key == "link"]
    assert section.title == "By place in the chain"
    assert [row["place"] for row in section.rows] == ["1", "2", "3", "4"]
    (file,) = folder.rglob("results_*.json")
    raw = json.loads(file.read_text())["results"]
    for place in section.rows:
        assert place["probes"] == 6
        counts = run.probes[run.probes["link"] == int(place["place"])].groupby("task").size()
        pooled = sum(raw[str(task)][f"acc_{place['place']},none"] * n for task, n in counts.items()) / 6
        assert place["accuracy"] == pytest.approx(pooled)
    page = report.as_page(run, sections)
    assert page.count(made[0].turns[0].text) == 4  # in each of the four probes of the first dialogue
    assert page.count(made[0].setting) == 4


def test_other_formats_have_no_places_in_a_chain(run: Run, found: dict[str, Section]) -> None:
    assert set(run.probes["link"]) == {1}
    assert "link" not in found


def test_candidates_of_the_cloze_form_have_no_places(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "out", noisy(3), ["eicap_cause_en_cf"], data=items_file(tmp_path, dialogues(6, ("en",)))
    )
    keys = [section.key for section in report.sections(results.one(folder))]
    assert "traps" in keys
    assert "places" not in keys


def test_the_signatures_are_in_every_form(run: Run, found: dict[str, Section]) -> None:
    sections = list(found.values())
    assert len(run.signatures) == 8
    assert run.signatures[0].startswith("task:eicap_appraisal_ar|version:")
    lines = report.as_markdown(run, sections).splitlines()
    assert lines[lines.index("## Signatures") + 2 :] == [f"    {signature}" for signature in run.signatures]
    raw = json.loads(report.as_json(run, sections))["signatures"]
    assert sorted("|".join(f"{k}:{v}" for k, v in parts.items()) for parts in raw.values()) == run.signatures
    page = html.unescape(report.as_page(run, sections))
    assert all(f"<code>{signature}</code>" in page for signature in run.signatures)


def test_notes_name_what_is_not_whole(tmp_path: Path) -> None:
    made = items_file(tmp_path, dialogues(6, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_cause_en"], data=made, limit=2, options={"show": "choices"})
    assert report.notes(results.one(folder)) == [
        "partial: eicap_cause_en: 2 of 6 probes",
        "the model did not see the dialogue, but choices: no measure of EI",
        "not in this run: tracking_en, appraisal_en, response_en, tracking_ar, cause_ar, appraisal_ar, response_ar",
    ]


def test_the_page_escapes_what_a_stranger_wrote(run: Run) -> None:
    key, first = next(iter(run.documents.items()))
    doc = dict(first)
    doc["question"] = "<script>alert(1)</script>"
    doc["options"] = ["<img src=x onerror=alert(2)>", "b", "c", "d"]
    doc["turns"] = [{"name": "<b>", "role": "user", "text": "{{ 7*7 }}</div>"}]
    evil = Run("<script>alert(3)</script>", run.source, 0.0, run.tasks, run.probes, {key: doc})
    page = report.as_page(evil, report.sections(evil))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "{{ 7*7 }}&lt;/div&gt;" in page
    assert "&lt;script&gt;alert(3)&lt;/script&gt;" in report.as_markdown(evil, report.sections(evil))


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", "report", str(folder), "--out", "r"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"COLUMNS": "80", "PATH": ""},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert max(len(line) for line in out.stdout.splitlines()[1:]) <= 80
    raw = json.loads((tmp_path / "r" / "report.json").read_text())
    assert raw["model"] == "org/model"
    assert len(raw["sections"]["scores"]) == 11
    assert (tmp_path / "r" / "report.html").read_text(encoding="utf-8").count("<details data-entry") == 192
    csv = (tmp_path / "r" / "report.csv").read_text()
    assert csv.splitlines()[0] == "section,group,column,value,low,high"
    markdown = (tmp_path / "r" / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith(
        "# org/model\n\n192 probes of 24 dialogues, format letters. The items are this project's own."
    )


def test_a_format_that_the_run_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", "report", str(folder), "--format", "gen"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (out.returncode, out.stderr) == (2, "--format: found 'gen', allowed in this run: letters\n")
