"""The whole study with a tiny random model: LoRA, scores through lm-eval's `peft=`, comparison, reports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import tiny_model

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import study  # noqa: E402

from eicap_tasks import results  # noqa: E402
from eicap_tasks.errors import EicapError  # noqa: E402


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line for a tiny model that is asked two dialogues."""
    folder = tmp_path_factory.mktemp("study")
    template = str(ROOT / "examples" / "finetune" / "plain.jinja")
    settings = {
        "model": {"pretrained": "set", "dtype": "float32", "chat_template": template},
        "data": {"source": "set"},
        "lora": {"r": 8, "dropout": 0},
        "training": {"batch_size": 1, "gradient_accumulation": 1, "max_length": 1024, "learning_rate": 0.05,
                     "warmup_steps": 0, "gradient_checkpointing": False},
        "output": "set",
    }  # fmt: skip
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    model = tiny_model(folder / "tiny")
    return ["--model", str(model), "--settings", str(folder / "settings.yaml"), "--no-chat", "--dialogues", "2",
            "--chats", "8"]  # fmt: skip


def compared(out: Path, format: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / f"compare-{format}" / "compare.json").read_text())["rows"]
    return rows


@pytest.mark.slow
def test_the_chain_is_real(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.main([*words, "--out", str(tmp_path), "--adapters", "ei"])
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
        study.main([*words, "--out", str(tmp_path), "--full"])
    assert (
        f"{tmp_path}: found a study with other full, expected the same: name another --out" in capsys.readouterr().err
    )
    study.main([*words, "--out", str(tmp_path), "--adapters", "ei"])
    shown = capsys.readouterr().out
    assert shown.count("is there already") == 3
    assert "$ eicap run" not in shown


@pytest.mark.slow
def test_a_learning_rate_of_0_makes_no_difference(words: list[str], tmp_path: Path) -> None:
    study.main([*words, "--out", str(tmp_path), "--adapters", "chats-ar", "--set", "training.learning_rate=0"])
    for format in ("letters", "circular"):
        for row in compared(tmp_path, format):
            assert (row["difference"], row["interval"]) == (0, [0, 0])
            assert row["sentence"].endswith(f"no difference at all, {row['probes']} probes scored the same")


def test_items_are_whole_dialogues_of_both_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.choose_items(4, tmp_path)
    assert capsys.readouterr().out == "asked: 4 of 200 dialogues: eicap-001, eicap-051, eicap-101, eicap-151\n"
    for lang in ("en", "ar"):
        lines = (tmp_path / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["eicap-001", "eicap-051", "eicap-101", "eicap-151"]
    with pytest.raises(EicapError, match="--dialogues: found 0, allowed: 1 to 200"):
        study.choose_items(0, tmp_path)
