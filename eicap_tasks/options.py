"""The options of a run, all under the one key `eicap` of lm-eval's `--metadata`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from eicap_tasks.context import ContextKind
from eicap_tasks.errors import EicapError, nearest
from eicap_tasks.views import Show
from eicap_tasks.vocabulary import LABELS

KEY: Final = "eicap"
_EXAMPLE = '{"eicap": {"data": "my_items.jsonl"}}'


def _path(found: object) -> object:
    """Expand a path's `~`; an empty path would silently be the current folder."""
    if isinstance(found, str):
        try:
            if found.strip():
                return Path(found).expanduser()
        except RuntimeError:
            pass
        raise PydanticCustomError("path", "the path of a JSONL file or of a folder with some")
    return found


def _labels(found: object) -> object:
    if not isinstance(found, str) or found not in LABELS:
        raise PydanticCustomError("labels", "{names}", {"names": " or ".join(map(repr, LABELS))})
    return found


System = Literal["auto", "user"]
"""Where the instruction stands: in a system message where the chat template has one, or in the first user message."""


class Options(BaseModel):
    """What a user can set for a run, e.g. `--metadata '{"eicap": {"data": "my_items.jsonl"}}'`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[Path | None, BeforeValidator(_path)] = Field(
        default=None, description="JSONL file or folder asked instead of our items"
    )
    context: ContextKind = Field(
        default="turns", description="in chat mode: the dialogue's turns as messages, or a transcript in one"
    )
    system: System = Field(
        default="auto", description="where the instruction stands: where the chat template takes it, or with the user"
    )
    labels: Annotated[str, BeforeValidator(_labels)] = Field(
        default="latin", description=f"of the options: {', '.join(f'{k} {chr(32).join(v)}' for k, v in LABELS.items())}"
    )
    show: Show = Field(
        default="dialogue", description="all of an item, its last_turn and question only, or the choices only"
    )


def parse(metadata: Mapping[str, Any] | None) -> Options:
    """Read the options from the metadata that lm-eval hands to a task.

    Args:
        metadata: lm-eval's metadata; keys that do not look like `eicap` are passed over.

    Returns:
        The options, with defaults for what is not given.

    Raises:
        EicapError: The metadata is no mapping, an option is unknown or has a value that it cannot have, or the key
            is misspelt.
    """
    known = ", ".join(f"{name} ({field.description})" for name, field in Options.model_fields.items())
    if metadata is not None and not isinstance(metadata, Mapping):
        raise EicapError(f"metadata: found {metadata!r}, allowed: an object, as in {_EXAMPLE}; options: {known}")
    for key in metadata or {}:
        if key != KEY and (KEY in key.lower() or get_close_matches(key.lower(), [KEY], cutoff=0.8)):
            raise EicapError(f"metadata: found the key {key!r}, allowed: {KEY!r}, as in {_EXAMPLE}; options: {known}")
    given = (metadata or {}).get(KEY, {})
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
