"""The real SmolLM2-135M-Instruct answers probes through lm-eval's own Hugging Face backend."""

from __future__ import annotations

import math
from typing import Any

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from eicap_tasks import prompts
from eicap_tasks.runner import TASKS

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model(small_model: str) -> HFLM:
    arguments = dict(pair.split("=", 1) for pair in small_model.split(","))
    return HFLM(**arguments, device="cpu", batch_size=1)


def evaluate(model: HFLM, tasks: list[str], **kwargs: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    out: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, limit=4, bootstrap_iters=10, **kwargs
    )
    return out


def loglikelihoods(out: dict[str, Any], task: str) -> list[float]:
    return [answer[0] for sample in out["samples"][task] for answer in sample["filtered_resps"]]


def test_a_real_model_is_scored_and_the_batch_size_does_not_matter(model: HFLM) -> None:
    tasks = ["eicap_appraisal_en", "eicap_tracking_ar"]
    one = evaluate(model, tasks)
    model.batch_size_per_gpu = 3
    three = evaluate(model, tasks)
    model.batch_size_per_gpu = 1
    for task in tasks:
        values = loglikelihoods(one, task)
        assert len(values) == 16
        assert all(-30 < value < 0 for value in values)
        assert len(set(values)) > 4
        assert loglikelihoods(three, task) == pytest.approx(values, abs=2e-3)
        assert three["results"][task]["acc,none"] == one["results"][task]["acc,none"]
        assert 0 < one["results"][task]["brier_score,none"] < 2
        # Four labels after one context cost one forward pass only where each is one token.
        assert all(len(model.tok_encode(f" {label}", add_special_tokens=False)) == 1 for label in "ABCD")


def test_chat_turns_go_through_the_models_own_template(model: HFLM) -> None:
    out = evaluate(model, ["eicap_cause_en"], apply_chat_template=True, num_fewshot=1)
    instruction = prompts.instruction("en", "cause")
    for sample in out["samples"]["eicap_cause_en"]:
        prompt, label = sample["arguments"][0]
        assert prompt.startswith(f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n")
        assert prompt.endswith("Answer with one letter: A, B, C or D.<|im_end|>\n<|im_start|>assistant\n")
        assert label == "A"
        turns = sample["doc"]["turns"]
        if sample["doc"]["kind"] == "assistant":
            assert f"<|im_start|>assistant\n{turns[1]['text']}<|im_end|>\n" in prompt
        assert all(turn["text"] in prompt for turn in turns)
    assert all(math.isfinite(value) for value in loglikelihoods(out, "eicap_cause_en"))
