"""The data model of the items: one dialogue in one language, with its probes.

Types and vocabularies are checked field by field; `rules` has what joins several fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from eicap_tasks import text_checks, vocabulary
from eicap_tasks.errors import nearest


def _one_of(allowed: Iterable[str]) -> Any:
    """Build the type of a string that must be one of `allowed`."""
    values = list(allowed)

    def check(found: str) -> str:
        if found not in values:
            message = f"found {found!r}, allowed: {', '.join(values)}{nearest(found, values)}"
            raise PydanticCustomError("vocabulary", "{message}", {"message": message})
        return found

    return Annotated[StrictStr, AfterValidator(check)]


def _clean(text: str) -> str:
    """Refuse empty text, chat markup and control characters."""
    if not text_checks.is_visible(text):
        message = f"found empty text {text!r}, allowed: text with at least one visible character"
    elif text != text.strip():
        message = f"found white space at an end of {text!r}, allowed: none there"
    elif token := text_checks.control_token(text):
        message = (
            f"found {token!r}, which a tokenizer would read as a control token of the chat, "
            "allowed: text without chat markup"
        )
    elif code := text_checks.control_character(text):
        message = f"found the control character {code}, allowed: one paragraph of visible text"
    else:
        return text
    raise PydanticCustomError("text", "{message}", {"message": message})


Text = Annotated[StrictStr, AfterValidator(_clean)]
Identifier = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Position = Annotated[StrictInt, Field(ge=1)]


class Strict(BaseModel):
    """A model that takes known fields only and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Speaker(Strict):
    """One person of a dialogue, or the assistant."""

    id: Identifier
    name: Text
    role: _one_of(vocabulary.ROLES)  # type: ignore[valid-type]


class Turn(Strict):
    """What one speaker says at one point; turns are numbered from 1."""

    speaker: Identifier
    text: Text


class Distractor(Strict):
    """A wrong option and the reason why it tempts."""

    text: Text
    trap: _one_of(vocabulary.TRAPS)  # type: ignore[valid-type]


class Probe(Strict):
    """One question about a dialogue, asked after turn `after_turn` with nothing later in sight."""

    id: Identifier
    layer: _one_of(vocabulary.LAYERS)  # type: ignore[valid-type]
    skill: _one_of(vocabulary.SKILLS)  # type: ignore[valid-type]
    emotion: _one_of(vocabulary.EMOTIONS)  # type: ignore[valid-type]
    emotion_2: _one_of(vocabulary.EMOTIONS) | None = None  # type: ignore[valid-type]
    difficulty: _one_of(vocabulary.DIFFICULTIES)  # type: ignore[valid-type]
    after_turn: Position
    reply_by: Identifier | None = None
    """Response probes: the speaker who would send the replies; None where that is the assistant."""
    question: Text
    answer: Text
    distractors: Annotated[list[Distractor], Field(min_length=3, max_length=3)]
    evidence_turns: Annotated[list[Position], Field(min_length=1)]
    rationale: Text

    @property
    def emotion_layer(self) -> str:
        """The emotion layer that `emotion` belongs to."""
        return vocabulary.EMOTIONS[self.emotion]


class Dialogue(Strict):
    """One dialogue in one language with its probes."""

    id: Identifier
    lang: _one_of(vocabulary.LANGUAGES)  # type: ignore[valid-type]
    variety: StrictStr
    origin: _one_of(vocabulary.LANGUAGES)  # type: ignore[valid-type]
    culture: _one_of(vocabulary.CULTURES)  # type: ignore[valid-type]
    domain: _one_of(vocabulary.DOMAINS)  # type: ignore[valid-type]
    setting: Text
    speakers: Annotated[list[Speaker], Field(min_length=2)]
    turns: Annotated[list[Turn], Field(min_length=2)]
    probes: Annotated[list[Probe], Field(min_length=1)]

    @property
    def kind(self) -> Literal["assistant", "peers"]:
        """Whether a user talks with an assistant, or people talk among themselves."""
        return "assistant" if any(s.role == "assistant" for s in self.speakers) else "peers"
