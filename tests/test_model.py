"""The real SmolLM2-135M-Instruct answers probes through lm-eval's own Hugging Face backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import lm_eval
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from models import CHAT_TEMPLATES
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from eicap_tasks import prompts
from eicap_tasks.runner import TASKS
from eicap_tasks.views import Format

TOY = Path(__file__).parent / "items" / "toy.jsonl"

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def model(small_model: str) -> HFLM:
    arguments = dict(pair.split("=", 1) for pair in small_model.split(","))
    return HFLM(**arguments, device="cpu", batch_size=1)


def evaluate(model: HFLM, tasks: list[str], **kwargs: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    out: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, limit=2, bootstrap_iters=10, **kwargs
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
        assert len(values) == 8
        assert all(-30 < value < 0 for value in values)
        assert len(set(values)) > 4
        assert loglikelihoods(three, task) == pytest.approx(values, abs=2e-3)
        assert three["results"][task]["acc,none"] == one["results"][task]["acc,none"]
        assert 0 < one["results"][task]["brier_score,none"] < 2
        # Four labels after one context cost one forward pass only where each is one token.
        assert all(len(model.tok_encode(f" {label}", add_special_tokens=False)) == 1 for label in "ABCD")


def test_the_models_own_template_renders_as_committed(model: HFLM, golden: Callable[[str, str], None]) -> None:
    """Every format, with one example: system message, real turns, question, and where the answer begins."""
    shown = []
    for format in get_args(Format):
        name = f"eicap_tracking_en{'' if format == 'letters' else f'_{format}'}"
        own = {"eicap": {"data": str(TOY)}}
        manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=own)
        task = manager.load([name])["tasks"][name]
        task.config.num_fewshot = 1
        (_, labels, prompt), *_ = task.prompts(
            apply_chat_template=True, fewshot_as_multiturn=True, chat_template=model.apply_chat_template
        )[3:]
        prompt = prompt[0] if format == "circular" else prompt
        shown.append(f"##### {name}: {labels}\n{prompt}")
        assert prompt.count("<|im_start|>system") == 1
        assert "You are a helpful AI assistant named SmolLM" not in prompt
        assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
    golden("template_smollm2.txt", "\n".join(shown))


def test_a_beginning_of_sequence_is_not_doubled(tmp_path: Path) -> None:
    """A Llama-like tokenizer adds the token itself, and so does its chat template: the model must see it once."""
    words = ["<BOS>", "<EOS>", "<UNK>", "A", "B", "C", "D"]
    raw = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<UNK>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="<BOS> $A", special_tokens=[("<BOS>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<BOS>", eos_token="<EOS>", unk_token="<UNK>", pad_token="<EOS>"
    )
    tokenizer.chat_template = (CHAT_TEMPLATES / "llama3.jinja").read_text(encoding="utf-8")
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = HFLM(pretrained=str(tmp_path), device="cpu")
    seen: list[list[int]] = []
    original = model._model_call

    def call(inputs: Any, **kwargs: Any) -> Any:
        seen.extend(inputs.tolist())
        return original(inputs, **kwargs)

    def generate(context: Any, **kwargs: Any) -> Any:
        seen.extend(context.tolist())
        return torch.cat([context, torch.full((len(context), 1), words.index("B"))], dim=1)

    model._model_call, model._model_generate = call, generate
    for task in ("eicap_cause_en", "eicap_cause_en_gen"):
        for chat in (False, True):
            out = evaluate(model, [task], apply_chat_template=chat, num_fewshot=1)
            assert len(seen) >= len(out["samples"][task])
            assert all(tokens[0] == 0 and tokens.count(0) == 1 for tokens in seen)
            seen.clear()
    assert out["results"][task]["parse_rate,read"] == 1.0


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
