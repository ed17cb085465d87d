"""Cloze tasks: the texts of the options as continuations, and three ways to compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from models import ScriptedModel, oracle

from eicap_tasks import context, items
from eicap_tasks.documents import Document
from eicap_tasks.errors import EicapError
from eicap_tasks.runner import TASKS
from eicap_tasks.views import view

TOY = Path(__file__).parent / "items" / "toy.jsonl"


def evaluate(score: Any, task: str, data: Path = TOY, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    own = {"data": str(data), **kwargs.pop("options", {})}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": own})
    out = lm_eval.simple_evaluate(
        model=ScriptedModel(score), tasks=[task], task_manager=manager, bootstrap_iters=10, **kwargs
    )
    return out["results"], out["samples"]


def test_each_option_after_the_prompt_and_alone() -> None:
    _, samples = evaluate(oracle, "eicap_cause_en_cf")
    for sample in samples["eicap_cause_en_cf"]:
        options = sample["doc"]["options"]
        assert [argument[1] for argument in sample["arguments"]] == [f" {text}" for text in options * 2]
        prompts = [argument[0] for argument in sample["arguments"]]
        assert prompts[4:] == [""] * 4
        assert len(set(prompts[:4])) == 1
        assert prompts[0].endswith(
            f"\n\nQuestion about why someone feels that way: {sample['doc']['question']}\nAnswer:"
        )
        assert not any(option in prompts[0] for option in options)


def scores(per_option: list[float], alone: list[float]) -> Any:
    """Give each option, in the order of its length in bytes, a log-likelihood after the prompt and alone."""
    calls: dict[str, int] = {}

    def score(doc: dict[str, Any], text: str) -> float:
        place = sorted((option.strip() for option in doc["options"]), key=lambda o: len(o.encode())).index(text)
        first = calls.setdefault(doc["id"] + text, 0) == 0
        calls[doc["id"] + text] = 1
        return per_option[place] if first else alone[place]

    return score


def test_the_three_metrics_by_hand(tmp_path: Path) -> None:
    toy = json.loads(TOY.read_text(encoding="utf-8").splitlines()[0])
    probe = next(p for p in toy["probes"] if p["layer"] == "cause")
    probe["answer"] = "ééé"  # three letters, six bytes
    for distractor, text in zip(probe["distractors"], ["a", "bbbbb", "cccccccc"], strict=True):
        distractor["text"] = text
    toy["probes"] = [probe]
    data = tmp_path / "x.jsonl"
    data.write_text(json.dumps(toy), encoding="utf-8")
    # in order of bytes a (1), bbbbb (5), ééé (6), cccccccc (8); per byte: -1, -0.8, -0.5, -0.75
    results, _ = evaluate(scores([-1.0, -4.0, -3.0, -6.0], [0.0, 0.0, 0.0, 0.0]), "eicap_cause_en_cf", data)
    found = results["eicap_cause_en_cf"]
    assert (found["acc,none"], found["acc_bytes,none"], found["acc_mutual_info,none"]) == (0.0, 1.0, 0.0)
    # the difference to the text alone: -1, -3, +1, -2; per letter instead of per byte, ééé would not win
    results, _ = evaluate(scores([-2.0, -4.0, -3.0, -6.0], [-1.0, -1.0, -4.0, -4.0]), "eicap_cause_en_cf", data)
    assert results["eicap_cause_en_cf"]["acc_mutual_info,none"] == 1.0
    results, _ = evaluate(scores([-9.0, -2.4, -3.0, -6.0], [0.0] * 4), "eicap_cause_en_cf", data)
    assert results["eicap_cause_en_cf"]["acc_bytes,none"] == 0.0  # -0.48 for bbbbb, -0.5 for ééé


def test_a_reply_is_the_assistants_next_message() -> None:
    _, samples = evaluate(oracle, "eicap_response_en_cf", apply_chat_template=True)
    chat = next(s for s in samples["eicap_response_en_cf"] if s["doc"]["kind"] == "assistant")
    prompt, continuation = chat["arguments"][0]
    last = chat["doc"]["turns"][-1]
    assert last["role"] == "user"
    assert prompt.endswith(f"{last['text']}<|im_end|>\n<|im_start|>assistant\n")
    assert continuation == chat["doc"]["options"][0]
    assert chat["doc"]["question"] not in prompt
    peers = next(s for s in samples["eicap_response_en_cf"] if s["doc"]["kind"] == "peers")
    name = peers["doc"]["reply_by"]
    assert f"\n\nWrite the next message of: {name}<|im_end|>\n<|im_start|>assistant\n" in peers["arguments"][0][0]


def test_a_reply_in_a_transcript_follows_the_speakers_name() -> None:
    _, samples = evaluate(oracle, "eicap_response_ar_cf")
    for sample in samples["eicap_response_ar_cf"]:
        prompt, continuation = sample["arguments"][0]
        last = sample["doc"]["turns"][-1]
        assert prompt.endswith(f"\n{last['name']}: {last['text']}\n{sample['doc']['reply_by']}:")
        assert prompt.startswith("الموقف: ")
        assert continuation == f" {sample['doc']['options'][0]}"


@pytest.mark.parametrize("chat", [False, True])
def test_examples_are_solved_with_their_text(chat: bool) -> None:
    results, samples = evaluate(oracle, "eicap_response_en_cf", num_fewshot=2, apply_chat_template=chat)
    assert results["eicap_response_en_cf"]["acc,none"] == 1.0
    dev = view(items.load(items.shipped("dev", "en")), "en", "response", "cf")[:2]
    prompt = samples["eicap_response_en_cf"][0]["arguments"][0][0]
    for shot in dev:
        assert prompt.count(shot["options"][shot["gold"]]) == 1
        assert not any(text in prompt for i, text in enumerate(shot["options"]) if i != shot["gold"])


def test_the_groups() -> None:
    results, _ = evaluate(oracle, "eicap_cf")
    for group in ("eicap_cf", "eicap_cf_en", "eicap_cf_ar"):
        assert results[group]["acc,none"] == 1.0
        assert isinstance(results[group]["acc_bytes_stderr,none"], float)


def test_who_replies_where_the_item_does_not_say(tmp_path: Path) -> None:
    raw = [json.loads(line) for line in TOY.read_text(encoding="utf-8").splitlines()[:2]]
    for dialogue in raw:
        for probe in dialogue["probes"]:
            probe.pop("reply_by", None)
    peers = raw[1]
    data = tmp_path / "x.jsonl"
    data.write_text("\n".join(map(json.dumps, raw)), encoding="utf-8")
    docs = view(items.load(data), "en", "response", "cf")
    assert docs[0]["reply_by"] == "Assistant"
    assert docs[1]["reply_by"] in {s["name"] for s in peers["speakers"]} - {docs[1]["turns"][-1]["name"]}
    peers["speakers"].append({"id": "zz", "name": "Zed", "role": "peer"})
    peers["turns"].append({"speaker": "zz", "text": "Well."})
    data.write_text("\n".join(map(json.dumps, raw)), encoding="utf-8")
    with pytest.raises(EicapError, match=r"eicap_response_en_cf: found no reply_by in toy-peers-r, expected the id"):
        view(items.load(data), "en", "response", "cf")


def test_a_reply_by_the_user_is_asked_as_such() -> None:
    """Not scored as a message of the assistant, which has just spoken."""
    doc = view(items.load(TOY), "en", "response", "cf")[0]
    assert doc["kind"] == "assistant"
    turned = cast(Document, {**doc, "turns": doc["turns"][:2], "reply_by": "Lena"})
    assert turned["turns"][-1]["role"] == "assistant"
    (message,) = context.chat_messages(turned)
    assert message["content"].endswith("Assistant: How was the night?\n\nWrite the next message of: Lena")


def test_choices_alone_cannot_be_shown() -> None:
    with pytest.raises(EicapError) as caught:
        evaluate(oracle, "eicap_cause_en_cf", options={"show": "choices"})
    assert str(caught.value) == (
        "metadata eicap.show: found 'choices', allowed for eicap_cause_en_cf: 'dialogue', 'last_turn'"
    )
