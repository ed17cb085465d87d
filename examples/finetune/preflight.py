"""What can be known before a run starts: whether the chat template can be trained with, lengths, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psutil
import torch
from accelerate import init_empty_weights
from chats import Chat
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from settings import Settings
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, is_chat_template_stop_token_trained

from eicap_tasks.errors import EicapError

GIB: Final = 2**30
BYTES: Final = {"bfloat16": 2, "float16": 2, "float32": 4}
PER_TRAINABLE: Final = 16
"""Bytes for a trainable parameter: itself, its gradient and the two moments of Adam, in 32 bits each."""
IN_A_LAYER: Final = 34
"""Bytes of activations in a transformer layer per token and hidden unit, in 16 bits, without the attention matrix,
which fused attention does not keep (Korthikanti et al. 2022, Reducing Activation Recomputation, section 4.1)."""


@dataclass(frozen=True)
class Estimate:
    """Numbers of parameters, and bytes for one process."""

    parameters: int
    trainable: int
    memory: int


def lora_config(settings: Settings) -> LoraConfig:
    """Build the configuration of the adapter."""
    lora = settings.lora
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )  # fmt: skip


def estimate(settings: Settings) -> Estimate:
    """Count parameters, and estimate the memory of a step, without loading weights.

    The estimate is of weights, gradients, optimizer, the activations of a step, the dropout of the adapters, and the
    logits with their gradient in 32 bits. A framework's own memory and fragmentation come on top.

    Raises:
        EicapError: The model is not there, or has none of the modules named for the adapter.
    """
    model = settings.model
    try:
        config = AutoConfig.from_pretrained(model.pretrained, revision=model.revision)
    except (OSError, ValueError) as error:
        raise EicapError(f"model.pretrained: found no model {model.pretrained!r}: {error}") from error
    with init_empty_weights():
        empty = AutoModelForCausalLM.from_config(config)
    empty.tie_weights()  # outside: making weights empty unties them
    parameters = sum(p.numel() for p in empty.parameters())
    with init_empty_weights():
        try:
            adapted = get_peft_model(empty, lora_config(settings))
        except ValueError as error:
            raise EicapError(f"lora.target_modules: found {settings.lora.target_modules!r}: {error}") from error
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    widths = sum(module.in_features for module in adapted.modules() if isinstance(module, LoraLayer))
    text = config.get_text_config()
    tokens = settings.training.batch_size * settings.training.max_length
    width = BYTES[model.dtype]
    layers = text.num_hidden_layers
    layer = tokens * text.hidden_size * IN_A_LAYER * width // 2
    if settings.lora.dropout:  # of what goes into each adapter, a copy and a mask
        layer += tokens * widths * 2 * width // layers
    kept = tokens * text.hidden_size * width  # with checkpointing, of each layer its input alone
    activations = layers * kept + layer if settings.training.gradient_checkpointing else layers * layer
    logits = tokens * text.vocab_size * (width + 4 + 4)
    memory = parameters * width + trainable * PER_TRAINABLE + activations + logits
    return Estimate(parameters, trainable, memory)


def check_memory(needed: int) -> str:
    """Compare the need with what is free; return it as text.

    Raises:
        EicapError: Less is free than needed, on the first GPU, or of the machine's memory where there is none.
    """
    if torch.cuda.is_available():
        free, where = torch.cuda.mem_get_info()[0], "of the GPU"
    else:
        free, where = psutil.virtual_memory().available, "of this machine"
    if needed > free:
        raise EicapError(
            f"memory: found {free / GIB:.1f} GiB free {where}, expected about {needed / GIB:.1f} GiB: lower "
            "training.batch_size or training.max_length, turn gradient_checkpointing on, or use FSDP "
            "(--no-memory-check starts all the same)"
        )
    return f"about {needed / GIB:.1f} GiB of {free / GIB:.1f} GiB free {where}"


def training_template(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """Find a chat template that says which tokens are the assistant's.

    trl knows how to mark them in the templates of Qwen2.5, Llama 3, Gemma 2 and others, without a change of the text.

    Args:
        tokenizer: The tokenizer, with the template of the settings if they name one.
        name: Of the model, for errors.

    Raises:
        EicapError: It has none; or one that is not known and has no `{% generation %}` marks; or one in which the
            assistant's last token is not part of what is learnt, so that a model would never learn to stop.
    """
    mend = "expected a template with {% generation %} marks: name a file under model.chat_template, such as plain.jinja"
    if tokenizer.chat_template is None:
        raise EicapError(f"{name}: found no chat template in the tokenizer, {mend}")
    try:
        marked = str(get_training_chat_template(tokenizer) or tokenizer.chat_template)
    except ValueError as error:
        raise EicapError(f"{name}: found a chat template without marks that trl does not know, {mend}") from error
    if not is_chat_template_stop_token_trained(tokenizer, chat_template=marked):
        raise EicapError(f"{name}: found a chat template that leaves the end of a turn out of the loss, {mend}")
    return marked


@dataclass(frozen=True)
class Size:
    """Tokens of one chat within the maximum length: all, those that are learnt, and those cut off."""

    tokens: int
    learnt: int
    cut: int


def size(chat: Chat, tokenizer: PreTrainedTokenizerBase, template: str, max_length: int) -> Size:
    """Count the tokens of a chat.

    Raises:
        EicapError: The template refuses the chat, as Gemma 2's refuses a system message.
    """
    try:
        found: Any = tokenizer.apply_chat_template(
            chat.messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception as error:  # whatever a template raises
        raise EicapError(f"chat {chat.id}: the model's chat template refuses it: {error}") from error
    mask = found["assistant_masks"]
    return Size(min(len(mask), max_length), sum(mask[:max_length]), max(0, len(mask) - max_length))
