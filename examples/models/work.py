"""What a model is asked: the requests that lm-eval builds, the forward passes that answer them, and their tokens."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from lm_eval.api.task import ConfigurableTask
from plan import Model, load_tasks
from transformers import AutoTokenizer

HF = ("hf", "hf-auto", "huggingface")
CHARACTERS_PER_TOKEN = {"en": 3.9, "ar": 2.4}
"""Where neither the model's tokenizer nor `sizes.yaml` says it: about what those of Llama 3, Qwen and Gemma need."""


@dataclass(frozen=True)
class Work:
    """What a model is asked.

    Attributes:
        probes: Number of probes, over all tasks.
        requests: Number of requests that lm-eval builds for them.
        passes: Number of forward passes. In lm-eval's `hf` backend, one answers all requests that differ in their last
            token alone: the four letters, and a plain prompt that is also the first rotation of its circular form. In
            other backends each request needs its own.
        tokens: Tokens of all passes; of generated answers, as many as they may have.
        longest: Tokens of the longest request.
        counted: Whether the model's own tokenizer counted them; else they are guessed from characters.
        generated: Whether there are generated answers among them.
    """

    probes: int
    requests: int
    passes: int
    tokens: int
    longest: int
    counted: bool
    generated: bool


class Request(NamedTuple):
    """One request: the language of its task, its context, what continues it, and tokens to be generated."""

    lang: str
    context: str
    continuation: str
    generated: int


Encode = Callable[[Sequence[str], bool], list[Sequence[object]]]
"""Texts, and whether they are contexts -> their tokens."""


def work_of(model: Model, characters_per_token: dict[str, float] | None) -> Work:
    """Count what a model is asked.

    Args:
        model: The model; its tokenizer and chat template are used where they are on this machine.
        characters_per_token: For each language, to guess the tokens from where they are not.
    """
    tokenizer, config = from_disk(AutoTokenizer, model), model.config
    template: Callable[..., str] | None = None
    if config.apply_chat_template:
        template = _template(tokenizer, config) if getattr(tokenizer, "chat_template", None) else chatml
    tasks = model.tasks
    requests = _built(
        tuple(model.names), model.options, tuple(map(model.probes, tasks.values())), config.num_fewshot or 0,
        config.system_instruction, bool(config.fewshot_as_multiturn), template,
    )  # fmt: skip
    passes: dict[object, int] = {}
    longest = 0
    for lang in sorted({request.lang for request in requests}):
        own = [request for request in requests if request.lang == lang]
        per_token = (characters_per_token or CHARACTERS_PER_TOKEN)[lang]
        encode = _encoder(tokenizer, config) if tokenizer is not None else _guesser(per_token)
        contexts = _encoded([request.context for request in own], encode, True)
        ends = _encoded([request.continuation for request in own], encode, False)
        for number, (_, context, continuation, generated) in enumerate(own):
            end = ends[continuation]
            length = (len(contexts[context]) if context else 1) + len(end) + generated
            shared = config.model in HF and not generated  # the last token of a pass is asked for, not given
            passes[(context, tuple(end[:-1])) if shared else (lang, number)] = length - shared
            longest = max(longest, length)
    generates = any(request.generated for request in requests)
    probes = sum(map(model.probes, tasks.values()))
    counted = tokenizer is not None
    return Work(probes, len(requests), len(passes), sum(passes.values()), longest, counted, generates)


def from_disk(kind: Any, model: Model) -> Any:
    """Load a config or a tokenizer from a folder or the hub's local cache; None where it is not there.

    Args:
        kind: `AutoConfig` or `AutoTokenizer`.
        model: The model that it belongs to.
    """
    arguments = model.config.model_args
    given = {name: arguments[name] for name in ("revision", "gguf_file", "subfolder") if arguments.get(name)}
    path = arguments.get("pretrained")
    if kind is AutoTokenizer and arguments.get("tokenizer"):
        path, given = arguments["tokenizer"], {}
    try:
        return kind.from_pretrained(str(path), local_files_only=True, **given) if path else None
    except (OSError, ValueError, KeyError, ImportError):
        return None


@lru_cache(maxsize=2)  # without a tokenizer of their own, models of a kind are asked the same
def _built(
    names: tuple[str, ...],
    options: str,
    probes: tuple[int, ...],
    shots: int,
    system: str | None,
    multiturn: bool,
    template: Callable[..., str] | None,
) -> list[Request]:
    """Let lm-eval build the requests of tasks, some probes of each."""
    found = []
    for task, limit in zip(load_tasks(names, options).values(), probes, strict=True):
        task.set_config(key="num_fewshot", value=shots)
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            ConfigurableTask.build_all_requests(  # not ours, which renders all prompts once more to sign them
                task, limit=limit, rank=0, world_size=1, system_instruction=system,
                apply_chat_template=template is not None, fewshot_as_multiturn=multiturn, chat_template=template,
            )  # fmt: skip
        lang = task.config.dataset_kwargs["lang"]
        for instance in task.instances:
            context, rest = instance.args
            text, most = (rest, 0) if isinstance(rest, str) else ("", int(rest.get("max_gen_toks", 256)))
            found.append(Request(lang, context, text, most))
    return found


def chatml(messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """Render messages in the ChatML format, for a model whose own template is not on this machine."""
    text = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return f"{text}<|im_start|>assistant\n" if add_generation_prompt else text


def _template(tokenizer: Any, config: Any) -> Callable[..., str]:
    def render(messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt, **(config.model_args.get("chat_template_args") or {}),
        )  # fmt: skip
        return text

    return render


def _encoder(tokenizer: Any, config: Any) -> Encode:
    """Encode texts as lm-eval does: a context begins with one BOS, if the tokenizer adds one."""
    add = config.model_args.get("add_bos_token")

    def encode(texts: Sequence[str], begins: bool) -> list[Sequence[object]]:
        has = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
        special = begins and not has and (add is None or bool(add))
        ids: list[Sequence[object]] = tokenizer(list(texts), add_special_tokens=special).input_ids
        return ids

    return encode


def _guesser(per_token: float) -> Encode:
    """Cut texts into as many pieces of equal length as they may have tokens."""

    def cut(text: str) -> Sequence[object]:
        count = max(1, round(len(text) / per_token))
        return [text[round(i * per_token) : round((i + 1) * per_token)] for i in range(count)]

    return lambda texts, begins: [cut(text) for text in texts]


def _encoded(texts: Sequence[str], encode: Encode, begins: bool) -> dict[str, Sequence[object]]:
    each = [text for text in dict.fromkeys(texts) if text]
    return {"": [], **(dict(zip(each, encode(each, begins), strict=True)) if each else {})}
