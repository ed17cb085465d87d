"""Placement of the options, and what a document shows."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from eicap_tasks import items
from eicap_tasks.documents import documents, gold_positions
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

TOY = Path(__file__).parent / "items" / "toy.jsonl"


@given(st.sets(st.text(max_size=8), max_size=60), st.integers(2, 6))
def test_positions_are_balanced_and_depend_on_the_ids_alone(ids: set[str], options: int) -> None:
    positions = gold_positions(ids, options)
    assert positions == gold_positions(sorted(ids, reverse=True), options)
    counts = Counter(positions.values())
    spread = [counts[position] for position in range(options)]
    assert max(spread) - min(spread) <= 1


def test_positions_are_the_same_in_another_process() -> None:
    code = "from eicap_tasks.documents import gold_positions; print(gold_positions(['a', 'b', 'c', 'd', 'e']))"
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, check=True, capture_output=True, text=True
    )
    assert out.stdout.strip() == "{'b': 0, 'a': 1, 'c': 2, 'e': 3, 'd': 0}"


def test_every_shipped_task_is_balanced_and_the_same_probe_has_its_gold_in_the_same_place() -> None:
    for layer in LAYERS:
        places = []
        for lang in LANGUAGES:
            docs = documents(items.load(items.shipped("test", lang)), lang, layer)
            counts = Counter(doc["gold"] for doc in docs)
            assert max(counts.values()) - min(counts.values()) <= 1, (layer, lang, counts)
            assert len(counts) == 4
            places.append({doc["id"]: doc["gold"] for doc in docs})
        assert places[0] == places[1]


def test_a_document_shows_the_dialogue_up_to_the_probed_turn() -> None:
    (chat, peers) = documents(items.load(TOY), "en", "tracking")
    assert chat["id"] == "toy-chat-t"
    assert [turn["text"] for turn in chat["turns"]] == [
        "The exam is today.",
        "How was the night?",
        "Short. But look: {{ 7*7 }} out of 50!",
    ]
    assert "I read it three times." not in str(chat)
    assert (chat["kind"], peers["kind"]) == ("assistant", "peers")
    for doc in (chat, peers):
        assert doc["traps"][doc["gold"]] == ""
        assert sorted(doc["traps"]) == ["", "adjacent_emotion", "adjacent_emotion", "adjacent_emotion"]
    assert chat["options"][chat["gold"]] == "From worry to joy"
    assert sorted(chat["options"]) == [
        "From calm to joy", "From joy to worry", "From worry to anger", "From worry to joy",
    ]  # fmt: skip


def test_only_the_language_and_layer_asked_for() -> None:
    docs = documents(items.load(TOY), "ar", "cause")
    assert [(doc["id"], doc["lang"], doc["layer"]) for doc in docs] == [
        ("toy-chat-c", "ar", "cause"),
        ("toy-peers-c", "ar", "cause"),
    ]
    assert documents([], "ar", "cause") == []
