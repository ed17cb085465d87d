"""The documents of a task as its format and the options of a run show them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eicap_tasks import vocabulary
from eicap_tasks.documents import LABELS, Document, documents
from eicap_tasks.errors import EicapError
from eicap_tasks.schema import Dialogue

Format = Literal["letters", "circular", "gen", "cf", "chain"]
"""A way to ask: "letters" is the plain task, the others are the endings of the tasks' names."""

Show = Literal["dialogue", "last_turn", "choices"]
"""What of an item is shown: all of it, only the last visible turn, or the options alone."""


def view(
    dialogues: Sequence[Dialogue],
    lang: str,
    layer: str,
    format: Format = "letters",
    show: Show = "dialogue",
    labels: Sequence[str] = LABELS,
) -> list[Document]:
    """Make the documents of one task.

    Args:
        dialogues: Dialogues of any language; those of `lang` are used.
        lang: Language code of the task.
        layer: Layer of the task.
        format: How the task asks.
        show: What of an item is shown.
        labels: The labels of the options; not used where they have none.

    Returns:
        One document per probe of the layer, in the order of `documents`.

    Raises:
        EicapError: The format cannot show so little of an item, or needs what an item does not say.
    """
    if (show != "dialogue" and format == "chain") or (show == "choices" and format == "cf"):
        allowed = "'dialogue'" if format == "chain" else "'dialogue', 'last_turn'"
        raise EicapError(f"metadata eicap.show: found {show!r}, allowed for eicap_{layer}_{lang}_{format}: {allowed}")
    docs = chains(dialogues, lang, layer) if format == "chain" else documents(dialogues, lang, layer)
    docs = [shown(doc, show, labels) for doc in docs]
    if format != "cf":
        return docs
    unknown = [doc["id"] for doc in docs if layer == "response" and not doc["reply_by"]]
    if unknown:
        raise EicapError(
            f"eicap_{layer}_{lang}_cf: found no reply_by in {', '.join(unknown)}, expected the id of the speaker whose "
            "reply is chosen, since three people are speaking"
        )
    return [cloze(doc) for doc in docs]


def chains(dialogues: Sequence[Dialogue], lang: str, layer: str) -> list[Document]:
    """Make the documents of one task, each with the earlier probes of its dialogue, of every layer.

    Probes come in the order of their turns, those after the same turn in the order of the layers.

    Args:
        dialogues: Dialogues of any language; those of `lang` are used.
        lang: Language code of the task.
        layer: Layer of the task.

    Returns:
        The documents of `documents`, in the same order, with options at the same places.
    """
    asked = [doc for each in vocabulary.LAYERS for doc in documents(dialogues, lang, each)]
    asked.sort(key=lambda doc: (doc["dialogue_id"], len(doc["turns"])))  # stable: layers keep their order
    chained: dict[str, Document] = {}
    for dialogue_id in dict.fromkeys(doc["dialogue_id"] for doc in asked):
        links: list[Document] = []
        seen = 0
        for doc in (doc for doc in asked if doc["dialogue_id"] == dialogue_id):
            setting = "" if links else doc["setting"]
            link: Document = {**doc, "setting": setting, "turns": doc["turns"][seen:]}
            chained[doc["id"]] = {**link, "earlier": list(links)}
            links.append(link)
            seen = len(doc["turns"])
    return [chained[doc["id"]] for doc in documents(dialogues, lang, layer)]


def shown(doc: Document, show: Show = "dialogue", labels: Sequence[str] = LABELS) -> Document:
    """Return a copy of a document with other labels, and with less of the item where that is wanted.

    Args:
        doc: A document with all of its item.
        show: What to leave: "last_turn" drops the earlier turns, "choices" also setting and question.
        labels: The labels of the options.
    """
    earlier = [shown(link, show, labels) for link in doc["earlier"]]
    copy: Document = {**doc, "labels": list(labels), "earlier": earlier}
    if show == "last_turn":
        copy |= Document(**{**copy, "begins": len(doc["turns"]) == 1, "turns": doc["turns"][-1:]})
    elif show == "choices":
        copy |= Document(**{**copy, "kind": "peers", "setting": "", "question": "", "turns": []})
    return copy


def cloze(doc: Document) -> Document:
    """Return a copy of a document whose options are scored as continuations instead of being listed."""
    copy: Document = {**doc, "form": "cloze", "labels": doc["options"]}
    return copy
