"""Rendering: golden files for every template, and item text that stays text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from jinja2 import TemplateNotFound, UndefinedError
from jinja2.exceptions import SecurityError

from eicap_tasks import context, items, prompts
from eicap_tasks.documents import Document, documents
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

TOY = Path(__file__).parent / "items" / "toy.jsonl"
TASKS = [(lang, layer) for lang in LANGUAGES for layer in LAYERS]


def both(lang: str, layer: str) -> list[Document]:
    return documents(items.load(TOY), lang, layer)


def as_text(messages: list[context.Message]) -> str:
    return "".join(f"<{message['role']}>\n{message['content']}\n" for message in messages)


@pytest.mark.parametrize(("lang", "layer"), TASKS)
def test_transcripts_as_committed(lang: str, layer: str, golden: Callable[[str, str], None]) -> None:
    system = prompts.instruction(lang, layer)
    out = "\n=====\n".join(context.text_prompt(doc, system=system) for doc in both(lang, layer))
    golden(f"text_{lang}_{layer}.txt", out + "\n")


@pytest.mark.parametrize(("lang", "layer"), TASKS)
def test_chat_messages_as_committed(lang: str, layer: str, golden: Callable[[str, str], None]) -> None:
    system = prompts.instruction(lang, layer)
    out = "=====\n".join(as_text(context.chat_messages(doc, system=system)) for doc in both(lang, layer))
    golden(f"chat_{lang}_{layer}.txt", out)


def test_both_languages_have_the_same_templates() -> None:
    folders = {
        folder.name: sorted(file.name for file in folder.iterdir())
        for folder in prompts.templates_dir().iterdir()
        if folder.is_dir()
    }
    assert set(folders) == set(LANGUAGES)
    assert folders["en"] == folders["ar"] == sorted(["_words.jinja", *(f"{layer}.jinja" for layer in LAYERS)])


@pytest.mark.parametrize("text", ["{{ 7*7 }}", "{% raw %}", "{# gone #}", "{{ cycler.__init__ }}", "{{", "%}"])
@pytest.mark.parametrize("part", ["text", "message", "question"])
def test_item_text_is_never_interpreted(text: str, part: prompts.Part) -> None:
    doc = cast(Document, {**both("en", "response")[0], "question": text, "options": [text] * 4})
    before = prompts.render(both("en", "response")[0], part).count(text)
    assert prompts.render(doc, part).count(text) == before + 5


def test_undefined_names_are_errors() -> None:
    doc = dict(both("en", "cause")[0])
    del doc["setting"]
    with pytest.raises(UndefinedError, match="setting"):
        prompts.render(cast(Document, doc), "text")


def test_a_language_without_templates_is_an_error() -> None:
    with pytest.raises(TemplateNotFound, match=r"xx/cause\.jinja"):
        prompts.render(cast(Document, {**both("en", "cause")[0], "lang": "xx"}), "text")


def test_templates_run_in_the_sandbox() -> None:
    environment = prompts._environment()
    with pytest.raises(SecurityError):
        environment.from_string("{{ ''.__class__.__mro__ }}").render()
    with pytest.raises(SecurityError):
        environment.from_string("{{ doc.update(x=1) }}").render(doc={})


def test_probes_of_one_dialogue_share_their_beginning() -> None:
    """A server's prefix cache can then serve the dialogue once."""
    dialogue = [d for d in items.load(TOY) if d.lang == "en" and d.id == "toy-chat"]
    late, early = (documents(dialogue, "en", layer)[0] for layer in ("cause", "tracking"))
    head = prompts.render(early, "text").split("\n\nQuestion")[0]
    assert prompts.render(late, "text").startswith(head)


def test_the_digest_sees_the_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "cause.jinja").write_text("a")
    monkeypatch.setattr(prompts, "templates_dir", lambda: tmp_path)
    first = prompts.digest()
    (tmp_path / "en" / "cause.jinja").write_text("b")
    assert len(first) == 64
    assert prompts.digest() != first
