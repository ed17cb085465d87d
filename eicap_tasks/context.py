"""What the model is shown: a transcript, or the dialogue as real chat messages.

Pure functions; `task.py` connects them to the harness and `eicap show` prints what they return.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from eicap_tasks.documents import Document
from eicap_tasks.prompts import render

ContextKind = Literal["turns", "transcript"]
"""In chat mode: the dialogue's turns as chat messages, or the transcript in one message."""

ChatTemplate = Callable[..., Any]
"""Renders a list of messages; called as `template(messages, add_generation_prompt=...)`."""


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


def text_prompt(
    doc: Document,
    shots: Sequence[Document] = (),
    *,
    system: str = "",
    target_delimiter: str = " ",
    fewshot_delimiter: str = "\n\n",
) -> str:
    """Assemble the prompt for a model without a chat template.

    Args:
        doc: The document to ask.
        shots: Documents to show before it, each with its gold label.
        system: Instruction to begin with.
        target_delimiter: Stands between a prompt and its label.
        fewshot_delimiter: Stands after the instruction and between documents.

    Returns:
        The prompt; the label of an option follows it after `target_delimiter`.
    """
    parts = [system.strip(), *_solved(shots, doc, target_delimiter), render(doc, "text")]
    return fewshot_delimiter.join(part for part in parts if part)


def _before(shots: Sequence[Document], doc: Document) -> list[Document]:
    """All documents that stand with their answers before the one asked: examples, and earlier probes of a chain."""
    return [link for shot in shots for link in (*shot["earlier"], shot)] + list(doc["earlier"])


def _solved(shots: Sequence[Document], doc: Document, target_delimiter: str = " ") -> list[str]:
    return [render(each, "text") + target_delimiter + gold_label(each) for each in _before(shots, doc)]


def chat_messages(
    doc: Document,
    shots: Sequence[Document] = (),
    *,
    system: str = "",
    context: ContextKind = "turns",
    shots_as_turns: bool = True,
    fewshot_delimiter: str = "\n\n",
) -> list[Message]:
    """Assemble the messages for a chat model; user and assistant alternate strictly.

    The turns of a dialogue between a user and an assistant become messages of their own, between an
    opening that gives the setting and the question, both from the user. A dialogue among peers is a
    transcript in one user message.

    Args:
        doc: The document to ask.
        shots: Documents to show before it, each with its gold label as the assistant's message.
        system: Instruction for the system message; none is made where it is empty.
        context: Whether chat turns are wanted, or always the transcript.
        shots_as_turns: False puts examples, if there are some, and the question into one user message.
        fewshot_delimiter: Stands between examples that share one message.

    Returns:
        The messages. The last one is the user's; the label of an option is the answer to it.
    """
    messages: list[Message] = [Message(role="system", content=system.strip())] if system.strip() else []
    if shots and not shots_as_turns:
        whole = fewshot_delimiter.join([*_solved(shots, doc), render(doc, "message")])
        return [*messages, Message(role="user", content=whole)]
    for solved in _before(shots, doc):
        messages += _dialogue_messages(solved, context)
        messages.append(Message(role="assistant", content=gold_label(solved)))
    return messages + _dialogue_messages(doc, context)


def gold_label(doc: Document) -> str:
    """Return the label of the right option; in cloze form, its text."""
    return doc["labels"][doc["gold"]]


def _dialogue_messages(doc: Document, context: ContextKind) -> list[Message]:
    spoken_by_the_user = doc["form"] == "cloze" and doc["layer"] == "response" and doc["turns"][-1]["role"] != "user"
    if doc["kind"] == "peers" or context == "transcript" or spoken_by_the_user:
        return [Message(role="user", content=render(doc, "message"))]
    turns = [(turn["role"], turn["text"]) for turn in doc["turns"]]
    begin = [("user", render(doc, "opening" if doc["setting"] else "going_on"))] if turns else []
    question = render(doc, "question")
    messages: list[Message] = []
    for role, content in [*begin, *turns, *([("user", question)] if question else [])]:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append(Message(role="user" if role == "user" else "assistant", content=content))
    return messages


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """Move the system message, if there is one, to the start of the first user message."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [Message(role="user", content=f"{system['content']}\n\n{first['content']}"), *rest]


def keeps_system(template: ChatTemplate) -> bool:
    """Tell whether a chat template shows a system message to the model.

    Some refuse it (Gemma 2) or leave it out, and lm-eval's backends then drop it silently.

    Args:
        template: The chat template, as lm-eval hands it to a task.
    """
    marker = "eicap-system-marker"
    trial = [Message(role="system", content=marker), Message(role="user", content="x")]
    try:
        return marker in str(template(trial, add_generation_prompt=True))
    except Exception:  # a template can raise anything to refuse a role
        return False
