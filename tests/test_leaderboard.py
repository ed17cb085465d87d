"""Leaderboards: ranks with ties, merging, the same bytes from the same runs; submissions read by the hub's classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from artificial import dialogues
from huggingface_hub import ModelCardData, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results
from runs import items_file, made_up, noisy, write_run

from eicap_tasks import leaderboard, results, submission
from eicap_tasks.errors import EicapError
from eicap_tasks.leaderboard import Entry, entry, load, merge, rows, save, standings

SHAPE = (80, 2, 4, 1)


def scores(level: float, seed: int) -> Any:
    return (np.random.default_rng(seed).random(SHAPE) < level).astype(float)


def entries(*levels: float) -> list[Entry]:
    return [entry(made_up(f"m{i}", scores(level, i))) for i, level in enumerate(levels)]


def test_overall_is_the_mean_of_the_tasks() -> None:
    found = scores(0.6, 1)
    (row,) = standings([entry(made_up("a", found))])
    assert row.overall == pytest.approx(found.mean(axis=(0, 3)).mean())
    assert row.mean("appraisal") == pytest.approx(found[:, :, 2].mean())
    assert row.mean("ar") == pytest.approx(found[:, 1].mean())
    per_dialogue = found.mean(axis=(1, 2, 3))
    half = 1.96 * per_dialogue.std(ddof=1) / np.sqrt(80)
    assert row.interval == pytest.approx((row.overall - half, row.overall + half), abs=0.006)
    assert row.place == "1"


def test_models_that_cannot_be_told_apart_share_ranks() -> None:
    found = standings(entries(0.9, 0.5, 0.5, 0.1))
    assert {row.name: row.place for row in found} == {"m0": "1", "m1": "2–3", "m2": "2–3", "m3": "4"}
    assert [row.overall for row in found] == sorted((row.overall for row in found), reverse=True)


def test_the_same_answers_share_every_rank() -> None:
    same = scores(0.5, 3)
    found = standings([entry(made_up(name, same)) for name in "cab"])
    assert [(row.name, row.rank) for row in found] == [("a", (1, 3)), ("b", (1, 3)), ("c", (1, 3))]


def test_rank_intervals_hold_all_true_ranks_in_95_of_100_leaderboards() -> None:
    """Six models in three pairs of equals: their true ranks are 1–2, 3–4 and 5–6, whatever their scores were."""
    kept = 0
    levels = (0.55, 0.55, 0.5, 0.5, 0.45, 0.45)
    for seed in range(200):
        made = [entry(made_up(f"m{i}", scores(level, 1000 * seed + i))) for i, level in enumerate(levels)]
        ranks = {row.name: row.rank for row in standings(made, resamples=300)}
        best, worst = zip(*(ranks[f"m{i}"] or (9, 0) for i in range(6)), strict=True)
        kept += all(best[i] <= 2 * (i // 2) + 1 and worst[i] >= 2 * (i // 2) + 2 for i in range(6))
    assert kept >= 182  # 95 % of 200 less two standard errors


def test_order_does_not_matter_and_merging_is_loading(tmp_path: Path) -> None:
    made = entries(0.7, 0.4, 0.55)
    text = save(merge([], made))
    assert text == save(merge(made[2:], made[:2][::-1]))
    file = tmp_path / "leaderboard.json"
    file.write_text(text)
    assert load(file) == merge([], made)
    assert standings(load(file)) == standings(made[::-1])


def test_of_two_runs_of_one_name_the_later_stays() -> None:
    early, late = (entry(made_up("m", scores(0.5, seed), date=float(seed))) for seed in (1, 2))
    assert merge([late], [early]) == [late]


def test_tasks_run_apart_are_one_entry() -> None:
    both = scores(0.5, 1)
    english = entry(made_up("m", both[:, :1], date=1.0))
    whole = entry(made_up("m", both, date=2.0))
    settings = {task: parts for task, parts in whole.settings.items() if task.endswith("_ar")}
    arabic = Entry("m", 2.0, settings, {task: whole.scores[task] for task in settings}, whole.dialogues)
    (joined,) = merge([english], [arabic])
    assert standings([joined])[0].overall == pytest.approx(standings([whole])[0].overall)
    with pytest.raises(EicapError, match="m: found circular tasks alone, expected a run in the format that ranks, too"):
        merge([], [Entry("m", 0.0, {}, {}, {}, 0.5)])


def test_what_was_asked_otherwise_is_refused() -> None:
    one = entry(made_up("one", scores(0.5, 1)))
    other = entry(made_up("two", scores(0.5, 2), signature={"items": "z"}))
    with pytest.raises(EicapError, match="two: eicap_appraisal_ar: items: found z, expected x of one; models of one"):
        merge([one], [other])
    short = entry(made_up("two", scores(0.5, 2)[:70]))
    with pytest.raises(EicapError, match="two: eicap_appraisal_ar: found other probes than those of one"):
        merge([one], [short])


def test_a_model_without_all_tasks_has_no_rank_and_comes_last() -> None:
    english = entry(made_up("english", np.ones((80, 1, 4, 1))))
    found = standings([*entries(0.3), english])
    assert [(row.name, row.place, row.mean("ar") is None) for row in found] == [
        ("m0", "1", False),
        ("english", "–", True),
    ]


def broken(**changes: Any) -> str:
    """A leaderboard of one model, with something of it replaced."""
    one = {
        "name": "m",
        "date": 0,
        "circular": None,
        "settings": {"t": {}},
        "scores": changes.get("scores", {"t": [1.0]}),
    }
    raw = {"schema": 1, "probes": {"t": ["p"]}, "dialogues": changes.get("dialogues", {"p": "d"}), "entries": [one]}
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "expected a file that eicap leaderboard wrote"),
        ('{"schema": 2}', "found the schema 2, expected 1"),
        ('{"schema": 1, "entries": [{}]}', "expected a file that eicap leaderboard wrote"),
        (broken(dialogues={}), "expected a file that eicap leaderboard wrote"),
        (broken(dialogues=[]), "expected a file that eicap leaderboard wrote"),
        (broken(scores={}), "tasks without scores or settings"),
        (broken(scores={"t": [2.0]}), "score 2.0"),
    ],
)
def test_a_broken_leaderboard_is_named_and_kept(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "leaderboard.json").write_text(text)
    with pytest.raises(EicapError, match=message):
        load(tmp_path / "leaderboard.json")


def test_hostile_names_are_text() -> None:
    made = [entry(made_up("=cmd()<script>alert(1)</script>", scores(0.5, 1))), entry(made_up("نموذج", scores(0.4, 2)))]
    found = standings(made)
    page, table = leaderboard.as_page(found), leaderboard.as_csv(found)
    assert "<script>alert" not in page
    assert "<bdi>=cmd()&lt;script&gt;alert(1)&lt;/script&gt;</bdi>" in page
    assert "<bdi>نموذج</bdi>" in page
    assert "'=cmd()" in table
    assert "&lt;script&gt;" in leaderboard.as_markdown(found)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    data = items_file(folder, dialogues(10))
    tasks = ["eicap", "eicap_circular"]
    return [
        write_run(folder / name, noisy(seed, 2.0), tasks, data=data, name=f"org/{name}")
        for seed, name in enumerate(("a", "b", "c"))
    ]


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "eicap_tasks.cli", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_merges_and_gives_the_same_bytes(folders: list[Path], tmp_path: Path) -> None:
    assert command("leaderboard", *folders, "--out", "once", cwd=tmp_path).returncode == 0
    for folder in reversed(folders):
        out = command("leaderboard", folder, "--out", "steps", cwd=tmp_path)
        assert out.returncode == 0, out.stderr
    names = {f"leaderboard.{ending}" for ending in ("json", "md", "csv", "html")}
    assert {file.name for file in (tmp_path / "once").iterdir()} == names
    for name in names:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "steps" / name).read_bytes(), name
    board = load(tmp_path / "once" / "leaderboard.json")
    for one, folder in zip(board, folders, strict=True):
        run = results.one(folder).of("circular")
        assert one.circular == pytest.approx(run.probes["acc_circular"].mean())


def test_a_partial_run_is_refused(tmp_path: Path) -> None:
    data = items_file(tmp_path, dialogues(4, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_en"], data=data, limit=2)
    with pytest.raises(EicapError, match=r"found a partial run \(eicap_\w+_en: 2 of 4 probes\), expected all probes"):
        entry(results.one(folder))
    with pytest.raises(EicapError, match=r"found a partial run"):
        submission.files(results.one(folder), "org/m", "eicap/eicap")


def test_a_submission_is_read_by_the_hub_s_own_classes(folders: list[Path], tmp_path: Path) -> None:
    line = ["submit", folders[0], "--model-id", "org/a", "--out", "sub", "--model-index"]
    assert "found other items than those of this package, expected --dataset-id" in command(*line, cwd=tmp_path).stderr
    out = command(*line, "--dataset-id", "eicap/eicap", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert "hf upload org/a sub/.eval_results .eval_results --create-pr" in out.stdout
    run = results.one(folders[0])
    for name, ending in (("eicap_chat", ""), ("eicap_circular_chat", "_circular")):
        read = parse_eval_result_entries(
            yaml.safe_load((tmp_path / "sub" / ".eval_results" / f"{name}.yaml").read_text())
        )
        assert len(read) == 8
        for one in read:
            own = run.probes[run.probes["task"] == f"eicap_{one.task_id}{ending}"]
            assert one.dataset_id == "eicap/eicap"
            assert one.value == pytest.approx(100 * own["acc"].mean(), abs=0.005)
            assert one.notes is not None
            assert f"format {own['format'].iloc[0]}" in one.notes
    index = yaml.safe_load((tmp_path / "sub" / "model-index.yaml").read_text())
    name, legacy = model_index_to_eval_results(index["model-index"])
    assert (name, len(legacy)) == ("a", 16)
    assert ModelCardData(model_name="a", eval_results=legacy).to_yaml()


@pytest.mark.parametrize("wrong", ["a", "a/b/c", "../x", "a/..", "a b/c", "-/x", "a/" + "x" * 100])
def test_ids_are_checked(folders: list[Path], wrong: str) -> None:
    with pytest.raises(EicapError, match=r"--model-id: found .*, expected an id of the hub such as Qwen/Qwen2.5-7B"):
        submission.files(results.one(folders[0]), wrong, "eicap/eicap")


def test_scores_without_the_dialogue_are_not_submitted(tmp_path: Path) -> None:
    data = items_file(tmp_path, dialogues(4, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_en"], data=data, options={"show": "last_turn"})
    with pytest.raises(EicapError, match="found eicap_appraisal_en asked without the dialogue"):
        submission.files(results.one(folder), "org/m", "eicap/eicap")


def test_rows_are_text() -> None:
    (row,) = rows(standings(entries(0.5)))
    assert list(row)[:4] == ["rank", "model", "overall", "95 %"]
    assert json.dumps(row)
