"""The audit finds every defect that is planted, and none in items without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artificial import ARABIC, dialogue, dialogues
from models import ScriptedModel, always_a, oracle

from eicap_tasks import items, pages
from eicap_tasks.audit import audit, overlap, report, shortcuts, tasks_of
from eicap_tasks.audit.checks import Check, failures
from eicap_tasks.audit.overlap import most_alike
from eicap_tasks.audit.surface import lengths, opening_distance, positions
from eicap_tasks.audit.yardstick import load_model, with_model
from eicap_tasks.documents import Document
from eicap_tasks.errors import EicapError
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

Plant = Callable[[dict[str, Any], int], None]


@pytest.fixture(scope="module")
def sound() -> list[Check]:
    return audit(dialogues())


def find(checks: list[Check], name: str, scope: str) -> Check:
    (found,) = [check for check in checks if check.name == name and check.scope == scope]
    return found


def test_items_without_a_defect_pass(sound: list[Check]) -> None:
    assert [(check.name, check.scope, check.found, check.detail) for check in failures(sound)] == []
    assert len([check for check in sound if check.passed]) > 100
    assert find(sound, "place most often right", "appraisal_en").found == "25.0 %"
    assert find(sound, "right option's characters to the wrong ones' mean", "all").value == 1.0


def each_probe(change: Callable[[dict[str, Any], int], None]) -> Plant:
    def plant(raw: dict[str, Any], number: int) -> None:
        for probe in raw["probes"]:
            change(probe, number)

    return plant


def longer(probe: dict[str, Any], number: int) -> None:
    if number % 2:
        probe["answer"] += " and more of it"


def shorter(probe: dict[str, Any], number: int) -> None:
    if number % 2:
        probe["answer"] = probe["answer"][:-8]


def tell(probe: dict[str, Any], number: int) -> None:
    probe["answer"] = "zzqx" + probe["answer"][4:]


def question(probe: dict[str, Any], number: int) -> None:
    if probe["layer"] == "response":
        probe["answer"] += "?"


def hedge(probe: dict[str, Any], number: int) -> None:
    if probe["layer"] == "response":
        probe["answer"] = "Maybe " + probe["answer"]


def opening(probe: dict[str, Any], number: int) -> None:
    if probe["layer"] == "response":
        probe["answer"] = "It sounds like " + probe["answer"]


def same_question(probe: dict[str, Any], number: int) -> None:
    probe["question"] = "What does she feel?"


def one_trap(probe: dict[str, Any], number: int) -> None:
    for entry in probe["distractors"]:
        entry["trap"] = "surface_cue"


def hard(probe: dict[str, Any], number: int) -> None:
    probe["difficulty"] = "subtle"


def one_turn(probe: dict[str, Any], number: int) -> None:
    probe["evidence_turns"] = [probe["after_turn"]]


def copied(raw: dict[str, Any], number: int) -> None:
    if number == 7:
        for turn, other in zip(raw["turns"][:3], dialogue(3, raw["lang"])["turns"], strict=False):
            turn["text"] = other["text"]


def same_name(raw: dict[str, Any], number: int) -> None:
    raw["speakers"][0]["name"] = "Karim" if number < 5 else raw["speakers"][0]["name"]


def same_option(raw: dict[str, Any], number: int) -> None:
    raw["probes"][0]["answer"] = "she has five other words"
    raw["probes"][1]["answer"] = "she has five other words too"


def all_chat(raw: dict[str, Any], number: int) -> None:
    for speaker, role in zip(raw["speakers"], ("user", "assistant"), strict=True):
        speaker["role"] = role


def no_dialect(raw: dict[str, Any], number: int) -> None:
    raw["variety"] = "Standard"


def one_origin(raw: dict[str, Any], number: int) -> None:
    raw["origin"] = "en"


def comma(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar" and number == 4:
        raw["turns"][2]["text"] += ", هكذا"


def marks(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar":
        raw["turns"][2]["text"] = "".join(char + "َ" for char in raw["turns"][2]["text"])


def tatweel(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar" and number == 4:
        raw["turns"][0]["text"] += " هـكذا"


def tatweel_in_the_answer(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar" and number == 4:
        raw["probes"][0]["answer"] += " هـكذا"


def tatweel_in_a_distractor(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar" and number == 4:
        raw["probes"][0]["distractors"][0]["text"] += " هـكذا"


def latin(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar":
        raw["setting"] += " ab"


def other_key(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar" and number == 4:
        raw["probes"][0]["after_turn"] = 4


def long_arabic(raw: dict[str, Any], number: int) -> None:
    if raw["lang"] == "ar" and number == 4:
        raw["turns"][0]["text"] = " ".join([ARABIC] * 20)


@pytest.mark.parametrize(
    ("plant", "name", "scope", "found"),
    [
        (each_probe(longer), "right option is the longest", "cause_en", "62.5 %"),
        (each_probe(shorter), "right option is the shortest", "cause_en", "62.5 %"),
        (each_probe(tell), "options alone", "cause_en", "100.0 %"),
        (each_probe(question), "asks a question: right minus wrong", "response_en", "100.0 %"),
        (each_probe(hedge), "hedges: right minus wrong", "response_en", "100.0 %"),
        (each_probe(opening), "first three words: distance of right from wrong", "response_en", "100.0 %"),
        (each_probe(same_question), "questions asked again in the same words", "en", "99.6 %"),
        (each_probe(one_trap), "uses of the rarest trap", "en", "0"),
        (each_probe(one_trap), "share of the most frequent trap", "en", "100.0 %"),
        (each_probe(hard), "share of subtle", "tracking_en", "100.0 %"),
        (each_probe(one_turn), "probes that two or more turns settle", "en", "0.0 %"),
        (each_probe(one_turn), "probes with a cue before the last visible turn", "en", "0.0 %"),
        (copied, "word 5-grams shared by the two most alike dialogues", "en", "50.0 %"),
        (same_name, "dialogues of the most frequent name", "en", "5"),
        (same_option, "options nearly equal to one of another probe", "en", "12.5 %"),
        (all_chat, "dialogues with an assistant", "en", "100.0 %"),
        (no_dialect, "dialogues in a dialect", "ar", "0.0 %"),
        (one_origin, "dialogues written in this language first", "ar", "0.0 %"),
        (comma, "texts with one of , ; ?", "ar", "1"),
        (marks, "vowel signs per letter", "ar", None),
        (tatweel, "texts with tatweel", "ar", "1"),
        (tatweel_in_the_answer, "texts with tatweel", "ar", "1"),
        (tatweel_in_a_distractor, "texts with tatweel", "ar", "1"),
        (latin, "texts with letters of another script than Arabic's", "ar", None),
        (other_key, "dialogues with other probes, keys, turns or evidence", "en-ar", "1"),
        (long_arabic, "dialogues with a ratio outside 0.6 to 1.3", "en-ar", "1"),
    ],
)
def test_a_planted_defect_is_found(
    plant: Plant, name: str, scope: str, found: str | None, sound: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(sound, name, scope).passed is not False
    if name != "options alone":  # training classifiers takes seconds
        monkeypatch.setattr(shortcuts, "shortcuts", lambda tasks: iter(()))
    check = find(audit(dialogues(plant=plant)), name, scope)
    assert check.passed is False
    assert found is None or check.found.split(" [")[0] == found


def test_a_classifier_that_sees_the_last_turn_finds_an_option_that_repeats_it() -> None:
    def plant(raw: dict[str, Any], number: int) -> None:
        for probe in raw["probes"]:
            probe["answer"] = " ".join(raw["turns"][probe["after_turn"] - 1]["text"].split()[:4])

    checks = audit(dialogues(plant=plant, langs=("en",)))
    assert find(checks, "last visible turn", "cause_en").value == 1.0
    assert find(checks, "last visible turn", "cause_en").passed is None
    assert find(checks, "options alone", "cause_en").passed is True
    own = [find(checks, "options alone", f"{layer}_en").value for layer in LAYERS]
    together = find(checks, "options alone", "all")
    assert together.value == pytest.approx(sum(own) / 4)
    assert together.passed is None
    assert together.interval is not None
    assert together.interval[0] < together.value < together.interval[1]


def test_of_several_equal_options_each_counts() -> None:
    def plant(raw: dict[str, Any], number: int) -> None:
        for probe in raw["probes"][:3]:
            probe["answer"] = "she has five other words"

    (dialogue,) = dialogues(1, ("en",), plant=plant)
    assert [found[1::2] for found in overlap.near_duplicates([dialogue])] == [
        (dialogue.probes[0].id, dialogue.probes[1].id), (dialogue.probes[0].id, dialogue.probes[2].id)
    ]  # fmt: skip
    check = find(list(overlap.overlap("en", [dialogue])), "options nearly equal to one of another probe", "en")
    assert check.value == 3 / 16


def test_a_dialogue_in_one_language_only_is_found() -> None:
    assert find(audit(dialogues(8)[:-1]), "dialogues in one language only", "en-ar").value == 1


def test_few_probes_are_shown_but_not_judged() -> None:
    checks = audit(dialogues(8, plant=each_probe(longer)))
    assert find(checks, "right option is the longest", "cause_en").found == "62.5 %"
    assert find(checks, "right option is the longest", "cause_en").passed is None
    assert find(checks, "options alone", "cause_en").passed is None


def test_positions_and_lengths_by_hand() -> None:
    docs = tasks_of(dialogues(3, ("en",)))["cause_en"]
    assert [doc["gold"] for doc in docs] == [1, 2, 0]
    assert [check.value for check in positions("x", docs)] == [1 / 3, 0.0]
    docs = [{**docs[0], "options": ["aaaa", "bb", "cccc", "d"], "gold": 0}]
    longest, shortest, ratio = lengths("x", docs)
    assert longest.value == 1 / 2  # ties with one other
    assert shortest.value == 0.0
    assert ratio.value == 4 / ((2 + 4 + 1) / 3)


def test_distance_of_openings_by_hand() -> None:
    (doc,) = tasks_of(dialogues(1, ("en",)))["response_en"]
    one: Document = {**doc, "options": ["Oh no", "Oh yes", "You did", "We do"], "gold": 0}
    two: Document = {**doc, "options": ["You did", "Oh well", "You can", "You may"], "gold": 1}
    # right: oh 2/2; wrong: oh 1/6, you 4/6, we 1/6
    distance, p = opening_distance([one, two], 1)
    assert distance == pytest.approx(5 / 6)
    # of 16 equally likely pairs of right options, oh is right twice in 2, and (we, oh) is as far
    assert p == pytest.approx(2 / 16, abs=0.03) or p == pytest.approx(3 / 16, abs=0.03)


def test_shared_grams_by_hand() -> None:
    one, two, three = dialogues(3, ("en",))
    assert most_alike([one, two, three]) == (0.0, ())
    copy = two.model_copy(update={"turns": [*one.turns[:1], *two.turns[1:]]})
    share, pair = most_alike([one, copy, three])
    assert share == pytest.approx(16 / 96)  # 20 words have 16 5-grams, six turns 96
    assert pair == ("d000", "d001")


def test_a_model_that_sees_the_key_in_the_options_is_found_out() -> None:
    few = dialogues(4, ("en",))
    cheat = list(with_model(ScriptedModel(oracle), few, show=["choices", "dialogue"], limit=None, chat=False))
    assert [check.value for check in cheat] == [1.0] * 11
    assert [check.scope for check in cheat[-3:]] == ["clear, en", "moderate, en", "subtle, en"]
    assert cheat[0].name == "accuracy of a language model with the options alone"
    assert cheat[0].allowed == "at most 32 %"
    assert not cheat[0].judged  # four probes
    letter = list(with_model(ScriptedModel(always_a), few, show=["last_turn"], limit=2, chat=False))
    assert [(check.value, check.detail) for check in letter] == [(0.25, "2 probes in four rotations")] * 4


def test_what_few_probes_cannot_tell_is_not_judged() -> None:
    """One dialogue with three wrong options in all, and sixty in one language: neither is wrong by its size alone."""
    (one,) = dialogues(1, ("en",))
    tracking = [probe for probe in one.probes if probe.layer == "tracking"][:1]
    checks = audit([one.model_copy(update={"probes": tracking})])
    (trap,) = [check for check in checks if check.name == "share of the most frequent trap"]
    assert trap.value == pytest.approx(1 / 3)
    assert trap.passed is None
    english = [d.model_copy(update={"origin": "en"}) for d in dialogues(60, ("en",))]
    (origin,) = [check for check in audit(english) if check.name == "dialogues written in this language first"]
    assert (origin.value, origin.passed) == (1.0, None)
    layer = [
        d.model_copy(update={"probes": [probe for probe in d.probes if probe.layer == "cause"][:1]})
        for d in dialogues(120, ("en",))
    ]
    least = {check.name: check.low for check in audit(layer) if check.name.startswith("uses of the rarest")}
    assert least == {
        "uses of the rarest skill": 3,  # 24 * 120 / 800
        "uses of the rarest emotion": 0,
        "uses of the rarest trap": 3,
        "uses of the rarest culture": 2,  # 4 * 120 / 200
        "uses of the rarest domain": 6,
    }


def test_all_that_is_too_rare_is_listed() -> None:
    made = [d.model_copy(update={"culture": "Gulf"}) for d in dialogues(100, ("en",))]
    (check,) = [check for check in audit(made) if check.name == "uses of the rarest culture"]
    assert check.passed is False
    assert len(check.detail.split(", ")) == 18
    assert "Egypt 0" in check.detail.split(", ")


def test_a_share_has_an_interval_within_0_and_1() -> None:
    few = dialogues(4, ("en",))
    for score, expected in ((always_a, 0.25), (oracle, 1.0)):
        check = next(with_model(ScriptedModel(score), few, show=["choices"], limit=None, chat=False))
        assert check.value == expected
        assert check.interval is not None
        assert 0 <= check.interval[0] < check.interval[1] <= 1


def test_the_command_asks_a_model(tmp_path: Path) -> None:
    made = [d.model_copy(update={"probes": [p for p in d.probes if p.layer == "cause"]}) for d in dialogues(3, ("en",))]
    save(tmp_path / "few.jsonl", made)
    words = ["--json", "found.json", "--model", "dummy", "--limit", "2", "--with_dialogue"]
    out = command("few.jsonl", *words, cwd=tmp_path)
    assert "Traceback" not in out.stderr
    assert out.returncode in (0, 1), out.stderr
    found = [c for c in json.loads((tmp_path / "found.json").read_text())["checks"] if c["scope"].endswith("_en")]
    details = [c["detail"] for c in found if c["group"] == "language model"]
    assert details == ["2 probes in four rotations"] * 3  # ways to show them


def test_a_model_without_likelihoods_is_refused() -> None:
    model = load_model("local-chat-completions", "model=x,base_url=http://127.0.0.1:9", 1, None)
    with pytest.raises(EicapError, match=r"^--model: found LocalChatCompletion, which gives no log-likelihoods \("):
        list(with_model(model, dialogues(3, ("en",)), show=["choices"], limit=2, chat=True))


def test_a_model_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(EicapError, match=r"^--model hff --model_args x=1: "):
        load_model("hff", "x=1", 1, None)


@pytest.mark.parametrize(
    ("model_args", "expected"),
    [
        ("", r"^--model hf --model_args not given: .* missing 1 required positional argument: 'pretrained'; expected "),
        (
            "pretrained=x,device=cpu",
            r"^--model hf --model_args pretrained=x,device=cpu: .* got multiple values for keyword argument 'device'; "
            r"expected the model's own arguments, such as pretrained=MODEL; --batch_size and --device are given beside",
        ),
    ],
)
def test_arguments_that_a_model_does_not_take(model_args: str, expected: str) -> None:
    with pytest.raises(EicapError, match=expected):
        load_model("hf", model_args, 1, "cpu")


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", "audit", *words], cwd=cwd, capture_output=True, text=True, check=False
    )


def save(path: Path, made: list[Any]) -> None:
    path.write_text("".join(d.model_dump_json(exclude_none=True) + "\n" for d in made), encoding="utf-8")


def test_the_command_prints_a_table_and_writes_json_and_a_page(tmp_path: Path) -> None:
    save(tmp_path / "good.jsonl", dialogues())
    out = command("good.jsonl", "--json", "a.json", "--page", "deep/a.html", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert out.stdout.splitlines()[-1].startswith("good.jsonl: 120 dialogues, 480 probes, sha256 ")
    assert out.stdout.splitlines()[-1].endswith("; 0 of 128 checks failed")
    assert max(map(len, out.stdout.splitlines()[:-1])) <= 80
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["failed"] == 0
    assert {check["passed"] for check in found["checks"]} == {True, None}
    page = (tmp_path / "deep" / "a.html").read_text(encoding="utf-8")
    assert page.count("<tr data-entry") == len(found["checks"])
    assert page.count("<svg") == 2
    assert "http://" not in page.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    )


def test_a_failed_check_ends_with_status_1_and_an_input_is_never_written_over(tmp_path: Path) -> None:
    save(tmp_path / "bad.jsonl", dialogues(45, ("en",), each_probe(longer)))
    out = command("bad.jsonl", cwd=tmp_path)
    assert out.returncode == 1
    assert "FAIL right option is the longest" in out.stdout
    out = command("bad.jsonl", "--json", "bad.jsonl", cwd=tmp_path)
    assert out.returncode == 2
    assert out.stderr == "bad.jsonl: found the input bad.jsonl, expected the name of a new file\n"
    out = command("nothing.jsonl", cwd=tmp_path)
    assert out.returncode == 2
    assert out.stderr == "nothing.jsonl: no such file or folder, expected a JSONL file or a folder with some\n"


def test_text_of_an_item_is_escaped_in_the_page() -> None:
    check = Check("g", "<script>alert(1)</script>", "all", 0.5, detail='"><img src=x onerror=alert(1)>')
    assert report._band(check) is None
    assert report._band(replace(check, high=0.3)) == (None, 0.3)
    page = report.page([check], "<b>", "<i>")
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    pages.write(out, "one")
    assert out.read_text() == "one"
    (tmp_path / "folder").mkdir()
    with pytest.raises(EicapError, match="found a folder, expected the name of a file to write"):
        pages.write(tmp_path / "folder", "x")
    with pytest.raises(EicapError, match="cannot be written"):
        pages.write(out / "below", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"]


def test_reasons_may_differ_between_languages() -> None:
    dev = items.load(*(items.shipped("dev", lang) for lang in LANGUAGES))
    reasons = {lang: [p.rationale for d in dev if d.lang == lang for p in d.probes] for lang in LANGUAGES}
    assert reasons["ar"] != reasons["en"]
    checks = audit(dev)
    assert find(checks, "dialogues with other probes, keys, turns or evidence", "en-ar").found == "0"
    assert failures(checks) == []


def test_the_shipped_items_keep_to_every_limit() -> None:
    shipped = items.load(*(items.shipped("test", lang) for lang in LANGUAGES))
    checks = audit(shipped)
    assert [(check.name, check.scope, check.found, check.detail) for check in failures(checks)] == []
    assert sum(check.passed is not None for check in checks) == 128
    card = " ".join((items.SHIPPED / "DATACARD.md").read_text(encoding="utf-8").split())
    found = {name: [c.value for c in checks if c.name == name] for name in ("options alone", "last visible turn")}
    assert f"the highest is {100 * max(found['options alone']):.1f} %" in card
    together = find(checks, "options alone", "all")
    low, high = together.interval or (0.0, 1.0)
    assert f"{100 * together.value:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %)" in card
    assert f"With the last visible turn it reaches {100 * max(found['last visible turn']):.1f} % in one" in card
