"""The whole study with a tiny random model: LoRA, scores through lm-eval's `peft=`, comparison, reports."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tiny import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import study  # noqa: E402

from eicap_tasks import items, results  # noqa: E402
from eicap_tasks.errors import EicapError  # noqa: E402
from eicap_tasks.signature import short_hash  # noqa: E402

PLAIN = ROOT / "examples" / "finetune" / "plain.jinja"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line for a tiny model, with a chat template that can be trained with, that is asked two dialogues."""
    folder = tmp_path_factory.mktemp("study")
    settings = {
        "model": {"dtype": "float32", "chat_template": str(PLAIN)},
        "lora": {"r": 8, "dropout": 0},
        "training": {"batch_size": 1, "gradient_accumulation": 1, "max_length": 1024, "learning_rate": 0.05,
                     "warmup_steps": 0, "gradient_checkpointing": False},
    }  # fmt: skip
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    model = tiny_model(folder / "tiny", template=PLAIN.read_text())
    return ["--model", str(model), "--settings", str(folder / "settings.yaml"), "--dialogues", "2"]


def compared(out: Path, format: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / f"compare-{format}" / "compare.json").read_text())["rows"]
    return rows


@pytest.mark.slow
def test_the_chain_is_real(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*words, "--no-chat", "--chats", "8", "--out", str(tmp_path), "--adapters", "ei"]
    study.main(words)
    runs = {name: results.one(str(tmp_path / "runs" / name)) for name in ("base", "ei")}
    for format, probes in (("letters", 16), ("circular", 16)):
        own = {name: run.of(format).probes.set_index(["lang", "probe"])["acc"] for name, run in runs.items()}
        assert len(own["base"]) == probes
        overall = next(row for row in compared(tmp_path, format) if row["group"] == "overall")
        assert overall["difference"] == pytest.approx(float((own["ei"] - own["base"]).mean()))
    brier = {name: run.of("letters").probes.set_index(["lang", "probe"])["brier_score"] for name, run in runs.items()}
    change = brier["ei"] - brier["base"]
    assert change.abs().max() > 1e-3  # the adapter changes what the model says
    for name in runs:
        assert (tmp_path / "report" / name / "report.html").stat().st_size > 10_000
    trained, *_, asked = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()[2:]
    loss = (tmp_path / "adapters" / "ei" / "log.csv").read_text().splitlines()[1].split(",")[2]
    assert trained.split(" | ")[5].startswith(f"{float(loss):.2f}, ")
    assert asked.startswith("| ei | 16 | ")
    with pytest.raises(SystemExit):
        study.main([*words, "--full"])
    assert (
        f"{tmp_path}: found a study with other full, expected the same: name another --out" in capsys.readouterr().err
    )
    again: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(study, "eicap", lambda *words: again.append(words[0]))
        study.main(words)
    assert capsys.readouterr().out.count("is there already") == 3
    assert again == ["export-sft", "compare", "compare", "report", "report"]


@pytest.mark.slow
def test_a_learning_rate_of_0_makes_no_difference(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked as chats, and trained with the chat template of the model's own tokenizer."""
    eicap = study.eicap
    monkeypatch.setattr(study, "eicap", lambda *words: None if words[0] == "report" else eicap(*words))  # takes seconds
    sets = ["--set", "training.learning_rate=0", "--set", "model.chat_template=null"]
    study.main([*words, *sets, "--out", str(tmp_path), "--chats", "2", "--adapters", "chats-en", "chats-ar"])
    for name in ("base", "chats-en", "chats-ar"):
        run = results.one(str(tmp_path / "runs" / name))
        assert {task.signature["chat"] for task in run.tasks.values()} == {short_hash(PLAIN.read_text())}
    for name in ("chats-en", "chats-ar"):
        record = json.loads((tmp_path / "adapters" / name / "record.json").read_text())
        assert (record["template"], record["data"]["chats"]) == (hashlib.sha256(PLAIN.read_bytes()).hexdigest(), 2)
    for format in ("letters", "circular"):
        rows = compared(tmp_path, format)
        assert {row["other"] for row in rows} == {"chats-en", "chats-ar"}
        for row in rows:
            assert (row["difference"], row["interval"]) == (0, None)
            assert row["sentence"].endswith(f"no difference at all, {row['probes']} probes scored the same")


def test_items_are_whole_dialogues_of_both_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.choose_items(4, tmp_path)
    assert capsys.readouterr().out == "asked: 4 of 200 dialogues: eicap-004, eicap-096, eicap-202, eicap-252\n"
    for lang in ("en", "ar"):
        lines = (tmp_path / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["eicap-004", "eicap-096", "eicap-202", "eicap-252"]
    with pytest.raises(EicapError, match="--dialogues: found 0, allowed: 1 to 200"):
        study.choose_items(0, tmp_path)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of studies in which nothing is trained or asked."""
    made: list[list[str]] = []
    monkeypatch.setattr(study, "eicap", lambda *words: made.append([*map(str, words)]))
    monkeypatch.setattr(study, "train", lambda name, data, arguments: arguments.out / "adapters" / name)
    monkeypatch.setattr(study, "summary", lambda runs, adapters: "")
    return made


@pytest.mark.parametrize(
    ("chosen", "exported", "options"),
    [
        ([], ["turns", "auto"], {"data": "OUT/items"}),
        (["--system", "user"], ["turns", "user"], {"data": "OUT/items", "system": "user"}),
        (["--no-chat"], ["transcript", "auto"], {"data": "OUT/items"}),
        (["--full", "--system", "user"], ["turns", "user"], {"system": "user"}),
        (["--full"], ["turns", "auto"], None),
    ],
)
def test_a_model_is_asked_as_it_was_trained(
    chosen: list[str],
    exported: list[str],
    options: dict[str, str] | None,
    words: list[str],
    commands: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study, "choose_items", lambda count, out: out)
    study.main([*words, *chosen, "--adapters", "ei", "--out", str(tmp_path)])
    context, system = exported
    assert commands[0] == ["export-sft", f"{tmp_path}/ei.jsonl", "--context", context, "--system", system]
    runs = [command for command in commands if command[0] == "run"]
    assert len(runs) == 2
    for run in runs:
        given = run[run.index("--metadata") + 1].replace(str(tmp_path), "OUT") if "--metadata" in run else None
        assert given == (json.dumps({"eicap": options}) if options else None)
        assert ("--apply_chat_template" in run) == ("--no-chat" not in chosen)


def test_a_first_call_that_fails_leaves_the_folder_to_the_next(
    words: list[str], commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--adapters", "--out", str(tmp_path)]

    def refused(*more: str) -> str:
        with pytest.raises(SystemExit):
            study.main([*words, *more])
        return capsys.readouterr().err

    assert refused("--set", "training.epoch=2").count("found an unknown key") == 1
    assert not (tmp_path / "study.json").exists()
    assert refused("--dialogues", "0") == "--dialogues: found 0, allowed: 1 to 200\n"
    study.main(words)
    assert json.loads((tmp_path / "study.json").read_text())["dialogues"] == 2
    same = "expected the same: name another --out\n"
    (tmp_path / "model").mkdir()  # unpacked, and then there was too little memory
    assert refused("--gguf-file", "x.gguf") == f"{tmp_path}: found a study with other gguf_file, {same}"
    study.main([*words, "--dialogues", "3"])
    (tmp_path / "adapters").mkdir()
    assert refused() == f"{tmp_path}: found a study with other dialogues, {same}"


def test_a_study_is_held_to_its_template_and_items(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(PLAIN.read_text())
    out = tmp_path / "out"
    arguments = study.parser().parse_args([*words, "--set", f"model.chat_template={template}", "--out", str(out)])
    study.check_folder(arguments)
    (out / "runs").mkdir()
    study.check_folder(arguments)
    with monkeypatch.context() as patch:
        patch.setattr(items, "SHIPPED", items.SHIPPED / "test")
        with pytest.raises(EicapError, match=r": found a study with other items, expected the same: name another"):
            study.check_folder(arguments)
    template.write_text(PLAIN.read_text().replace("User: ", "Human: "))
    with pytest.raises(EicapError, match=r": found a study with other chat template, expected the same: name another"):
        study.check_folder(arguments)


def test_the_settings_are_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        study.main(words[:2])
    assert "the following arguments are required: --settings" in capsys.readouterr().err
    target = (ROOT / "Makefile").read_text().split("\nstudy: ")[1].split("\n\n")[0]
    assert " --settings examples/finetune/smollm2-135m-instruct.yaml $(STUDY)" in target
    page = (ROOT / "examples" / "study.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python examples/study\.py (.*)", page, re.MULTILINE)
    assert [study.parser().parse_args(line.split()).no_chat for line in lines] == [False, True]


def test_the_page_asks_and_compares_what_it_trains() -> None:
    page = (ROOT / "examples" / "study.md").read_text(encoding="utf-8")
    trained = re.findall(r"^python examples/finetune/finetune\.py examples/finetune/(\S+)\.yaml$", page, re.MULTILINE)
    assert trained == ["qwen2.5-7b_ultrachat-en", "qwen2.5-7b_ultrachat-ar"]
    assert re.findall(r"peft=results/finetune/(\S+) ", page) == trained
    asked = re.findall(r"^lm_eval .* --output_path (\S+)", page, re.MULTILINE)
    compared = re.findall(r"^eicap compare (.*)", page, re.MULTILINE)
    assert [re.findall(r"=(\S+)", line) for line in compared] == [asked, asked]
    assert [re.findall(r"--format (\S+)|--out (\S+)", line) for line in compared] == [
        [("", "comparison")], [("circular", ""), ("", "comparison-circular")],
    ]  # fmt: skip


def test_weights_are_unpacked_whole_and_once(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights that are not packed, since to unpack the small model's takes half a minute."""
    loaded: list[dict[str, Any]] = []

    def plain(load: Any, folder: str, **options: Any) -> Any:
        loaded.append(options)
        return load(folder)

    for name in ("AutoModelForCausalLM", "AutoTokenizer"):
        load = getattr(study, name).from_pretrained
        monkeypatch.setattr(study, name, SimpleNamespace(from_pretrained=partial(plain, load)))
    out = tmp_path / "model"
    (tmp_path / "model.part").mkdir()
    (tmp_path / "model.part" / "half.safetensors").write_text("of a call that was cut off")
    for _ in range(2):
        assert study.unpack(words[1], "x.gguf", out) == out
    weights, tokenizer = loaded
    assert (weights.pop("quantization_config").dequantize, weights.pop("dtype")) == (True, torch.float32)
    assert weights == tokenizer == {"gguf_file": "x.gguf"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (out / "half.safetensors").exists()
    assert AutoTokenizer.from_pretrained(out).chat_template == PLAIN.read_text()
    assert AutoModelForCausalLM.from_pretrained(out).num_parameters() == 39_840
