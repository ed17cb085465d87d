"""Rules that join several fields of a dialogue.

Each sees the raw dialogue, and runs where the fields it names are well-formed in themselves; in a list it
passes over malformed entries. So no mistake hides another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from eicap_tasks import text_checks, vocabulary
from eicap_tasks.errors import nearest

Finding = tuple[str, str]
"""A field's path inside a dialogue ("probes[0].skill") and what is wrong with it."""

MAX_FOREIGN_SHARE = 0.5
"""Largest share of letters in another script that a text may have."""

Raw = dict[str, Any]
_LISTS = ("speakers", "turns", "probes", "distractors", "evidence_turns")
_DIALOGUE_RULES: list[tuple[tuple[str, ...], Callable[[Raw], Iterator[Finding]]]] = []
_PROBE_RULES: list[tuple[tuple[str, ...], Callable[[Raw, Raw], Iterator[Finding]]]] = []


def joint_findings(raw: Raw, broken: set[str]) -> Iterator[Finding]:
    """Apply all rules to one dialogue.

    Args:
        raw: The dialogue as parsed from JSON; anything may stand anywhere in it.
        broken: Paths of the fields that are malformed in themselves.

    Yields:
        What is wrong.
    """

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


@_dialogue_rule("lang", "speakers")
def _name_script(raw: Raw) -> Iterator[Finding]:
    names = ((f"speakers[{i}].name", name) for i, name in _column(raw["speakers"], "name"))
    yield from _script_findings(raw["lang"], names)


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
        key = text_checks.essence(text)
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
