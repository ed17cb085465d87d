"""Result files are read as lm-eval writes them; what is broken, partial or hostile is named, not averaged in."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artificial import dialogues
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.loggers import EvaluationTracker
from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
from runs import items_file, noisy, write_run

from eicap_tasks import results
from eicap_tasks.errors import EicapError, explain


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run over twelve artificial dialogues in both languages."""
    folder = tmp_path_factory.mktemp("run")
    return write_run(folder / "out", noisy(1), data=items_file(folder, dialogues(12)))


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path / "copy")
    return tmp_path / "copy"


def result_file(folder: Path) -> Path:
    (file,) = folder.rglob("results_*.json")
    return file


def sample_file(folder: Path, task: str = "eicap_cause_en") -> Path:
    (file,) = folder.rglob(f"samples_{task}_2*.jsonl")
    return file


def test_a_run_says_what_lm_eval_says(run_folder: Path) -> None:
    run = results.one(run_folder)
    raw = json.loads(result_file(run_folder).read_text())
    assert run.name == "org/model"
    assert run.formats == ["letters"]
    assert run.partial == []
    assert len(run.probes) == 12 * 4 * 2
    for name, own in run.probes.groupby("task"):
        assert own["acc"].mean() == pytest.approx(raw["results"][name]["acc,none"])
        assert own["brier_score"].mean() == pytest.approx(raw["results"][name]["brier_score,none"])
    row = run.probes.iloc[0]
    sample = json.loads(sample_file(run_folder, row["task"]).read_text().splitlines()[0])
    assert (row["probe"], row["dialogue"], row["gold"]) == ("d000-2", "d000", sample["doc"]["gold"])
    assert row["culture"] == "Gulf"
    assert row["reach"] == 4
    likelihoods = [float(pair[0]) for pair in sample["filtered_resps"]]
    assert row[f"option_{likelihoods.index(max(likelihoods))}"] == 1.0
    assert sum(row[f"p_{i}"] for i in range(4)) == pytest.approx(1.0)
    assert dict(run.tasks["eicap_cause_en"].signature)["format"] == "letters"


def test_each_format_is_read(tmp_path: Path) -> None:
    tasks = [f"eicap_cause_en{ending}" for ending in ("_circular", "_gen", "_cf", "_chain")]
    data = items_file(tmp_path, dialogues(6, ("en",)))
    run = results.one(
        write_run(tmp_path / "out", noisy(2), tasks, data=data, write=lambda doc: "B" if doc["gold"] else "?")
    )
    assert run.formats == ["circular", "gen", "cf", "chain"]
    raw = json.loads(result_file(tmp_path / "out").read_text())["results"]
    for form, task in zip(run.formats, tasks, strict=True):
        own = run.of(form).probes
        key = "acc,read" if form == "gen" else "acc,none"
        assert own["acc"].mean() == pytest.approx(raw[task][key])
    rotated = run.of("circular").probes
    bias = sum(abs(rotated[f"place_{i}"].mean() - 1 / 4) for i in range(4)) / 2
    assert bias == pytest.approx(raw["eicap_cause_en_circular"]["position_bias,none"])
    right = [row[f"option_{int(row['gold'])}"] for _, row in rotated.iterrows()]
    assert right == pytest.approx(list(rotated["acc"]))
    read = run.of("gen").probes
    assert read["parsed"].mean() == pytest.approx(raw["eicap_cause_en_gen"]["parse_rate,read"])
    assert list(read["place_1"]) == list(read["parsed"])
    assert run.of("cf").probes["p_0"].isna().all()


def test_documents_of_several_formats_are_kept_apart(tmp_path: Path) -> None:
    made = dialogues(6, ("en",))
    tasks = ["eicap_cause_en", "eicap_cause_en_chain"]
    run = results.one(write_run(tmp_path / "out", noisy(2), tasks, data=items_file(tmp_path, made)), documents=True)
    for d in made:
        for probe in (probe for probe in d.probes if probe.layer == "cause"):
            for task in tasks:
                shown = [turn["text"] for turn in run.documents[task, probe.id]["turns"]]
                assert shown == [turn.text for turn in d.turns[: probe.after_turn]], task


def test_runs_of_one_folder_are_told_apart(copy: Path) -> None:
    for file in list(copy.rglob("*_2*")):
        stamp = re.search(r"2\d{3}-.*(?=\.json)", file.name)
        assert stamp
        shutil.copy(file, file.with_name(file.name.replace(stamp.group(), "2099-01-01T00-00-00.000000")))
    runs = results.load([copy])
    assert len(runs) == 2
    assert runs[1].name == "org/model (2099-01-01T00-00-00.000000)"
    with pytest.raises(EicapError, match=r"found 2 runs .*, expected one of them"):
        results.one(copy)


def test_a_file_as_output_path_is_read(run_folder: Path, tmp_path: Path) -> None:
    """`--output_path out/base.json`: lm-eval writes out/base_TIME.json with the samples beside it."""
    found = {"eicap_cause_en": [json.loads(line) for line in sample_file(run_folder).read_text().splitlines()]}
    raw = json.loads(result_file(run_folder).read_text())
    kept = {**raw, "configs": {"eicap_cause_en": raw["configs"]["eicap_cause_en"]}}
    for sample in found["eicap_cause_en"]:
        sample["arguments"] = []
    for name in ("base.json", "base_2.json"):
        tracker = EvaluationTracker(output_path=str(tmp_path / "out" / name))
        tracker.general_config_tracker.log_experiment_args("hf", {"pretrained": "org/model"}, None, None, None)
        tracker.save_results_aggregated(results=dict(kept), samples={})
        tracker.save_results_samples(task_name="eicap_cause_en", samples=found["eicap_cause_en"])
    files = sorted((file.name for file in (tmp_path / "out").iterdir()), key=lambda name: name.replace("base_20", "c"))
    assert [re.sub(r"\d{4}-.*\d(?=\.json)", "TIME", name) for name in files] == [
        "base_2_TIME.json", "base_TIME.json", "samples_eicap_cause_en_TIME.jsonl", "samples_eicap_cause_en_TIME.jsonl"
    ]  # fmt: skip
    expected = results.one(run_folder).probes.query("task == 'eicap_cause_en'")["acc"].to_list()
    for path in (files[1], "base.json", "base_2.json"):
        assert results.one(tmp_path / "out" / path).probes["acc"].to_list() == expected
    assert results.load([f"x={tmp_path / 'out' / 'base_2.json'}"])[0].name == "x"
    assert [run.source.name for run in results.load([tmp_path / "out"])] == [files[1], files[0]]  # the older one first
    with pytest.raises(EicapError, match="no such file or folder, expected what lm_eval --output_path wrote"):
        results.load([tmp_path / "out" / "other.json"])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"pretrained": "org/m"}, "org/m"),
        ({"pretrained": "org/m", "revision": "main"}, "org/m"),
        ({"pretrained": "org/m", "revision": "step1"}, "org/m@step1"),
        ("pretrained=org/m,revision=step1,dtype=float32", "org/m@step1"),
        ({"pretrained": "org/m", "peft": "out/run1/adapter"}, "org/m + adapter"),
        ("pretrained=org/m,peft=out/run1/adapter", "org/m + adapter"),
        ("pretrained=/data/org/m, peft=../out/adapter/, revision=v2", "org/m@v2 + adapter"),
        ({"pretrained": "org/m", "delta": "org/delta"}, "org/m + delta"),
        ({"pretrained": "/models/gemma", "gguf_file": "gemma-q4.gguf", "peft": "a"}, "gemma-q4 + a"),
        ({"pretrained": "/" + "x" * 300 + "/run1/checkpoint-100"}, "run1/checkpoint-100"),
        ({"pretrained": "."}, "."),
        ({"pretrained": "/", "peft": "a"}, "/ + a"),
        ("", "hf"),
    ],
)
def test_a_model_is_named_with_its_base_revision_and_adapter(
    copy: Path, arguments: dict[str, str] | str, name: str
) -> None:
    """lm-eval itself calls a model with an adapter by the adapter alone."""
    file = result_file(copy)
    raw = json.loads(file.read_text())
    raw["model_name"] = GeneralConfigTracker._get_model_name(arguments)
    raw["config"] |= {"model": "hf", "model_args": arguments}
    file.write_text(json.dumps(raw))
    assert results.one(copy).name == name


def test_settings_beside_the_signature_are_kept(copy: Path) -> None:
    assert results.one(copy).settings == {}
    file = result_file(copy)
    raw = json.loads(file.read_text())
    raw["system_instruction"] = "Be\nkind."
    raw["config"] |= {"model_dtype": "torch.float16", "model_revision": "main"}
    file.write_text(json.dumps(raw))
    found = results.one(copy).settings
    kind = "Be�kind. (sha256 9364454183de)"
    assert found == {"system instruction": kind, "dtype": "float16", "revision": "main"}
    long = []
    for ending in ("a", "b"):
        file.write_text(json.dumps({**raw, "system_instruction": "x" * 300 + ending}))
        long.append(results.one(copy).settings["system instruction"])
    assert long[0] != long[1]
    assert [len(text) for text in long] == [200, 200]
    assert long[0].startswith("x" * 177 + "… (sha256 ")


def test_what_tells_runs_apart_is_never_cut(copy: Path) -> None:
    file = result_file(copy)
    raw = json.loads(file.read_text())

    def sign(model: str, **config: Any) -> None:
        for one in raw["configs"].values():
            one["metadata"]["signature"] = re.sub(r"model:[^|]*", f"model:{model}", one["metadata"]["signature"])
            one |= config
        file.write_text(json.dumps(raw))

    for model in (f"/{'x' * 3000}/one", f"/{'x' * 3000}/two"):
        sign(model, generation_kwargs={"until": ["y" * 3000]})
        task = results.one(copy).tasks["eicap_cause_en"]
        assert task.signature["model"] == model
        assert json.loads(task.generation) == {"until": ["y" * 3000]}
    sign("x" * 4001)
    with pytest.raises(EicapError, match=r"found ValueError\('model of 4001 characters, allowed: 4000'\), expected a"):
        results.one(copy)
    sign("x", generation_kwargs={"until": ["y" * 4000]})
    with pytest.raises(EicapError, match=r"generation of 4015 characters, allowed: 4000"):
        results.one(copy)


def test_a_user_can_name_a_run(run_folder: Path) -> None:
    assert results.load([f"before={run_folder}"])[0].name == "before"


def test_a_partial_run_is_marked(tmp_path: Path) -> None:
    data = items_file(tmp_path, dialogues(4, ("en",)))
    run = results.one(write_run(tmp_path / "out", noisy(1), ["eicap_cause_en"], data=data, limit=3))
    assert run.partial == ["eicap_cause_en: 3 of 4 probes"]


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    change(lines[0])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def drop_line(folder: Path) -> None:
    file = sample_file(folder)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))


def truncate(folder: Path) -> None:
    file = sample_file(folder)
    file.write_text(file.read_text()[:-100])


def put(path: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        def set_it(sample: dict[str, Any]) -> None:
            *parents, last = path.split(".")
            place: Any = sample
            for parent in parents:
                place = place[parent]
            place[last] = value

        edit(sample_file(folder), set_it)

    return change


def rewrite(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        result_file(folder).write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: sample_file(folder).unlink(),
            "found nothing, expected the samples of the run: lm_eval with --log",
        ),
        (drop_line, r"found 11 samples, expected 12, as results_"),
        (truncate, r"jsonl:12: found no JSON \("),
        (put("acc", float("nan")), r"jsonl:1: found a sample that cannot be used \(ValueError\('score nan'\)\)"),
        (put("acc", 1e308), r"cannot be used \(ValueError\('score 1e\+308'\)\)"),
        (put("acc", "=cmd|' /C calc'!A0"), "cannot be used"),
        (put("doc", []), "found no document"),
        (put("doc.gold", 7), r"4 options, the right one at 7"),
        (put("doc.gold", 10**400), "cannot be used"),
        (put("doc.options", ["a"]), "1 options"),
        (put("filtered_resps", [["nan", "False"]] * 4), "which cannot be scored"),
        (put("filtered_resps", []), "cannot be used"),
        (put("doc.earlier", 3), r"cannot be used \(TypeError"),
        (put("doc.id", "x" * 201), r"ValueError\('an id of 201 characters, allowed: 200'\)"),
        (put("doc.dialogue_id", "x" * 10**6), "an id of 1000000 characters, allowed: 200"),
        (put("doc.id", "d001-1"), "found the probe 'd001-1' twice in a task, expected once"),
        (rewrite("{"), "found no JSON"),
        (rewrite("[" * 100_000), "found no JSON"),
        (rewrite("[]"), "found list, expected a JSON object"),
        (rewrite("{}"), "found no results of lm-eval"),
        (rewrite('{"configs": {}, "results": {}}'), "found no task of this package"),
    ],
)
def test_a_broken_run_is_named_not_averaged(copy: Path, change: Callable[[Path], None], message: str) -> None:
    change(copy)
    with pytest.raises(EicapError, match=message):
        results.load([copy])


def test_a_task_name_is_never_a_path(copy: Path) -> None:
    file = result_file(copy)
    raw = json.loads(file.read_text())
    raw["configs"] = {"../../etc/passwd": raw["configs"]["eicap_cause_en"]}
    raw["n-samples"] = {"../../etc/passwd": {"original": 1, "effective": 1}}
    file.write_text(json.dumps(raw))
    with pytest.raises(EicapError, match=r"found the task '\.\./\.\./etc/passwd' without"):
        results.load([copy])


def test_messages_are_made_fit_to_print(copy: Path) -> None:
    """A folder from elsewhere may have files of any name."""
    file = result_file(copy)
    evil = file.with_name("results_\u202e\x1b[31m.json")
    file.rename(evil)
    evil.write_text("{")
    with pytest.raises(EicapError) as error:
        results.load([copy])
    message = explain(error.value)
    assert message is not None
    assert message.startswith(f"{evil.parent}/results_��[31m.json: found no JSON (")
    assert explain(EicapError("one\n  two\tthree " + "x" * 300)) == "one\n  two�three " + "x" * 300


def of_others(folder: Path, name: str = "results_2026-01-01T00-00-00.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text('{"configs": {"arc_easy": {"metadata": {"version": 1.0}}}, "results": {"arc_easy": {"acc": 0.5}}}')
    return file


def test_results_of_other_benchmarks_in_a_folder_are_left_out(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = of_others(copy / "arc")
    assert results.one(copy).source == result_file(copy / "org__model")
    assert [run.name for run in results.load([f"x={copy}"])] == ["x"]
    note = f"{copy}: left out, without a task of this package: {other.name}"
    assert caplog.messages == [note, note]
    for number in range(3):
        of_others(copy / "arc", f"results_\u202e{number}.json")
    caplog.clear()
    assert results.each([copy], formats_of) == [["letters"]]
    assert caplog.messages == [f"{note}, results_�0.json, results_�1.json, …"]


def formats_of(run: results.Run) -> list[str]:
    return run.formats


def test_results_of_other_benchmarks_alone_are_refused(tmp_path: Path) -> None:
    other = of_others(tmp_path)
    with pytest.raises(EicapError) as error:
        results.load([tmp_path])
    expected = "expected results of eicap tasks"
    assert str(error.value) == f"{tmp_path}: found no task of this package in {other.name}, {expected}"
    with pytest.raises(EicapError) as error:
        results.load([other])
    assert str(error.value) == f"{other}: found no task of this package, {expected}"


def test_names_are_made_fit_to_print(copy: Path) -> None:
    file = result_file(copy)
    raw = json.loads(file.read_text())
    raw["model_name"] = "evil\u202e\x1b[31m\nname" + "x" * 500
    file.write_text(json.dumps(raw))
    name = results.one(copy).name
    assert name.startswith("evil��[31m�namexxx")
    assert len(name) == 200


def test_paths_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    with pytest.raises(EicapError, match="no such file or folder, expected what lm_eval --output_path wrote"):
        results.load([tmp_path / "nothing"])
    with pytest.raises(EicapError, match=r"found no results_TIME\.json or NAME_TIME\.json, expected what lm_eval"):
        results.load([tmp_path])
    (tmp_path / "results_loop.json").symlink_to("results_loop.json")
    for path in (tmp_path, tmp_path / "results_loop.json"):
        with pytest.raises(EicapError, match="expected what lm_eval --output_path wrote"):
            results.load([path])
    with pytest.raises(
        EicapError, match=r"x…: cannot be read \(File name too long\), expected what lm_eval --output_path"
    ):
        results.load(["x" * 300])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_no_bytes_make_it_crash(run_folder: Path, tmp_path: Path, noise: bytes, where: int) -> None:
    folder = tmp_path / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run_folder, folder)
    for file in (sample_file(folder), result_file(folder)):
        content = file.read_bytes()
        file.write_bytes(content[:where] + noise + content[where + len(noise) :])
    with contextlib.suppress(EicapError):
        results.load([folder])
