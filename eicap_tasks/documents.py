"""From dialogues to documents: one per probe, its options in their place.

The place of the right option is fixed by the ids alone, so that it is the same in every run and
process, and balanced exactly over the probes of a task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

from eicap_tasks import vocabulary
from eicap_tasks.schema import Dialogue, Probe

LABELS = tuple(vocabulary.LABELS["latin"])
"""Labels of the options, in both languages, unless a run asks for others."""


class DocumentTurn(TypedDict):
    """One visible turn of a document."""

    name: str
    role: str
    text: str


class Document(TypedDict):
    """One probe as the harness sees it. `turns` ends at `after_turn`: nothing later is in it.

    In a chain, `earlier` has the probes of the dialogue that come before, and each document's `turns` begin
    where those of the one before it end; only the first has the setting. `begins` tells whether `turns` begin where
    the dialogue does. With `form` "cloze" the options are not listed in the prompt: each option's label is its own
    text; with "explained" the reason is asked for, too. `reply_by` is the name of the speaker who would reply, ""
    where nothing tells. `reach` is how many turns before the last visible one the earliest turn lies that the answer
    needs (0: the last visible turn itself).
    """

    id: str
    dialogue_id: str
    lang: str
    layer: str
    skill: str
    emotion: str
    emotion_2: str | None
    emotion_layer: str
    difficulty: str
    kind: Literal["assistant", "peers"]
    culture: str
    domain: str
    variety: str
    reach: int
    setting: str
    begins: bool
    turns: list[DocumentTurn]
    question: str
    options: list[str]
    labels: list[str]
    traps: list[str]
    gold: int
    form: Literal["letters", "cloze", "explained"]
    reply_by: str
    earlier: list[Document]


def gold_positions(probe_ids: Iterable[str], options: int = len(LABELS)) -> dict[str, int]:
    """Place the right option of each probe, balanced over the probes.

    The ids are ranked by their SHA-256 hash, and the rank modulo `options` is the position.

    Args:
        probe_ids: The distinct ids of all probes of a task.
        options: The number of options per probe.

    Returns:
        Position of the right option, 0 to `options - 1`, by id. Over all ids, the counts of any two
        positions differ by at most one.
    """
    ranked = sorted(probe_ids, key=lambda probe_id: _hash("gold", probe_id))
    return {probe_id: rank % options for rank, probe_id in enumerate(ranked)}


def _hash(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def rotate(doc: Document, places: int) -> Document:
    """Return a copy of a document whose options are all moved up by `places`, the first ones to the end.

    The four rotations of a document put every option once at every position.
    """
    turn = places % len(doc["options"])
    rotated: Document = {
        **doc,
        "options": doc["options"][turn:] + doc["options"][:turn],
        "traps": doc["traps"][turn:] + doc["traps"][:turn],
        "gold": (doc["gold"] - turn) % len(doc["options"]),
    }
    return rotated


def documents(dialogues: Sequence[Dialogue], lang: str, layer: str) -> list[Document]:
    """Make the documents of one task.

    Args:
        dialogues: Dialogues of any language; those of `lang` are used.
        lang: Language code of the task.
        layer: Layer of the task.

    Returns:
        One document per probe of the layer, sorted by dialogue id, turn and probe id.
    """
    chosen = [(d, p) for d in dialogues if d.lang == lang for p in d.probes if p.layer == layer]
    chosen.sort(key=lambda pair: (pair[0].id, pair[1].after_turn, pair[1].id))
    positions = gold_positions(probe.id for _, probe in chosen)
    return [document(dialogue, probe, positions[probe.id]) for dialogue, probe in chosen]


def document(dialogue: Dialogue, probe: Probe, gold: int) -> Document:
    """Make the document of one probe with its right option at position `gold`.

    The wrong options take the other places in an order fixed by the probe id.
    """
    order = sorted(range(3), key=lambda i: _hash("distractor", probe.id, i))
    options = [(probe.distractors[i].text, probe.distractors[i].trap) for i in order]
    options.insert(gold, (probe.answer, ""))
    speakers = {speaker.id: speaker for speaker in dialogue.speakers}
    turns = dialogue.turns[: probe.after_turn]
    return Document(
        id=probe.id,
        dialogue_id=dialogue.id,
        lang=dialogue.lang,
        layer=probe.layer,
        skill=probe.skill,
        emotion=probe.emotion,
        emotion_2=probe.emotion_2,
        emotion_layer=probe.emotion_layer,
        difficulty=probe.difficulty,
        kind=dialogue.kind,
        culture=dialogue.culture,
        domain=dialogue.domain,
        variety=dialogue.variety,
        reach=probe.after_turn - probe.evidence_turns[0],
        setting=dialogue.setting,
        begins=True,
        turns=[DocumentTurn(name=speakers[t.speaker].name, role=speakers[t.speaker].role, text=t.text) for t in turns],
        question=probe.question,
        options=[text for text, _ in options],
        labels=list(LABELS),
        traps=[trap for _, trap in options],
        gold=gold,
        form="letters",
        reply_by=_reply_by(dialogue, probe),
        earlier=[],
    )


def _reply_by(dialogue: Dialogue, probe: Probe) -> str:
    names = {speaker.id: speaker.name for speaker in dialogue.speakers}
    last = dialogue.turns[probe.after_turn - 1].speaker
    others = [name for speaker, name in names.items() if speaker != last]
    assistant = [speaker.name for speaker in dialogue.speakers if speaker.role == "assistant"]
    return names[probe.reply_by] if probe.reply_by else (assistant or others)[0] if len(names) == 2 else ""
