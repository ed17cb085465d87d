"""The files that a translation writes, chat by chat, and goes on with when it is called again."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chats import Chat, digest
from translation_checks import Problem

from eicap_tasks.errors import EicapError

ANEW = "give another OUT to begin anew"


class Records:
    """OUT.jsonl, and beside it OUT.dropped.jsonl and OUT.meta.json.

    Args:
        file: OUT.jsonl.
        chats: All chats, in their order.
        settings: All else that the translations depend on, as JSON values.

    Attributes:
        done: Ids of the chats that stand in either file.
        reasons: Why chats were dropped, and how many for each reason.

    Raises:
        EicapError: What is there was made from other chats, with other settings or by something else.
    """

    def __init__(self, file: Path, chats: Sequence[Chat], settings: dict[str, Any]) -> None:
        if file.suffix != ".jsonl":
            raise EicapError(f"OUT: found {str(file)!r}, expected a name that ends in .jsonl")
        self.file, self.dropped = file, file.with_suffix(".dropped.jsonl")
        self._meta = file.with_suffix(".meta.json")
        self._now = {"settings": settings, "chats": len(chats), "sha256": digest(chats)}
        if there := [each for each in (self.file, self.dropped) if each.exists()]:
            if not self._meta.exists():
                raise EicapError(
                    f"{there[0]}: found it without {self._meta.name}, so it is not of this command; {ANEW}"
                )
            self._check_meta(chats, settings)
        kept, dropped = _read(self.file), _read(self.dropped)
        self.done = {record["id"] for record in kept + dropped}
        self.reasons = Counter(record["reason"] for record in dropped)

    def _check_meta(self, chats: Sequence[Chat], settings: dict[str, Any]) -> None:
        try:
            meta = json.loads(self._meta.read_text(encoding="utf-8"))
            before, count, sha256 = dict(meta["settings"]), int(meta["chats"]), str(meta["sha256"])
        except (ValueError, LookupError, TypeError) as error:
            raise EicapError(f"{self._meta}: found {error!r}, expected what this command wrote; {ANEW}") from error
        for key in before | settings:
            if (now := settings.get(key)) != (then := before.get(key)):
                found, expected = json.dumps(now, ensure_ascii=False), json.dumps(then, ensure_ascii=False)
                raise EicapError(f"{self._meta}: {key}: found {found}, expected {expected}, as before; {ANEW}")
        if len(chats) < count or digest(chats[:count]) != sha256:
            found = f"{len(chats)} chats" if len(chats) < count else "other chats"
            raise EicapError(f"{self._meta}: chats: found {found}, expected the {count} of before, or more; {ANEW}")

    def begin(self) -> None:
        """Write what the translations depend on: not before a model is loaded, whose name may be mistaken."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self._meta.with_suffix(".part")
        part.write_text(json.dumps(self._now, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(self._meta)

    def keep(self, chat: Chat, lang: str, texts: Sequence[str]) -> None:
        """Write a translated chat.

        Args:
            chat: The chat.
            lang: The language it is in now.
            texts: Its messages, as many as it has.
        """
        messages = [{"role": m["role"], "content": text} for m, text in zip(chat.messages, texts, strict=True)]
        _append(self.file, {"id": chat.id, "lang": lang, "messages": messages})
        self.done.add(chat.id)

    def drop(self, chat: Chat, turn: int, problem: Problem, text: str) -> None:
        """Write why a chat is dropped.

        Args:
            chat: The chat.
            turn: Place of the message that fails, from 1.
            problem: How it fails.
            text: Its translation.
        """
        message = chat.messages[turn - 1]
        reason = {"reason": problem.reason, "detail": problem.detail}
        texts = {"source": message["content"], "translation": text}
        _append(self.dropped, {"id": chat.id, "turn": turn, "role": message["role"], **reason, **texts})
        self.done.add(chat.id)
        self.reasons[problem.reason] += 1

    def summary(self) -> str:
        """Say how many chats were kept and dropped, in all calls, and why."""
        total, dropped = len(self.done), self.reasons.total()
        kept = total - dropped
        lines = [
            f"{total} chats: {kept} ({kept / total:.1%}) translated in {self.file}, "
            f"{dropped} ({dropped / total:.1%}) dropped{f', see {self.dropped}' if dropped else ''}"
        ]
        lines += [f"  {reason}: {count} ({count / total:.1%})" for reason, count in self.reasons.most_common()]
        return "\n".join(lines)


def _append(file: Path, record: dict[str, Any]) -> None:
    # Half of a surrogate pair cannot be encoded; its backslash form means the same in JSON.
    with file.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as out:
        out.write(json.dumps(record, ensure_ascii=False) + "\n")


def _read(file: Path) -> list[dict[str, Any]]:
    """Return id and reason of every line, and cut off a last one that was half written when a call was killed."""
    content = file.read_bytes() if file.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file, whole)
    records = []
    for number, line in enumerate(content[:whole].split(b"\n")[:-1], 1):
        try:
            record = json.loads(line)
            records.append({"id": record["id"], "reason": record.get("reason")})
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EicapError(f"{file}:{number}: found {error!r}, expected a line that this command wrote") from error
    return records
