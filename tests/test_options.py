"""Options of a run: other labels, less of the item; and the warning where a tokenizer splits labels unevenly."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from models import ScriptedModel, oracle
from transformers import AutoTokenizer

from eicap_tasks import context, items, tokens
from eicap_tasks.documents import documents
from eicap_tasks.runner import TASKS
from eicap_tasks.views import shown

TOY = Path(__file__).parent / "items" / "toy.jsonl"
ARABIC = ["أ", "ب", "ج", "د"]


def evaluate(task: str, own: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    model = kwargs.pop("model", None) or ScriptedModel(oracle)
    manager = TaskManager(
        include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"data": str(TOY), **own}}
    )
    out: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=[task], task_manager=manager, bootstrap_iters=0, **kwargs
    )
    return out


@pytest.mark.parametrize("task", ["eicap_cause_ar", "eicap_cause_ar_circular", "eicap_cause_ar_chain"])
@pytest.mark.parametrize("chat", [False, True])
def test_arabic_labels(task: str, chat: bool) -> None:
    out = evaluate(task, {"labels": "arabic"}, apply_chat_template=chat, num_fewshot=1)
    assert out["results"][task]["acc,none"] == 1.0
    for sample in out["samples"][task]:
        prompt = sample["arguments"][0][0]
        assert [argument[1].strip() for argument in sample["arguments"][:4]] == ARABIC
        for label, option in zip(ARABIC, sample["doc"]["options"], strict=True):
            assert f"\n{label}. {option}" in prompt
        assert not any(f"\n{letter}. " in prompt for letter in "ABCD")
        assert ("أجب بحرف واحد: أ، ب، ج أو د." in prompt) == chat


def test_arabic_labels_in_generated_answers() -> None:
    model = ScriptedModel(oracle, write=lambda doc: f"الإجابة: {ARABIC[doc['gold']]}")
    out = evaluate("eicap_cause_ar_gen", {"labels": "arabic"}, model=model)
    assert out["results"]["eicap_cause_ar_gen"]["acc,read"] == 1.0


@pytest.mark.parametrize("chat", [False, True])
def test_only_the_last_turn(chat: bool) -> None:
    docs = documents(items.load(TOY), "en", "tracking")
    out = evaluate("eicap_tracking_en", {"show": "last_turn"}, apply_chat_template=chat)
    for sample, doc in zip(out["samples"]["eicap_tracking_en"], docs, strict=True):
        prompt = sample["arguments"][0][0]
        assert doc["turns"][-1]["text"] in prompt
        assert doc["question"] in prompt
        assert doc["setting"] in prompt
        assert not any(turn["text"] in prompt for turn in doc["turns"][:-1])
        assert "A conversation begins" not in prompt
        goes_on = f"[The conversation goes on. Setting: {doc['setting']}]"
        assert (goes_on in prompt) == (chat and doc["kind"] == "assistant")


@pytest.mark.parametrize("chat", [False, True])
def test_only_the_choices(chat: bool) -> None:
    docs = documents(items.load(TOY), "en", "tracking")
    out = evaluate("eicap_tracking_en", {"show": "choices"}, apply_chat_template=chat)
    for sample, doc in zip(out["samples"]["eicap_tracking_en"], docs, strict=True):
        prompt = sample["arguments"][0][0]
        assert all(f"\n{x}. {option}\n" in prompt for x, option in zip("ABCD", doc["options"], strict=True))
        assert not any(turn["text"] in prompt for turn in doc["turns"])
        assert doc["question"] not in prompt
        assert doc["setting"] not in prompt
        assert "Read the conversation" not in prompt
        assert "Exactly one of the four options is right. Answer with its letter." in prompt
        assert prompt.count("<|im_start|>user") == chat


def test_the_prompt_of_the_choices_alone() -> None:
    doc = shown(documents(items.load(TOY), "en", "cause")[1], "choices")
    assert context.text_prompt(doc) == (
        "Question about why someone feels that way:\n"
        "A. The empty shelf\nB. The clean kitchen\nC. The new curtain\nD. The open window\nAnswer:"
    )


@pytest.fixture(autouse=True)
def _warn_anew() -> None:
    tokens._warn.cache_clear()


def test_tokens_per_label() -> None:
    def encode(text: str) -> list[int]:
        return [1] * len(text.replace("ب", "xx"))

    assert tokens.lengths(["A", "ب"], encode) == {"A": 2, "ب": 3}
    assert tokens.lengths(["A", "ب"], encode, "\n") == {"A": 1, "ب": 2}


@pytest.mark.parametrize(
    ("joined", "plain", "chat"),
    [(" ب", "2, 1, 2, 2", "1, 1, 1, 1"), ("\nب", "2, 2, 2, 2", "1, 0, 1, 1"), ("x", "", "")],
)
def test_labels_are_measured_after_a_space_and_after_a_new_line(
    joined: str, plain: str, chat: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A token a character, but for one pair that is a single token."""
    tokenizer = SimpleNamespace(encode=lambda text, add_special_tokens: list(text.replace(joined, "x")))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda path: tokenizer)
    tokens.warn_if_uneven("arabic", {"pretrained": "m"})
    assert caplog.messages == [
        f"labels arabic: the tokenizer of m makes {plain} tokens of أ, ب, ج, د after a space, {chat} after a new line "
        "(chat): where these differ, likelihoods are not comparable, and each needs a forward pass of its own; use the "
        "labels 'latin', or a gen task"
        for _ in range(bool(plain))
    ]


@pytest.mark.model
def test_a_real_tokenizer_that_splits_them_unevenly(small_model: str, caplog: pytest.LogCaptureFixture) -> None:
    metadata = dict(pair.split("=", 1) for pair in small_model.split(","))
    with caplog.at_level(logging.WARNING):
        tokens.warn_if_uneven("latin", metadata)
        assert not caplog.messages
        for _ in range(2):
            tokens.warn_if_uneven("arabic", metadata)
    (message,) = caplog.messages
    assert message.startswith("labels arabic: the tokenizer of ")
    assert " makes 2, 1, 2, 2 tokens of أ, ب, ج, د after a space, 2, 1, 2, 1 after a new line (chat): " in message


def test_a_model_whose_tokenizer_cannot_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    evaluate("eicap_cause_ar", {"labels": "arabic"})
    (message,) = [m for m in caplog.messages if m.startswith("labels")]
    assert message == (
        "labels arabic: could not look at the tokenizer of unknown (the run does not name a model or tokenizer)"
    )
