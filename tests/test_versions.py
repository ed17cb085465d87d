"""What a task asks and how it scores does not change without its version."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from lm_eval.tasks import TaskManager

from eicap_tasks import items
from eicap_tasks.documents import documents
from eicap_tasks.errors import EicapError
from eicap_tasks.examples import examples
from eicap_tasks.options import Options
from eicap_tasks.runner import TASKS
from eicap_tasks.signature import short_hash
from eicap_tasks.task import EicapTask
from eicap_tasks.views import Format, view
from eicap_tasks.vocabulary import LABELS

OPTIONS: list[dict[str, Any]] = [
    {"show": "choices"}, {"show": "last_turn"}, {"labels": "arabic"}, {"system": "user"}, {"context": "transcript"},
]  # fmt: skip
SOME = 3
"""Documents of a task whose prompts are recorded with an example and with each option; all are without."""
RECORD = Path(__file__).parent / "golden" / "versions.json"
PACKAGE = TASKS.parent
ENGINE = {
    "gen": ["reading.py", "reading_words.json", "filters.py"],  # what turns a text into a choice
}


@cache
def hashes(lang: str) -> list[str]:
    """Hash the shipped items of a language, test and dev."""
    return [items.digest(items.load(items.shipped(split, lang))) for split in ("test", "dev")]


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty tasks read the same items: reading them once takes a tenth of the time."""
    monkeypatch.setattr(items, "load", read)


@cache
def read(*paths: Path) -> list[Any]:
    return load(*paths)


load = items.load


@cache
def manager() -> TaskManager:
    return TaskManager(include_path=str(TASKS), include_defaults=False)


@cache
def few(lang: str, layer: str) -> list[Any]:
    """Return the dialogues of the first documents of a layer."""
    dialogues = read(items.shipped("test", lang))
    chosen = {doc["dialogue_id"] for doc in documents(dialogues, lang, layer)[:SOME]}
    return [dialogue for dialogue in dialogues if dialogue.id in chosen]


def content(task: Any) -> str:
    """Hash all that the score of a task depends on but the model: YAML, items, prompts, filter."""
    shown = [prompts(task, 0), *(prompts(asked(task, own), 1) for own in ({}, *OPTIONS) if takes(task.format, own))]
    engine = [(PACKAGE / name).read_text(encoding="utf-8") for name in ENGINE.get(task.format, [])]
    return short_hash([definition(task), hashes(task.config.dataset_kwargs["lang"]), shown, engine])


def asked(task: Any, own: dict[str, Any]) -> Any:
    """Return a copy of a task with some documents, and with options as a run has them."""
    lang, layer = task.config.dataset_kwargs["lang"], task.config.dataset_kwargs["layer"]
    copied = copy.copy(task)
    copied.options = Options(**own)
    how = (lang, layer, task.format, copied.options.show, LABELS[copied.options.labels])
    docs = view(few(lang, layer), *how)[:SOME]
    shots = examples(docs, *how)
    copied.dataset = {"test": docs, "dev": shots}
    copied.sampler = SimpleNamespace(sample=lambda n: shots[:n])
    return copied


def takes(format: str, own: dict[str, Any]) -> bool:
    """Tell whether a format takes an option: a chain needs the dialogue, and a cloze prompt more than the choices."""
    return "show" not in own or format not in ("chain", "cf") or (format, own["show"]) == ("cf", "last_turn")


def prompts(task: Any, shots: int) -> list[Any]:
    """Render the documents of a task as text and as chat messages."""
    task.config.num_fewshot = shots
    return [task.prompts(), task.prompts(apply_chat_template=True, fewshot_as_multiturn=True, chat_template=plain)]


def definition(task: Any) -> list[str]:
    """Return the lines of a task's YAML and of what it includes, without versions, names for people and comments."""
    name = f"{task.config.dataset_kwargs['layer']}_{task.config.dataset_kwargs['lang']}.yaml"
    own = [] if task.format == "letters" else [TASKS / task.format / x for x in (name, f"_{task.format}_yaml")]
    return [line for file in (TASKS / "_base_yaml", TASKS / name, *own) for line in meant(file)]


def meant(file: Path) -> list[str]:
    """Return the lines of a YAML file without versions, names for people and comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.strip().startswith(("#", "version:", "about:"))]


def groups() -> dict[str, tuple[str, str]]:
    """Return the version and the hash of every group: which tasks it has, and how their scores are averaged."""
    found = {}
    for file in TASKS.rglob("eicap*.yaml"):
        raw = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)
        found[raw["group"]] = (raw["metadata"]["version"], short_hash(meant(file)))
    return found


def plain(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> list[dict[str, str]]:
    return messages


def test_no_change_without_a_new_version(request: pytest.FixtureRequest) -> None:
    """`pytest --update-golden` writes new versions down, and never writes over an old one."""
    tasks = manager().load(manager().all_subtasks)["tasks"]
    record: dict[str, dict[str, str]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    now = {name: (str(task.config.metadata["version"]), content(task)) for name, task in tasks.items()} | groups()
    for name, (version, found) in now.items():
        known = record.setdefault(name, {})
        if version not in known and request.config.getoption("--update-golden"):
            known[version] = found
        assert known.get(version) == found, (
            f"{name}: what it asks or how it scores has changed. Raise the version N-X in its YAML "
            "(N if scores are no longer comparable), say so in CHANGELOG.md, then pytest --update-golden"
        )
    if request.config.getoption("--update-golden"):
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    assert set(record) == set(now)
    assert set(groups()) == set(manager().all_groups)
    assert len({version for version, _ in now.values()}) == 1  # a group says the version of its tasks


def test_the_hash_sees_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        return manager().load(["eicap_cause_en_gen"])["tasks"]["eicap_cause_en_gen"]

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


@pytest.mark.parametrize("own", OPTIONS, ids=lambda own: "-".join(*own.items()))
def test_the_hash_sees_what_only_an_option_shows(own: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that stands in no prompt without the option, such as an instruction in a message of the user's."""
    task = manager().load(["eicap_cause_en"])["tasks"]["eicap_cause_en"]
    before, original = content(task), EicapTask.prompts

    def changed(self: EicapTask, **kwargs: Any) -> list[Any]:
        chosen = self.options.model_dump()
        seen = all(chosen[key] == value for key, value in own.items())
        return [*original(self, **kwargs), "changed"] if seen else original(self, **kwargs)

    monkeypatch.setattr(EicapTask, "prompts", changed)
    assert content(task) != before


def test_the_options_that_a_format_takes() -> None:
    for format in get_args(Format):
        task = SimpleNamespace(format=format, config=SimpleNamespace(dataset_kwargs={"lang": "en", "layer": "cause"}))
        for own in OPTIONS:
            if takes(format, own):
                assert len(asked(task, own).dataset["test"]) == SOME
            else:
                with pytest.raises(EicapError, match=r"^metadata eicap\.show: found"):
                    asked(task, own)


def test_the_hash_of_a_group_sees_its_tasks_and_how_they_are_averaged(tmp_path: Path) -> None:
    file = TASKS / "eicap_en.yaml"
    text = file.read_text(encoding="utf-8")
    for old, new, seen in (
        ("  - eicap_cause_en\n", "", True),
        ("weight_by_size: false", "weight_by_size: true", True),
        ('version: "5-0"', 'version: "5-1"', False),
    ):
        assert old in text
        (tmp_path / "x.yaml").write_text(text.replace(old, new), encoding="utf-8")
        assert (meant(tmp_path / "x.yaml") != meant(file)) == seen
