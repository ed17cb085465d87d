"""`eicap export-sft`: probes as chats to train on, and nothing of the test split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eicap_tasks import items, sft
from eicap_tasks.cli import app
from eicap_tasks.documents import documents
from eicap_tasks.errors import EicapError
from eicap_tasks.schema import Dialogue
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

TOY = Path(__file__).parent / "items" / "toy.jsonl"


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_dev_split(tmp_path: Path) -> None:
    out = tmp_path / "ei.jsonl"
    done = CliRunner().invoke(app, ["export-sft", str(out)])
    assert done.output == f"{out}: 64 chats in Arabic, 64 chats in English\n"
    rows = rows_of(out)
    assert len({row["id"] for row in rows}) == 128
    docs = {
        f"{doc['id']}-{lang}": doc
        for lang in LANGUAGES
        for layer in LAYERS
        for doc in documents(items.load(items.shipped("dev", lang)), lang, layer)
    }
    for row in rows:
        doc, (*before, last) = docs[row["id"]], row["messages"]
        answer, reason = last["content"].split("\n\n")
        assert answer == f"{doc['labels'][doc['gold']]}. {doc['options'][doc['gold']]}"
        assert len(reason) > 40
        roles = [message["role"] for message in before]
        assert roles == ["system", *["user", "assistant"] * (len(before) // 2 - 1), "user"]
        assert all(option in before[-1]["content"] for option in doc["options"])
    assert [row["dialogue_id"] for row in rows] == sorted(row["dialogue_id"] for row in rows)


def test_one_example_word_for_word(tmp_path: Path) -> None:
    out = tmp_path / "ei.jsonl"
    CliRunner().invoke(app, ["export-sft", str(out), "--data", str(TOY), "--system", "user", "--context", "transcript"])
    first = next(row for row in rows_of(out) if row["lang"] == "en")
    dialogue = next(dialogue for dialogue in items.load(TOY) if dialogue.lang == "en")
    assert (first["dialogue_id"], first["lang"], first["layer"]) == (dialogue.id, "en", "tracking")
    asked, said = (message["content"] for message in first["messages"])
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert asked.startswith("Read the conversation, then answer the question about what someone in it feels.")
    assert asked.endswith("Answer with the letter of the right option, and say why.")
    probe = next(p for p in dialogue.probes if p.layer == "tracking")
    assert said.partition(". ")[2] == f"{probe.answer}\n\n{probe.rationale}"


def test_a_reason_in_another_script_is_left_out() -> None:
    english, arabic = (items.load(items.shipped("dev", lang))[0] for lang in ("en", "ar"))
    reasons = {probe.id: probe.rationale for probe in english.probes}
    probes = [probe.model_copy(update={"rationale": reasons[probe.id]}) for probe in arabic.probes]
    made = sft.examples([arabic.model_copy(update={"probes": probes})], [])
    assert all("\n\n" not in str(row["messages"][-1]["content"]) for row in made)  # type: ignore[index]


def changed(dialogue: Dialogue, kept: int) -> Dialogue:
    """A dialogue of another id whose first `kept` turns are those of `dialogue`."""
    turns = [
        turn if i < kept else turn.model_copy(update={"text": f"Words of our own, number {i}, and of nobody else."})
        for i, turn in enumerate(dialogue.turns)
    ]
    return dialogue.model_copy(update={"id": "ours", "turns": turns})


def test_nothing_of_the_test_split(tmp_path: Path) -> None:
    out = tmp_path / "ei.jsonl"
    done = CliRunner().invoke(app, ["export-sft", str(out), "--data", str(items.shipped("test", "en"))])
    assert str(done.exception) == (
        "eicap-004 (en): found a dialogue of the test split, expected one that no score is taken from"
    )
    assert not out.exists()
    test = items.load(items.shipped("test", "en"))
    with pytest.raises(EicapError, match=r"^ours \(en\): found 100% of word 5-grams shared with eicap-004 of the test"):
        sft.examples([changed(test[0], len(test[0].turns))], test)
    with pytest.raises(
        EicapError, match=r"^ours \(en\): found \d\d% of word 5-grams shared with eicap-004 of the test"
    ):
        sft.examples([changed(test[0], 4)], test)
    assert sft.examples([changed(test[0], 0)], test)


def test_own_test_items_stay_out_too(tmp_path: Path) -> None:
    words = ["export-sft", str(tmp_path / "ei.jsonl"), "--data", str(TOY)]
    done = CliRunner().invoke(app, [*words, "--test", str(TOY)])
    assert "found a dialogue of the test split" in str(done.exception)
    over = CliRunner().invoke(app, ["export-sft", str(TOY), "--data", str(TOY)])
    assert isinstance(over.exception, EicapError)
    assert "found 'xx', allowed: en, ar" in str(CliRunner().invoke(app, [*words, "--lang", "xx"]).exception)
    by_lang = {lang: items.load(items.shipped("dev", lang)) for lang in ("en", "ar")}
    with pytest.raises(EicapError, match=r"^eicap-dev-\d+ \(ar\): found a dialogue of the test split"):
        sft.examples(by_lang["ar"], by_lang["en"])  # in another language it is the same dialogue
    one = CliRunner().invoke(app, ["export-sft", str(tmp_path / "ar.jsonl"), "--lang", "ar"])
    assert one.output.endswith("ar.jsonl: 64 chats in Arabic\n")
