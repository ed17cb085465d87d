"""Circular tasks: four rotations per document, and what they say of a model that prefers a letter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from models import ScriptedModel, always_a, oracle
from tiny import tiny_model

from eicap_tasks import items, metrics
from eicap_tasks.documents import documents, rotate
from eicap_tasks.runner import TASKS

TOY = Path(__file__).parent / "items" / "toy.jsonl"
TASK = "eicap_cause_en_circular"
DOCS = documents(items.load(TOY), "en", "cause")


def evaluate(score: Any, task: str = TASK, **kwargs: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"data": str(TOY)}})
    out = lm_eval.simple_evaluate(
        model=ScriptedModel(score), tasks=[task], task_manager=manager, bootstrap_iters=10, **kwargs
    )
    return out["results"], out["samples"].get(TASK, [])


def by_content(doc: dict[str, Any], label: str) -> float:
    """Prefer the option that comes last in the alphabet: wrong, but the same in every rotation."""
    option = doc["options"][doc["labels"].index(label)]
    return float(sorted(doc["options"]).index(option))


@pytest.mark.parametrize(
    ("score", "acc", "circular", "consistency", "bias"),
    [(oracle, 1.0, 1.0, 1.0, 0.0), (always_a, 0.25, 0.0, 0.0, 0.75), (by_content, 0.0, 0.0, 1.0, 0.0)],
)
def test_what_the_metrics_say(score: Any, acc: float, circular: float, consistency: float, bias: float) -> None:
    results, _ = evaluate(score)
    found = results[TASK]
    assert (found["acc,none"], found["acc_circular,none"], found["consistency,none"]) == (acc, circular, consistency)
    assert found["position_bias,none"] == pytest.approx(bias)
    assert found["acc_circular_stderr,none"] == 0.0
    assert found["position_bias_stderr,none"] == "N/A"


def test_one_sample_per_probe_with_every_option_once_at_every_letter() -> None:
    _, samples = evaluate(oracle)
    assert [sample["doc"]["id"] for sample in samples] == [doc["id"] for doc in DOCS]
    for sample, doc in zip(samples, DOCS, strict=True):
        assert len(sample["arguments"]) == 16
        contexts = [sample["arguments"][4 * r][0] for r in range(4)]
        for r in range(4):
            assert {argument[0] for argument in sample["arguments"][4 * r : 4 * r + 4]} == {contexts[r]}
        for option in doc["options"]:
            letters = [next(x for x in "ABCD" if f"\n{x}. {option}\n" in prompt) for prompt in contexts]
            assert sorted(letters) == ["A", "B", "C", "D"]


@pytest.mark.parametrize("chat", [False, True])
def test_examples_and_chat_turns_work_in_every_rotation(chat: bool) -> None:
    results, samples = evaluate(oracle, num_fewshot=2, apply_chat_template=chat)
    assert results[TASK]["acc_circular,none"] == 1.0
    prompt = samples[0]["arguments"][12][0]
    assert prompt.count("Question about why") == 3


@pytest.mark.parametrize("chat", [False, True])
def test_one_forward_pass_per_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: bool) -> None:
    """The four labels of a rotation follow one context, so that one pass has the likelihoods of all."""
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    folder = str(tiny_model(tmp_path / "tiny", template=template))
    model = HFLM(pretrained=folder, device="cpu", batch_size=1)
    passes: list[int] = []
    call = HFLM._model_call

    def counted(self: HFLM, inps: Any, *args: Any, **kwargs: Any) -> Any:
        passes.append(len(inps))
        return call(self, inps, *args, **kwargs)

    monkeypatch.setattr(HFLM, "_model_call", counted)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"data": str(TOY)}})
    out = lm_eval.simple_evaluate(
        model=model, tasks=[TASK], task_manager=manager, bootstrap_iters=0, apply_chat_template=chat
    )
    samples = out["samples"][TASK]
    continuations = {argument[1] for sample in samples for argument in sample["arguments"]}
    tokens = 1 if chat else 2  # "A" is one token here, " A" two: the space is shared too
    assert {len(model.tok_encode(label)) for label in continuations} == {tokens}
    assert len(samples) == len(DOCS)
    assert passes == [1] * 4 * len(DOCS)


def test_the_groups() -> None:
    results, _ = evaluate(oracle, "eicap_circular")
    for group in ("eicap_circular", "eicap_circular_en", "eicap_circular_ar"):
        assert results[group]["acc_circular,none"] == 1.0
        assert results[group]["position_bias,none"] == pytest.approx(0.0)


def test_predict_only() -> None:
    results, _ = evaluate(oracle, predict_only=True)
    assert results[TASK]["bypass,none"] == 999


def test_rotating_is_a_circle() -> None:
    doc = DOCS[0]
    assert rotate(doc, 4) == rotate(doc, 0) == doc
    assert rotate(rotate(doc, 1), 3) == doc
    assert Counter(rotate(doc, r)["gold"] for r in range(4)) == Counter(range(4))
    assert rotate(doc, 1)["options"][rotate(doc, 1)["gold"]] == doc["options"][doc["gold"]]
    assert rotate(doc, 1)["traps"][rotate(doc, 1)["gold"]] == ""


def test_metrics_by_hand() -> None:
    assert metrics.consistent([2, 1, 0, 3]) == 1.0  # option 2 each time: 2+0, 1+1, 0+2, 3+3 = 6 = 2 mod 4
    assert metrics.consistent([2, 2, 2, 2]) == 0.0
    assert metrics.all_right([2, 1, 0, 3], [2, 1, 0, 3]) == 1.0
    assert metrics.all_right([2, 1, 0, 0], [2, 1, 0, 3]) == 0.0
    # shares 3/8, 3/8, 1/8, 1/8: (1/8 + 1/8 + 1/8 + 1/8) / 2
    assert metrics.position_bias([[0, 0, 0, 1], [1, 1, 2, 3]]) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="found no choice"):
        metrics.position_bias([])


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=8))
def test_the_bias_has_its_limits(choices: list[list[int]]) -> None:
    assert 0 <= metrics.position_bias(choices) <= 0.75
    if all(metrics.consistent(choice) for choice in choices):
        assert metrics.position_bias(choices) == pytest.approx(0.0)
