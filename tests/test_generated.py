"""Generated answers: the filter and the metrics inside lm-eval."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from models import ScriptedModel, oracle

from eicap_tasks import context, items, metrics, prompts
from eicap_tasks.documents import documents
from eicap_tasks.filters import UNPARSED, AnswerFilter
from eicap_tasks.runner import TASKS

TOY = Path(__file__).parent / "items" / "toy.jsonl"
Writer = Callable[[dict[str, Any]], str]


def evaluate(write: Writer, task: str, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], ScriptedModel]:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"data": str(TOY)}})
    model = ScriptedModel(oracle, write=write)
    out = lm_eval.simple_evaluate(model=model, tasks=[task], task_manager=manager, bootstrap_iters=10, **kwargs)
    return out["results"], out["samples"], model


def right(doc: dict[str, Any]) -> str:
    return f"I would say the answer is ({doc['labels'][doc['gold']]})."


def right_in_arabic(doc: dict[str, Any]) -> str:
    return f"الإجابة الصحيحة هي: **{'أبجد'[doc['gold']]}**"


def half_silent(doc: dict[str, Any]) -> str:
    return right(doc) if doc["kind"] == "peers" else "I cannot answer that."


@pytest.mark.parametrize(
    ("write", "task", "acc", "rate", "parsed"),
    [
        (right, "eicap_cause_en_gen", 1.0, 1.0, 1.0),
        (right_in_arabic, "eicap_response_ar_gen", 1.0, 1.0, 1.0),
        (lambda doc: doc["options"][doc["gold"]], "eicap_response_ar_gen", 1.0, 1.0, 1.0),
        (half_silent, "eicap_tracking_en_gen", 0.5, 0.5, 1.0),
        (lambda doc: doc["labels"][doc["gold"] - 1], "eicap_appraisal_en_gen", 0.0, 1.0, 0.0),
    ],
)
def test_what_the_metrics_say(write: Writer, task: str, acc: float, rate: float, parsed: float) -> None:
    results, _, _ = evaluate(write, task)
    found = results[task]
    assert (found["acc,read"], found["parse_rate,read"], found["acc_parsed,read"]) == (acc, rate, parsed)
    assert found["acc_parsed_stderr,read"] == "N/A"
    assert isinstance(found["acc_stderr,read"], float)


@pytest.mark.parametrize("text", ["I cannot say.", ""])
def test_where_no_answer_can_be_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UNPARSED, "seen", True)  # what a server sent in an earlier run is forgotten
    results, samples, _ = evaluate(lambda doc: text, "eicap_gen_en")
    assert results["eicap_gen_en"]["acc,read"] == 0.0
    assert results["eicap_gen_en"]["parse_rate,read"] == 0.0
    assert math.isnan(results["eicap_gen_en"]["acc_parsed,read"])
    assert samples["eicap_cause_en_gen"][0]["filtered_resps"] == [None]


def test_the_prompt_is_that_of_the_plain_task() -> None:
    _, _, model = evaluate(right, "eicap_cause_en_gen", num_fewshot=1, apply_chat_template=True)
    docs = documents(items.load(TOY), "en", "cause")
    shots = documents(items.load(items.shipped("dev", "en")), "en", "cause")[:1]
    system = prompts.instruction("en", "cause")
    messages = [context.chat_messages(doc, shots, system=system) for doc in docs]
    assert model.prompts == [model.apply_chat_template(each) for each in messages]  # type: ignore[arg-type]


def test_the_groups_and_predict_only() -> None:
    results, _, _ = evaluate(right, "eicap_gen")
    assert all(results[group]["acc,read"] == 1.0 for group in ("eicap_gen", "eicap_gen_en", "eicap_gen_ar"))
    results, _, _ = evaluate(right, "eicap_cause_en_gen", predict_only=True)
    assert results["eicap_cause_en_gen"]["bypass,read"] == 999


def test_the_filter_reads_every_repeat() -> None:
    doc = documents(items.load(TOY), "en", "cause")[0]
    assert AnswerFilter().apply([["B", "no idea", "Answer: D"]], [doc]) == [[1, None, 3]]


def test_cached_requests_know_who_cuts_the_thinking_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `think_end_token` a text without the closing tag is a thought, with it it is the answer."""
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path / "cache"))

    def thinking(**metadata: str) -> bool:
        manager = TaskManager(
            include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"data": str(TOY)}, **metadata}
        )
        task = manager.load(["eicap_cause_en_gen"])["tasks"]["eicap_cause_en_gen"]
        task.build_all_requests(
            cache_requests=True, apply_chat_template=True, fewshot_as_multiturn=True,
            chat_template=lambda messages, add_generation_prompt=True: f"{messages[-1]['content']}<think>",
        )  # fmt: skip
        return bool(task.instances[0].doc["thinking"])

    assert [thinking(), thinking(think_end_token="</think>"), thinking()] == [True, False, True]


def test_accuracy_among_by_hand() -> None:
    assert metrics.accuracy_among([(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]) == 1 / 2
    assert math.isnan(metrics.accuracy_among([(0.0, 0.0)]))


def test_thinking_that_the_prompt_opens_and_the_limit_cuts_off() -> None:
    """DeepSeek-R1's template ends with the tag; a text without its end is all thinking."""
    doc = documents(items.load(TOY), "en", "cause")[0]
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    name = "eicap_cause_en_gen"
    task = manager.load([name])["tasks"][name]
    for ctx, expected in [("...<think>\n", None), ("...", 0), (("...<think>",), None)]:
        request = task.construct_requests(doc, ctx, metadata=(name, 0, 1))
        assert AnswerFilter().apply([["I think the answer is A, but"]], [request.doc]) == [[expected]]
        assert AnswerFilter().apply([["Hm.</think>B"]], [request.doc]) == [[1]]
    for tag in ("<thought>", "<thinking>", "[THINK]", "<|START_THINKING|>", "<|begin_of_thought|>", "<seed:think>"):
        request = task.construct_requests(doc, f"[|assistant|]{tag}\n", metadata=(name, 0, 1))
        assert AnswerFilter().apply([["At first sight it is B. But"]], [request.doc]) == [[None]]
        request = task.construct_requests(doc, f"{tag}x", metadata=(name, 0, 1))
        assert not request.doc["thinking"]
    task.config.metadata["think_end_token"] = "</think>"  # lm-eval has cut the thinking off
    request = task.construct_requests(doc, "...<think>", metadata=(name, 0, 1))
    assert AnswerFilter().apply([["B"]], [request.doc]) == [[1]]
