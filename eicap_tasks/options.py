"""The options of a run, all under the one key `eicap` of lm-eval's `--metadata`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from eicap_tasks.context import ContextKind
from eicap_tasks.errors import EicapError, nearest

KEY: Final = "eicap"


class Options(BaseModel):
    """What a user can set for a run, e.g. `--metadata '{"eicap": {"data": "my_items.jsonl"}}'`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        default=None, description="JSONL file or folder asked instead of our items"
    )
    context: ContextKind = Field(
        default="turns", description="in chat mode: the dialogue's turns as messages, or a transcript in one"
    )


def parse(metadata: Mapping[str, Any] | None) -> Options:
    """Read the options from the metadata that lm-eval hands to a task.

    Args:
        metadata: lm-eval's metadata; everything outside the key `eicap` is passed over.

    Returns:
        The options, with defaults for what is not given.

    Raises:
        EicapError: An option is unknown or has a value that it cannot have.
    """
    given = (metadata or {}).get(KEY, {})
    known = ", ".join(f"{name} ({field.description})" for name, field in Options.model_fields.items())
    if not isinstance(given, Mapping):
        raise EicapError(f"metadata {KEY}: found {given!r}, allowed: an object with the options {known}")
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            name = ".".join(map(str, detail["loc"]))
            if detail["type"] == "extra_forbidden":
                hint = nearest(name, Options.model_fields)
                lines.append(f"metadata {KEY}.{name}: found an unknown option, allowed: {known}{hint}")
            else:
                reason = detail["msg"][0].lower() + detail["msg"][1:]
                lines.append(f"metadata {KEY}.{name}: found {detail['input']!r}, allowed: {reason}")
        raise EicapError("\n".join(lines)) from error
