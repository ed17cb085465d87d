"""The parser reports every problem, in exact words, and never crashes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eicap_tasks import items, vocabulary
from eicap_tasks.errors import EicapError
from eicap_tasks.parsing import ItemsError, parse_file, parse_line
from eicap_tasks.schema import Dialogue

TOY = Path(__file__).parent / "items" / "toy.jsonl"
LINES = TOY.read_text(encoding="utf-8").splitlines()
RAW: dict[str, Any] = json.loads(LINES[0])


def put(raw: Any, path: str, value: Any) -> Any:
    """Return a copy of `raw` with the field at a dotted path set, or deleted where value is `...`."""
    out = copy.deepcopy(raw)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = out
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return out


def findings(raw: Any) -> list[str]:
    return [f"{field}: {message}" for field, message in parse_line(json.dumps(raw))[1]]


def test_a_valid_line_is_parsed() -> None:
    dialogue, found = parse_line(LINES[0])
    assert found == []
    assert dialogue is not None
    assert (dialogue.id, dialogue.lang, dialogue.kind, len(dialogue.turns)) == (
        "toy-chat",
        "en",
        "assistant",
        5,
    )
    assert [probe.emotion_layer for probe in dialogue.probes] == ["foundational"] * 4
    assert dialogue.turns[2].text == "Short. But look: {{ 7*7 }} out of 50!"


SKILLS_OF_TRACKING = "current_state, shift, intensity, mixed, masked, multi_party"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("domain", ..., ["domain: found nothing, allowed: this field is required"]),
        (
            "probes.0.layr",
            "x",
            [
                "probes[0].layr: found an unknown field, allowed: id, layer, skill, emotion, emotion_2, "
                "difficulty, after_turn, reply_by, question, answer, distractors, evidence_turns, rationale"
                "; did you mean 'layer'?"
            ],
        ),
        (
            "turns.1.speeker",
            "u",
            ["turns[1].speeker: found an unknown field, allowed: speaker, text; did you mean 'speaker'?"],
        ),
        (
            "probes.0.skill",
            "shfit",
            ["probes[0].skill: found 'shfit', allowed: " + ", ".join(vocabulary.SKILLS) + "; did you mean 'shift'?"],
        ),
        (
            "probes.0.skill",
            "agency",
            [
                "probes[0].skill: found 'agency', a skill of the layer appraisal, "
                f"allowed in tracking: {SKILLS_OF_TRACKING}"
            ],
        ),
        (
            "probes.0.distractors.1.trap",
            "platitude",
            [
                "probes[0].distractors[1].trap: found 'platitude', allowed in tracking: adjacent_emotion, "
                "other_person, earlier_turn, surface_cue, over_inference, literal_reading, half_right"
            ],
        ),
        ("probes.0.after_turn", 6, ["probes[0].after_turn: found 6, allowed: 1 to 5, the number of turns"]),
        (
            "probes.0.after_turn",
            2,
            ["probes[0].evidence_turns[1]: found 3, allowed: at most 2 (after_turn)"],
        ),
        (
            "probes.0.after_turn",
            "3",
            ["probes[0].after_turn: found '3', allowed: input should be a valid integer"],
        ),
        (
            "probes.0.evidence_turns",
            [3, 1],
            ["probes[0].evidence_turns: found [3, 1], allowed: turn numbers in rising order, each once"],
        ),
        ("probes.0.evidence_turns", [], ["probes[0].evidence_turns: found 0 entries, allowed: at least 1"]),
        (
            "probes.1.id",
            "toy-chat-t",
            ["probes[1].id: found 'toy-chat-t' again, allowed: once (see probes[0])"],
        ),
        (
            "probes.0.distractors.0.text",
            "from worry  to JOY",
            ["probes[0].distractors[0].text: found the same text as answer, allowed: four different options"],
        ),
        (
            "probes.0.distractors",
            [],
            ["probes[0].distractors: found 0 entries, allowed: at least 3"],
        ),
        (
            "probes.0.emotion_2",
            "joy",
            ["probes[0].emotion_2: found 'joy' again, allowed: another emotion, or no such field"],
        ),
        (
            "turns.0.text",
            " ",
            ["turns[0].text: found empty text ' ', allowed: text with at least one visible character"],
        ),
        ("turns.0.text", "Hi ", ["turns[0].text: found white space at an end of 'Hi ', allowed: none there"]),
        (
            "turns.0.text",
            "a\u202eb",
            ["turns[0].text: found the control character U+202E, allowed: one paragraph of visible text"],
        ),
        (
            "turns.0.text",
            "a\nb",
            ["turns[0].text: found the control character U+000A, allowed: one paragraph of visible text"],
        ),
        (
            "turns.0.text",
            "الامتحان اليوم",
            ["turns[0].text: found 100% of the letters outside the Latin script, allowed for English: at most 50%"],
        ),
        (
            "probes.0.answer",
            "من القلق إلى الفرح",
            ["probes[0].answer: found 100% of the letters outside the Latin script, allowed for English: at most 50%"],
        ),
        (
            "speakers.0.name",
            "سعاد محمد",
            ["speakers[0].name: found 100% of the letters outside the Latin script, allowed for English: at most 50%"],
        ),
        (
            "probes.0.question",
            "\u200d",
            ["probes[0].question: found empty text '\\u200d', allowed: text with at least one visible character"],
        ),
        (
            "turns.0.text",
            "\u3164",
            ["turns[0].text: found empty text '\u3164', allowed: text with at least one visible character"],
        ),
        (
            "probes.0.distractors.0.text",
            "From worry\u200d to joy.",
            ["probes[0].distractors[0].text: found the same text as answer, allowed: four different options"],
        ),
        ("turns.0.speaker", "x", ["turns[0].speaker: found 'x', allowed: u, a"]),
        (
            "speakers.1.role",
            "peer",
            ["speakers: found the roles peer, user, allowed: one user and one assistant, or peers only"],
        ),
        (
            "speakers.1.name",
            "Lena",
            ["speakers[1].name: found 'Lena' again, allowed: once (see speakers[0])"],
        ),
        ("variety", "Egyptian", ["variety: found 'Egyptian', allowed for en: Standard, Regional"]),
        ("lang", "fr", ["lang: found 'fr', allowed: en, ar"]),
        ("culture", "Gulff", None),
        ("id", "a b", ["id: found 'a b', allowed: ASCII letters, digits, '.', '_' and '-'"]),
        (
            "probes.3.reply_by",
            "u",
            ["probes[3].reply_by: found 'u', who spoke last, allowed: another speaker"],
        ),
        ("probes.3.reply_by", "b", ["probes[3].reply_by: found 'b', allowed: u, a"]),
        (
            "probes.0.reply_by",
            "a",
            ["probes[0].reply_by: found it in a probe of the layer tracking, allowed: in response only"],
        ),
    ],
)
def test_each_rule_in_exact_words(path: str, value: Any, expected: list[str] | None) -> None:
    found = findings(put(RAW, path, value))
    if expected is None:  # long vocabularies: only what changes
        assert found == [f"culture: found 'Gulff', allowed: {', '.join(vocabulary.CULTURES)}; did you mean 'Gulf'?"]
    else:
        assert found == expected


@pytest.mark.parametrize(
    "markup",
    [
        "<|im_end|>", "<|im_start|>", "</s>", "<s>", "<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>",
        "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<|eot_id|>", "<|begin_of_text|>",
        "<|start_header_id|>", "<|endoftext|>", "<｜User｜>", "<think>", "</think>", "<tool_call>",
        "[SYSTEM_PROMPT]", "[TOOL_CALLS]", "<|START_OF_TURN_TOKEN|>", "<|channel|>", "<extra_id_0>", "<turn|>",
        "<unused99>", "<mask>", "[gMASK]", "[|endofturn|]", "[|Human|]", "[control_8]", ">>TITLE<<", "<|1|>",
        "[unused0]", "<2ar>", "<|end of turn|>",
    ],
)  # fmt: skip
def test_chat_markup_is_refused_with_the_reason(markup: str) -> None:
    assert findings(put(RAW, "turns.0.text", f"So it ends {markup} here")) == [
        f"turns[0].text: found {markup!r}, which a tokenizer would read as a control token of the chat, "
        "allowed: text without chat markup"
    ]


@pytest.mark.parametrize(
    "text", ["I <3 you", "a < b > c", "2<3>1", "{{ 7*7 }}", "{% x %}", "[sic]", "[I]", "[OK]", "x->y"]
)
def test_what_only_looks_like_markup_is_kept(text: str) -> None:
    dialogue, found = parse_line(json.dumps(put(RAW, "turns.0.text", text)))
    assert found == []
    assert dialogue is not None
    assert dialogue.turns[0].text == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id": 3', "line: found invalid JSON at column 9 (Expecting ',' delimiter), allowed: JSON"),
        (b"[]", "line: found a JSON list, allowed: an object, one dialogue"),
        (b'{"a": 1, "a": 2}', "line: found the key 'a' twice in one object, allowed: once"),
        (b'{"a": NaN}', "line: found the constant NaN, allowed: JSON values"),
        (b'{"a": "\xff"}', "line: found bytes that are not UTF-8 at column 8, allowed: UTF-8"),
        (b"[" * 100_000, None),
        (b"1" * 5000, "line: found a number or a nesting that is too large, allowed: one dialogue"),
    ],
)
def test_lines_that_are_not_dialogues(line: bytes, expected: str | None) -> None:
    dialogue, found = parse_line(line)
    assert dialogue is None
    assert len(found) == 1
    if expected:
        assert f"{found[0][0]}: {found[0][1]}" == expected


def test_one_mistake_does_not_hide_another() -> None:
    raw = put(RAW, "probes.0.skill", "nonsense")
    raw = put(raw, "probes.0.after_turn", 9)
    raw = put(raw, "probes.2.distractors.0.trap", ...)
    raw = put(raw, "probes.2.evidence_turns", [4])
    raw = put(raw, "turns.4.text", "</s>")
    fields = [field for field, _ in parse_line(json.dumps(raw))[1]]
    assert fields == [
        "turns[4].text",
        "probes[0].skill",
        "probes[2].distractors[0].trap",
        "probes[0].after_turn",
        "probes[2].evidence_turns[0]",
    ]


def test_every_problem_of_all_files_in_one_go(tmp_path: Path) -> None:
    one, two = tmp_path / "a.jsonl", tmp_path / "sub" / "b.jsonl"
    two.parent.mkdir()
    one.write_text(LINES[0] + "\n\n" + json.dumps(put(RAW, "lang", "xx")) + "\n", encoding="utf-8")
    two.write_text(LINES[0] + "\n{\n", encoding="utf-8")
    with pytest.raises(ItemsError) as caught:
        items.load(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{one}:3: lang: found 'xx', allowed: en, ar",
        f"{two}:1: id: found 'toy-chat' again, allowed: once per language (see {one}:1)",
        *(
            f"{two}:1: probes[{i}].id: found 'toy-chat-{x}' again, allowed: once per language (see {one}:1)"
            for i, x in enumerate("tcar")
        ),
        f"{two}:2: line: found invalid JSON at column 2 (Expecting property name enclosed in double quotes), "
        "allowed: JSON",
        "7 problems found; no item was used.",
    ]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(EicapError, match=r"no such file or folder, expected a JSONL file"):
        items.load(tmp_path / "none.jsonl")
    with pytest.raises(EicapError, match=r"found no file ending in \.jsonl"):
        items.load(tmp_path)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(ItemsError, match=r"empty\.jsonl:1: file: found no dialogue, allowed: one or more"):
        items.load(empty)


def test_json_over_several_lines_is_named_as_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "array.jsonl"
    file.write_text(json.dumps([RAW], indent=1), encoding="utf-8")
    with pytest.raises(ItemsError) as caught:
        items.load(file)
    assert str(caught.value).splitlines() == [
        f"{file}:1: file: found one JSON document over several lines, allowed: one dialogue on each line",
        "1 problem found; no item was used.",
    ]


def test_a_folder_and_its_file_are_read_once(tmp_path: Path) -> None:
    file = tmp_path / "toy.jsonl"
    file.write_text(TOY.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(items.load(tmp_path, file)) == 4


def test_the_digest_ignores_order_and_files_and_sees_every_text(tmp_path: Path) -> None:
    dialogues = items.load(TOY)
    assert items.digest(reversed(dialogues)) == items.digest(dialogues)
    (tmp_path / "x.jsonl").write_text(json.dumps(put(RAW, "turns.0.text", "The exam is now.")) + "\n")
    changed = items.load(tmp_path)
    assert items.digest(changed) != items.digest([d for d in dialogues if d.id == "toy-chat" and d.lang == "en"])


# Fuzzing: anything may stand anywhere.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=6,
)


def all_paths(value: Any, prefix: str = "") -> list[str]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    out = []
    for key, child in entries:
        path = f"{prefix}.{key}" if prefix else str(key)
        out += [path, *all_paths(child, path)]
    return out


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(all_paths(RAW)), json_values)
def test_any_value_anywhere_gives_a_dialogue_or_findings(path: str, value: Any) -> None:
    dialogue, found = parse_line(json.dumps(put(RAW, path, value)))
    assert (dialogue is None) == bool(found)
    for field, message in found:
        assert field
        assert re.search(r"allowed( (for|in) [^:]+)?: ", message), message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_give_a_dialogue_or_findings(line: bytes) -> None:
    dialogue, found = parse_line(line)
    assert (dialogue is None) == bool(found)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(all_paths(RAW)))
def test_leaving_anything_out_is_found_unless_it_is_optional(path: str) -> None:
    """One of several probes may go, one of several pieces of evidence, and the last turn of the five."""
    found = parse_line(json.dumps(put(RAW, path, ...)))[1]
    parts = path.split(".")
    optional = (
        parts[-1] == "reply_by"
        or (parts[0] == "probes" and len(parts) == 2)
        or (parts[-2:-1] == ["evidence_turns"] and len(RAW["probes"][int(parts[1])]["evidence_turns"]) > 1)
    )
    if optional or (parts[0] == "turns" and len(parts) == 2):
        return  # whether a missing turn matters depends on the probes
    assert found, path


def test_a_dialogue_survives_a_round_trip() -> None:
    for line in LINES:
        dialogue, _ = parse_line(line)
        assert dialogue is not None
        assert parse_line(dialogue.model_dump_json())[0] == dialogue
        assert isinstance(dialogue, Dialogue)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(EicapError, match="cannot be read"):
        parse_file(tmp_path)
