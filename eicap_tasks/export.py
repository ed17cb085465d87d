"""`eicap export-dataset`: the items as a dataset folder, for tools other than lm-eval.

Flat JSONL per configuration and split for `datasets`, a card with its YAML header, `eval.yaml` for the hub's benchmark
pages (Inspect AI asks the probes), and Croissant metadata.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from eicap_tasks import description, items, prompts, validation
from eicap_tasks.documents import Document, documents
from eicap_tasks.errors import EicapError
from eicap_tasks.items import SHIPPED
from eicap_tasks.schema import Dialogue, Probe
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

CANARY: Final = "eicap-canary 7c0e3b52-5f6a-4e5d-9a54-0f1f4b1d6c2e"
"""Stands in every row, so that one can find out whether a model was trained on the items."""
TITLE: Final = "EICAP dialogues and probes"
DESCRIPTION: Final = (
    "Multi-turn dialogues in English and Arabic with multiple-choice probes on four layers of emotional intelligence: "
    "emotional tracking, cause inference, appraisal, emotionally appropriate response. The items are this project's "
    "own, written and read blind by language models; the taxonomy follows arXiv:2508.06196, whose items are not public."
)
OWN: Final = "Dialogues with multiple-choice probes in the form of eicap-tasks."
AUTHOR: Final = "The EICAP tasks maintainers"
CITE_AS: Final = f"{AUTHOR}, eicap-tasks. Taxonomy after Nazar and Asgari, arXiv:2508.06196."
LICENSE: Final = "cc-by-4.0"
PUBLISHED: Final = "2026-11-23"

Row = dict[str, Any]


def export(out: Path, splits: Mapping[str, Sequence[Dialogue]], *, own: bool = False) -> list[Path]:
    """Write a dataset folder.

    Args:
        out: The folder; it may not exist yet, or be empty.
        splits: Name of the split, e.g. "test" -> its dialogues in any language.
        own: Whether they are a user's own items: then nothing is said about licence, origin and readings.

    Returns:
        The files written.

    Raises:
        EicapError: The folder holds something already, or cannot be written.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise EicapError(f"{out}: found something there already, expected an empty folder or a new one")
        tables = {
            (config, split): rows
            for split, dialogues in splits.items()
            for config, rows in _configurations(dialogues, own).items()
        }
        if not tables:
            raise EicapError("found no dialogue to export, expected one or more")
        for (config, split), rows in tables.items():
            file = out / config / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        configs = list(dict.fromkeys(config for config, _ in tables))
        (out / "README.md").write_text(_card(configs, tables, own), encoding="utf-8")
        tested = [config for config in configs if (config, "test") in tables]
        (out / "eval.yaml").write_text(_yaml(_benchmark(tested, own)), encoding="utf-8")
        if not own:
            for file in (validation.RECORD, validation.GUESSES, description.FILE):
                shutil.copyfile(file, out / file.name)
        croissant = json.dumps(_croissant(out, tables, own), ensure_ascii=False, indent=2)
        (out / "croissant.json").write_text(croissant + "\n", encoding="utf-8")
    except OSError as error:
        raise EicapError(f"{out}: cannot be written ({error.strerror or error})") from error
    return sorted(path for path in out.rglob("*") if path.is_file())


def _configurations(dialogues: Sequence[Dialogue], own: bool) -> dict[str, list[Row]]:
    """Make the rows of every configuration, "appraisal_en" and so on, in the order of the tasks."""
    pairs = {(d.lang, probe.id): (d, probe) for d in dialogues for probe in d.probes}
    made = {
        f"{layer}_{lang}": [row(doc, *pairs[lang, doc["id"]], own=own) for doc in documents(dialogues, lang, layer)]
        for lang in sorted({dialogue.lang for dialogue in dialogues})
        for layer in LAYERS
    }
    return {config: rows for config, rows in made.items() if rows}


def row(doc: Document, dialogue: Dialogue, probe: Probe, *, own: bool = False) -> Row:
    """Make the flat row of one probe.

    Args:
        doc: Its document: the options are in the places that lm-eval's tasks show them at.
        dialogue: Its dialogue.
        probe: The probe itself.
        own: Whether the items are a user's own: without our canary.

    Returns:
        Columns of the dataset: `input` is what stands before the options in our own prompts, `choices` the options,
        `target` the letter of the right one; `turns` is a list of "name: text", up to the probed one. How to answer is
        left to who asks: the last sentence of our instruction ("Answer with its letter.") is not in `input`.
    """
    told = prompts.instruction(doc["lang"], doc["layer"]).rpartition(". ")[0]
    asked = prompts.render({**doc, "options": []}, "text").rpartition("\n")[0]  # without the cue "Answer:"
    return {
        "id": doc["id"],
        "input": f"{told}.\n\n{asked}",
        "choices": doc["options"],
        "target": doc["labels"][doc["gold"]],
        "traps": doc["traps"],
        "dialogue_id": doc["dialogue_id"],
        "lang": doc["lang"],
        "layer": doc["layer"],
        "skill": doc["skill"],
        "emotion": doc["emotion"],
        "emotion_2": doc["emotion_2"] or "",
        "emotion_layer": doc["emotion_layer"],
        "difficulty": doc["difficulty"],
        "kind": doc["kind"],
        "culture": dialogue.culture,
        "domain": dialogue.domain,
        "variety": dialogue.variety,
        "origin": dialogue.origin,
        "setting": doc["setting"],
        "turns": [f"{turn['name']}: {turn['text']}" for turn in doc["turns"]],
        "question": doc["question"],
        "evidence_turns": probe.evidence_turns,
        "rationale": probe.rationale,
        "canary": "" if own else CANARY,
    }


def _benchmark(configs: Sequence[str], own: bool) -> Row:
    """Describe the tasks for the hub's benchmark pages; every configuration is one."""
    return {
        "name": "Dialogues and probes" if own else "EICAP",
        "description": OWN if own else DESCRIPTION,
        "evaluation_framework": "inspect-ai",
        "tasks": [
            {
                "id": config,
                "config": config,
                "split": "test",
                "field_spec": {"input": "input", "choices": "choices", "target": "target"},
                "solvers": [{"name": "multiple_choice"}],
                "scorers": [{"name": "choice"}],
            }
            for config in configs
        ],
    }


def _card(configs: Sequence[str], tables: Mapping[tuple[str, str], list[Row]], own: bool) -> str:
    """Write the dataset card: the YAML header of the hub, then the data card of the items."""
    total = sum(map(len, tables.values()))
    header = {
        "license": "other" if own else LICENSE,
        "language": sorted({config.rpartition("_")[2] for config in configs}),
        "pretty_name": "Dialogues and probes" if own else TITLE,
        "task_categories": ["multiple-choice", "question-answering"],
        "tags": ["emotional-intelligence", "dialogue", "benchmark", *([] if own else ["arxiv:2508.06196"])],
        "size_categories": ["n<1K" if total < 1000 else "1K<n<10K" if total < 10_000 else "10K<n<100K"],
        **({} if own else {"annotations_creators": ["machine-generated"], "language_creators": ["machine-generated"]}),
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{c}/{split}.jsonl"} for c, split in tables if c == config],
            }
            for config in configs
        ],
    }
    if own:
        return (
            f"---\n{_yaml(header)}---\n\n# Dialogues and probes\n\n{OWN} Say here who wrote them, and their licence.\n"
        )
    body = (SHIPPED / "DATACARD.md").read_text(encoding="utf-8")
    return f"---\n{_yaml(header)}---\n\n{body}"


def _croissant(out: Path, tables: Mapping[tuple[str, str], list[Row]], own: bool) -> Row:
    """Describe the files in Croissant 1.0 (MLCommons)."""
    context = json.loads(Path(__file__).with_name("croissant_context.json").read_text(encoding="utf-8"))
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"{config}_{split}",
            "name": f"{config}_{split}",
            "contentUrl": f"{config}/{split}.jsonl",
            "encodingFormat": "application/jsonlines",
            "sha256": hashlib.sha256((out / config / f"{split}.jsonl").read_bytes()).hexdigest(),
        }
        for config, split in tables
    ]
    sets = [
        {
            "@type": "cr:RecordSet",
            "@id": f"{config}_{split}_rows",
            "name": f"{config}_{split}_rows",
            "description": f"{LAYERS[config.rpartition('_')[0]]['en']}, {LANGUAGES[config.rpartition('_')[2]]['name']}",
            "field": [_field(f"{config}_{split}", name, value) for name, value in rows[0].items()],
        }
        for (config, split), rows in tables.items()
    ]
    return {
        "@context": context,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "dialogues" if own else "eicap",
        "description": OWN if own else DESCRIPTION,
        **({} if own else _of_the_shipped()),
        "inLanguage": sorted({LANGUAGES[config.rpartition("_")[2]]["bcp47"] for config, _ in tables}),
        "distribution": files,
        "recordSet": sets,
    }


def _of_the_shipped() -> Row:
    """Say of our own items who made them, and when; their version is the task version "N-X", written N.X.0."""
    return {
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "version": f"{description.version().replace('-', '.')}.0",
        "datePublished": PUBLISHED,
        "creator": {"@type": "sc:Organization", "name": AUTHOR},
        "citeAs": CITE_AS,
    }


def _field(source: str, name: str, value: object) -> Row:
    first = value[0] if isinstance(value, list) else value
    field: Row = {
        "@type": "cr:Field",
        "@id": f"{source}_rows/{name}",
        "name": name,
        "dataType": "sc:Integer" if isinstance(first, int) else "sc:Text",
        "source": {"fileObject": {"@id": source}, "extract": {"column": name}},
    }
    return field | ({"repeated": True} if isinstance(value, list) else {})


def _yaml(data: Row) -> str:
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=100)


def shipped() -> dict[str, list[Dialogue]]:
    """Return the shipped items by split, all languages together."""
    return {
        split: [d for lang in LANGUAGES for d in items.load(items.shipped(split, lang))] for split in ("test", "dev")
    }
