"""Pages for a browser: one file each, no script or font from elsewhere, everything a user wrote escaped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eicap_tasks.errors import EicapError

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """Fill one of the page templates beside this file.

    Args:
        template: Its name without its ending, e.g. "audit".
        values: What it needs. Text is escaped; pictures come as `Markup` from `plots`.

    Returns:
        The page, a complete HTML document.
    """
    return _TEMPLATES.get_template(f"{template}.html.jinja").render(**values)


def write(path: Path, text: str | bytes) -> None:
    """Write a file in one step: it is there whole, or what was there before is.

    Raises:
        EicapError: The file cannot be written there.
    """
    data = text.encode("utf-8", errors="replace") if isinstance(text, str) else text
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise EicapError(f"{path}: found a folder, expected the name of a file to write")
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EicapError(f"{path}: cannot be written ({error.strerror or error})") from error


def refuse_over(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Args:
        path: A file to be written.
        inputs: Files and folders that are read.

    Raises:
        EicapError: The file is one of them, or is in one of them and there already.
    """
    out = path.resolve()
    for given in inputs:
        read = given.resolve()
        if out == read or (read in out.parents and out.exists()):
            raise EicapError(f"{path}: found the input {given}, expected the name of a new file")


def picture(svg: str) -> Markup:
    """Mark a picture that `plots` drew as safe to stand in a page."""
    return Markup(svg)  # noqa: S704  (drawn by matplotlib, which escapes text)
