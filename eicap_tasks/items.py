"""Reading items: the ones that ship with the package, and a user's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from eicap_tasks.errors import EicapError
from eicap_tasks.parsing import ItemsError, Problem, parse_file
from eicap_tasks.schema import Dialogue

SHIPPED: Final = Path(__file__).parent / "data"

Split = Literal["test", "dev"]


def shipped(split: Split, lang: str) -> Path:
    """Return the folder of the shipped items of one split and language."""
    return SHIPPED / split / lang


def load(*paths: Path) -> list[Dialogue]:
    """Read dialogues from JSONL files, or from folders with such files at any depth.

    Args:
        paths: Files and folders. Dialogue ids must be unique per language, and so must probe ids,
            over all of them together.

    Returns:
        The dialogues, sorted by language and id.

    Raises:
        ItemsError: Items break the schema; it carries every problem of every file.
        EicapError: A path does not exist, or a folder holds no JSONL file.
    """
    problems: list[Problem] = []
    found: list[tuple[Path, int, Dialogue]] = []
    for file in _files(paths):
        dialogues, own = parse_file(file)
        problems += own
        found += [(file, line, dialogue) for line, dialogue in dialogues]
    problems += _repeated_ids(found)
    if problems:
        raise ItemsError(sorted(problems, key=lambda problem: (problem.file, problem.line)))
    return sorted((dialogue for _, _, dialogue in found), key=lambda d: (d.lang, d.id))


def _files(paths: Iterable[Path]) -> list[Path]:
    files: dict[Path, Path] = {}
    for path in paths:
        try:
            path.stat()
            members = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        except OSError as error:
            reason = "no such file or folder" if isinstance(error, FileNotFoundError) else error.strerror
            raise EicapError(f"{path}: {reason}, expected a JSONL file or a folder with some") from error
        if not members:
            raise EicapError(f"{path}: found no file ending in .jsonl, expected one or more")
        files |= {member.resolve(): member for member in members}
    return list(files.values())


def _repeated_ids(found: list[tuple[Path, int, Dialogue]]) -> list[Problem]:
    problems = []
    first: dict[tuple[str, str, str], str] = {}
    for file, line, dialogue in found:
        ids = [("id", dialogue.id), *((f"probes[{i}].id", p.id) for i, p in enumerate(dialogue.probes))]
        for field, value in ids:
            key = ("dialogue" if field == "id" else "probe", dialogue.lang, value)
            if key in first:
                message = f"found {value!r} again, allowed: once per language (see {first[key]})"
                problems.append(Problem(str(file), line, field, message))
            first.setdefault(key, f"{file}:{line}")
    return problems


def digest(dialogues: Iterable[Dialogue]) -> str:
    """Return a SHA-256 hash (64 hexadecimal digits) of items, independent of files and their order."""
    lines = sorted(json.dumps(dialogue.model_dump(), sort_keys=True, ensure_ascii=False) for dialogue in dialogues)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
