"""`eicap export-sft`: dialogues with probes as supervised chat examples, never those of the test split."""

from __future__ import annotations

import json
from collections.abc import Sequence

from eicap_tasks import context, prompts, text_checks
from eicap_tasks.audit.overlap import SHARED_GRAMS, grams
from eicap_tasks.documents import Document, documents
from eicap_tasks.errors import EicapError
from eicap_tasks.options import System
from eicap_tasks.schema import Dialogue
from eicap_tasks.vocabulary import LANGUAGES, LAYERS


def examples(
    dialogues: Sequence[Dialogue],
    test: Sequence[Dialogue],
    *,
    context_kind: context.ContextKind = "turns",
    system: System = "auto",
) -> list[dict[str, object]]:
    """Make one chat of every probe: the dialogue up to it, the question with its options, the answer and why.

    Args:
        dialogues: Dialogues of any language.
        test: Dialogues that may not be trained on.
        context_kind: As in a run: the dialogue as chat turns, or as a transcript in one message.
        system: "user" for chat templates without a system message, such as Gemma 2's.

    Returns:
        Rows with `id`, `dialogue_id`, `lang`, `layer` and `messages` (role and content); the assistant is last.
        Sorted by dialogue, then language and layer.

    Raises:
        EicapError: A dialogue is one of `test`, or shares more than a fifth of the shorter one's word 5-grams with
            one.
    """
    _refuse_test(dialogues, test)
    reasons = {(d.lang, probe.id): probe.rationale for d in dialogues for probe in d.probes}
    rows: list[dict[str, object]] = [
        {
            "id": f"{doc['id']}-{lang}",
            "dialogue_id": doc["dialogue_id"],
            "lang": lang,
            "layer": layer,
            "messages": _messages(doc, reasons[lang, doc["id"]], context_kind, system),
        }
        for lang in LANGUAGES
        for layer in LAYERS
        for doc in documents(dialogues, lang, layer)
    ]
    return sorted(rows, key=lambda row: str(row["dialogue_id"]))  # the first so many are whole dialogues


def as_jsonl(rows: Sequence[dict[str, object]]) -> str:
    """Write rows as JSON, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _messages(doc: Document, reason: str, kind: context.ContextKind, system: System) -> list[context.Message]:
    asked: Document = {**doc, "form": "explained"}
    messages = context.chat_messages(asked, system=prompts.instruction(doc["lang"], doc["layer"]), context=kind)
    if system == "user":
        messages = context.fold_system(messages)
    answer = f"{context.gold_label(doc)}. {doc['options'][doc['gold']]}"
    if text_checks.foreign_share(reason, doc["lang"]) < 0.5:  # one in English does not fit a chat in Arabic
        answer += f"\n\n{reason}"
    return [*messages, context.Message(role="assistant", content=answer)]


def _refuse_test(dialogues: Sequence[Dialogue], test: Sequence[Dialogue]) -> None:
    ids = {d.id for d in test}  # the same dialogue in another language is no other dialogue
    tested = [(d.id, grams(d)) for d in test]
    for dialogue in dialogues:
        where = f"{dialogue.id} ({dialogue.lang})"
        if dialogue.id in ids:
            raise EicapError(f"{where}: found a dialogue of the test split, expected one that no score is taken from")
        own = grams(dialogue)
        for other, theirs in tested:
            share = len(own & theirs) / max(1, min(len(own), len(theirs)))
            if share > SHARED_GRAMS:
                raise EicapError(
                    f"{where}: found {share:.0%} of word 5-grams shared with {other} of the test split, "
                    f"allowed: {SHARED_GRAMS:.0%}"
                )
