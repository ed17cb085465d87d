"""The one module that knows lm-eval's result files, as 0.4.13 writes them with `--output_path` and `--log_samples`.

A run is one `results_TIME.json`, or `NAME_TIME.json` where `--output_path` was `NAME.json`, with a
`samples_TASK_TIME.jsonl` beside it for every task. Result files come from others: nothing in them is trusted to be of
the right kind, finite, short or harmless to print.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from glob import escape
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import pandas as pd

from eicap_tasks import metrics
from eicap_tasks.errors import NAME_LENGTH, EicapError, safe
from eicap_tasks.signature import KEY, short_hash
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
OPTIONS: Final = 4
LONGEST: Final = 4000
"""So many characters may a value have that tells runs apart, such as the path of a model: it is never cut."""
FORMATS: Final = ("letters", "circular", "gen", "cf", "chain")
LATEST: Final = 4e9
"""No run began later than in the year 2096."""
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?$")
"""How the name of a result file ends."""
TASK_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
MANY: Final = 12
"""So many runs are read by several processes: each takes a tenth of a second and more."""
TEXTS: Final = ("skill", "emotion", "emotion_layer", "difficulty", "kind", "culture", "domain", "variety")
"""What a row tells of its probe, beside its id, dialogue, layer and language."""
OTHER_METRICS: Final = ("acc_circular", "consistency", "acc_bytes", "acc_mutual_info", "brier_score")
OF_THE_MODEL: Final = ("model", "chat")
"""Parts of a signature in which two runs that are compared may differ."""
SOFTWARE: Final = ("lm_eval", "eicap")
"""Parts of a signature that may differ with a note: what they do to a score is in the prompts, items and version."""


@dataclass(frozen=True)
class TaskRun:
    """One task of a run.

    Attributes:
        name: Name of the task.
        layer: Its layer.
        lang: Its language.
        format: How it asks: "letters", "circular", "gen", "cf" or "chain".
        signature: Parts of its signature: what the scores depend on.
        asked: Number of probes asked.
        total: Number of probes that the task has.
        generation: How answers were generated, as JSON; "" where none were.
    """

    name: str
    layer: str
    lang: str
    format: str
    signature: Mapping[str, str]
    asked: int
    total: int
    generation: str = ""

    @property
    def partial(self) -> bool:
        """Whether only some of the probes were asked."""
        return self.asked < self.total


@dataclass(frozen=True)
class Run:
    """One run of one model.

    Attributes:
        name: What to call it: the model's name, its revision and its adapter's name, or what the user chose.
        source: The result file.
        date: When it began, in seconds since 1970.
        tasks: The tasks of this package by name; others are passed over.
        probes: One row per task and probe: `task`, `format`, `layer`, `lang`, `probe`, `dialogue`, the columns `TEXTS`,
            `reach` (turns from the earliest evidence to the probed one), `link` (place in a chain, from 1), `gold`,
            `acc` (0 to 1), `parsed` (share of answers that could be read), for i from 0 to 3 `trap_i` (why an option
            tempts), `option_i` and `place_i` (share of the answers that chose the option, and the place), `p_i`
            (probability of the option, NaN where the format has none), and other metrics of one number by their names.
        documents: Task and probe id -> the document, for `load(..., documents=True)`.
        settings: What the run set that is not in a signature as text: `system instruction`, `dtype`, `revision`; with a
            hash of the whole where a text is cut or cleaned.
    """

    name: str
    source: Path
    date: float
    tasks: Mapping[str, TaskRun]
    probes: pd.DataFrame
    documents: Mapping[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def signatures(self) -> list[str]:
        """The signatures of its tasks as lm-eval's file has them, sorted."""
        return sorted("|".join(f"{k}:{v}" for k, v in task.signature.items()) for task in self.tasks.values())

    @property
    def partial(self) -> list[str]:
        """Tasks of which only some probes were asked, each as "NAME: 40 of 200 probes"."""
        return [f"{task.name}: {task.asked} of {task.total} probes" for task in self.tasks.values() if task.partial]

    @property
    def blind(self) -> list[str]:
        """What tasks showed in place of the dialogue ("choices", "last_turn"): no measure of emotional intelligence."""
        return sorted({task.signature.get("show", "dialogue") for task in self.tasks.values()} - {"dialogue"})

    def of(self, format: str) -> Run:
        """Return the run with the tasks of one format only."""
        tasks = {name: task for name, task in self.tasks.items() if task.format == format}
        probes = self.probes[self.probes["format"] == format].reset_index(drop=True)
        return replace(self, tasks=tasks, probes=probes)

    @property
    def formats(self) -> list[str]:
        """The formats of its tasks, in the order of `FORMATS`."""
        return [form for form in FORMATS if any(task.format == form for task in self.tasks.values())]


def find(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Find the result files under paths.

    Args:
        paths: Result files, folders with such files at any depth, or what `--output_path` was. "NAME=PATH" gives a run
            a name. In a folder, results without a task of this package are left out, and a warning names them.

    Returns:
        The name that was given, or "", and the file, each file once, older ones first within a folder.

    Raises:
        EicapError: A path does not exist, or there is no result file in it, or none with a task of this package.
    """
    found: dict[Path, str] = {}
    for given in paths:
        try:
            name, files = _files(str(given))
            for file in files:
                found.setdefault(file.resolve(), name)
        except (OSError, RuntimeError) as error:  # a link to itself, a name that is too long, a folder of others
            reason = getattr(error, "strerror", None) or safe(error)
            raise EicapError(
                f"{safe(given)}: cannot be read ({reason}), expected what lm_eval --output_path wrote"
            ) from error
    return [(name, path) for path, name in found.items()]


def _files(text: str) -> tuple[str, list[Path]]:
    """Return the name that "NAME=PATH" gives, or "", and the result files under the path."""
    name, _, rest = text.partition("=") if not Path(text).exists() else ("", "", text)
    path = Path(rest or text)
    files = [path] if path.exists() else []
    if path.is_dir():
        files = _ours(path, [f for f in path.rglob("*.json") if f.name.startswith("results_") or TIME.search(f.stem)])
    elif path.suffix == ".json" and not files:  # lm-eval puts the time into the name that --output_path NAME.json gives
        files = [f for f in path.parent.glob(f"{escape(path.stem)}_*.json") if f.stem == f"{path.stem}_{_time_of(f)}"]
    if not files:
        missing = "found no results_TIME.json or NAME_TIME.json" if path.exists() else "no such file or folder"
        raise EicapError(f"{path}: {missing}, expected what lm_eval --output_path wrote")
    return name if rest else "", sorted(files, key=lambda file: (_time_of(file), str(file)))


def _ours(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Leave out the results of other benchmarks; what cannot be read is kept, for reading it says why."""
    others = sorted(file for file in files if _of_others(file))
    names = f"{', '.join(file.name for file in others[:3])}{', …' if len(others) > 3 else ''}"
    if others and len(others) == len(files):
        raise EicapError(f"{folder}: found no task of this package in {names}, expected results of eicap tasks")
    if others:
        logger.warning("%s", safe(f"{folder}: left out, without a task of this package: {names}", None))
    return [file for file in files if file not in others]


def _of_others(path: Path) -> bool:
    try:
        raw = _json(path)
    except ValueError:
        return False
    configs = raw.get("configs")
    if not isinstance(configs, dict) or not isinstance(raw.get("results"), dict):
        return False
    return not any(map(_is_ours, configs.values()))


def load(paths: Sequence[str | Path], *, documents: bool = False) -> list[Run]:
    """Read runs.

    Args:
        paths: As for `find`.
        documents: Whether to keep the documents: dialogues, questions and options.

    Returns:
        The runs. Runs of the same name are told apart by the time at which they began.

    Raises:
        EicapError: A file is unreadable or not a result of these tasks, or samples are missing.
    """
    runs = [_read(path, name, "documents" if documents else "probes") for name, path in find(paths)]
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=f"{run.name} ({_time_of(run.source)})") for run in runs
    ]


def each(paths: Sequence[str | Path], make: Callable[[Run], Made]) -> list[Made]:
    """Read the scores of runs and keep of each only what `make` returns; many are read by several processes.

    Args:
        paths: As for `find`.
        make: A function of a run, which another process can import. Of the columns of its probes it finds `task`,
            `format`, `layer`, `lang`, `probe`, `dialogue`, `gold` and the metrics.

    Raises:
        EicapError: As for `load`.
    """
    found = find(paths)
    work = partial(_made, make)
    if len(found) < MANY:
        return [work(one) for one in found]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        return list(workers.map(work, found, chunksize=4))


def _made(make: Callable[[Run], Made], found: tuple[str, Path]) -> Made:
    name, path = found
    return make(_read(path, name, "scores"))


def find_one(path: str | Path) -> tuple[str, Path]:
    """Find the one result file under a path, as `find` does; of several, the latest is not chosen silently.

    Raises:
        EicapError: There are several, or none.
    """
    found = find([path])
    if len(found) > 1:
        listed = ", ".join(str(file) for _, file in found[:5])
        raise EicapError(
            f"{path}: found {len(found)} runs ({listed}{', …' if len(found) > 5 else ''}), expected one of them"
        )
    return found[0]


def one(path: str | Path, *, documents: bool = False) -> Run:
    """Read the one run under a path.

    Args:
        path: As for `find`.
        documents: As for `load`.

    Raises:
        EicapError: As for `find_one` and `load`.
    """
    name, file = find_one(path)
    return _read(file, name, "documents" if documents else "probes")


def _read(path: Path, name: str, keep: Literal["scores", "probes", "documents"]) -> Run:
    try:
        return _read_run(path, name, keep)
    except EicapError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError, OSError) as error:
        raise EicapError(f"{path}: found {safe(repr(error))}, expected a result file as lm-eval writes it") from error


def _read_run(path: Path, name: str, keep: Literal["scores", "probes", "documents"]) -> Run:
    raw = _json(path)
    configs = raw.get("configs")
    if not isinstance(configs, dict) or not isinstance(raw.get("results"), dict):
        raise EicapError(f"{path}: found no results of lm-eval, expected a file that lm_eval --output_path wrote")
    tasks = {task: _task(path, task, config, raw) for task, config in configs.items() if _is_ours(config)}
    if not tasks:
        raise EicapError(f"{path}: found no task of this package, expected results of eicap tasks")
    frames = []
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for task in tasks.values():
        samples = path.with_name(f"samples_{task.name}_{_time_of(path)}.jsonl")
        if not samples.is_file():
            raise EicapError(f"{samples}: found nothing, expected the samples of the run: lm_eval with --log_samples")
        rows: dict[str, list[Any]] = defaultdict(list)
        count = 0
        for line, sample in _lines(samples):
            _row(rows, task, sample, f"{samples}:{line}", scores_only=keep == "scores")
            count += 1
            if keep == "documents":
                kept[task.name, str(sample["doc"]["id"])] = _document(sample["doc"])
        if count != task.asked:
            raise EicapError(f"{samples}: found {count} samples, expected {task.asked}, as {path.name} says")
        one = {"task": task.name, "format": task.format, "layer": task.layer, "lang": task.lang}
        frames.append(pd.DataFrame({**dict.fromkeys(one, ""), **rows}).assign(**one))
    probes = pd.concat(frames, ignore_index=True)
    repeated = probes[probes.duplicated(["task", "probe"])]
    if len(repeated):
        raise EicapError(f"{path}: found the probe {repeated['probe'].iloc[0]!r} twice in a task, expected once")
    date = raw.get("date")
    began = float(date) if isinstance(date, int | float) and 0 < date < LATEST else 0.0
    return Run(safe(name) or _model(raw), path, began, tasks, probes, kept, _settings(raw))


def _document(doc: dict[str, Any]) -> dict[str, Any]:
    """Return what a page shows of a document, all of it text; in a chain its turns begin with the earlier probes'."""
    links = [link for link in [*(doc.get("earlier") or []), doc] if isinstance(link, dict)]
    turns = [turn for link in links for turn in link.get("turns") or [] if isinstance(turn, dict)]
    return {
        "setting": next((str(link["setting"]) for link in links if link.get("setting")), ""),
        "question": str(doc.get("question", "")),
        "options": [str(option) for option in list(doc["options"])[:OPTIONS]],
        "turns": [{key: str(turn.get(key, "")) for key in ("name", "text")} for turn in turns],
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EicapError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise EicapError(f"{path}: found no JSON ({error}), expected a result file of lm-eval") from error
    if not isinstance(raw, dict):
        raise EicapError(f"{path}: found {type(raw).__name__}, expected a JSON object")
    return raw


def _lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """Read samples, without the prompts: they are four fifths of the file, and nothing here needs them."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            begin, end = line.find(b', "arguments": {'), line.rfind(b'}}, "resps": [')
            try:
                sample = json.loads(line[:begin] + line[end + 2 :] if 0 <= begin < end else line)
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                raise EicapError(f"{path}:{number}: found no JSON ({safe(error)}), expected a sample") from error
            if not isinstance(sample, dict) or not isinstance(sample.get("doc"), dict):
                raise EicapError(f"{path}:{number}: found no document, expected a sample of lm-eval")
            yield number, sample


def _is_ours(config: object) -> bool:
    metadata = config.get("metadata") if isinstance(config, dict) else None
    return isinstance(metadata, dict) and isinstance(metadata.get(KEY), str)


def _task(path: Path, name: str, config: dict[str, Any], raw: dict[str, Any]) -> TaskRun:
    parts = dict(part.partition(":")[::2] for part in config["metadata"][KEY].split("|"))
    layer, lang = (str((config.get("dataset_kwargs") or {}).get(key)) for key in ("layer", "lang"))
    counts = (raw.get("n-samples") or {}).get(name) or {}
    asked, total = counts.get("effective"), counts.get("original")
    known = layer in LAYERS and lang in LANGUAGES and parts.get("format") in FORMATS
    if not known or not isinstance(asked, int) or not isinstance(total, int) or not TASK_NAME.fullmatch(name):
        raise EicapError(f"{path}: found the task {safe(name)!r} without layer, language, format or counts of samples")
    made = config.get("generation_kwargs")
    generation = whole(json.dumps(made, ensure_ascii=False, sort_keys=True), "generation") if made else ""
    signature = {safe(k): whole(v, safe(k)) for k, v in parts.items()}
    return TaskRun(name, layer, lang, parts["format"], signature, asked, total, generation)


def _model(raw: dict[str, Any]) -> str:
    """Name a model. Where it has an adapter, lm-eval's own name is that of the adapter alone."""
    arguments = _arguments(raw)
    adapter, gguf = arguments.get("peft") or arguments.get("delta"), arguments.get("gguf_file")
    base = arguments.get("pretrained") if adapter else None
    name = str(base or raw.get("model_name") or (raw.get("config") or {}).get("model") or "unknown")
    name = Path(str(gguf)).stem if gguf else name
    name = ("/".join(Path(name).parts[-2:]).lstrip("/") or name) if name.startswith(("/", ".")) else name
    revision = arguments.get("revision") or "main"
    name = name if revision == "main" else f"{name}@{revision}"
    return safe(f"{name} + {Path(str(adapter)).name}" if adapter else name)


def _arguments(raw: dict[str, Any]) -> dict[str, Any]:
    """Return `--model_args`, which Python callers may have given as text."""
    found = (raw.get("config") or {}).get("model_args")
    if isinstance(found, str):
        return dict(part.strip().partition("=")[::2] for part in found.split(","))
    return found if isinstance(found, dict) else {}


def _settings(raw: dict[str, Any]) -> dict[str, str]:
    config = raw.get("config") or {}
    found = {
        "system instruction": raw.get("system_instruction"),
        "dtype": str(config.get("model_dtype") or "").removeprefix("torch."),
        "revision": config.get("model_revision") or _arguments(raw).get("revision"),
    }
    return {name: _shown(str(value)) for name, value in found.items() if value}


def _shown(text: str) -> str:
    """Return a text in short; where that is not all of it, with a hash that other texts do not have."""
    short = safe(text)
    return short if short == text else f"{safe(text, NAME_LENGTH - 22)} (sha256 {short_hash(json.dumps(text))})"


def _time_of(path: Path) -> str:
    found = TIME.search(path.stem)
    return found.group() if found else path.stem.removeprefix("results_")


def _row(rows: dict[str, list[Any]], task: TaskRun, sample: dict[str, Any], place: str, *, scores_only: bool) -> None:
    """Append what one sample says to the columns."""
    doc = sample["doc"]
    try:
        gold, traps = int(doc["gold"]), doc.get("traps") or [""] * OPTIONS
        if not len(doc["options"]) == len(traps) == OPTIONS or not 0 <= gold < OPTIONS:
            raise ValueError(f"{len(doc['options'])} options, the right one at {gold}")
        values: dict[str, Any] = {
            "probe": identifier(doc["id"]),
            "dialogue": identifier(doc["dialogue_id"]),
            "gold": gold,
            "acc": _unit(sample["acc"]),
        }
        for name in OTHER_METRICS:
            found = sample.get(name)
            values[name] = _unit(found, 2.0) if isinstance(found, int | float) else math.nan
        if not scores_only:
            reach = doc.get("reach", -1)
            values |= {"reach": reach if isinstance(reach, int) else -1, "link": len(doc.get("earlier") or ()) + 1}
            values |= _choices(task.format, sample)
            for name in TEXTS:
                values[name] = str(doc.get(name, "unknown"))
            for i in range(OPTIONS):
                values[f"trap_{i}"] = str(traps[i])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise EicapError(f"{place}: found a sample that cannot be used ({safe(repr(error))})") from error
    for name, value in values.items():
        rows[name].append(value)


def identifier(value: object) -> str:
    """Return the id of a probe or a dialogue; arrays of ids take as much room for each as for the longest.

    Raises:
        ValueError: It is longer than `NAME_LENGTH` characters.
    """
    text = str(value)
    if len(text) > NAME_LENGTH:
        raise ValueError(f"an id of {len(text)} characters, allowed: {NAME_LENGTH}")
    return text


def whole(value: object, what: str) -> str:
    """Return a text that tells runs apart: cleaned by `safe`, but not cut.

    Raises:
        ValueError: It is longer than `LONGEST` characters.
    """
    text = safe(value, None)
    if len(text) > LONGEST:
        raise ValueError(f"{what} of {len(text)} characters, allowed: {LONGEST}")
    return text


def _unit(value: Any, most: float = 1.0) -> float:
    number = float(value)
    if not 0.0 <= number <= most:
        raise ValueError(f"score {number}")
    return number


def _choices(form: str, sample: dict[str, Any]) -> dict[str, Any]:
    """Return which options, and which places, the answers chose, and the probabilities of the options."""
    options, places, probabilities = [0.0] * OPTIONS, [0.0] * OPTIONS, [math.nan] * OPTIONS
    answers, parsed = sample["filtered_resps"], 1.0
    if form == "gen":
        if answers[0] in (None, "None"):
            parsed = 0.0
        else:
            options[int(answers[0])] = places[int(answers[0])] = 1.0
    elif form == "circular":
        for turn in range(OPTIONS):
            place = metrics.choice(_likelihoods(answers[OPTIONS * turn : OPTIONS * (turn + 1)]))
            places[place] += 1 / OPTIONS
            options[(place + turn) % OPTIONS] += 1 / OPTIONS
    else:
        likelihoods = _likelihoods(answers[:OPTIONS])
        chosen = metrics.choice(likelihoods)
        options[chosen] = places[chosen] = 1.0
        if form != "cf":
            probabilities = metrics.probabilities(likelihoods)
    found: dict[str, Any] = {"parsed": parsed}
    for i in range(OPTIONS):
        found[f"option_{i}"], found[f"place_{i}"], found[f"p_{i}"] = options[i], places[i], probabilities[i]
    return found


def _likelihoods(answers: Sequence[Sequence[Any]]) -> list[float]:
    found = [float(pair[0]) for pair in answers]
    if len(found) != OPTIONS:
        raise ValueError(f"{len(found)} log-likelihoods")
    return found
