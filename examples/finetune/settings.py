"""The settings of one fine-tuning run, read from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eicap_tasks.errors import EicapError, nearest

Count = Annotated[int, Field(ge=1)]
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]
"""Those of transformers that need nothing but the warm-up."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Model(_Strict):
    """The model to start from.

    Attributes:
        pretrained: Id on the hub, or a folder.
        revision: Which version on the hub.
        dtype: Of the frozen weights.
        attn_implementation: As in transformers; its own choice if None.
        chat_template: A Jinja file, for a model without a template or with one that cannot be trained with.
    """

    pretrained: str
    revision: str | None = None
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    attn_implementation: str | None = None
    chat_template: Path | None = None


class Data(_Strict):
    """The chats: see `chats.load`."""

    source: str
    split: str = "train"
    name: str | None = None
    limit: Count | None = None


class Lora(_Strict):
    """The adapter (Hu et al. 2021): rank, scale, and which layers have one."""

    r: Count = 16
    alpha: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    target_modules: str | list[str] = "all-linear"


class Training(_Strict):
    """How it is trained; lengths in tokens, `batch_size` per process."""

    epochs: Annotated[float, Field(gt=0)] = 1
    max_steps: Count | None = None
    learning_rate: Annotated[float, Field(ge=0)] = 2e-4
    schedule: Schedule = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    batch_size: Count = 4
    gradient_accumulation: Count = 4
    max_length: Count = 2048
    packing: bool = False
    gradient_checkpointing: bool = True
    seed: int = 1234
    save_steps: Count = 200
    logging_steps: Count = 10


class Settings(_Strict):
    """One run; relative paths are relative to where the command runs, but `chat_template` to the file itself."""

    model: Model
    data: Data
    lora: Lora = Lora()
    training: Training = Training()
    output: Path


def load(file: Path, overrides: list[str] | None = None) -> Settings:
    """Read and check a YAML file.

    Args:
        file: The file.
        overrides: `KEY.KEY=VALUE`, which stand above what the file says.

    Raises:
        EicapError: With every field that is wrong: what was found, what is allowed.
    """
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EicapError(f"{file}: found no YAML that can be read: {error}") from error
    if not isinstance(raw, dict):
        raise EicapError(f"{file}: found {type(raw).__name__}, expected the keys {', '.join(Settings.model_fields)}")
    for override in overrides or []:
        _override(raw, override)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise EicapError("\n".join(f"{file}: {_line(dict(detail))}" for detail in error.errors())) from error
    if (template := settings.model.chat_template) is None:
        return settings
    if not (found := file.parent / template).is_file():
        raise EicapError(f"{file}: model.chat_template: found no file {found}")
    return settings.model_copy(update={"model": settings.model.model_copy(update={"chat_template": found})})


def _override(raw: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    *parents, last = path.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise EicapError(f"--set {override}: found no section {parent!r}")
    if not equals:
        raise EicapError(f"--set {override}: found no '=', expected KEY=VALUE, such as training.epochs=2")
    try:
        raw[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise EicapError(f"--set {override}: found no YAML after '=': {error}") from error


def _line(detail: dict[str, Any]) -> str:
    field = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing":
        return f"{field}: found nothing, expected a value"
    if detail["type"] == "extra_forbidden":
        section: Any = Settings
        for part in detail["loc"][:-1]:
            section = section.model_fields[part].annotation
        known = list(section.model_fields)
        return f"{field}: found an unknown key, expected {', '.join(known)}{nearest(str(detail['loc'][-1]), known)}"
    return f"{field}: found {detail['input']!r}, expected: {detail['msg'].lower()}"
