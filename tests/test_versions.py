"""What a task asks and how it scores does not change without its version."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.tasks import TaskManager

from eicap_tasks import items
from eicap_tasks.runner import TASKS
from eicap_tasks.signature import short_hash

RECORD = Path(__file__).parent / "golden" / "versions.json"
PACKAGE = TASKS.parent
ENGINE = {
    "gen": ["reading.py", "reading_words.json", "filters.py"],  # what turns a text into a choice
}


@cache
def hashes(lang: str) -> list[str]:
    """Hash the shipped items of a language, test and dev."""
    return [items.digest(items.load(items.shipped(split, lang))) for split in ("test", "dev")]


def content(task: Any) -> str:
    """Hash all that the score of a task depends on but the model: YAML, items, prompts, filter."""
    lang = task.config.dataset_kwargs["lang"]
    task.config.num_fewshot = 1
    shown = [task.prompts(), task.prompts(apply_chat_template=True, fewshot_as_multiturn=True, chat_template=plain)]
    engine = [(PACKAGE / name).read_text(encoding="utf-8") for name in ENGINE.get(task.format, [])]
    return short_hash([definition(task), hashes(lang), shown, engine])


def definition(task: Any) -> list[str]:
    """Return the lines of a task's YAML and of what it includes, without versions, names for people and comments."""
    name = f"{task.config.dataset_kwargs['layer']}_{task.config.dataset_kwargs['lang']}.yaml"
    own = [] if task.format == "letters" else [TASKS / task.format / x for x in (name, f"_{task.format}_yaml")]
    lines = [
        line for file in (TASKS / "_base_yaml", TASKS / name, *own) for line in file.read_text("utf-8").splitlines()
    ]
    return [line for line in lines if not line.strip().startswith(("#", "version:", "about:"))]


def plain(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> list[dict[str, str]]:
    return messages


def test_no_change_without_a_new_version(request: pytest.FixtureRequest) -> None:
    """`pytest --update-golden` writes new versions down, and never writes over an old one."""
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    tasks = manager.load(manager.all_subtasks)["tasks"]
    record: dict[str, dict[str, str]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name, task in tasks.items():
        version, found = str(task.config.metadata["version"]), content(task)
        known = record.setdefault(name, {})
        if version not in known and request.config.getoption("--update-golden"):
            known[version] = found
        assert known.get(version) == found, (
            f"{name}: what it asks or how it scores has changed. Raise the version N-X in its YAML "
            "(N if scores are no longer comparable), say so in CHANGELOG.md, then pytest --update-golden"
        )
    if request.config.getoption("--update-golden"):
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    assert set(record) == set(tasks)


def test_the_hash_sees_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        return TaskManager(include_path=str(TASKS), include_defaults=False).load(["eicap_cause_en_gen"])["tasks"][
            "eicap_cause_en_gen"
        ]

    before = content(load())
    assert content(load()) == before
    changed = load()
    changed.config.description = "x"
    assert content(changed) != before
    changed = load()
    changed.dataset["test"] = changed.dataset["test"].select(range(3))
    assert content(changed) != before
    with monkeypatch.context() as patch:
        patch.setattr("eicap_tasks.task.render", lambda doc, part: "x")
        patch.setattr("eicap_tasks.context.render", lambda doc, part: "x")
        assert content(load()) != before
    with monkeypatch.context() as patch:
        patch.setitem(ENGINE, "gen", ["errors.py"])
        assert content(load()) != before


def test_the_groups_have_the_version_of_their_tasks() -> None:
    versions = {
        yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)["metadata"]["version"]
        for file in TASKS.rglob("eicap*.yaml")
    }
    assert len(versions) == 1
