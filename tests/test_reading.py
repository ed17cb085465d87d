"""Reading generated answers: a table of real-looking ones, and texts of every kind."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eicap_tasks.reading import after_thinking, fold, read_answer

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "answers.jsonl").read_text(encoding="utf-8").splitlines()
]
OPTIONS = ["She is angry", "She is relieved", "She is jealous", "She is proud"]

# What a person reads and the reader does not: paraphrases count as no answer, and one Arabic abbreviation misleads it.
MISSED = {
    "slight paraphrase of B",
    "rejects D text, picks A text",
    "option text, no hamza or ta marbuta",
    "shortened option A text",
    "B affirmed, others negated",
    "slight paraphrase of A",
    "paraphrase of A; letters are speakers",
    "plausible against most accurate",
    "option text with explanation",
    "option within sentence",
    "option text, rejects A",
}
MISREAD = {"د. is 'Dr.'"}


def letter(row: dict[str, Any]) -> str | None:
    index = read_answer(row["text"], row["options"])
    return None if index is None else "ABCD"[index]


def test_the_table_is_large_and_in_both_languages() -> None:
    languages = Counter(row["lang"] for row in ROWS)
    assert min(languages["en"], languages["ar"]) >= 60
    assert languages.total() >= 120
    assert sum(row["expected"] is None for row in ROWS) >= 30


def test_every_answer_is_read_as_expected() -> None:
    wrong = [(row["why"], letter(row)) for row in ROWS if letter(row) != row["expected"]]
    assert {why for why, found in wrong if found is None} == MISSED
    assert {why for why, found in wrong if found is not None} == MISREAD
    assert len(wrong) == 13


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        ("(ب)", "B"),
        ("إ", "A"),
        ("الإجابة: ب", "B"),
        ("الجواب: بـ", "B"),
        ("أ", "A"),
        ("ا", "A"),
        ("٣", "C"),
        ("3", "C"),
        ("Ｃ", "C"),
        ("Answer: (B)", "B"),
        (r"\boxed{C}", "C"),
        ("**D**", "D"),
        ('{"answer": "C"}', "C"),
        ("She is jealous", "C"),
        ("I first thought the answer is A. No: the answer is D.", "D"),
        ("<think>The answer is A.</think>B", "B"),
        ("<think>The answer is A.", None),
        ("I cannot answer that.", None),
        ("A or B", None),
        ("The answer is A and C", None),
        ("", None),
    ],
)
def test_what_the_issue_lists(text: str, expected: str | None) -> None:
    assert letter({"text": text, "options": OPTIONS}) == expected


def test_arabic_labels_and_arabic_options() -> None:
    options = ["تشعر بالغضب", "تشعر بالارتياح", "تشعر بالغيرة", "تشعر بالفخر"]
    assert read_answer("الإجابة هي ج", options, ["أ", "ب", "ج", "د"]) == 2
    assert read_answer("الإجابة هي C", options, ["أ", "ب", "ج", "د"]) == 2
    assert read_answer("تشعرُ بِالغَيْرة.", options, ["أ", "ب", "ج", "د"]) == 2


def test_own_labels_come_before_the_usual_ones() -> None:
    assert read_answer("1", OPTIONS, ["4", "3", "2", "1"]) == 3


def test_folding() -> None:
    assert fold("أإآا ٣ Ｂ \u200fب\u0640ة") == "اااا 3 B به"


def test_thinking() -> None:
    assert after_thinking("<think>a</think>b") == "b"
    assert after_thinking("b<think>a") == "b"
    assert after_thinking("a</think>b") == "b"
    assert after_thinking("a</think>b", begun=True) == "b"
    assert after_thinking("The answer is A. Or", begun=True) == ""


@given(st.text(max_size=400), st.lists(st.text(max_size=20), min_size=4, max_size=4))
def test_any_text_is_read_as_one_option_or_none(text: str, options: list[str]) -> None:
    assert read_answer(text, options) in (None, 0, 1, 2, 3)


PIECES = st.sampled_from(
    [
        *"ABCDabcd1234أبجد().:,?!*\n ",
        *(
            "answer option is not or if so speaker I-choose الإجابة ليس <think> </think> { } ```json ✓".replace(
                "-", " "
            ).split(" ")
        ),
        *('"', "\\boxed{", "She is angry", '{"answer": '),
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join))
def test_texts_of_telling_pieces_are_read_as_one_option_or_none(text: str) -> None:
    assert read_answer(text, OPTIONS) in (None, 0, 1, 2, 3)


@given(st.sampled_from(range(4)), st.permutations(OPTIONS))
def test_the_place_is_that_of_the_option(index: int, options: list[str]) -> None:
    assert read_answer(f"The answer is: {options[index]}.", options) == index
    assert read_answer(f"({'ABCD'[index]}) {options[index]}", options) == index


@pytest.mark.parametrize(
    "piece", ["answer ", "is ", "not ", "(", "{", "A. x\n", "<think>", '"answer": "', "a ", "she is angry "]
)
def test_a_model_that_repeats_itself_is_read_in_seconds(piece: str) -> None:
    begin = time.perf_counter()
    read_answer(piece * (200_000 // len(piece)), OPTIONS)
    assert time.perf_counter() - begin < 20
