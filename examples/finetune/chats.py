"""Chat data: read from files or the hub, in the `messages` form or in UltraChat's own, and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import datasets

from eicap_tasks.errors import EicapError

ROLES: Final = ("system", "user", "assistant")
FILES: Final = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class Chat:
    """One conversation: at most one system message, then user and assistant in turn, the assistant last.

    Attributes:
        id: What the data calls it, or its number, counted from 1.
        messages: `{"role": ..., "content": ...}` each.
    """

    id: str
    messages: list[dict[str, str]]


def load(source: str, *, split: str = "train", name: str | None = None, limit: int | None = None) -> list[Chat]:
    """Read chats.

    Args:
        source: A JSON, JSONL or Parquet file, or the id of a dataset on the hub.
        split: Which split, for the hub.
        name: Which configuration, for the hub.
        limit: So many chats from the beginning; all if None.

    Raises:
        EicapError: The source is not there, or a chat is in no form that is known.
    """
    rows = _file_rows(Path(source)) if Path(source).suffix in FILES else _hub_rows(source, split, name, limit)
    chats: dict[str, Chat] = {}
    for where, row in rows:
        if limit is not None and len(chats) == limit:
            break
        chat = read(row, where, default_id=str(len(chats) + 1))
        if chat.id in chats:
            raise EicapError(f"{where}: id: found {chat.id!r} again, expected every id once")
        chats[chat.id] = chat
    if not chats:
        raise EicapError(f"{source}: found no chat")
    return list(chats.values())


def read(row: object, where: str, default_id: str) -> Chat:
    """Read one chat of either form.

    Args:
        row: A mapping with `messages` (role and content each), or `data` (UltraChat: the texts alone, the user
            first), and perhaps `id`.
        where: Where it stands, for errors.
        default_id: Its id if it has none.

    Raises:
        EicapError: It has neither form, a text is empty, or the roles do not alternate.
    """
    if not isinstance(row, dict):
        raise EicapError(f"{where}: found {type(row).__name__}, expected an object")
    if isinstance(row.get("messages"), list):
        field, messages = "messages", [_message(m, f"{where}: messages[{i}]") for i, m in enumerate(row["messages"])]
    elif isinstance(row.get("data"), list):
        field, messages = (
            "data",
            [
                _message({"role": ROLES[1 + i % 2], "content": text}, f"{where}: data[{i}]")
                for i, text in enumerate(row["data"])
            ],
        )
    else:
        raise EicapError(
            f"{where}: found the fields {', '.join(map(str, row)) or 'none'}, expected messages (a list of role and "
            "content) or data (a list of texts, the user first)"
        )
    _check_roles([m["role"] for m in messages], f"{where}: {field}")
    name = row.get("id")  # not `prompt_id`: several chats can begin with the same prompt
    return Chat(default_id if name is None else str(name), messages)


def digest(chats: Iterable[Chat]) -> str:
    """Hash chats: sha256 in hex, of ids, roles and contents in their order."""
    lines = (json.dumps([chat.id, chat.messages], sort_keys=True) for chat in chats)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _message(message: object, where: str) -> dict[str, str]:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        found = message.get("role") if isinstance(message, dict) else message
        raise EicapError(f"{where}: role: found {_short(found)}, expected {', '.join(ROLES)}")
    if not isinstance(content := message.get("content"), str) or not content.strip():
        raise EicapError(f"{where}: content: found {_short(content)}, expected a text")
    return {"role": message["role"], "content": content}


def _check_roles(roles: list[str], where: str) -> None:
    turns = roles[1:] if roles[:1] == ["system"] else roles
    wrong = next((i for i, role in enumerate(turns) if role != ROLES[1 + i % 2]), None)
    if wrong is not None:
        expected, place = ROLES[1 + wrong % 2], wrong + len(roles) - len(turns)
        raise EicapError(f"{where}[{place}]: role: found {turns[wrong]}, expected {expected} (in turn, the user first)")
    if not turns or len(turns) % 2:
        raise EicapError(f"{where}: found {len(turns)} turns, expected an even number, the assistant's last")


def _file_rows(file: Path) -> Iterator[tuple[str, Any]]:
    if not file.is_file():
        raise EicapError(f"{file}: found no such file")
    if file.suffix == ".jsonl":
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}:{number}", _parsed(line, f"{file}:{number}")
    elif file.suffix == ".json":
        rows = _parsed(file.read_bytes(), str(file))
        if not isinstance(rows, list):
            raise EicapError(f"{file}: found {type(rows).__name__}, expected a list of chats (or a .jsonl file)")
        yield from ((f"{file}: chat {number}", row) for number, row in enumerate(rows, 1))
    else:
        try:
            table = datasets.Dataset.from_parquet(str(file), keep_in_memory=True)
        except Exception as error:  # whatever pyarrow and datasets raise for a file that is none
            raise EicapError(f"{file}: found no Parquet table: {error}") from error
        yield from ((f"{file}: row {number}", row) for number, row in enumerate(table, 1))


def _hub_rows(source: str, split: str, name: str | None, limit: int | None) -> Iterator[tuple[str, Any]]:
    part = f"{split}[:{limit}]" if limit is not None else split
    try:
        table = datasets.load_dataset(source, name, split=part)
    except (OSError, ValueError) as error:
        allowed = f"a file ({', '.join(FILES)}) or the id of a dataset on the hub"
        raise EicapError(f"{source}: found no such data, expected {allowed}: {error}") from error
    yield from ((f"{source}, {split} {number}", row) for number, row in enumerate(table, 1))


def _parsed(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EicapError(f"{where}: found no JSON: {error}") from error


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:60]}…"
