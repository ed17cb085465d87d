"""Scripted models and chat templates to run the harness without a real model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.api.model import LM

CHAT_TEMPLATES = Path(__file__).parent / "chat_templates"


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


@lru_cache
def chat_template(name: str) -> Callable[..., str]:
    """Load a written chat template; it renders messages as a tokenizer would, and refuses as it would."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    template = environment.from_string((CHAT_TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8"))

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        out = template.render(
            messages=messages, add_generation_prompt=add_generation_prompt, bos_token="<BOS>", eos_token="<EOS>"
        )
        if add_generation_prompt:
            return out
        begun = messages[-1]["content"]  # lm-eval's backends leave the last message open, to be continued
        return out[: out.rindex(begun) + len(begun)]

    return render


class ScriptedModel(LM):  # type: ignore[misc]
    """A model that gives each label the log-likelihood that `score(document, label)` says."""

    def __init__(
        self,
        score: Callable[[dict[str, Any], str], float],
        template: str = "chatml",
        write: Callable[[dict[str, Any]], str] = lambda doc: "A",
    ) -> None:
        super().__init__()
        self.score = score
        self.template = template
        self.write = write
        self.prompts: list[str] = []

    def loglikelihood(self, requests: Sequence[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        self.prompts += [request.args[0] for request in requests]
        return [(self.score(request.doc, request.args[1].strip()), False) for request in requests]

    def loglikelihood_rolling(self, requests: Any, **kwargs: Any) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: Any, **kwargs: Any) -> list[str]:
        self.prompts += [request.args[0] for request in requests]
        return [self.write(request.doc) for request in requests]

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_template(self.template)(messages, add_generation_prompt=add_generation_prompt)

    def chat_template(self, name: bool | str = False) -> str:
        return self.template

    @property
    def tokenizer_name(self) -> str:
        return f"scripted-{self.template}"


def oracle(doc: dict[str, Any], label: str) -> float:
    """Score the right label highest."""
    return 0.0 if label == doc["labels"][doc["gold"]] else -50.0


def always_a(doc: dict[str, Any], label: str) -> float:
    """Score the label A highest, whatever is asked."""
    return 0.0 if label == "A" else -50.0
