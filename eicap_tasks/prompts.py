"""Rendering documents with the Jinja templates under `templates/`, one per language and layer.

Templates render in Jinja's sandbox, with undefined names as errors. Item text is only ever a value:
it is never parsed as a template.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from eicap_tasks.documents import Document

Part = Literal["text", "message", "opening", "going_on", "question", "instruction"]
"""What to render: the whole prompt without a chat template ("text"), the same as one chat message
("message"), what stands before and after real chat turns ("opening", "going_on" where the dialogue goes
on after a question, "question"), or the instruction where the task's own does not fit ("instruction")."""


def templates_dir() -> Path:
    """Return the folder of the templates: inside an installed package, beside a checkout's package."""
    package = Path(__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(templates_dir()),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(doc: Document, part: Part) -> str:
    """Render one part of a document's prompt.

    Args:
        doc: The document; its language and layer choose the template.
        part: The part to render.

    Returns:
        The text, without white space at its ends.

    Raises:
        jinja2.TemplateNotFound: There is no template for this language and layer.
        jinja2.UndefinedError: A template uses a name that it was not given.
    """
    template = _environment().get_template(f"{doc['lang']}/{doc['layer']}.jinja")
    return template.render(doc=doc, part=part).strip()


def instruction(lang: str, layer: str, format: str = "letters") -> str:
    """Return the fixed instruction that a task begins with: `description` in its YAML.

    Raises:
        FileNotFoundError: There is no task for this language and layer.
    """
    plain = Path(__file__).parent / "tasks" / f"{layer}_{lang}.yaml"
    own = plain.parent / format / plain.name
    texts = [_description(file) for file in (own, plain) if file.is_file() or file == plain]
    return next(text for text in texts if text is not None)


def _description(file: Path) -> str | None:
    found = re.search(r"^description: (.*)$", file.read_text(encoding="utf-8"), re.M)
    return None if found is None else str(yaml.safe_load(found[1]))


def digest() -> str:
    """Return a SHA-256 hash (64 hexadecimal digits) of all templates."""
    folder = templates_dir()
    state = hashlib.sha256()
    for file in sorted(folder.rglob("*.jinja")):
        state.update(f"{file.relative_to(folder).as_posix()}\0{file.read_text(encoding='utf-8')}\0".encode())
    return state.hexdigest()
