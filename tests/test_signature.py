"""The signature: in every result, the same for the same prompts, another one for anything that matters."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from models import ScriptedModel, oracle

from eicap_tasks import __version__, items
from eicap_tasks.runner import TASKS
from eicap_tasks.signature import model_name, short_hash, signature, signatures

TOY = Path(__file__).parent / "items" / "toy.jsonl"


def sign(task: str = "eicap_cause_en", own: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, str]:
    metadata = {"eicap": {"data": str(TOY), **(own or {})}}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    model = ScriptedModel(oracle, kwargs.pop("template", "chatml"))
    out = lm_eval.simple_evaluate(model=model, tasks=[task], task_manager=manager, bootstrap_iters=0, **kwargs)
    (found,) = signatures(out)
    return dict(part.split(":", 1) for part in found.split("|"))


def test_all_parts_in_order() -> None:
    digest = items.digest(items.load(TOY))
    found = sign()
    prompts = found["prompts"]
    assert len(prompts) == 12
    assert found == {
        "task": "eicap_cause_en",
        "version": current_version("eicap_cause_en"),
        "items": digest[:12],
        "docs": "all",
        "prompts": prompts,
        "lang": "en",
        "format": "letters",
        "context": "text",
        "show": "dialogue",
        "labels": "latin",
        "shots": "0",
        "chat": "none",
        "model": "unknown",
        "lm_eval": version("lm_eval"),
        "eicap": __version__,
    }


def current_version(task: str) -> str:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    return str(manager.load([task])["tasks"][task].config.metadata["version"])


def test_settings_of_generation_count() -> None:
    short, long = (sign("eicap_cause_en_gen", gen_kwargs=f"max_gen_toks={n}") for n in (32, 64))
    assert {key for key in short if short[key] != long[key]} == {"prompts"}


def test_it_does_not_depend_on_batches_or_the_run() -> None:
    assert sign() == sign(batch_size=3) == sign(limit=10_000)


def test_it_says_that_not_all_was_asked() -> None:
    assert sign(limit=1) == {**sign(), "docs": "first-1"}
    some = sign(samples={"eicap_cause_en": [1]})
    assert some == {**sign(), "docs": short_hash([1])}


def test_a_prefix_of_the_answer_and_repeats_count() -> None:
    def prompts(**changed: Any) -> str:
        task = TaskManager(include_path=str(TASKS), include_defaults=False).load(["eicap_cause_en_gen"])["tasks"][
            "eicap_cause_en_gen"
        ]
        for key, value in changed.items():
            task.set_config(key, value)
        return short_hash(task.prompts())

    assert len({prompts(), prompts(gen_prefix="I choose"), prompts(gen_prefix="It is"), prompts(repeats=3)}) == 4


def test_examples_in_one_message_are_a_transcript() -> None:
    chat: dict[str, Any] = {"apply_chat_template": True, "own": {"data": str(TOY)}}
    assert sign(**chat, fewshot_as_multiturn=False)["context"] == "turns"
    assert sign(**chat, fewshot_as_multiturn=False, num_fewshot=1)["context"] == "transcript"
    assert sign(**chat, fewshot_as_multiturn=True, num_fewshot=1)["context"] == "turns"


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({"own": {"data": str(items.shipped("dev", "en"))}}, {"items", "prompts"}),
        ({"own": {"labels": "arabic"}}, {"prompts", "labels"}),
        ({"own": {"show": "choices"}}, {"prompts", "show"}),
        ({"num_fewshot": 1}, {"prompts", "shots"}),
        ({"system_instruction": "Be brief."}, {"prompts"}),
        ({"apply_chat_template": True}, {"prompts", "context", "chat"}),
        ({"task": "eicap_cause_en_gen"}, {"task", "format", "prompts"}),
        ({"task": "eicap_cause_en_circular"}, {"task", "format", "prompts"}),
        ({"task": "eicap_cause_en_cf"}, {"task", "format", "prompts", "labels"}),
        ({"task": "eicap_cause_ar"}, {"task", "lang", "prompts"}),
    ],
)
def test_what_changes_it(changed: dict[str, Any], differing: set[str]) -> None:
    before, after = sign(), sign(**changed)
    assert {key for key in before if before[key] != after[key]} == differing


def test_chat_templates_are_told_apart() -> None:
    chatml, llama = (sign(apply_chat_template=True, template=name) for name in ("chatml", "llama3"))
    assert {key for key in chatml if chatml[key] != llama[key]} == {"prompts", "chat"}
    assert chatml["chat"] == short_hash("chatml")
    transcript = sign(own={"context": "transcript"}, apply_chat_template=True)
    assert {key for key in chatml if chatml[key] != transcript[key]} == {"prompts", "context"}


def test_the_model() -> None:
    assert model_name({"pretrained": "org/m", "peft": "adapter", "version": "2-0"}) == "org/m,peft=adapter"
    assert model_name({"model": "gpt", "num_concurrent": 8, "base_url": "http://x"}) == "gpt"
    four_bit, eight_bit = ({"pretrained": "m", f"load_in_{n}bit": True} for n in (4, 8))
    assert model_name(four_bit).startswith("m,args=")
    assert len({model_name(four_bit), model_name(eight_bit), model_name({"pretrained": "m"})}) == 3
    assert model_name({}) == "unknown"
    assert "model:a_b|" in signature({"model": "a|b"})


def test_it_is_in_the_result_file_and_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from eicap_tasks.runner import run

    run(["--model", "dummy", "--tasks", "eicap_cause_en", "--limit", "2", "--output_path", str(tmp_path)])
    (file,) = tmp_path.rglob("results_*.json")
    (found,) = signatures(json.loads(file.read_text(encoding="utf-8")))
    assert found.startswith("task:eicap_cause_en|version:")
    assert found in capfd.readouterr().out.replace("\n", "")
