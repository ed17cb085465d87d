"""What a list of models would cost: requests, tokens, memory and time, before any of them is loaded."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from plan import HERE, Model
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM
from work import Work, from_disk, work_of

from eicap_tasks import tables

SHARE = 0.4
"""Of the speed of one large matrix product, what a whole model is taken to reach."""
NUMBERS = ("probes", "requests", "passes", "tokens", "memory", "time")


@dataclass(frozen=True)
class Size:
    """How large a model is: its number of parameters, and its architecture under transformers' names."""

    parameters: int
    config: Any

    def memory(self, dtype: str, batch: int, longest: int) -> float:
        """Estimate the memory that a model needs, in bytes.

        Weights; and for every token of a batch its logits and their log-softmax, keys and values, two copies of the
        hidden state and three of the wide one inside a layer, and, for Gemma 2, a row of attention scores and of
        their softmax (the latter is computed in float32) for every head.

        Args:
            dtype: Of weights and activations.
            batch: Prompts at a time.
            longest: Tokens of the longest prompt.
        """
        c, width = self.config, 4 if dtype == "float32" else 2
        heads = _number(c, "num_attention_heads")  # none: a state-space model, which keeps no keys and values
        head = _number(c, "head_dim") or c.hidden_size // max(heads, 1)
        pairs = _number(c, "num_key_value_heads", "num_kv_heads") or heads
        wide = _number(c, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size") or 4 * c.hidden_size
        numbers = 2 * c.vocab_size + 2 * c.num_hidden_layers * pairs * head + 2 * c.hidden_size + 3 * wide
        scores = (width + 4) * heads * longest if c.model_type == "gemma2" else 0
        return float(width * self.parameters + batch * longest * (width * numbers + scores))

    def seconds(self, tokens: int, speed: float) -> float:
        """Estimate the time of the forward passes: 2 x parameters x tokens / (`SHARE` x speed).

        A parameter multiplies and adds once per token (Kaplan et al. 2020, Scaling Laws for Neural Language Models,
        section 2.1); attention over the prompt, some percent at these lengths, is left out.

        Args:
            tokens: Tokens of all passes.
            speed: Of the device, in floating-point operations per second.
        """
        return 2 * self.parameters * tokens / (SHARE * speed)


def _number(config: Any, *names: str) -> int:
    """Return the first of several names that a config has with a number, since not all use the same; else 0."""
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int)), 0)


def show(chosen: Sequence[Model], tflops: float | None) -> None:
    """Print what would run and what it would cost.

    Args:
        chosen: The models.
        tflops: Speed of the device, in 10^12 operations per second; measured on this machine if None.
    """
    rows: list[dict[str, str]] = []
    speeds: dict[str, float] = {}
    total = 0.0
    for model in chosen:
        row = {"model": model.name, "backend": model.config.model, "tasks": ", ".join(model.names)}
        numbers = ["–"] * (len(NUMBERS) - 1) + ["finished"]
        if model.finished() is None:
            print(f"counting what {model.name} is asked ...", file=sys.stderr, flush=True)
            dtype = str(model.config.model_args.get("dtype", "auto"))
            facts, size = known(model), size_of(model)
            work = work_of(model, facts.get("characters_per_token"))
            seconds = None
            if size is not None and not work.generated:
                speeds[dtype] = speeds.get(dtype) or (tflops * 1e12 if tflops else measured(dtype))
                seconds = size.seconds(work.tokens, speeds[dtype])
                total += seconds
            numbers = _numbers(model, dtype, work, size, seconds)
        rows.append(row | dict(zip(NUMBERS, numbers, strict=True)))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(tables.terminal(rows))
    of = ", ".join(f"{value / 1e12:.3g} TFLOP/s in {dtype}" for dtype, value in speeds.items()) or "not needed"
    source = "--tflops" if tflops else f"measured on {_device()}"
    print(
        f"in all: {clock(total)}, where the time is known\n"
        "passes: hf answers requests that differ in their last token alone in one forward pass, vllm does not\n"
        "~: from characters (sizes.yaml), since the model's tokenizer is not on this machine\n"
        "memory: weights, and activations and logits of the longest prompt; batch size auto: of one prompt\n"
        f"time: 2 x parameters x tokens / ({SHARE} x speed), without loading; speed: {of} ({source})"
    )


def _numbers(model: Model, dtype: str, work: Work, size: Size | None, seconds: float | None) -> list[str]:
    memory, batch = "unknown", str(model.config.batch_size)
    if size is not None:
        memory = f"{size.memory(dtype, int(batch) if batch.isdigit() else 1, work.longest) / 2**30:.1f} GiB"
    about = "" if work.counted else "~"
    numbers = [f"{work.probes:,}", f"{work.requests:,}", f"{about}{work.passes:,}", f"{about}{work.tokens:,}"]
    return [*numbers, memory, "unknown" if seconds is None else clock(seconds)]


def clock(seconds: float) -> str:
    """Show a time: "40 s", "12 min", "3.5 h"."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def measured(dtype: str) -> float:
    """Measure large matrix products on the device that torch finds, for a second, in operations per second."""
    side = 1024 if _device() == "cpu" else 8192
    matrix = torch.ones(side, side, dtype=getattr(torch, dtype, torch.bfloat16), device=_device())
    (matrix @ matrix)[0, 0].item()
    begin, count = time.monotonic(), 0
    while (passed := time.monotonic() - begin) < 1:
        (matrix @ matrix)[0, 0].item()  # waits for the product
        count += 1
    return float(2 * side**3 * count / passed)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def size_of(model: Model) -> Size | None:
    """Return the size of a model, from `sizes.yaml` or from its own config on this machine; None if it is unknown."""
    if facts := known(model):
        return Size(facts["parameters"], AutoConfig.for_model(**facts["config"]))
    config = from_disk(AutoConfig, model)
    if config is None:
        return None
    try:
        with torch.device("meta"):  # takes no memory
            built = AutoModelForCausalLM.from_config(config)
    except (ValueError, ImportError):  # an encoder-decoder, say
        return None
    return Size(built.num_parameters(), config.get_text_config())


def known(model: Model) -> dict[str, Any]:
    """Return what `sizes.yaml` says of a model; empty where it does not know it."""
    facts = yaml.safe_load((HERE / "sizes.yaml").read_text(encoding="utf-8"))
    return next((entry for entry in facts if model.config.model_args.get("pretrained") in entry["models"]), {})
