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
TILE: Final = (4096, 32768)
"""Tokens and entries of the vocabulary whose logits stand in memory at once: trl takes the loss in such tiles, and
computes each again for its gradient, so that all logits together never do (`trl.kernels.chunked_logprob`)."""
IN_A_TILE: Final = 28
"""Bytes beside each logit while a tile is worked on where Triton does not do it, on a CPU: seven numbers in 32 bits."""


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


def estimate(settings: Settings, *, shards: int = 1) -> Estimate:
    """Count parameters, and estimate the memory of a step, without loading weights.

    The estimate is of weights, gradients, optimizer, the activations of a step, the dropout of the adapters, and a
    tile of the logits. A framework's own memory and fragmentation come on top.

    Args:
        settings: The run.
        shards: How many processes the parameters are split over, as FSDP does; each then also holds the embeddings
            and two layers whole, the one at work and the next.

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
    ends = {id(part.weight): part.weight for part in (empty.get_input_embeddings(), empty.get_output_embeddings())}
    embeddings = sum(weight.numel() for weight in ends.values())
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
    tile = min(tokens, TILE[0]) * min(text.vocab_size, TILE[1])
    tile *= width if torch.cuda.is_available() else width + IN_A_TILE
    head = tile + tokens * text.hidden_size * 4  # the gradient of what goes into it, in 32 bits
    held = (parameters * width + trainable * PER_TRAINABLE) // shards
    if shards > 1:
        held += (embeddings + 2 * (parameters - embeddings) // layers) * width
    memory = held + activations + head
    return Estimate(parameters, trainable, memory)


def check_memory(needed: int, *, strict: bool = True) -> str:
    """Compare the need with what is free; return it as text.

    Args:
        needed: Bytes.
        strict: Whether too little is an error, not only said.

    Raises:
        EicapError: Less is free than needed, on the process's GPU, or of the machine's memory where there is none.
    """
    if torch.cuda.is_available():
        free, where = torch.cuda.mem_get_info()[0], "of the GPU"
    else:
        free, where = psutil.virtual_memory().available, "of this machine"
    if needed <= free:
        return f"about {needed / GIB:.1f} GiB of {free / GIB:.1f} GiB free {where}"
    if strict:
        raise EicapError(
            f"memory: found {free / GIB:.1f} GiB free {where}, expected about {needed / GIB:.1f} GiB: lower "
            "training.batch_size or training.max_length, turn gradient_checkpointing on, or split the model over more "
            "GPUs with FSDP (--no-memory-check starts all the same)"
        )
    return f"about {needed / GIB:.1f} GiB, more than the {free / GIB:.1f} GiB free {where}"


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
    """Tokens of one chat within the maximum length: all, those that are learnt, and those cut off.

    Attributes:
        answer_cut: Whether the last answer is among those cut off, wholly or in part.
    """

    tokens: int
    learnt: int
    cut: int
    answer_cut: bool


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
    cut = mask[max_length:]
    return Size(min(len(mask), max_length), sum(mask[:max_length]), len(cut), any(cut))
