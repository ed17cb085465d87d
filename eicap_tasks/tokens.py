"""Whether a tokenizer treats the labels of the options alike; where not, their likelihoods are not comparable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from eicap_tasks.signature import model_name
from eicap_tasks.vocabulary import LABELS

logger = logging.getLogger(__name__)


def lengths(labels: Sequence[str], encode: Callable[[str], Sequence[int]], before: str = "Answer: ") -> dict[str, int]:
    """Count the tokens that follow the prompt for each label.

    Args:
        labels: The labels.
        encode: A tokenizer's `encode`, without special tokens.
        before: What stands before a label: "Answer: " in a prompt without chat template, whose space belongs to the
            label's tokens; a new line in most chat templates.

    Returns:
        Tokens per label.
    """
    prompt = len(encode(before.rstrip(" ")))
    return {label: len(encode(f"{before}{label}")) - prompt for label in labels}


def warn_if_uneven(labels: str, metadata: Mapping[str, Any]) -> None:
    """Log a warning where the tokenizer of the run's model splits some of the labels into more tokens than others.

    Args:
        labels: Name of a set of labels. The Latin letters are one token in every tokenizer tried: not looked at.
        metadata: lm-eval's metadata, which holds the arguments of the model.
    """
    if labels != "latin":
        names = ("tokenizer", "pretrained", "model", "revision", "gguf_file", "trust_remote_code")
        given = {name: metadata[name] for name in names if metadata.get(name)}
        _warn(labels, tuple(sorted(given.items())), model_name(metadata))


@lru_cache
def _warn(labels: str, given: tuple[tuple[str, Any], ...], model: str) -> None:
    """Warn once per process, not once per task."""
    from transformers import AutoTokenizer

    arguments = dict(given)
    source = [arguments.pop(name, None) for name in ("tokenizer", "pretrained", "model")]
    path = next(filter(None, source), None)
    try:
        if path is None:
            raise ValueError("the run does not name a model or tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(path, **arguments)
    except (OSError, ValueError, KeyError, ImportError) as error:
        logger.warning("labels %s: could not look at the tokenizer of %s (%s)", labels, model, error)
        return
    names = LABELS[labels]
    plain, chat = (
        list(lengths(names, lambda text: tokenizer.encode(text, add_special_tokens=False), before).values())
        for before in ("Answer: ", "\n")
    )
    if len(set(plain)) > 1 or len(set(chat)) > 1:
        logger.warning(
            "labels %s: the tokenizer of %s makes %s tokens of %s after a space, %s after a new line (chat): where "
            "these differ, likelihoods are not comparable, and each needs a forward pass of its own; use the labels "
            "'latin', or a gen task",
            labels,
            model,
            ", ".join(map(str, plain)),
            ", ".join(names),
            ", ".join(map(str, chat)),
        )
