"""The shipped items: composition, parity of the languages, blind readings, and the data card's numbers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from eicap_tasks import items, vocabulary
from eicap_tasks.documents import Document, documents
from eicap_tasks.items import SHIPPED, Split
from eicap_tasks.schema import Dialogue
from eicap_tasks.validation import content_digest, readings

SPLITS: tuple[Split, ...] = ("test", "dev")


@pytest.fixture(scope="module")
def shipped() -> dict[tuple[Split, str], list[Dialogue]]:
    return {(s, lang): items.load(items.shipped(s, lang)) for s in SPLITS for lang in vocabulary.LANGUAGES}


def all_documents(shipped: dict[tuple[Split, str], list[Dialogue]]) -> list[Document]:
    return [
        doc
        for (_, lang), dialogues in shipped.items()
        for layer in vocabulary.LAYERS
        for doc in documents(dialogues, lang, layer)
    ]


def test_the_size_and_what_must_be_present(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    for lang in vocabulary.LANGUAGES:
        test = shipped["test", lang]
        probes = [probe for dialogue in test for probe in dialogue.probes]
        assert len(test) >= 24
        assert len(probes) >= 96
        assert all({probe.layer for probe in dialogue.probes} == set(vocabulary.LAYERS) for dialogue in test)
        assert {probe.skill for probe in probes} == set(vocabulary.SKILLS)
        assert {probe.emotion_layer for probe in probes} == set(vocabulary.EMOTION_LAYERS)
        assert len(shipped["dev", lang]) >= 4


def test_both_languages_ask_the_same(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    def frame(dialogue: Dialogue) -> Any:
        """Everything of a dialogue but its wording."""
        raw = dialogue.model_dump()
        for key in ("lang", "variety", "setting"):
            del raw[key]
        for speaker in raw["speakers"]:
            del speaker["name"]
        for turn in raw["turns"]:
            del turn["text"]
        for probe in raw["probes"]:
            del probe["question"], probe["answer"]
            probe["distractors"] = [entry["trap"] for entry in probe["distractors"]]
        return raw

    for split in SPLITS:
        english, arabic = (shipped[split, lang] for lang in ("en", "ar"))
        assert [frame(dialogue) for dialogue in english] == [frame(dialogue) for dialogue in arabic]


def test_dialogues_keep_to_the_guide(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    for (_, lang), dialogues in shipped.items():
        for dialogue in dialogues:
            assert 6 <= len(dialogue.turns) <= 12, dialogue.id
            words = sum(len(turn.text.split()) for turn in dialogue.turns)
            assert lang != "en" or 110 <= words <= 310, (dialogue.id, words)
            if dialogue.kind == "assistant":
                assert dialogue.turns[0].speaker == next(s.id for s in dialogue.speakers if s.role == "user")
            for probe in dialogue.probes:
                assert (probe.reply_by is not None) == (probe.layer == "response"), probe.id
    test = shipped["test", "ar"]
    assert sum(dialogue.origin == "ar" for dialogue in test) * 2 == len(test)
    assert sum(dialogue.variety != "Standard" for dialogue in test) * 4 >= len(test)
    for lang in vocabulary.LANGUAGES:
        probes = [probe for dialogue in shipped["test", lang] for probe in dialogue.probes]
        assert sum(len(probe.evidence_turns) > 1 for probe in probes) >= 0.8 * len(probes)
        assert sum(probe.evidence_turns[0] < probe.after_turn for probe in probes) >= 0.6 * len(probes)
        levels = Counter((probe.layer, probe.difficulty) for probe in probes)
        assert all(levels[layer, d] >= 0.3 * len(test) for layer in vocabulary.LAYERS for d in vocabulary.DIFFICULTIES)


def test_no_dialogue_is_in_two_splits(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    for lang in vocabulary.LANGUAGES:
        test, dev = ({dialogue.id for dialogue in shipped[split, lang]} for split in SPLITS)
        assert not test & dev


def test_files_are_by_domain_and_sorted() -> None:
    for file in SHIPPED.glob("test/*/*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert {row["domain"].replace(" ", "_") for row in rows} == {file.stem}
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        assert {row["lang"] for row in rows} == {file.parent.name}


def test_every_probe_was_read_blind_by_two_who_chose_the_key_and_found_nothing_else_defensible(
    shipped: dict[tuple[Split, str], list[Dialogue]],
) -> None:
    """A reading holds for exactly the text that was read: a changed word makes this test fail."""
    record = defaultdict(list)
    for reading in readings():
        record[reading.content].append(reading)
    for doc in all_documents(shipped):
        own = record[content_digest(doc)]
        assert len({reading.reader for reading in own}) >= 2, (doc["id"], doc["lang"])
        for reading in own:
            assert (reading.probe, reading.lang) == (doc["id"], doc["lang"])
            assert reading.chosen == doc["options"][doc["gold"]], (doc["id"], doc["lang"])
            assert not reading.ambiguous
            assert reading.also_defensible == []


def test_the_content_digest_ignores_places_and_sees_words(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    doc = all_documents(shipped)[0]
    turned: Document = {**doc, "options": doc["options"][1:] + doc["options"][:1], "gold": (doc["gold"] - 1) % 4}
    assert content_digest(turned) == content_digest(doc)
    assert content_digest({**doc, "question": doc["question"] + "!"}) != content_digest(doc)


def test_the_data_card_says_what_is_there(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    card = (SHIPPED / "DATACARD.md").read_text(encoding="utf-8")
    for split in SPLITS:
        for lang, entry in vocabulary.LANGUAGES.items():
            dialogues = shipped[split, lang]
            probes = sum(len(dialogue.probes) for dialogue in dialogues)
            assert f"| {split} | {entry['name']} | {len(dialogues)} | {probes} |" in card
    test = shipped["test", "ar"]
    assistants = sum(dialogue.kind == "assistant" for dialogue in test)
    assert f"{assistants} of the {len(test)} test dialogues are between a user and an assistant" in card
    dialects = sum(dialogue.variety != "Standard" for dialogue in test)
    assert f"{dialects} of the {len(test)} Arabic versions are in a dialect" in card
    english = [probe for dialogue in shipped["test", "en"] for probe in dialogue.probes]
    layers = Counter(probe.emotion_layer for probe in english)
    for layer in vocabulary.EMOTION_LAYERS:
        assert f"| {layer} | {layers[layer]} |" in card
    traps = Counter(entry.trap for probe in english for entry in probe.distractors)
    for trap in vocabulary.TRAPS:
        assert f"| {trap} | {traps[trap]} |" in card
    missing = sorted(set(vocabulary.EMOTIONS) - {probe.emotion for probe in english})
    assert f"Emotions that no test probe names yet: {', '.join(missing) or 'none'}." in card
    assert f"{len(readings())} readings" in card


def test_the_canary_is_in_the_data_card() -> None:
    assert "eicap-canary 7c0e3b52-5f6a-4e5d-9a54-0f1f4b1d6c2e" in (SHIPPED / "DATACARD.md").read_text()


def test_the_vocabulary_is_the_taxonomy() -> None:
    assert [len(entry["skills"]) for entry in vocabulary.LAYERS.values()] == [6, 6, 6, 6]
    assert {layer: len(emotions) for layer, emotions in vocabulary.EMOTION_LAYERS.items()} == {
        "foundational": 6,
        "dimensional": 7,
        "appraisal": 8,
        "value": 8,
        "social": 11,
    }
    assert len(vocabulary.TRAPS) == 15
    for labels in (*vocabulary.EMOTION_LAYERS.values(), vocabulary.LAYERS):
        for entry in labels.values():
            assert entry["en"]
            assert entry["ar"]
    assert len(set(vocabulary.SKILLS)) == 24
