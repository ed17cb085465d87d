"""Chat messages: strict alternation, templates that refuse, examples, and nothing from later turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import chat_template

from eicap_tasks import items
from eicap_tasks.context import (
    ContextKind,
    Message,
    chat_messages,
    fold_system,
    gold_label,
    keeps_system,
    text_prompt,
)
from eicap_tasks.documents import Document, documents
from eicap_tasks.prompts import render

TOY = Path(__file__).parent / "items" / "toy.jsonl"
CHAT, PEERS = documents(items.load(TOY), "en", "tracking")
TEMPLATES = ["chatml", "llama3", "gemma2", "llama2"]


def roles(messages: list[Message]) -> list[str]:
    return [message["role"] for message in messages]


def with_roles(speakers: list[str]) -> Document:
    turns = [{"name": role, "role": role, "text": f"t{i}"} for i, role in enumerate(speakers)]
    return cast(Document, {**CHAT, "turns": turns})


def test_the_turns_are_messages_and_the_question_is_the_last() -> None:
    messages = chat_messages(CHAT, system="Do it.")
    assert roles(messages) == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == (
        "[A conversation begins. Setting: Lena writes to an assistant.]\n\nThe exam is today."
    )
    assert messages[2]["content"] == "How was the night?"
    assert messages[3]["content"] == ("Short. But look: {{ 7*7 }} out of 50!\n\n" + render(CHAT, "question"))


def test_a_dialogue_that_the_assistant_begins_and_ends() -> None:
    messages = chat_messages(with_roles(["assistant", "user", "assistant"]))
    assert roles(messages) == ["user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == "[A conversation begins. Setting: Lena writes to an assistant.]"
    assert messages[-1]["content"] == render(CHAT, "question")


def test_peers_are_a_transcript_in_one_message() -> None:
    assert chat_messages(PEERS) == [Message(role="user", content=render(PEERS, "message"))]
    assert "Omar: You washed up?\nPia: All of it.\nOmar: It was my turn." in render(PEERS, "message")


def test_a_run_can_ask_for_the_transcript() -> None:
    assert chat_messages(CHAT, context="transcript") == [Message(role="user", content=render(CHAT, "message"))]


def test_examples_are_earlier_turns_with_their_gold_label() -> None:
    messages = chat_messages(CHAT, [PEERS], system="S")
    assert roles(messages) == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[2]["content"] == gold_label(PEERS)
    assert messages[1]["content"] == render(PEERS, "message")


def test_examples_can_share_one_message() -> None:
    messages = chat_messages(CHAT, [PEERS], system="S", shots_as_turns=False)
    assert roles(messages) == ["system", "user"]
    assert messages[1]["content"] == (f"{render(PEERS, 'text')} {gold_label(PEERS)}\n\n{render(CHAT, 'message')}")


def test_text_prompts_with_and_without_examples() -> None:
    assert text_prompt(CHAT) == render(CHAT, "text")
    assert text_prompt(CHAT, [PEERS], system=" S \n") == (
        f"S\n\n{render(PEERS, 'text')} {gold_label(PEERS)}\n\n{render(CHAT, 'text')}"
    )
    assert text_prompt(CHAT).endswith("\nAnswer:")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=8),
    st.lists(st.sampled_from([CHAT, PEERS]), max_size=3),
    st.text(max_size=5),
    st.sampled_from(["turns", "transcript"]),
    st.booleans(),
)
def test_any_dialogue_alternates_and_ends_with_the_user(
    speakers: list[str], shots: list[Document], system: str, context: ContextKind, as_turns: bool
) -> None:
    doc = with_roles(speakers)
    messages = chat_messages(doc, shots, system=system, context=context, shots_as_turns=as_turns)
    if system.strip():
        assert messages.pop(0) == Message(role="system", content=system.strip())
    assert roles(messages) == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    whole = "\n".join(message["content"] for message in messages)
    assert all(whole.count(turn["text"]) >= 1 for turn in doc["turns"])
    assert whole.count(doc["question"]) == 1 + sum(shot is CHAT for shot in shots)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("chatml", True), ("llama3", True), ("llama2", True), ("gemma2", False), ("silent", False)],
)
def test_which_templates_keep_a_system_message(name: str, kept: bool) -> None:
    assert keeps_system(chat_template(name)) is kept


def test_folding_puts_the_system_text_first() -> None:
    messages = chat_messages(CHAT, system="S")
    folded = fold_system(messages)
    assert roles(folded) == ["user", "assistant", "user"]
    assert folded[0]["content"] == f"S\n\n{messages[1]['content']}"
    assert fold_system(folded) == folded
    assert fold_system([]) == []


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("doc", [CHAT, PEERS, with_roles(["assistant", "user"])], ids=["chat", "peers", "first"])
@pytest.mark.parametrize("shots", [0, 2])
def test_every_template_takes_every_kind_of_dialogue(name: str, doc: Document, shots: int) -> None:
    template = chat_template(name)
    messages = chat_messages(doc, [PEERS, CHAT][:shots], system="Do it.")
    if not keeps_system(template):
        messages = fold_system(messages)
    out = template(messages, add_generation_prompt=True)
    assert out.count("Do it.") == 1
    assert out.count("You are a helpful assistant.") == 0
    for turn in doc["turns"]:
        assert turn["text"] in out


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendered_chats_as_committed(name: str, golden: Callable[[str, str], None]) -> None:
    template = chat_template(name)
    messages = chat_messages(CHAT, [PEERS], system="Do it.")
    golden(
        f"template_{name}.txt",
        template(messages if keeps_system(template) else fold_system(messages), add_generation_prompt=True),
    )


def test_a_template_that_fails_in_its_own_way_counts_as_refusing() -> None:
    def broken(messages: list[Any], add_generation_prompt: bool) -> str:
        raise KeyError("system")

    assert keeps_system(broken) is False
