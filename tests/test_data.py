"""The shipped items: composition, parity of the languages, blind readings, and the data card's numbers."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from eicap_tasks import description, items, vocabulary
from eicap_tasks.documents import Document, documents
from eicap_tasks.items import SHIPPED, Split
from eicap_tasks.schema import Dialogue
from eicap_tasks.validation import Guess, content_digest, guesses, readings

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
        assert len(test) >= 200
        assert all(sum(probe.layer == layer for probe in probes) >= 200 for layer in vocabulary.LAYERS)
        assert all({probe.layer for probe in dialogue.probes} == set(vocabulary.LAYERS) for dialogue in test)
        assert {probe.skill for probe in probes} == set(vocabulary.SKILLS)
        assert {probe.emotion_layer for probe in probes} == set(vocabulary.EMOTION_LAYERS)
        assert len(shipped["dev", lang]) >= 16


def test_both_languages_ask_the_same(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    def frame(dialogue: Dialogue) -> Any:
        """Everything of a dialogue but its wording; reasons are in English, but those of Arabic dev items in Arabic."""
        raw = dialogue.model_dump()
        for key in ("lang", "variety", "setting"):
            del raw[key]
        for speaker in raw["speakers"]:
            del speaker["name"]
        for turn in raw["turns"]:
            del turn["text"]
        for probe in raw["probes"]:
            del probe["question"], probe["answer"], probe["rationale"]
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


def test_the_data_card_and_the_statistics_say_what_is_there(request: pytest.FixtureRequest) -> None:
    found = description.describe()
    text = description.CARD.read_text(encoding="utf-8")
    if request.config.getoption("--update-golden"):
        description.FILE.write_text(description.as_json(found), encoding="utf-8")
        description.CARD.write_text(text := description.card(found, text), encoding="utf-8")
    assert json.loads(description.FILE.read_text(encoding="utf-8")) == found
    assert description.card(found, text) == text
    assert text.count(description.BEGIN) == text.count(description.END) == 1


def test_the_options_of_nearly_every_probe_were_guessed_twice(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    """A corrected probe may stand without guesses, the set as a whole may not."""
    record = guesses()
    assert {guess.lang for guess in record} == {"en"}
    assert set(Counter(guess.probe for guess in record).values()) == {2}
    assert len({(guess.probe, guess.reader) for guess in record}) == len(record)
    probes = sum(len(dialogue.probes) for dialogue in shipped["test", "en"])
    assert description.options_alone(record)["all"]["probes"] >= 0.9 * probes


def test_guesses_of_a_changed_probe_do_not_count(shipped: dict[tuple[Split, str], list[Dialogue]]) -> None:
    probe = shipped["test", "en"][0].probes[0]
    options = [probe.distractors[0].text, probe.answer, *(entry.text for entry in probe.distractors[1:])]
    guess = Guess(probe=probe.id, lang="en", reader="x", date="", question=probe.question, options=options, choice="B")
    wrong, other = guess.model_copy(update={"choice": "A"}), guess.model_copy(update={"reader": "y"})
    stale = [
        guess.model_copy(update={"question": probe.question + "!"}),
        guess.model_copy(update={"options": [*options[:3], "No"]}),
        guess.model_copy(update={"probe": "eicap-000-t"}),
        guess.model_copy(update={"lang": "ar"}),
    ]
    both = {"probes": 1, "guesses": 2, "chose_the_key": 1.0, "all_chose_the_key": 1}
    expected = dict.fromkeys((probe.layer, probe.difficulty, "all"), both)
    assert description.options_alone([guess, other, *stale]) == expected
    assert description.options_alone([guess, wrong])["all"] == {
        "probes": 1,
        "guesses": 2,
        "chose_the_key": 0.5,
        "all_chose_the_key": 0,
    }
    assert description.options_alone([guess])["all"]["all_chose_the_key"] == 0
    assert description.options_alone(stale) == {}


def test_agreement_by_hand() -> None:
    assert description.kappa([(0, 0), (1, 1), (2, 2), (3, 3)]) == 1.0
    # 6 of 8 agree; chance (4*3 + 4*5) / 64 = 0.5
    pairs = [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 1), (1, 1)]
    assert description.kappa(pairs) == pytest.approx((7 / 8 - 0.5) / 0.5)
    assert description.kappa([]) is None
    assert description.kappa([(1, 1), (1, 1)]) is None


def test_kappa_is_that_of_scikit_learn() -> None:
    chance = random.Random(3)
    pairs = [(chance.randrange(4), chance.randrange(4)) for _ in range(200)]
    expected = cohen_kappa_score(*zip(*pairs, strict=True))
    assert description.kappa(pairs) == pytest.approx(expected, abs=1e-4)


def test_the_canary_is_in_the_data_card() -> None:
    assert "eicap-canary 7c0e3b52-5f6a-4e5d-9a54-0f1f4b1d6c2e" in (SHIPPED / "DATACARD.md").read_text()


def test_what_the_data_card_counts_outside_its_generated_part() -> None:
    card = " ".join((SHIPPED / "DATACARD.md").read_text(encoding="utf-8").split())
    test = items.load(items.shipped("test", "en"))
    long = sum(sum(len(turn.text.split()) for turn in d.turns) > 300 for d in test)
    assert f"{long} of the {len(test)} are up to ten words longer" in card
    assert f"a domain of grief with {sum(d.domain == 'grief' for d in test)} dialogues" in card
    traps = [entry.trap for d in test for p in d.probes for entry in p.distractors]
    share = traps.count("surface_cue") / len(traps)
    assert f"{100 * share:.0f} % of all wrong options are `surface_cue`" in card
    levels: dict[bool, set[str]] = defaultdict(set)
    for dialogue in test:
        levels[dialogue.id > "eicap-200"] |= {probe.difficulty for probe in dialogue.probes}
    assert levels == {False: {"moderate", "subtle"}, True: {"clear", "moderate"}}
    answers = {probe.id: probe.answer for dialogue in test for probe in dialogue.probes}
    hits: dict[bool, list[bool]] = defaultdict(list)
    for guess in guesses():
        hits[guess.probe > "eicap-200"].append(guess.chosen == answers[guess.probe])
    old, new = (sum(hits[later]) / len(hits[later]) for later in (False, True))
    assert f"{sum(d.id > 'eicap-200' for d in test)} new dialogues it is {new:.0%}, in the 99 others {old:.0%}" in (
        card.replace(" %", "%")
    )
    both = hits[False] + hits[True]
    assert f"{sum(both) / len(both):.0%} of {len(both):,} guesses" in card.replace(" %", "%")


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
