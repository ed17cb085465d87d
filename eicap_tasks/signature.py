"""The signature of a score: all that it depends on, in one line of the result file.

After sacreBLEU (Post 2018, A Call for Clarity in Reporting BLEU Scores): two scores whose signatures differ in
anything but the model are not comparable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from eicap_tasks import __version__

KEY = "signature"
"""Where a task writes its signature: `configs[TASK]["metadata"]["signature"]` of lm-eval's result file."""


def short_hash(value: object) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 hash of a string, or of a value written as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def signature(parts: Mapping[str, object]) -> str:
    """Write the parts of a signature as `key:value`, joined by `|`, with the versions of the software at the end.

    Args:
        parts: Task, version, items, prompts and so on, in the order wanted; characters that would break the line
            are written as `_`.
    """
    everything = {**parts, "lm_eval": version("lm_eval"), "eicap": __version__}
    return "|".join(f"{key}:{str(value).translate(_UNSAFE)}" for key, value in everything.items())


_UNSAFE = str.maketrans("|\n\r", "___")


_NOT_OF_THE_MODEL = {"eicap", "version", "about", "config_source", "items_sha256", KEY}
_OF_THE_RUN_ALONE = {"base_url", "batch_size", "device", "max_batch_size", "max_retries", "num_concurrent", "timeout"}


def model_name(metadata: Mapping[str, Any]) -> str:
    """Return the model that lm-eval's metadata names, with a hash of its other arguments; else `unknown`.

    Args:
        metadata: lm-eval's metadata; the arguments of the model are in it, where they came as text.
    """
    arguments = {key: value for key, value in metadata.items() if key not in _NOT_OF_THE_MODEL | _OF_THE_RUN_ALONE}
    name = next((arguments.pop(key) for key in ("pretrained", "model", "path") if arguments.get(key)), "unknown")
    peft = f",peft={arguments.pop('peft')}" if arguments.get("peft") else ""
    others = f",args={short_hash({key: str(value) for key, value in arguments.items()})}" if arguments else ""
    return f"{name}{peft}{others}"


def signatures(results: Mapping[str, Any]) -> list[str]:
    """Return the signatures in what lm-eval returns or writes, one per task of ours, sorted.

    Args:
        results: lm-eval's results: what `simple_evaluate` returns, or the content of a `results_*.json`.
    """
    found = (config.get("metadata") or {} for config in results.get("configs", {}).values())
    return sorted(str(metadata[KEY]) for metadata in found if KEY in metadata)
