"""The dataset folder is read by the tools that it is for."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import inspect_ai
import mlcroissant
import pytest
import yaml
from artificial import dialogues
from huggingface_hub import DatasetCard
from inspect_ai._eval.task.hf import task_create_from_hf
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from eicap_tasks import export, items
from eicap_tasks.documents import documents
from eicap_tasks.errors import EicapError
from eicap_tasks.items import SHIPPED
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

CONFIGS = {f"{layer}_{lang}" for layer in LAYERS for lang in LANGUAGES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "somebody" / "eicap"
    export.export(out, export.shipped())
    return out


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_datasets_loads_every_configuration(folder: Path) -> None:
    assert set(datasets.get_dataset_config_names(str(folder))) == CONFIGS
    for config in sorted(CONFIGS):
        layer, lang = config.split("_")
        loaded = datasets.load_dataset(str(folder), config)
        docs = documents(items.load(items.shipped("test", lang)), lang, layer)
        assert [(row["id"], row["choices"], row["target"]) for row in loaded["test"]] == [
            (doc["id"], doc["options"], "ABCD"[doc["gold"]]) for doc in docs
        ]
        assert len(loaded["dev"]) == len(documents(items.load(items.shipped("dev", lang)), lang, layer))
        assert {row["canary"] for row in loaded["test"]} == {"eicap-canary 7c0e3b52-5f6a-4e5d-9a54-0f1f4b1d6c2e"}


def test_what_is_asked_is_our_prompt_up_to_the_options(folder: Path) -> None:
    row = next(r for r in map(json.loads, (folder / "cause_en" / "test.jsonl").open()) if r["id"] == "eicap-004-c")
    assert row["input"].startswith("Read the conversation, then answer the question about ")
    assert "Exactly one of the four options is right.\n\nSetting: " in row["input"]
    setting = "Noura, a pharmacy student in Kuwait, writes to an assistant in the evening."
    assert f"\n\nSetting: {setting}\n\n" in row["input"]
    question = "Noura blames the laughter below. What is keeping her from getting on with the book?"
    assert row["input"].endswith(f": {question}")
    assert len(row["turns"]) == 7
    assert row["turns"][2] == (
        "Noura: Yesterday I went to the library. You could have heard a pin drop. I opened the book at three, and the "
        "next thing I knew the guard was waking me: closing time."
    )
    assert sorted(row["choices"]) == [
        "Her friend's place in London",
        "Her own letter from London",
        "The length of this year's book",
        "The short nights of this week",
    ]
    assert row["rationale"]


def test_how_to_answer_is_left_to_who_asks(folder: Path) -> None:
    """Inspect wants "ANSWER: B": our "Answer with its letter." would have obedient models scored as wrong."""
    for config in sorted(CONFIGS):
        for line in (folder / config / "test.jsonl").open(encoding="utf-8"):
            told = json.loads(line)["input"].split("\n\n")[0]
            assert told.endswith(
                ("Exactly one of the four options is right.", "خيار واحد فقط من الخيارات الأربعة صحيح.")
            )


def test_what_the_card_names_is_there(folder: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert "statistics.json" in links
    assert all((folder / link).is_file() for link in links)
    assert json.loads((folder / "croissant.json").read_text(encoding="utf-8"))["version"] == "5.0.0"
    assert "Task version 5-0." in (folder / "README.md").read_text(encoding="utf-8")


def test_the_card_has_a_header_that_the_hub_reads(folder: Path) -> None:
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.language == ["ar", "en"]
    assert {entry["config_name"] for entry in card.data.to_dict()["configs"]} == CONFIGS
    assert card.text.strip() == (SHIPPED / "DATACARD.md").read_text(encoding="utf-8").strip()
    for record in ("validation.jsonl", "guesses.jsonl", "statistics.json"):
        assert (folder / record).read_bytes() == (SHIPPED / record).read_bytes()


def test_croissant_metadata_are_valid_and_yield_the_rows(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        described = mlcroissant.Dataset(folder / "croissant.json")
    assert described.metadata.issues.report() == ""
    assert not [record for record in caplog.records if "Croissant" in record.message or "@context" in record.message]
    rows = list(described.records("response_ar_test_rows"))
    first = json.loads((folder / "response_ar" / "test.jsonl").open().readline())
    assert len(rows) == len(items.load(items.shipped("test", "ar")))
    assert rows[0]["response_ar_test_rows/target"].decode() == first["target"]
    assert [text.decode() for text in rows[0]["response_ar_test_rows/choices"]] == first["choices"]


def test_inspect_asks_every_probe(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `inspect eval hf/somebody/eicap` does, with a model that answers B; the download alone is replaced."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda filename, **kwargs: str(folder / filename))
    monkeypatch.chdir(folder.parent.parent)
    tasks = task_create_from_hf("hf/somebody/eicap")
    assert {task.name for task in tasks} == {f"hf/somebody/eicap/{config}" for config in CONFIGS}
    small = [task for task in tasks if task.name.endswith(("appraisal_en", "response_ar"))]
    say_b = ModelOutput.from_content("mockllm/model", "ANSWER: B")
    say_b.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # or Inspect fetches a tokenizer to count
    model = get_model("mockllm/model", custom_outputs=[say_b] * 1000)
    logs = inspect_ai.eval(small, model=model, log_dir=str(tmp_path), display="none", log_samples=True)
    for log in logs:
        assert log.status == "success", log.error
        config = log.eval.task.rpartition("/")[2]
        targets = Counter(json.loads(line)["target"] for line in (folder / config / "test.jsonl").open())
        assert log.results is not None
        assert log.results.total_samples == targets.total()
        assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(targets["B"] / targets.total())


def test_the_benchmark_file_names_what_the_hub_asks_for(folder: Path) -> None:
    described: dict[str, Any] = yaml.safe_load((folder / "eval.yaml").read_text(encoding="utf-8"))
    assert described["evaluation_framework"] == "inspect-ai"
    assert described["tasks"][0]["field_spec"] == {"input": "input", "choices": "choices", "target": "target"}


def test_own_items_make_one_split(tmp_path: Path) -> None:
    files = export.export(tmp_path / "out", {"test": dialogues(5, ("en",))}, own=True)
    names = {str(file.relative_to(tmp_path / "out")) for file in files}
    assert names == {f"{layer}_en/test.jsonl" for layer in LAYERS} | {"README.md", "croissant.json", "eval.yaml"}
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert not any(claim in text for claim in ("cc-by", "creativecommons.org/licenses", "blind", "machine-generated"))
    assert "license: other" in text
    assert not any(name in text for name in ("eicap-canary", "EICAP", "2508.06196", "datePublished"))
    assert not list(mlcroissant.Dataset(tmp_path / "out" / "croissant.json").metadata.issues.errors)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(EicapError, match="found something there already, expected an empty folder or a new one"):
        export.export(tmp_path, export.shipped())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(EicapError, match="found no dialogue to export"):
        export.export(tmp_path / "new", {"test": []})
    assert not (tmp_path / "new").exists()


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", "export-dataset", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert len(lines) == 2 * len(CONFIGS) + 7
    assert lines[-1] == "to upload it: hf upload YOUR_NAME/eicap out --repo-type dataset"
    assert all(Path(tmp_path, line).is_file() for line in lines[:-1])
