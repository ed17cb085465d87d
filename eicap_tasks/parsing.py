"""The strict parser of item files: one JSONL line is one dialogue; every problem is reported at once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from eicap_tasks.errors import EicapError, nearest
from eicap_tasks.rules import Finding, joint_findings
from eicap_tasks.schema import Dialogue, Distractor, Probe, Speaker, Strict, Turn


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an item file, in the form `file:line: field: what, what is allowed`."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


class ItemsError(EicapError):
    """Item files that cannot be used; carries every problem found.

    Attributes:
        problems: All problems, in order of file and line.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([*map(str, problems), f"{count} found; no item was used."]))


def parse_file(path: Path) -> tuple[list[tuple[int, Dialogue]], list[Problem]]:
    """Parse one JSONL file of dialogues, strictly.

    Args:
        path: A UTF-8 file with one JSON object a line; blank lines are passed over.

    Returns:
        The dialogues that are valid in themselves, each with its line number, and every problem of
        the file.

    Raises:
        EicapError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EicapError(f"{path}: cannot be read: {error.strerror}, expected a JSONL file") from error
    dialogues: list[tuple[int, Dialogue]] = []
    problems: list[Problem] = []
    lines = [(n, line) for n, line in enumerate(content.splitlines(), 1) if line.strip()]
    if len(lines) > 1 and _is_one_document(content):
        message = "found one JSON document over several lines, allowed: one dialogue on each line"
        return [], [Problem(str(path), 1, "file", message)]
    if not lines:
        problems.append(Problem(str(path), 1, "file", "found no dialogue, allowed: one or more"))
    for number, line in lines:
        dialogue, findings = parse_line(line)
        problems += [Problem(str(path), number, field, message) for field, message in findings]
        if dialogue is not None:
            dialogues.append((number, dialogue))
    return dialogues, problems


def _is_one_document(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def parse_line(line: bytes | str) -> tuple[Dialogue | None, list[Finding]]:
    """Parse one line of an item file.

    Args:
        line: One JSON object, as text or as UTF-8 bytes.

    Returns:
        The dialogue and no finding, or None and everything that is wrong with the line.
    """
    try:
        text = line.decode("utf-8-sig") if isinstance(line, bytes) else line
        raw = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return None, [("line", f"found bytes that are not UTF-8 at column {error.start + 1}, allowed: UTF-8")]
    except json.JSONDecodeError as error:
        return None, [("line", f"found invalid JSON at column {error.colno} ({error.msg}), allowed: JSON")]
    except _JsonRuleError as error:
        return None, [("line", str(error))]
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets without end
        return None, [("line", "found a number or a nesting that is too large, allowed: one dialogue")]
    if not isinstance(raw, dict):
        return None, [("line", f"found a JSON {type(raw).__name__}, allowed: an object, one dialogue")]
    dialogue: Dialogue | None = None
    findings: list[Finding] = []
    try:
        dialogue = Dialogue.model_validate(raw)
    except ValidationError as error:
        findings += [_finding(detail) for detail in error.errors()]
    findings += list(joint_findings(raw, {field for field, _ in findings}))
    return (None, findings) if findings else (dialogue, [])


class _JsonRuleError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise _JsonRuleError(f"found the key {twice[0]!r} twice in one object, allowed: once")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _JsonRuleError(f"found the constant {name}, allowed: JSON values")


def _path(location: tuple[int | str, ...]) -> str:
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _finding(detail: ErrorDetails) -> Finding:
    """Turn one pydantic error into our words."""
    field, found = _path(detail["loc"]), detail["input"]
    match detail["type"]:
        case "missing":
            message = "found nothing, allowed: this field is required"
        case "extra_forbidden":
            known = _fields_at(detail["loc"])
            name = str(detail["loc"][-1])
            message = f"found an unknown field, allowed: {', '.join(known)}{nearest(name, known)}"
        case "vocabulary" | "text":
            message = detail["msg"]
        case "string_pattern_mismatch":
            message = f"found {found!r}, allowed: ASCII letters, digits, '.', '_' and '-'"
        case "too_short" | "too_long":
            limits = detail["ctx"]
            bound = limits.get("min_length", limits.get("max_length"))
            side = "at least" if detail["type"] == "too_short" else "at most"
            message = f"found {limits['actual_length']} entries, allowed: {side} {bound}"
        case _:
            message = f"found {_short(found)}, allowed: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    return field, message


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Name the fields of the model in which an unknown field was found."""
    by_list: dict[int | str, type[Strict]] = {
        "speakers": Speaker,
        "turns": Turn,
        "probes": Probe,
        "distractors": Distractor,
    }
    parents = [part for part in location[:-1] if isinstance(part, str)]
    return list((by_list[parents[-1]] if parents else Dialogue).model_fields)
