"""The data model of the items and the strict parser of their JSONL files.

One line is one dialogue in one language, with its probes. `parse_file` reports every problem of a
file at once: types and vocabularies field by field (pydantic), then rules that join several fields.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from eicap_tasks import text_checks, vocabulary
from eicap_tasks.errors import EicapError, nearest

MAX_FOREIGN_SHARE = 0.5
"""Largest share of letters in another script that a text may have."""


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
    if not text.strip():
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Speaker(_Strict):
    """One person of a dialogue, or the assistant."""

    id: Identifier
    name: Text
    role: _one_of(vocabulary.ROLES)  # type: ignore[valid-type]


class Turn(_Strict):
    """What one speaker says at one point; turns are numbered from 1."""

    speaker: Identifier
    text: Text


class Distractor(_Strict):
    """A wrong option and the reason why it tempts."""

    text: Text
    trap: _one_of(vocabulary.TRAPS)  # type: ignore[valid-type]


class Probe(_Strict):
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


class Dialogue(_Strict):
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


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an item file, in the form `file:line: field: what, what is allowed`."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


class ItemsError(EicapError):
    """Item files that cannot be used; carries every problem found.

    Attributes:
        problems: All problems, in order of file and line.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([*map(str, problems), f"{count} found; no item was used."]))


Finding = tuple[str, str]
"""A field's path inside a dialogue ("probes[0].skill") and what is wrong with it."""


def parse_file(path: Path) -> tuple[list[tuple[int, Dialogue]], list[Problem]]:
    """Parse one JSONL file of dialogues, strictly.

    Args:
        path: A UTF-8 file with one JSON object a line; blank lines are passed over.

    Returns:
        The dialogues that are valid in themselves, each with its line number, and every problem of
        the file.

    Raises:
        EicapError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EicapError(f"{path}: cannot be read: {error.strerror}, expected a JSONL file") from error
    dialogues: list[tuple[int, Dialogue]] = []
    problems: list[Problem] = []
    lines = [(n, line) for n, line in enumerate(content.splitlines(), 1) if line.strip()]
    if not lines:
        problems.append(Problem(str(path), 1, "file", "found no dialogue, allowed: one or more"))
    for number, line in lines:
        dialogue, findings = parse_line(line)
        problems += [Problem(str(path), number, field, message) for field, message in findings]
        if dialogue is not None:
            dialogues.append((number, dialogue))
    return dialogues, problems


def parse_line(line: bytes | str) -> tuple[Dialogue | None, list[Finding]]:
    """Parse one line of an item file.

    Args:
        line: One JSON object, as text or as UTF-8 bytes.

    Returns:
        The dialogue and no finding, or None and everything that is wrong with the line.
    """
    try:
        text = line.decode("utf-8-sig") if isinstance(line, bytes) else line
        raw = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return None, [("line", f"found bytes that are not UTF-8 at column {error.start + 1}, allowed: UTF-8")]
    except json.JSONDecodeError as error:
        return None, [("line", f"found invalid JSON at column {error.colno} ({error.msg}), allowed: JSON")]
    except (_JsonRuleError, RecursionError) as error:
        return None, [("line", str(error) or "found too deep nesting, allowed: one dialogue")]
    if not isinstance(raw, dict):
        return None, [("line", f"found a JSON {type(raw).__name__}, allowed: an object, one dialogue")]
    dialogue: Dialogue | None = None
    findings: list[Finding] = []
    try:
        dialogue = Dialogue.model_validate(raw)
    except ValidationError as error:
        findings += [_finding(detail) for detail in error.errors()]
    findings += list(_joint_findings(raw, {field for field, _ in findings}))
    return (None, findings) if findings else (dialogue, [])


class _JsonRuleError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise _JsonRuleError(f"found the key {twice[0]!r} twice in one object, allowed: once")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _JsonRuleError(f"found the constant {name}, allowed: JSON values")


def _path(location: tuple[int | str, ...]) -> str:
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _finding(detail: ErrorDetails) -> Finding:
    """Turn one pydantic error into our words."""
    field, found = _path(detail["loc"]), detail["input"]
    match detail["type"]:
        case "missing":
            message = "found nothing, allowed: this field is required"
        case "extra_forbidden":
            known = _fields_at(detail["loc"])
            name = str(detail["loc"][-1])
            message = f"found an unknown field, allowed: {', '.join(known)}{nearest(name, known)}"
        case "vocabulary" | "text":
            message = detail["msg"]
        case "string_pattern_mismatch":
            message = f"found {found!r}, allowed: ASCII letters, digits, '.', '_' and '-'"
        case "too_short" | "too_long":
            limits = detail["ctx"]
            bound = limits.get("min_length", limits.get("max_length"))
            side = "at least" if detail["type"] == "too_short" else "at most"
            message = f"found {limits['actual_length']} entries, allowed: {side} {bound}"
        case _:
            message = f"found {_short(found)}, allowed: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    return field, message


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Name the fields of the model in which an unknown field was found."""
    by_list: dict[int | str, type[_Strict]] = {
        "speakers": Speaker,
        "turns": Turn,
        "probes": Probe,
        "distractors": Distractor,
    }
    parents = [part for part in location[:-1] if isinstance(part, str)]
    return list((by_list[parents[-1]] if parents else Dialogue).model_fields)


# Rules that join several fields. Each sees the raw dialogue, and runs where the fields it names are
# well-formed in themselves; in a list it passes over malformed entries. So no mistake hides another.

Raw = dict[str, Any]
_LISTS = ("speakers", "turns", "probes", "distractors", "evidence_turns")
_DIALOGUE_RULES: list[tuple[tuple[str, ...], Callable[[Raw], Iterator[Finding]]]] = []
_PROBE_RULES: list[tuple[tuple[str, ...], Callable[[Raw, Raw], Iterator[Finding]]]] = []


def _joint_findings(raw: Raw, broken: set[str]) -> Iterator[Finding]:
    def sound(entry: Raw, fields: Iterable[str], prefix: str = "") -> bool:
        """Tell whether the fields are there and well-formed; of a list, only that it is one."""
        return all(
            field in entry and (isinstance(entry[field], list) if field in _LISTS else f"{prefix}{field}" not in broken)
            for field in fields
        )

    for fields, check in _DIALOGUE_RULES:
        if sound(raw, fields):
            yield from check(raw)
    probes = raw.get("probes")
    for i, probe in enumerate(probes if isinstance(probes, list) else []):
        if not isinstance(probe, dict):
            continue
        for fields, probe_check in _PROBE_RULES:
            own = [field for field in fields if not field.startswith("/")]
            shared = [field[1:] for field in fields if field.startswith("/")]
            if sound(probe, own, f"probes[{i}].") and sound(raw, shared):
                yield from ((f"probes[{i}].{field}", message) for field, message in probe_check(probe, raw))


def _dialogue_rule(*fields: str) -> Callable[..., Any]:
    """Register a rule over these fields of the dialogue."""

    def register(check: Callable[[Raw], Iterator[Finding]]) -> None:
        _DIALOGUE_RULES.append((fields, check))

    return register


def _probe_rule(*fields: str) -> Callable[..., Any]:
    """Register a rule over these fields of a probe; "/turns" is a field of the dialogue."""

    def register(check: Callable[[Raw, Raw], Iterator[Finding]]) -> None:
        _PROBE_RULES.append((fields, check))

    return register


def _column(entries: list[Any], key: str) -> Iterator[tuple[int, str]]:
    """Walk through one text field of a list of objects, passing over malformed entries."""
    for i, entry in enumerate(entries):
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            yield i, entry[key]


def _is_position(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@_dialogue_rule("lang", "variety")
def _variety(raw: Raw) -> Iterator[Finding]:
    allowed = vocabulary.LANGUAGES[raw["lang"]]["varieties"]
    if raw["variety"] not in allowed:
        yield (
            "variety",
            f"found {raw['variety']!r}, allowed for {raw['lang']}: {', '.join(allowed)}"
            f"{nearest(raw['variety'], allowed)}",
        )


@_dialogue_rule("speakers")
def _speakers(raw: Raw) -> Iterator[Finding]:
    for key in ("id", "name"):
        yield from _repeated("speakers", key, raw["speakers"])
    roles = sorted(role for _, role in _column(raw["speakers"], "role"))
    well_formed = len(roles) == len(raw["speakers"]) and set(roles) <= set(vocabulary.ROLES)
    if well_formed and roles != ["assistant", "user"] and set(roles) != {"peer"}:
        yield (
            "speakers",
            f"found the roles {', '.join(roles)}, allowed: one user and one assistant, or peers only",
        )


@_dialogue_rule("speakers", "turns")
def _turn_speakers(raw: Raw) -> Iterator[Finding]:
    known = [speaker for _, speaker in _column(raw["speakers"], "id")]
    for i, speaker in _column(raw["turns"], "speaker"):
        if speaker not in known:
            yield (
                f"turns[{i}].speaker",
                f"found {speaker!r}, allowed: {', '.join(known)}{nearest(speaker, known)}",
            )


@_dialogue_rule("probes")
def _probe_ids(raw: Raw) -> Iterator[Finding]:
    yield from _repeated("probes", "id", raw["probes"])


def _repeated(field: str, key: str, entries: list[Any]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for i, value in _column(entries, key):
        if value in seen:
            yield (
                f"{field}[{i}].{key}",
                f"found {value!r} again, allowed: once (see {field}[{seen[value]}])",
            )
        seen.setdefault(value, i)


def _script_findings(lang: str, texts: Iterable[Finding]) -> Iterator[Finding]:
    for field, text in texts:
        share = text_checks.foreign_share(text, lang)
        if share > MAX_FOREIGN_SHARE:
            language = vocabulary.LANGUAGES[lang]
            yield (
                field,
                f"found {share:.0%} of the letters outside the {language['script'].title()} script, "
                f"allowed for {language['name']}: at most {MAX_FOREIGN_SHARE:.0%}",
            )


@_dialogue_rule("lang", "setting")
def _setting_script(raw: Raw) -> Iterator[Finding]:
    yield from _script_findings(raw["lang"], [("setting", raw["setting"])])


@_dialogue_rule("lang", "turns")
def _turn_script(raw: Raw) -> Iterator[Finding]:
    texts = ((f"turns[{i}].text", text) for i, text in _column(raw["turns"], "text"))
    yield from _script_findings(raw["lang"], texts)


@_probe_rule("/lang", "question")
def _question_script(probe: Raw, raw: Raw) -> Iterator[Finding]:
    yield from _script_findings(raw["lang"], [("question", probe["question"])])


@_probe_rule("/lang", "answer", "distractors")
def _option_script(probe: Raw, raw: Raw) -> Iterator[Finding]:
    yield from _script_findings(raw["lang"], _options(probe))


def _options(probe: Raw) -> list[Finding]:
    """List the options of a raw probe, each with its field."""
    wrong = [(f"distractors[{i}].text", text) for i, text in _column(probe["distractors"], "text")]
    return [("answer", probe["answer"]), *wrong]


@_probe_rule("answer", "distractors")
def _distinct_options(probe: Raw, raw: Raw) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for field, text in _options(probe):
        key = " ".join(text.casefold().split())
        if key in seen:
            yield field, f"found the same text as {seen[key]}, allowed: four different options"
        seen.setdefault(key, field)


@_probe_rule("layer", "skill")
def _skill_of_layer(probe: Raw, raw: Raw) -> Iterator[Finding]:
    own = vocabulary.LAYERS[probe["layer"]]["skills"]
    if probe["skill"] not in own:
        yield (
            "skill",
            f"found {probe['skill']!r}, a skill of the layer {vocabulary.SKILLS[probe['skill']]}, "
            f"allowed in {probe['layer']}: {', '.join(own)}",
        )


@_probe_rule("layer", "distractors")
def _trap_of_layer(probe: Raw, raw: Raw) -> Iterator[Finding]:
    allowed = [trap for trap, entry in vocabulary.TRAPS.items() if probe["layer"] in entry["layers"]]
    for i, trap in _column(probe["distractors"], "trap"):
        if trap in vocabulary.TRAPS and trap not in allowed:
            yield (
                f"distractors[{i}].trap",
                f"found {trap!r}, allowed in {probe['layer']}: {', '.join(allowed)}",
            )


@_probe_rule("emotion", "emotion_2")
def _two_emotions(probe: Raw, raw: Raw) -> Iterator[Finding]:
    if probe["emotion"] == probe["emotion_2"]:
        yield "emotion_2", f"found {probe['emotion']!r} again, allowed: another emotion, or no such field"


@_probe_rule("after_turn", "/turns")
def _within_dialogue(probe: Raw, raw: Raw) -> Iterator[Finding]:
    if probe["after_turn"] > len(raw["turns"]):
        yield (
            "after_turn",
            f"found {probe['after_turn']}, allowed: 1 to {len(raw['turns'])}, the number of turns",
        )


@_probe_rule("after_turn", "evidence_turns")
def _evidence_in_sight(probe: Raw, raw: Raw) -> Iterator[Finding]:
    numbers = [(i, turn) for i, turn in enumerate(probe["evidence_turns"]) if _is_position(turn)]
    for i, turn in numbers:
        if turn > probe["after_turn"]:
            yield f"evidence_turns[{i}]", f"found {turn}, allowed: at most {probe['after_turn']} (after_turn)"
    turns = [turn for _, turn in numbers]
    if turns != sorted(set(turns)):
        yield "evidence_turns", f"found {turns}, allowed: turn numbers in rising order, each once"


@_probe_rule("layer", "reply_by")
def _reply_in_response(probe: Raw, raw: Raw) -> Iterator[Finding]:
    if probe["reply_by"] is not None and probe["layer"] != "response":
        yield "reply_by", f"found it in a probe of the layer {probe['layer']}, allowed: in response only"


@_probe_rule("reply_by", "after_turn", "/speakers", "/turns")
def _replier(probe: Raw, raw: Raw) -> Iterator[Finding]:
    replier, known = probe["reply_by"], [speaker for _, speaker in _column(raw["speakers"], "id")]
    speakers = dict(_column(raw["turns"], "speaker"))
    if replier is not None and replier not in known:
        yield "reply_by", f"found {replier!r}, allowed: {', '.join(known)}{nearest(replier, known)}"
    elif replier is not None and speakers.get(probe["after_turn"] - 1) == replier:
        yield "reply_by", f"found {replier!r}, who spoke last, allowed: another speaker"
