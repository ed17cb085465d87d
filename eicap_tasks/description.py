"""Descriptive statistics of the items, and of how their readers agreed: what the data card states.

`data/statistics.json` and the generated part of `data/DATACARD.md` are held to the data by a test;
`pytest --update-golden` writes them anew.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from eicap_tasks import items, validation, vocabulary
from eicap_tasks.documents import documents
from eicap_tasks.items import SHIPPED, Split
from eicap_tasks.runner import TASKS
from eicap_tasks.schema import Dialogue, Probe
from eicap_tasks.validation import Guess, Reading, content_digest

FILE: Final = SHIPPED / "statistics.json"
CARD: Final = SHIPPED / "DATACARD.md"
BEGIN, END = "<!-- generated: pytest --update-golden -->\n", "<!-- end of the generated part -->\n"
SPLITS: Final[tuple[Split, ...]] = ("test", "dev")


def version() -> str:
    """Return the version of tasks and items, "N-X": it rises with every change of an item."""
    group = yaml.safe_load((TASKS / "eicap.yaml").read_text(encoding="utf-8"))
    return str(group["metadata"]["version"])


def describe() -> dict[str, Any]:
    """Return the descriptive statistics of the shipped items, as JSON takes them."""
    found: dict[str, Any] = {"version": version()}
    for split in SPLITS:
        for lang in vocabulary.LANGUAGES:
            found[f"{split}_{lang}"] = _set(items.load(items.shipped(split, lang)))
    return found | {"readings": agreement(), "options_alone": options_alone()}


def _set(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    probes = [probe for dialogue in dialogues for probe in dialogue.probes]

    def count(entries: Iterable[str], found: Iterable[str]) -> dict[str, int]:
        counts = Counter(found)
        return {entry: counts[entry] for entry in entries if counts[entry]}

    return {
        "sha256": items.digest(dialogues),
        "dialogues": len(dialogues),
        "probes": len(probes),
        "turns": _spread(len(dialogue.turns) for dialogue in dialogues),
        "words_of_a_dialogue": _spread(sum(len(turn.text.split()) for turn in d.turns) for d in dialogues),
        "characters_of_an_option": _spread(
            len(t) for p in probes for t in (p.answer, *(e.text for e in p.distractors))
        ),
        "kinds": count(("assistant", "peers"), (d.kind for d in dialogues)),
        "origins": count(vocabulary.LANGUAGES, (d.origin for d in dialogues)),
        "varieties": count(vocabulary.LANGUAGES[dialogues[0].lang]["varieties"], (d.variety for d in dialogues)),
        "cultures": count(vocabulary.CULTURES, (d.culture for d in dialogues)),
        "domains": count(vocabulary.DOMAINS, (d.domain for d in dialogues)),
        "layers": count(vocabulary.LAYERS, (p.layer for p in probes)),
        "skills": count(vocabulary.SKILLS, (p.skill for p in probes)),
        "emotion_layers": count(vocabulary.EMOTION_LAYERS, (p.emotion_layer for p in probes)),
        "emotions": count(vocabulary.EMOTIONS, (p.emotion for p in probes)),
        "traps": count(vocabulary.TRAPS, (entry.trap for p in probes for entry in p.distractors)),
        "difficulty": {
            layer: count(vocabulary.DIFFICULTIES, (p.difficulty for p in probes if p.layer == layer))
            for layer in vocabulary.LAYERS
        },
        "settled_by_two_or_more_turns": sum(len(p.evidence_turns) > 1 for p in probes),
        "with_evidence_before_the_last_visible_turn": sum(p.evidence_turns[0] < p.after_turn for p in probes),
    }


def _spread(values: Iterable[int]) -> dict[str, float]:
    listed = sorted(values)
    return {"min": listed[0], "median": statistics.median(listed), "max": listed[-1]}


def agreement(record: Sequence[Reading] | None = None) -> dict[str, Any]:
    """Say how readers agreed with the key and with each other, per layer and language.

    Args:
        record: The readings; those that ship with the items if None.

    Returns:
        "final": of the texts that are shipped; "all": of every text that was ever read, superseded ones included, as
        far as their probe still exists. Each by "layer_lang": probes, readings, the share that chose the key, how
        many found a second option defensible, and Cohen's kappa (Cohen 1960) of the first two readers of a text.
    """
    readings = validation.readings() if record is None else record
    now = {
        (doc["id"], lang): doc
        for split in SPLITS
        for lang in vocabulary.LANGUAGES
        for layer in vocabulary.LAYERS
        for doc in documents(items.load(items.shipped(split, lang)), lang, layer)
    }
    final = [r for r in readings if (r.probe, r.lang) in now and r.content == content_digest(now[r.probe, r.lang])]
    return {
        "final": _by_task(final, lambda r: now[r.probe, r.lang]["layer"], lambda r: _key(r, now)),
        "all": _by_task(
            [r for r in readings if (r.probe, r.lang) in now], lambda r: now[r.probe, r.lang]["layer"], lambda r: None
        ),
    }


def _key(reading: Reading, now: Mapping[tuple[str, str], Any]) -> bool:
    doc = now[reading.probe, reading.lang]
    return bool(reading.chosen == doc["options"][doc["gold"]])


def _by_task(
    readings: Sequence[Reading], layer: Callable[[Reading], str], right: Callable[[Reading], bool | None]
) -> dict[str, Any]:
    tasks: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        tasks[f"{layer(reading)}_{reading.lang}"].append(reading)
    found = {}
    for task in (f"{name}_{lang}" for lang in vocabulary.LANGUAGES for name in vocabulary.LAYERS):
        own = tasks[task]
        texts: dict[str, list[Reading]] = defaultdict(list)
        for reading in sorted(own, key=lambda r: r.reader):
            texts[reading.content].append(reading)
        pairs = [(two[0].chosen, two[1].chosen, two[0].options) for two in texts.values() if len(two) > 1]
        answers = [right(reading) for reading in own]
        found[task] = {
            "texts": len(texts),
            "readings": len(own),
            **(
                {}
                if None in answers
                else {"chose_the_key": sum(map(bool, answers)) / len(answers) if answers else None}
            ),
            "found_ambiguous": sum(reading.ambiguous or bool(reading.also_defensible) for reading in own),
            "pairs": len(pairs),
            "kappa": kappa([(o.index(a), o.index(b)) for a, b, o in pairs if b in o]),
        }
    return found


def options_alone(record: Sequence[Guess] | None = None) -> dict[str, dict[str, float]]:
    """Say how often readers who saw question and options without the dialogue chose the key, in the test split.

    Args:
        record: The guesses; those that ship with the items if None. Those of superseded texts are left out.

    Returns:
        By layer, difficulty and "all", as far as there are guesses: probes, guesses, the share of the guesses
        that chose the key (chance 0.25), and the share of the probes whose guesses, two or more, all did.
    """
    guesses = validation.guesses() if record is None else record
    now = {
        (probe.id, dialogue.lang): probe
        for lang in vocabulary.LANGUAGES
        for dialogue in items.load(items.shipped("test", lang))
        for probe in dialogue.probes
    }
    right: dict[str, dict[tuple[str, str], list[bool]]] = defaultdict(lambda: defaultdict(list))
    for guess in guesses:
        probe = now.get((guess.probe, guess.lang))
        if probe is None or _shown(probe) != (guess.question, sorted(guess.options)):
            continue
        for group in (probe.layer, probe.difficulty, "all"):
            right[group][guess.probe, guess.lang].append(guess.chosen == probe.answer)
    return {
        group: {
            "probes": len(right[group]),
            "guesses": sum(map(len, right[group].values())),
            "chose_the_key": statistics.mean(hit for hits in right[group].values() for hit in hits),
            "all_chose_the_key": statistics.mean(len(hits) > 1 and all(hits) for hits in right[group].values()),
        }
        for group in (*vocabulary.LAYERS, *vocabulary.DIFFICULTIES, "all")
        if group in right
    }


def _shown(probe: Probe) -> tuple[str, list[str]]:
    return probe.question, sorted((probe.answer, *(entry.text for entry in probe.distractors)))


def kappa(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return Cohen's kappa of two readers' choices (Cohen 1960, A Coefficient of Agreement for Nominal Scales).

    Args:
        pairs: The two choices for each item.

    Returns:
        Agreement beyond chance, 1 for perfect; None where it is not defined.
    """
    if not pairs:
        return None
    seen = sum(a == b for a, b in pairs) / len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(first[choice] * second[choice] for choice in first) / len(pairs) ** 2
    return None if chance == 1.0 else round((seen - chance) / (1 - chance), 4)


def as_json(found: Mapping[str, Any]) -> str:
    """Return the statistics as the text of `FILE`."""
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def as_markdown(found: Mapping[str, Any]) -> str:
    """Return the generated part of the data card."""
    names = {lang: entry["name"] for lang, entry in vocabulary.LANGUAGES.items()}
    lines = [
        f"Task version {found['version']}.\n",
        "| split | language | dialogues | probes | words of a dialogue, median | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for split in SPLITS:
        for lang, name in names.items():
            own = found[f"{split}_{lang}"]
            words = own["words_of_a_dialogue"]
            spread = f"{words['median']:g} ({words['min']} to {words['max']})"
            lines.append(
                f"| {split} | {name} | {own['dialogues']} | {own['probes']} | {spread} | `{own['sha256'][:16]}` |"
            )
    lines += ["", *_composition(found["test_en"], found["test_ar"]), "", *_readings(found["readings"])]
    lines += ["", *_options_alone(found["options_alone"])]
    return "\n".join(lines) + "\n"


def _composition(own: Mapping[str, Any], arabic: Mapping[str, Any]) -> Iterator[str]:
    dialects = {variety: n for variety, n in arabic["varieties"].items() if variety != "Standard"}
    yield f"- {own['kinds']['assistant']} of the {own['dialogues']} test dialogues are between a user and an assistant,"
    yield "  the rest among two or three people."
    yield f"- {own['origins']['ar']} were written in Arabic first, {own['origins']['en']} in English first (`origin`)."
    yield f"- {sum(dialects.values())} Arabic versions are in a dialect: {_listed(dialects)}."
    yield f"- {own['settled_by_two_or_more_turns']} of {own['probes']} probes are settled by two or more turns,"
    yield f"  {own['with_evidence_before_the_last_visible_turn']} by a cue before the last visible one."
    yield f"- Cultures: {_listed(own['cultures'])}."
    yield f"- Domains: {_listed(own['domains'])}."
    yield f"- Traps of wrong options: {_listed(own['traps'])}."
    yield from ("", "| emotion layer | probes | emotions |", "|---|---|---|")
    for layer, emotions in vocabulary.EMOTION_LAYERS.items():
        counts = {emotion: own["emotions"].get(emotion, 0) for emotion in emotions}
        yield f"| {layer} | {own['emotion_layers'].get(layer, 0)} | {_listed(counts)} |"
    yield from ("", "| layer | difficulty | skills |", "|---|---|---|")
    for layer, entry in vocabulary.LAYERS.items():
        counts = {skill: own["skills"].get(skill, 0) for skill in entry["skills"]}
        yield f"| {layer} | {_listed(own['difficulty'][layer])} | {_listed(counts)} |"


def _readings(found: Mapping[str, Any]) -> Iterator[str]:
    yield "Blind readings of the texts as they ship, and of all texts ever read; kappa is Cohen's, between the"
    yield "first two readers of a text:"
    yield from (
        "",
        "| task | readings | chose the key | ambiguous | kappa | ever | ambiguous | kappa |",
        "|---" * 8 + "|",
    )
    for task, final in found["final"].items():
        every = found["all"][task]
        share = "–" if final["chose_the_key"] is None else f"{100 * final['chose_the_key']:.1f} %"
        yield (
            f"| {task} | {final['readings']} | {share} | {final['found_ambiguous']} | {_number(final['kappa'])} "
            f"| {every['readings']} | {every['found_ambiguous']} | {_number(every['kappa'])} |"
        )


def _options_alone(found: Mapping[str, Any]) -> Iterator[str]:
    yield "Readers who saw the English question and options without the dialogue: how often they chose the key"
    yield "(chance 25 %), and the share of the probes whose key both chose:"
    yield from ("", "| probes | number | guesses | chose the key | both chose it |", "|---" * 5 + "|")
    for group, own in found.items():
        shares = f"{100 * own['chose_the_key']:.0f} % | {100 * own['all_chose_the_key']:.0f} %"
        yield f"| {group} | {own['probes']} | {own['guesses']} | {shares} |"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def card(found: Mapping[str, Any], text: str) -> str:
    """Return the text of the data card with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{as_markdown(found)}\n{END}{rest.partition(END)[2]}"
