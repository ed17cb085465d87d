"""LoRA fine-tuning on chats, as in the paper: `python examples/finetune/finetune.py SETTINGS.yaml`.

Several GPUs: `accelerate launch --config_file examples/finetune/accelerate/ddp.yaml examples/finetune/finetune.py ...`.
The same command again goes on from the last checkpoint. The README beside this file says more.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import chats
import matplotlib.pyplot as plt
import preflight
import settings as settings_module
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, tqdm
from datasets import Dataset
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from settings import Settings
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from eicap_tasks.errors import EXIT_CODE, EicapError

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "eicap-tasks")


@dataclass(frozen=True)
class Prepared:
    """All that is known before the weights are loaded."""

    settings: Settings
    tokenizer: PreTrainedTokenizerBase
    chats: list[chats.Chat]
    record: dict[str, Any]


def prepare(settings: Settings, *, processes: int = 1, memory_check: bool = True) -> Prepared:
    """Check everything that can be checked before the weights are loaded, and say what will happen.

    Args:
        settings: The run.
        processes: How many take part; each takes `batch_size` chats a step.
        memory_check: Whether too little memory is an error, not only said.

    Raises:
        EicapError: The model, its template, the data or the memory will not do.
    """
    model, training = settings.model, settings.training
    needs = preflight.estimate(settings, shards=processes if parse_flag_from_env("ACCELERATE_USE_FSDP") else 1)
    memory = preflight.check_memory(needs.memory, strict=memory_check)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.pretrained, revision=model.revision)
    except (OSError, ValueError) as error:
        raise EicapError(f"model.pretrained: found no tokenizer of {model.pretrained!r}: {error}") from error
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template.read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    template = preflight.training_template(tokenizer, model.pretrained)
    found = chats.load(settings.data.source, **settings.data.model_dump(exclude={"source"}))
    bar = tqdm(found, desc="tokens are counted", unit=" chats")
    sizes = [preflight.size(chat, tokenizer, template, training.max_length) for chat in bar]
    used = [(chat, size) for chat, size in zip(found, sizes, strict=True) if size.learnt]
    if not used:
        raise EicapError(
            f"training.max_length: found {training.max_length}, which leaves no assistant's turn of any chat"
        )
    tokens = sum(size.tokens for _, size in used)
    rows = math.ceil(tokens / training.max_length) if training.packing else len(used)
    batches = math.ceil(rows / (training.batch_size * processes))
    per_epoch = math.ceil(batches / training.gradient_accumulation)
    record = {
        "settings": settings.model_dump(mode="json"),
        "data": {
            "sha256": chats.digest(chat for chat, _ in used), "chats": len(used), "left_out": len(found) - len(used),
            "cut": sum(size.cut > 0 for _, size in used), "answers_cut": sum(size.answer_cut for _, size in used),
        },
        "template": hashlib.sha256(template.encode()).hexdigest(),
        "tokens": tokens,
        "tokens_learnt": sum(size.learnt for _, size in used),
        "steps": training.max_steps or math.ceil(training.epochs * per_epoch),
        "parameters": needs.parameters,
        "trainable": needs.trainable,
        "memory": memory,
        "processes": processes,
        "versions": {"python": sys.version.split()[0], **{package: version(package) for package in PACKAGES}},
    }  # fmt: skip
    return Prepared(settings, tokenizer, [chat for chat, _ in used], record)


def announce(record: dict[str, Any]) -> str:
    """Say what a run will do, before it does it."""
    data, training = record["data"], record["settings"]["training"]
    about = "about " if training["packing"] else ""
    return "\n".join(
        [
            f"model       {record['settings']['model']['pretrained']}, {record['parameters']:,} parameters",
            f"trainable   {record['trainable']:,} ({record['trainable'] / record['parameters']:.2%})",
            f"data        {data['chats']:,} chats, {record['tokens']:,} tokens",
            f"            {record['tokens_learnt']:,} of them are the assistant's and learnt",
            f"            {data['cut']:,} chats are cut at {training['max_length']:,} tokens",
            f"            {data['answers_cut']:,} of them lose their last answer or its end",
            f"            {data['left_out']:,} more are left out: no turn of the assistant before the cut",
            f"steps       {about}{record['steps']:,}",
            f"memory      {record['memory']}",
        ]
    )


def check_output(output: Path, known: dict[str, Any]) -> str | None:
    """Look at what is in the output folder already.

    Args:
        output: The folder.
        known: The record of the run, or what is known of it so far.

    Returns:
        The checkpoint to go on from, or None for a new run.

    Raises:
        EicapError: The folder holds a run of other settings, data or template, or a finished one.
    """
    file = output / "record.json"
    if not file.is_file():
        if output.is_dir() and any(output.iterdir()):
            raise EicapError(f"{output}: found a folder with something else in it, expected a new one: set output")
        return None
    before = json.loads(file.read_text(encoding="utf-8"))
    same = ("settings", "data", "template", "processes")
    differing = [key for key in same if key in known and before.get(key) != known[key]]
    if differing:
        raise EicapError(f"{output}: found a run with other {', '.join(differing)}, expected the same: set output")
    if "loss" in before:
        raise EicapError(
            f"{output}: found a finished run (adapter and record are there), expected a new folder: set output"
        )
    whole = [state.parent for state in output.glob("checkpoint-*/trainer_state.json")]  # which is written last
    return str(max(whole, key=lambda folder: int(folder.name.removeprefix("checkpoint-")))) if whole else None


class _Log(TrainerCallback):  # type: ignore[misc]
    """Writes `log.csv` whenever something is logged; what a checkpoint held stands in it too.

    Attributes:
        file: Where to.
        saved: Called after every checkpoint, in the first process.
    """

    def __init__(self, output: Path, saved: Callable[[], None]) -> None:
        self.file = output / "log.csv"
        self.saved = saved

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log before every checkpoint, the last step's too, so that no step's loss is lost where a run goes on."""
        control.should_log |= control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell that a checkpoint is there."""
        if state.is_world_process_zero:
            self.saved()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the steps that were logged so far."""
        if state.is_world_process_zero:
            rows = [row for row in state.log_history if "loss" in row]
            columns = ["step", "epoch", "loss", "learning_rate", "grad_norm"]
            with self.file.open("w", newline="", encoding="utf-8") as out:
                writer = csv.DictWriter(out, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)


def trainer_of(prepared: Prepared, saved: Callable[[], None] = lambda: None) -> SFTTrainer:
    """Load the weights and build the trainer.

    Args:
        prepared: The run.
        saved: Called after every checkpoint, in the first process.
    """
    model, training = prepared.settings.model, prepared.settings.training
    arguments = SFTConfig(
        output_dir=str(prepared.settings.output),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=training.warmup_steps,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        max_length=training.max_length,
        packing=training.packing,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        assistant_only_loss=True,
        bf16=model.dtype == "bfloat16",
        fp16=model.dtype == "float16",
        seed=training.seed,
        save_steps=training.save_steps,
        save_total_limit=2,
        logging_first_step=True,
        logging_steps=training.logging_steps,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
    )
    weights = AutoModelForCausalLM.from_pretrained(
        model.pretrained, dtype=getattr(torch, model.dtype), attn_implementation=model.attn_implementation,
        revision=model.revision,
    )  # fmt: skip
    weights.config.use_cache = False
    return SFTTrainer(
        model=weights,
        args=arguments,
        train_dataset=Dataset.from_list([{"messages": chat.messages} for chat in prepared.chats]),
        processing_class=prepared.tokenizer,
        peft_config=preflight.lora_config(prepared.settings),
        callbacks=[_Log(prepared.settings.output, saved)],
    )


def train(prepared: Prepared) -> None:
    """Train, or go on; write adapter, tokenizer, log, plot and record into the output folder.

    The record's `loss` is the mean over all steps, those before an interruption too; `seconds` are those of all calls,
    of one that was cut off up to its last checkpoint.

    Raises:
        EicapError: See `check_output`; or no adapter was written.
    """
    output, state, begin = prepared.settings.output, PartialState(), time.time()
    file = output / "record.json"
    checkpoint = check_output(output, prepared.record)
    before = json.loads(file.read_text(encoding="utf-8")).get("seconds", 0) if checkpoint else 0
    state.wait_for_everyone()  # all have looked before one writes

    def note(**more: Any) -> None:
        _write(file, {**prepared.record, "seconds": before + time.time() - begin, **more})

    if state.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        note()
    trainer = trainer_of(prepared, note)
    trainer.train(resume_from_checkpoint=checkpoint)
    save(trainer)
    if state.is_main_process:
        history = trainer.state.log_history
        plot(history, output / "loss.png")
        note(loss=mean_loss(history), steps_done=trainer.state.global_step, device=str(trainer.args.device))


def save(trainer: SFTTrainer) -> None:
    """Write the adapter and the tokenizer.

    Raises:
        EicapError: No adapter came of it.
    """
    if trainer.is_fsdp_enabled:  # checkpoints may be in parts, but of an adapter in parts transformers writes nothing
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model()
    file = Path(trainer.args.output_dir) / SAFETENSORS_WEIGHTS_NAME
    if trainer.args.should_save and not file.is_file():
        raise EicapError(f"{file}: found no adapter after the training, the checkpoints beside it are kept")


def mean_loss(history: list[dict[str, float]]) -> float:
    """Average the loss over steps; each entry has the mean of the steps since the one before."""
    total, last = 0.0, 0.0
    for row in history:
        if "loss" in row:
            total, last = total + row["loss"] * (row["step"] - last), row["step"]
    return total / last


def plot(history: list[dict[str, float]], file: Path) -> None:
    """Draw the loss over steps, and the learning rate below it."""
    rows = [row for row in history if "loss" in row]
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 5), height_ratios=[3, 1], layout="constrained")
    steps = [row["step"] for row in rows]
    above.plot(steps, [row["loss"] for row in rows], marker="." if len(rows) < 50 else "")
    above.set_ylabel("loss, nats per token\n(assistant's turns)")
    below.plot(steps, [row["learning_rate"] for row in rows])
    below.set(xlabel="step", ylabel="learning rate")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _write(file: Path, record: dict[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(file)


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, help="YAML file; README.md has the keys")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="training.epochs=2, output=DIR")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would happen, load no weights"
    )
    parser.add_argument("--no-memory-check", action="store_true", help="start with too little memory, too")
    arguments = parser.parse_args(words)
    try:
        state = PartialState(cpu=not torch.cuda.is_available())
        settings = settings_module.load(arguments.settings, arguments.set)
        if not arguments.dry_run:  # what is known of the run before the data is read; `train` looks again
            known = {"settings": settings.model_dump(mode="json"), "processes": state.num_processes}
            check_output(settings.output, known)
        strict = not (arguments.dry_run or arguments.no_memory_check)
        prepared = prepare(settings, processes=state.num_processes, memory_check=strict)
        if state.is_main_process:
            print(announce(prepared.record), flush=True)
        if not arguments.dry_run:
            train(prepared)
    except EicapError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
