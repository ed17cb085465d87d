"""Leaderboards: ranks with ties, merging, the same bytes from the same runs; submissions read by the hub's classes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
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
from eicap_tasks.leaderboard import KEPT, Entry, entry, load, merge, rows, save, standings
from eicap_tasks.results import Run
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

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
    assert [row.overall for row in found] == sorted((row.overall or 0.0 for row in found), reverse=True)


def test_the_same_answers_share_every_rank() -> None:
    same = scores(0.5, 3)
    found = standings([entry(made_up(name, same)) for name in "cab"])
    assert [(row.name, row.rank) for row in found] == [("a", (1, 3)), ("b", (1, 3)), ("c", (1, 3))]


def test_rank_intervals_hold_all_true_ranks_in_95_of_100_leaderboards() -> None:
    """Six models in three pairs of equals: their true ranks are 1–2, 3–4 and 5–6, whatever their scores were."""
    kept = 0
    levels = (0.55, 0.55, 0.5, 0.5, 0.45, 0.45)
    for seed in range(100):
        made = [entry(made_up(f"m{i}", scores(level, 1000 * seed + i))) for i, level in enumerate(levels)]
        ranks = {row.name: row.rank for row in standings(made, resamples=300)}
        best, worst = zip(*(ranks[f"m{i}"] or (9, 0) for i in range(6)), strict=True)
        kept += all(best[i] <= 2 * (i // 2) + 1 and worst[i] >= 2 * (i // 2) + 2 for i in range(6))
    assert kept >= 91  # 95 less two standard errors


@pytest.mark.slow
def test_of_twelve_equal_models_few_are_told_apart_with_the_fewest_dialogues() -> None:
    """With 20 dialogues and no correction for so few, one in four such leaderboards tells equals apart."""
    rng = np.random.default_rng(5)
    kept = 0
    for _ in range(200):
        dialogue, taste = rng.normal(0, 0.8, (20, 1, 1)), rng.normal(0, 0.6, (20, 12, 1))
        right = (rng.random((20, 12, 8)) < 1 / (1 + np.exp(-dialogue - taste))).mean(axis=2)
        resampled = right[rng.integers(0, 20, (500, 20))].mean(axis=1).astype(np.float32)
        kept += leaderboard._ranks(right.mean(axis=0), resampled, 20) == [(1, 12)] * 12
    assert kept >= 180  # 95 % less three standard errors; the formula is approximate


def test_a_task_of_few_dialogues_leaves_models_without_a_rank() -> None:
    made = []
    for name, skill in (("a", 0.9), ("b", 0.1)):
        whole = entry(made_up(name, scores(skill, 1)))
        few = dict(list(whole.scores["eicap_cause_ar"].items())[:12])
        made.append(replace(whole, scores={**whole.scores, "eicap_cause_ar": few}))
    found = standings(made)
    assert [row.place for row in found] == ["–", "–"]
    assert found[0].remarks == ("no rank: found 12 dialogues in eicap_cause_ar, expected 20 or more",)


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


def only(whole: Entry, lang: str) -> Entry:
    """Return an entry with the tasks of one language."""
    parts = {
        name: {task: part for task, part in getattr(whole, name).items() if task.endswith(lang)}
        for name in ("dates", "settings", "scores")
    }
    return replace(whole, **parts)  # type: ignore[arg-type]


def test_tasks_run_apart_are_one_entry() -> None:
    both = scores(0.5, 1)
    english = entry(made_up("m", both[:, :1], date=1.0))
    whole = entry(made_up("m", both, date=2.0))
    (joined,) = merge([english], [only(whole, "ar")])
    assert standings([joined])[0].overall == pytest.approx(standings([whole])[0].overall)
    with pytest.raises(EicapError, match="m: found circular tasks alone, expected a run in the format that ranks, too"):
        merge([], [Entry("m", {}, "unknown", {}, {}, {}, {"eicap_cause_en_circular": 0.5})])


def test_the_order_of_merging_changes_nothing() -> None:
    """Of each task the latest run stays, whichever came into the leaderboard first."""
    one, two = scores(0.2, 1), scores(0.8, 2)
    runs = [
        only(entry(made_up("m", made, date=date)), lang)
        for made, date, lang in ((one, 1, "en"), (two, 2, "en"), (one, 3, "ar"))
    ]
    wanted = merge([], runs)
    assert wanted[0].dates["eicap_cause_en"] == 2.0
    assert wanted[0].dates["eicap_cause_ar"] == 3.0
    assert wanted[0].scores["eicap_cause_en"] == runs[1].scores["eicap_cause_en"]
    for first, second, third in itertools.permutations(runs):
        assert merge(merge([first], [second]), [third]) == wanted
        assert merge([first], [second, third]) == wanted


@pytest.mark.parametrize(("count", "place"), [(19, "–"), (20, "1")])
def test_few_dialogues_give_no_ranks(count: int, place: str) -> None:
    found = standings([entry(made_up(name, scores(skill, 1)[:count])) for name, skill in (("a", 0.9), ("b", 0.1))])
    assert (found[0].name, found[0].place) == ("a", place)
    assert leaderboard.remarks(found) == [
        f"{name}: no rank: found 19 dialogues in eicap_appraisal_ar, expected 20 or more" for name in "ab" if count < 20
    ]


def test_one_dialogue_gives_no_interval() -> None:
    (row,) = found = standings([entry(made_up("a", scores(0.5, 1)[:1]))])
    assert (row.interval, row.place) == (None, "–")
    assert leaderboard.rows(found)[0]["95 %"] == "–"
    assert next(csv.DictReader(io.StringIO(leaderboard.as_csv(found))))["low"] == ""
    assert "<td" in leaderboard.as_page(found)


def test_what_was_asked_otherwise_is_refused() -> None:
    one = entry(made_up("one", scores(0.5, 1)))
    other = entry(made_up("two", scores(0.5, 2), signature={"items": "z"}))
    with pytest.raises(EicapError, match="two: eicap_appraisal_ar: items: found z, expected x of one; models of one"):
        merge([one], [other])
    short = entry(made_up("two", scores(0.5, 2)[:70]))
    with pytest.raises(EicapError, match="two: eicap_appraisal_ar: found other probes than those of one"):
        merge([one], [short])


def asked_otherwise(name: str, *, generation: str = "", system: str = "", **signature: str) -> Entry:
    run = made_up(name, scores(0.5, 2), signature={"context": "turns", **signature}, date=1.0)
    tasks = {task: replace(found, generation=generation) for task, found in run.tasks.items()}
    return entry(replace(run, tasks=tasks, settings={"system instruction": system} if system else {}))


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (
            {"generation": '{"temperature": 0.0}'},
            {"generation": '{"temperature": 1.0}'},
            'generation: found {"temperature": 1.0}, expected {"temperature": 0.0} of one',
        ),
        ({}, {"system": "Be kind."}, "system instruction: found Be kind., expected none of one"),
        ({}, {"context": "transcript"}, "context: found transcript, expected turns of one"),
    ],
)
def test_models_that_were_asked_otherwise_are_refused(one: Any, two: Any, message: str) -> None:
    with pytest.raises(EicapError) as error:
        merge([asked_otherwise("one", **one)], [asked_otherwise("two", **two)])
    assert str(error.value) == f"two: eicap_appraisal_ar: {message}; models of one leaderboard are asked the same"


def test_a_chat_template_or_none_is_the_model_s() -> None:
    ways = ({"context": "text", "chat": "none"}, {"chat": "a1"}, {"chat": "b2"})
    made = [asked_otherwise(name, **way) for name, way in zip("abc", ways, strict=True)]
    assert [one.name for one in merge(made[1:], made[:1])] == ["a", "b", "c"]
    with pytest.raises(EicapError, match="d: eicap_appraisal_ar: context: found transcript, expected turns of b"):
        merge(made, [asked_otherwise("d", context="transcript", chat="c3")])


def test_the_tasks_of_a_model_are_all_asked_alike() -> None:
    for english, message in (
        (asked_otherwise("m", context="text", chat="none"), "context: found text, expected turns"),
        (asked_otherwise("m", chat="none"), "chat: found none, expected a1"),
    ):
        with pytest.raises(EicapError) as error:
            merge([only(asked_otherwise("m", chat="a1"), "ar")], [only(english, "en")])
        assert str(error.value) == (
            f"m: eicap_appraisal_en: {message} as in eicap_appraisal_ar; all tasks of a model are asked alike, and "
            "runs that were not have names of their own: NAME=PATH"
        )
    with pytest.raises(EicapError, match="m0: eicap_appraisal_ar_circular: chat: found a1, expected unknown as in"):
        merge([], [circular(entries(0.5)[0], {"chat": "a1"})])


def test_long_paths_that_differ_at_their_end_are_two_models(tmp_path: Path) -> None:
    """A path in the hub's cache, an adapter and a hash of other arguments are longer than a name may be."""
    paths = [f"/cache/{'x' * 300}/base,peft=/{'y' * 300}/{name},args=0" for name in ("one", "two")]
    one, two = (entry(made_up("m", scores(0.5, 1), signature={"model": path})) for path in paths)
    with pytest.raises(EicapError, match=r"found the model .*/two,args=0, expected .*/one,args=0, which has that name"):
        merge([one], [two])
    (tmp_path / "leaderboard.json").write_text(save([one]))
    assert load(tmp_path / "leaderboard.json") == [one]
    with pytest.raises(EicapError, match="found models of 4001 characters in its signatures, expected one model"):
        entry(made_up("m", scores(0.5, 1), signature={"model": "x" * 4001}))


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(EicapError) as error:
        entry(made_up("m", scores(0.5, 1)), "leters")
    allowed = "letters, circular, gen, cf, chain"
    assert str(error.value) == f"--format: found 'leters', allowed: {allowed}; did you mean 'letters'?"


def test_formats_are_not_mixed() -> None:
    letters = entry(made_up("one", scores(0.5, 1)))
    for name in ("one", "two"):
        other = entry(made_up(name, scores(0.5, 2), signature={"format": "gen"}, date=1.0))
        with pytest.raises(EicapError) as error:
            merge([letters], [other])
        assert str(error.value) == (
            f"{name}: format: found gen, expected letters of one; models of one leaderboard are asked the same"
        )
    both = scores(0.5, 1)
    arabic = entry(made_up("two", both[:, 1:], signature={"format": "gen"}))
    english = entry(made_up("one", both[:, :1]))
    with pytest.raises(EicapError, match="two: format: found gen, expected letters of one"):
        merge([], [english, arabic])


def test_the_format_is_said() -> None:
    found = standings([entry(made_up("one", scores(0.5, 1), signature={"format": "gen"}))])
    assert leaderboard.note(found).startswith("Format gen. Mean accuracy")
    assert "Format gen. Mean accuracy" in leaderboard.as_markdown(found)
    assert "Format gen. Mean accuracy" in leaderboard.as_page(found)
    assert leaderboard.as_csv(found).splitlines()[1].startswith("one,gen,1,1,")


def test_two_models_of_one_name_are_refused_and_one_model_run_again_is_not() -> None:
    first, again, other = (
        entry(made_up("run1/checkpoint-100", scores(0.5, seed), signature={"model": model}, date=float(seed)))
        for seed, model in enumerate(("/a/run1/checkpoint-100", "/a/run1/checkpoint-100", "/b/run1/checkpoint-100"))
    )
    assert merge([first], [again]) == [again]
    with pytest.raises(EicapError) as error:
        merge([first], [other])
    assert str(error.value) == (
        "run1/checkpoint-100: found the model /b/run1/checkpoint-100, expected /a/run1/checkpoint-100, which has that "
        "name; give one of them another name: NAME=PATH"
    )
    assert [one.name for one in merge([first], [replace(other, name="b")])] == ["b", "run1/checkpoint-100"]


def circular(one: Entry, changes: dict[str, str] | None = None, tasks: int = 8) -> Entry:
    """Give an entry circular tasks with accuracies of 0.50, 0.51 and so on."""
    parts = {"format": "circular", **(changes or {})}
    added = {f"{task}_circular": {**one.settings[task], **parts} for task in one.settings}
    kept = dict(list(added.items())[:tasks])
    values = {task: 0.5 + i / 100 for i, task in enumerate(kept)}
    return replace(one, settings={**one.settings, **kept}, circular=values)


def test_circular_accuracy_is_the_mean_of_all_tasks_or_left_out_with_a_remark() -> None:
    one, two, three = entries(0.9, 0.5, 0.1)
    found = standings(merge([], [circular(one), circular(two, tasks=4), three]))
    assert [row.circular for row in found] == [pytest.approx(0.5 + 3.5 / 100), None, None]
    remark = "m1: circular accuracy left out: found 4 of 8 tasks"
    assert leaderboard.remarks(found) == [remark]
    assert f"> {remark}\n" in leaderboard.as_markdown(found)
    assert f"<bdi>{remark}</bdi>" in leaderboard.as_page(found)


def test_circular_tasks_are_held_to_the_same_settings() -> None:
    one, two, _ = entries(0.9, 0.5, 0.1)
    with pytest.raises(EicapError) as error:
        merge([circular(one)], [circular(two, {"labels": "arabic"})])
    assert str(error.value) == (
        "m1: eicap_appraisal_ar_circular: labels: found arabic, expected unknown of m0; "
        "models of one leaderboard are asked the same"
    )
    for part in ("version", "items", "docs", "show", "system instruction"):
        with pytest.raises(EicapError) as error:
            merge([], [circular(one, {part: "other"})])
        assert str(error.value) == (
            f"m0: eicap_appraisal_ar_circular: {part}: found other, expected {one.settings['eicap_cause_en'][part]} as "
            "in eicap_appraisal_ar"
        )


def test_a_model_without_all_tasks_has_no_rank_and_comes_last() -> None:
    english = entry(made_up("english", np.ones((80, 1, 4, 1))))
    found = standings([*entries(0.3), english])
    assert leaderboard.remarks(found) == ["english: no rank: found 4 of 8 tasks"]
    assert [(row.name, row.place, row.mean("ar") is None) for row in found] == [
        ("m0", "1", False),
        ("english", "–", True),
    ]
    assert found[1].overall is None
    assert found[1].interval is None
    row = leaderboard.rows(found)[1]
    assert (row["overall"], row["95 %"]) == ("–", "–")
    assert list(csv.DictReader(io.StringIO(leaderboard.as_csv(found))))[1]["overall"] == ""


EVIL = "\u202e\x1b[31m"


def broken(**changes: Any) -> str:
    """A leaderboard of one model, with something of it replaced."""
    one = {
        "name": "m",
        "dates": {"t": changes.get("date", 0)},
        "model": changes.get("model", "m"),
        "circular": changes.get("circular", {}),
        "settings": changes.get("settings", {"t": dict.fromkeys(KEPT, "x")}),
        "scores": changes.get("scores", {"t": [1.0]}),
    }
    probe = changes.get("probe", "p")
    raw = {"schema": 3, "probes": {"t": [probe]}, "dialogues": changes.get("dialogues", {probe: "d"}), "entries": [one]}
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "expected a file that eicap leaderboard wrote"),
        ('{"schema": 2}', "found the schema 2, expected 3; remove it and give all runs again"),
        (json.dumps({"schema": "x" * 300}), r"found the schema 'x{198}…, expected 3; remove it"),
        ('{"schema": 3, "dialogues": {}, "entries": [{}]}', "expected a file that eicap leaderboard wrote"),
        (broken(dialogues={}), "expected a file that eicap leaderboard wrote"),
        (broken(dialogues=[]), "expected a file that eicap leaderboard wrote"),
        (broken(dialogues={"p": "d" * 201}), "an id of 201 characters, allowed: 200"),
        (broken(probe="p" * 201), "an id of 201 characters, allowed: 200"),
        (broken(scores={}), "tasks without scores or settings"),
        (broken(scores={"t": [2.0]}), "score 2.0"),
        (broken(scores={"t": [10**400]}), r"found OverflowError\("),
        (broken(date=10**400), r"found OverflowError\("),
        (broken(date=float("nan")), "date nan"),
        (broken(date=1e300), r"date 1e\+300"),
        (broken(date=-1), "date -1.0"),
        (broken(model="x" * 4001), "model of 4001 characters, allowed: 4000"),
        (broken(settings={"t": dict.fromkeys(KEPT, "x" * 4001)}), "format of 4001 characters, allowed: 4000"),
        (broken(settings={"t": {"format": "letters"}}), r"found KeyError\('version'\)"),
        (
            broken(circular={EVIL: 0.5}, settings=dict.fromkeys(("t", EVIL), dict.fromkeys(KEPT, "x"))),
            r"found ValueError\('the task \\u202e\\x1b\[31m'\)",
        ),
        (broken(circular=0.5), "expected a file that eicap leaderboard wrote"),
        (broken(circular={"c": 2.0}), "score 2.0"),
        (broken(circular={"c": 0.5}), "tasks without scores or settings"),
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


def command(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "eicap_tasks.cli", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **env})


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
        assert sum(one.circular.values()) / 8 == pytest.approx(run.probes["acc_circular"].mean())


def test_the_terminal_table_has_80_columns_and_another_format_changes_nothing(
    folders: list[Path], tmp_path: Path
) -> None:
    name = "a-very-long-organization-name/" + "a-long-model-name-" * 6
    line = ["leaderboard", f"{name}={folders[0]}", folders[1], "--out", "board"]
    out = command(*line, cwd=tmp_path, COLUMNS="80")
    assert out.returncode == 0, out.stderr
    lines = [line for line in out.stdout.splitlines() if not line.startswith("wrote ")]
    assert max(map(len, lines)) <= 80
    (standing,) = [one for one in standings(load(tmp_path / "board" / "leaderboard.json")) if one.name == "org/b"]
    row = rows([standing])[0]
    ranks, parts = [line.split() for line in lines if line.startswith(" org/b ")]
    assert ranks == ["org/b", row["rank"], row["overall"], *row["95 %"].split(), row["circular"]]
    assert parts == ["org/b", *(row[part] for part in (*LAYERS, *LANGUAGES))]
    before = (tmp_path / "board" / "leaderboard.json").read_bytes()
    out = command("leaderboard", folders[1], "--out", "board", "--format", "circular", cwd=tmp_path)
    assert out.returncode == 2
    expected = f"format: found circular, expected letters of {name}; models of one leaderboard are asked the same"
    assert out.stderr == f"org/b: {expected}\n"
    assert (tmp_path / "board" / "leaderboard.json").read_bytes() == before


def test_a_partial_run_is_refused(tmp_path: Path) -> None:
    data = items_file(tmp_path, dialogues(4, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_en"], data=data, limit=2)
    with pytest.raises(EicapError, match=r"found a partial run \(eicap_\w+_en: 2 of 4 probes\), expected all probes"):
        entry(results.one(folder))
    with pytest.raises(EicapError, match=r"found a partial run"):
        submission.files(results.one(folder), "org/m", "eicap/eicap")


def test_a_partial_circular_run_is_refused(tmp_path: Path) -> None:
    data = items_file(tmp_path, dialogues(4, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_cause_en_circular"], data=data, limit=2)
    with pytest.raises(EicapError, match=r"found a partial run \(eicap_cause_en_circular: 2 of 4 probes\)"):
        entry(results.one(folder))


def test_a_submission_is_read_by_the_hub_s_own_classes(folders: list[Path], tmp_path: Path) -> None:
    line = ["submit", folders[0], "--model-id", "org/a", "--out", "sub", "--model-index"]
    assert "found other items than those of this package, expected --dataset-id" in command(*line, cwd=tmp_path).stderr
    out = command(*line, "--dataset-id", "eicap/eicap", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert "hf upload org/a sub/.eval_results .eval_results --create-pr" in out.stdout
    run = results.one(folders[0])
    for name, ending in (("eicap_chat", ""), ("eicap_circular_chat", "_circular")):
        (file,) = (tmp_path / "sub" / ".eval_results").glob(f"{name}_????????.yaml")
        read = parse_eval_result_entries(yaml.safe_load(file.read_text()))
        assert len(read) == 8
        for one in read:
            own = run.probes[run.probes["task"] == f"eicap_{one.task_id}{ending}"]
            assert one.dataset_id == "eicap/eicap"
            assert one.value == pytest.approx(100 * own["acc"].mean(), abs=0.005)
            assert one.notes is not None
            signature = run.tasks[f"eicap_{one.task_id}{ending}"].signature
            for part in ("format", "show", "labels", "prompts", "items"):
                assert f" {part} {signature[part]}" in one.notes
    (file,) = (tmp_path / "sub").glob("model-index_????????.yaml")
    assert f"copy sub/{file.name} into the header of the model card" in out.stdout
    index = yaml.safe_load(file.read_text())
    name, legacy = model_index_to_eval_results(index["model-index"])
    assert (name, len(legacy)) == ("a", 16)
    assert ModelCardData(model_name="a", eval_results=legacy).to_yaml()


def some(run: Run, tasks: Sequence[str]) -> Run:
    """Leave some tasks of a run."""
    kept = {name: run.tasks[name] for name in tasks}
    return replace(run, tasks=kept, probes=run.probes[run.probes["task"].isin(kept)])


def notes_of(found: dict[str, str]) -> list[str]:
    return [one["notes"] for text in found.values() for one in yaml.safe_load(text)]


def test_one_whole_language_is_submitted_and_named_and_less_is_refused(folders: list[Path]) -> None:
    run = results.one(folders[0])
    english = [f"eicap_{layer}_en" for layer in LAYERS]
    whole = submission.files(some(run, [*english, *(f"eicap_{layer}_ar" for layer in LAYERS)]), "org/a", "eicap/eicap")
    assert not any("only" in note for note in notes_of(whole))
    found = submission.files(some(run, english), "org/a", "eicap/eicap")
    assert len(notes_of(found)) == 4
    assert all(note.endswith("; asked in English only, not in Arabic") for note in notes_of(found))
    assert not found.keys() & whole.keys()
    for tasks, missing in (
        (english[:1], "cause, appraisal, response of English in the format letters"),
        ([*english, "eicap_cause_ar"], "tracking, appraisal, response of Arabic in the format letters"),
        ([*english, "eicap_cause_en_circular"], "tracking, appraisal, response of English in the format circular"),
    ):
        with pytest.raises(EicapError) as error:
            submission.files(some(run, tasks), "org/a", "eicap/eicap")
        assert str(error.value) == f"{run.source}: found no {missing}, expected all four layers"


def test_what_differs_has_other_files_and_notes(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "out", noisy(1), ["eicap_gen_en"], data=items_file(tmp_path, dialogues(2, ("en",))),
        arguments={"pretrained": "/x/m", "revision": "step1"}, system="Answer as a friend.",
        options={"labels": "arabic"},
    )  # fmt: skip
    run = results.one(folder)

    def files(changed: Run) -> dict[str, str]:
        return submission.files(changed, "org/m", "org/items", model_index=True)

    def signed(**parts: str) -> Run:
        tasks = {name: replace(task, signature={**task.signature, **parts}) for name, task in run.tasks.items()}
        return replace(run, tasks=tasks)

    model = run.tasks["eicap_cause_en_gen"].signature["model"]
    assert model.startswith("/x/m,args=")
    hot = {name: replace(task, generation='{"temperature": 1.0}') for name, task in run.tasks.items()}
    found = [
        files(one)
        for one in (
            run, replace(run, settings={}), replace(run, tasks=hot), signed(labels="latin"), signed(prompts="0"),
            signed(model="/x/m,args=0"), signed(context="a.b"), signed(context="a-b"),
        )
    ]  # fmt: skip
    assert len({name for one in found for name in one}) == 2 * len(found)
    assert all(name.startswith((".eval_results/eicap_gen_", "model-index_")) for one in found for name in one)
    for changed in (run, signed(model=f"/elsewhere{model}"), signed(lm_eval="0.4.14")):
        assert files(changed).keys() == found[0].keys()
    assert not submission.files(run, "org/m", "org/others", model_index=True).keys() & found[0].keys()
    note = notes_of({name: text for name, text in found[0].items() if "eval_results" in name})[0]
    generation = json.loads(note.partition("gen_kwargs ")[2].partition("}")[0] + "}")
    assert generation["do_sample"] is False
    assert ", labels arabic, " in note
    assert note.endswith(
        "}, system instruction Answer as a friend., revision step1; asked in English only, not in Arabic"
    )


@pytest.mark.parametrize("wrong", ["a", "a/b/c", "../x", "a/..", "a b/c", "-/x", "a/" + "x" * 100])
def test_ids_are_checked(folders: list[Path], wrong: str) -> None:
    with pytest.raises(EicapError, match=r"--model-id: found .*, expected an id of the hub such as Qwen/Qwen2.5-7B"):
        submission.files(results.one(folders[0]), wrong, "eicap/eicap")


def test_scores_without_the_dialogue_are_not_submitted_or_ranked(tmp_path: Path) -> None:
    data = items_file(tmp_path, dialogues(4, ("en",)))
    folder = write_run(tmp_path / "out", noisy(1), ["eicap_en"], data=data, options={"show": "last_turn"})
    wanted = "found a run that showed last_turn, expected one that showed the dialogue"
    with pytest.raises(EicapError, match=wanted):
        submission.files(results.one(folder), "org/m", "eicap/eicap")
    with pytest.raises(EicapError, match=wanted):
        entry(results.one(folder))


def test_rows_are_text() -> None:
    (row,) = rows(standings(entries(0.5)))
    assert list(row)[:4] == ["rank", "model", "overall", "95 %"]
    assert json.dumps(row)
