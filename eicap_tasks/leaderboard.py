"""A leaderboard: one row per model, with ranks that say which models cannot be told apart.

Everything that a new run is compared with is kept in `leaderboard.json`, so that merging one in needs no old runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from eicap_tasks import pages, statistics, tables
from eicap_tasks.errors import EicapError, nearest, safe
from eicap_tasks.results import FORMATS, LATEST, LONGEST, TASK_NAME, Run, TaskRun, identifier, whole
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

RESAMPLES: Final = 2000
SYSTEM: Final = "system instruction"
SETTINGS: Final = ("format", "version", "items", "docs", "show", "labels", "shots", "generation", SYSTEM, "context")
"""What all models of a leaderboard share, the context those with a chat template. Prompts differ with the templates."""
OF_A_MODEL: Final = ("context", "chat")
"""What all tasks of a model share."""
KEPT: Final = (*SETTINGS, "chat")
WITHOUT_TEMPLATE: Final = "text"
"""The context of a model without a chat template."""
ITEMS: Final = ("version", "items", "docs", "show", SYSTEM)
"""Those that a task and its circular one share, too."""
CIRCULAR: Final = "_circular"
FILE: Final = "leaderboard.json"
SCHEMA: Final = 3
LEAST_DIALOGUES: Final = 20
"""With fewer, models have no rank: with few clusters the bootstrap is too sure (Cameron, Gelbach & Miller 2008)."""


@dataclass(frozen=True)
class Entry:
    """One model of a leaderboard.

    Attributes:
        name: Its name.
        dates: Task -> when its run began, in seconds since 1970; of circular tasks too.
        model: What its signatures call it: where it is from, with a hash of its arguments.
        settings: Task -> its settings `KEPT`; of circular tasks too.
        scores: Task -> probe id -> score, 0 to 1.
        dialogues: Probe id -> dialogue id.
        circular: Circular task -> share of probes right in all four rotations, where the run has such tasks.
    """

    name: str
    dates: dict[str, float]
    model: str
    settings: Mapping[str, Mapping[str, str]]
    scores: Mapping[str, Mapping[str, float]]
    dialogues: Mapping[str, str]
    circular: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """One row of a leaderboard.

    Attributes:
        name: The model.
        overall: Mean of the tasks' accuracies, layers and languages weighing the same; None where tasks are lacking.
        interval: Its 95 % interval, by cluster bootstrap over dialogues; None with fewer than five.
        rank: Best and worst rank that the data allow; None for a model that lacks tasks, and with too few dialogues.
        tasks: Task -> accuracy.
        circular: Mean of the circular tasks' accuracies; None where one of them is missing.
        format: How all models were asked.
        remarks: What the model lacks.
    """

    name: str
    overall: float | None
    interval: tuple[float, float] | None
    rank: tuple[int, int] | None
    tasks: Mapping[str, float]
    circular: float | None
    format: str
    remarks: tuple[str, ...]

    def mean(self, part: str) -> float | None:
        """Return the mean accuracy of a layer or a language; None where a task of it is missing."""
        layer, lang = (part, None) if part in LAYERS else (None, part)
        wanted = [f"eicap_{a}_{b}" for a in LAYERS for b in LANGUAGES if layer in (a, None) and lang in (b, None)]
        found = [self.tasks[task] for task in wanted if task in self.tasks]
        return sum(found) / len(found) if len(found) == len(wanted) else None

    @property
    def place(self) -> str:
        """The rank as text: "1", "2–4", or "–"."""
        if self.rank is None:
            return "–"
        best, worst = self.rank
        return str(best) if best == worst else f"{best}–{worst}"


def entry(run: Run, format: str = "letters") -> Entry:
    """Make the entry of a run.

    Args:
        run: The run.
        format: The format that ranks; circular accuracy comes from the tasks of that format beside it.

    Raises:
        EicapError: The format is unknown, the run has no task of it, asked only some probes, did not show the
            dialogue, or says too much of its model.
    """
    if format not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise EicapError(f"--format: found {format!r}, allowed: {allowed}{nearest(format, FORMATS)}")
    own = run.of(format)
    if not own.tasks and "circular" not in run.formats:
        raise EicapError(f"{run.source}: found the formats {', '.join(run.formats)}, expected {format} among them")
    circular = run.of("circular")
    if partial := own.partial or circular.partial:
        raise EicapError(f"{run.source}: found a partial run ({partial[0]}), expected all probes (no --limit)")
    if run.blind:
        raise EicapError(f"{run.source}: found a run that showed {run.blind[0]}, expected one that showed the dialogue")
    ending = {"letters": ""}.get(format, f"_{format}")
    model = ", ".join(sorted({task.signature.get("model", "unknown") for task in run.tasks.values()}))
    if len(model) > LONGEST:
        raise EicapError(f"{run.source}: found models of {len(model)} characters in its signatures, expected one model")
    return Entry(
        name=run.name,
        dates=dict.fromkeys([*(_plain(name, ending) for name in own.tasks), *circular.tasks], run.date),
        model=model,
        settings={
            **{_plain(name, ending): _settings(run, task) for name, task in own.tasks.items()},
            **{name: _settings(run, task) for name, task in circular.tasks.items()},
        },
        scores={
            _plain(str(name), ending): dict(zip(rows["probe"], map(float, rows["acc"]), strict=True))
            for name, rows in own.probes.groupby("task")
        },
        dialogues=dict(zip(own.probes["probe"], own.probes["dialogue"], strict=True)),
        circular={str(name): float(rows["acc_circular"].mean()) for name, rows in circular.probes.groupby("task")},
    )


def _plain(task: str, ending: str) -> str:
    return task.removesuffix(ending) if ending else task


def _settings(run: Run, task: TaskRun) -> dict[str, str]:
    known = {**task.signature, "generation": task.generation or "none", SYSTEM: run.settings.get(SYSTEM, "none")}
    return {part: known.get(part, "unknown") for part in KEPT}


def merge(old: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """Add entries to others. Those of one name are one: of every task the latest stays.

    Returns:
        The entries, sorted by name.

    Raises:
        EicapError: Two entries were asked other items, or the same ones otherwise, or a model was in some tasks, one
            has no scores to rank by, or two models have one name.
    """
    formats: dict[str, str] = {}
    for one in [*old, *new]:
        for task in one.scores:
            formats.setdefault(one.settings[task].get("format", "unknown"), one.name)
    if len(formats) > 1:
        (expected, before), (found, name) = list(formats.items())[:2]
        raise EicapError(
            f"{name}: format: found {found}, expected {expected} of {before}; models of one leaderboard are asked the "
            "same"
        )
    by_name: dict[str, Entry] = {}
    for one in [*old, *new]:
        by_name[one.name] = _joined(by_name[one.name], one) if one.name in by_name else one
    for one in by_name.values():
        if not one.scores:
            raise EicapError(f"{one.name}: found circular tasks alone, expected a run in the format that ranks, too")
    first: dict[tuple[str, str], tuple[str, str]] = {}
    asked: dict[str, tuple[str, set[str]]] = {}
    for one in sorted(by_name.values(), key=lambda e: e.name):
        _check_alike(one)
        for task, parts in one.settings.items():
            for part in SETTINGS:
                if part == "context" and parts[part] == WITHOUT_TEMPLATE:
                    continue
                name, expected = first.setdefault((task, part), (one.name, parts[part]))
                if parts[part] != expected:
                    raise EicapError(
                        f"{one.name}: {task}: {part}: found {parts[part]}, expected {expected} of {name}; "
                        "models of one leaderboard are asked the same"
                    )
            name, probes = asked.setdefault(task, (one.name, set(one.scores.get(task, ()))))
            if set(one.scores.get(task, ())) != probes:
                raise EicapError(f"{one.name}: {task}: found other probes than those of {name}, expected the same")
            plain = one.settings.get(task.removesuffix(CIRCULAR), parts)
            for part in ITEMS:
                if parts[part] != plain[part]:
                    raise EicapError(
                        f"{one.name}: {task}: {part}: found {parts[part]}, expected {plain[part]} as in "
                        f"{task.removesuffix(CIRCULAR)}"
                    )
    return [by_name[name] for name in sorted(by_name)]


def _check_alike(one: Entry) -> None:
    """Refuse a model that was asked some tasks with a chat template or as turns, and others otherwise."""
    first, *others = sorted(one.settings)
    for task in others:
        for part in OF_A_MODEL:
            found, expected = one.settings[task][part], one.settings[first][part]
            if found != expected:
                raise EicapError(
                    f"{one.name}: {task}: {part}: found {found}, expected {expected} as in {first}; all tasks of a "
                    "model are asked alike, and runs that were not have names of their own: NAME=PATH"
                )


def _joined(one: Entry, two: Entry) -> Entry:
    if one.model != two.model:
        raise EicapError(
            f"{two.name}: found the model {two.model}, expected {one.model}, which has that name; "
            "give one of them another name: NAME=PATH"
        )
    latest = {
        task: max((e for e in (one, two) if task in e.dates), key=partial(_age, task=task))
        for task in one.dates | two.dates
    }
    return Entry(
        one.name,
        {task: e.dates[task] for task, e in latest.items()},
        one.model,
        {task: e.settings[task] for task, e in latest.items()},
        {task: e.scores[task] for task, e in latest.items() if task in e.scores},
        {**one.dialogues, **two.dialogues},
        {task: e.circular[task] for task, e in latest.items() if task in e.circular},
    )


def _age(one: Entry, task: str) -> tuple[float, str]:
    """Return what tells which entry's task is the later one; of two of one time, the same whichever comes first."""
    content = [one.scores.get(task), one.circular.get(task), one.settings[task]]
    return one.dates[task], json.dumps(content, sort_keys=True)


def standings(entries: Sequence[Entry], resamples: int = RESAMPLES, seed: int = 0) -> list[Standing]:
    """Rank models.

    Every pair of models with all tasks is compared: two differ where their studentized paired difference is beyond
    what the largest of all pairs reaches by chance in 95 % of bootstrap resamples, widened for the number of
    dialogues (`statistics.widened`). A model's best rank is one more than the number of models that are better, its
    worst rank counts those that are worse: simultaneous 95 % confidence sets for all ranks (Mogstad, Romano, Shaikh &
    Wilhelm 2024, Inference for Ranks; Romano & Wolf 2005).

    Args:
        entries: The models; those that lack tasks which others have are listed last, without a rank. With fewer than
            `LEAST_DIALOGUES` dialogues in some task none has one.
        resamples: Resamples of the cluster bootstrap over dialogues.
        seed: Seed of the draws.

    Returns:
        The rows, best first; the same entries give the same rows in any order.
    """
    if not entries:
        raise EicapError("found no run, expected one or more")
    entries = sorted(entries, key=lambda e: e.name)
    tasks = sorted({task for one in entries for task in one.scores})
    columns = [(i, task) for i, one in enumerate(entries) for task in tasks if task in one.scores]
    probes = sorted({(task, probe) for one in entries for task in one.scores for probe in one.scores[task]})
    where = {key: row for row, key in enumerate(probes)}
    dialogues = {probe: name for one in entries for probe, name in one.dialogues.items()}
    clusters = statistics.codes([dialogues[probe] for _, probe in probes])
    number = int(clusters.max()) + 1
    means = np.full((resamples, len(entries), len(tasks)), np.nan, dtype=np.float32)
    observed = np.full((len(entries), len(tasks)), np.nan)
    for k, task in enumerate(tasks):
        own = [i for i, name in columns if name == task]
        rows = [where[key] for key in probes if key[0] == task]
        values = np.array([[entries[i].scores[task][probes[row][1]] for i in own] for row in rows])
        observed[own, k] = values.mean(axis=0)
        means[:, own, k] = statistics.bootstrap_means(values, clusters[rows], resamples, seed, number)
    means = means[~np.isnan(means[:, ~np.isnan(observed)]).any(axis=1)]  # resamples without a dialogue of some task
    if len(means) < resamples / 2:
        raise EicapError("found too few dialogues in some task to rank by, expected more")
    complete = [i for i in range(len(entries)) if not np.isnan(observed[i]).any()]
    fewest, thinnest = min((len({dialogues[probe] for t, probe in probes if t == task}), task) for task in tasks)
    few = fewest < LEAST_DIALOGUES
    ranks = [] if few else _ranks(observed[complete].mean(axis=1), means[:, complete].mean(axis=2), fewest)
    form = next(one.settings[task].get("format", "unknown") for one in entries for task in one.scores)
    made = []
    for i, one in enumerate(entries):
        present = ~np.isnan(observed[i])
        lacks = []
        if i not in complete:
            lacks.append(f"no rank: found {int(present.sum())} of {len(tasks)} tasks")
        elif few:
            lacks.append(f"no rank: found {fewest} dialogues in {thinnest}, expected {LEAST_DIALOGUES} or more")
        rotated = [one.circular[f"{task}{CIRCULAR}"] for task in tasks if f"{task}{CIRCULAR}" in one.circular]
        if 0 < len(rotated) < len(tasks):
            lacks.append(f"circular accuracy left out: found {len(rotated)} of {len(tasks)} tasks")
        made.append(
            Standing(
                one.name,
                float(observed[i].mean()) if i in complete else None,
                statistics.percentile_interval(means[:, i].mean(axis=1).astype(float), fewest)
                if i in complete
                else None,
                ranks[complete.index(i)] if i in complete and not few else None,
                {task: float(observed[i, k]) for k, task in enumerate(tasks) if present[k]},
                sum(rotated) / len(tasks) if len(rotated) == len(tasks) else None,
                form,
                tuple(lacks),
            )
        )
    return sorted(made, key=lambda s: (s.overall is None, -(s.overall or 0.0), s.name))


def _ranks(overall: NDArray[np.float64], resampled: NDArray[np.float32], clusters: int) -> list[tuple[int, int]]:
    """Return best and worst rank of every model: scores of shape (models,), resampled ones (resamples, models)."""
    count = len(overall)
    errors = np.zeros((count, count))
    largest = np.zeros(len(resampled))
    for i in range(count - 1):
        drawn = resampled[:, i + 1 :] - resampled[:, [i]]
        true = overall[i + 1 :] - overall[i]
        errors[i, i + 1 :] = errors[i + 1 :, i] = spread = drawn.std(axis=0)
        varying = spread > 1e-9
        if varying.any():
            studentized = np.abs(drawn[:, varying] - true[varying]) / spread[varying]
            largest = np.maximum(largest, studentized.max(axis=1))
    critical = statistics.widened(float(np.quantile(largest, statistics.LEVEL)), clusters)
    gaps = overall[:, None] - overall[None, :]
    better = gaps > critical * errors + 1e-12
    return [(1 + int(better[:, i].sum()), count - int(better[i].sum())) for i in range(count)]


def load(path: Path) -> list[Entry]:
    """Read the entries of an existing leaderboard.

    Raises:
        EicapError: The file is not one that `save` wrote.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            found = safe(repr(raw["schema"]))
            raise EicapError(f"{path}: found the schema {found}, expected {SCHEMA}; remove it and give all runs again")
        dialogues = {str(probe): identifier(name) for probe, name in raw["dialogues"].items()}
        entries = []
        for one in raw["entries"]:
            scores = {
                str(task): dict(zip(raw["probes"][task], map(_unit, values), strict=True))
                for task, values in one["scores"].items()
            }
            circular = {str(task): _unit(value) for task, value in one["circular"].items()}
            if not scores or scores.keys() | circular.keys() != one["settings"].keys() or not all(scores.values()):
                raise ValueError("tasks without scores or settings")
            if not all(identifier(probe) in dialogues for own in scores.values() for probe in own):
                raise ValueError("probes without dialogues")
            settings = {
                str(task): {part: whole(parts[part], part) for part in KEPT} for task, parts in one["settings"].items()
            }
            for task in settings:
                if not TASK_NAME.fullmatch(task):
                    raise ValueError(f"the task {task}")
            name, model = safe(one["name"]), whole(one["model"], "model")
            dates = {task: _date(one["dates"][task]) for task in settings}
            entries.append(Entry(name, dates, model, settings, scores, dialogues, circular))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise EicapError(f"{path}: cannot be read ({safe(error)}), expected a file of eicap leaderboard") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, EicapError):
            raise
        raise EicapError(f"{path}: found {safe(repr(error))}, expected a file that eicap leaderboard wrote") from error
    return entries


def _unit(value: Any) -> float:
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"score {number}")
    return number


def _date(value: Any) -> float:
    date = float(value)
    if not 0.0 <= date < LATEST:
        raise ValueError(f"date {date}")
    return date


def save(entries: Sequence[Entry]) -> str:
    """Return entries as JSON text for `load`."""
    probes: dict[str, list[str]] = {}
    for one in entries:
        for task, scores in one.scores.items():
            probes.setdefault(task, sorted(scores))
    dialogues = {probe: name for one in entries for probe, name in one.dialogues.items()}
    raw = {
        "schema": SCHEMA,
        "probes": dict(sorted(probes.items())),
        "dialogues": dict(sorted(dialogues.items())),
        "entries": [
            {
                "name": one.name,
                "dates": dict(sorted(one.dates.items())),
                "model": one.model,
                "circular": dict(sorted(one.circular.items())),
                "settings": {task: dict(one.settings[task]) for task in sorted(one.settings)},
                "scores": {task: [one.scores[task][probe] for probe in probes[task]] for task in sorted(one.scores)},
            }
            for one in sorted(entries, key=lambda e: e.name)
        ],
    }
    return json.dumps(raw, ensure_ascii=False, separators=(",", ":")) + "\n"


def rows(found: Sequence[Standing]) -> list[dict[str, str]]:
    """Return the leaderboard as rows of text, shares in percent."""
    return [
        {
            "rank": one.place,
            "model": one.name,
            "overall": tables.percent(one.overall),
            "95 %": tables.interval(one.interval),
            **{part: tables.percent(one.mean(part)) for part in (*LAYERS, *LANGUAGES)},
            "circular": tables.percent(one.circular),
        }
        for one in found
    ]


def note(found: Sequence[Standing]) -> str:
    """Say how to read the leaderboard."""
    return (
        f"Format {found[0].format}. Mean accuracy over layers and languages in percent; guessing gives 25.0. A rank is "
        "the best and worst that the data allow: simultaneous 95 % confidence sets, from a cluster bootstrap over "
        "dialogues. Circular: right in all four rotations, also a mean over layers and languages. The items are this "
        "project's own, not the paper's. A model that lacks tasks has no overall score: tasks are not equally hard."
    )


def remarks(found: Sequence[Standing]) -> list[str]:
    """Say what models lack, a line each."""
    return [f"{one.name}: {remark}" for one in found for remark in one.remarks]


def terminal(found: Sequence[Standing]) -> list[Table]:
    """Lay the leaderboard out for a terminal of 80 columns: the ranks, then the parts."""
    whole = ("rank", "overall", "95 %", "circular")
    shown = rows(found)
    return [
        tables.terminal([{"model": row["model"], **{name: row[name] for name in whole}} for row in shown]),
        tables.terminal([{name: value for name, value in row.items() if name not in whole} for row in shown]),
    ]


def as_markdown(found: Sequence[Standing]) -> str:
    """Return the leaderboard as Markdown."""
    lines = "".join(f"> {tables.plain(remark)}\n\n" for remark in remarks(found))
    return f"# EICAP leaderboard\n\n{note(found)}\n\n{lines}{tables.markdown(rows(found))}"


def as_csv(found: Sequence[Standing]) -> str:
    """Return the leaderboard as CSV, shares from 0 to 1."""
    return tables.as_csv(
        [
            {
                "model": one.name,
                "format": one.format,
                "best_rank": one.rank[0] if one.rank else "",
                "worst_rank": one.rank[1] if one.rank else "",
                "overall": one.overall,
                "low": one.interval[0] if one.interval else "",
                "high": one.interval[1] if one.interval else "",
                **{part: one.mean(part) for part in (*LAYERS, *LANGUAGES)},
                "circular": one.circular,
            }
            for one in found
        ]
    )


def as_page(found: Sequence[Standing]) -> str:
    """Return the leaderboard as a page."""
    scores = [one.mean(part) for one in found for part in (*LAYERS, *LANGUAGES)]
    known = [score for score in scores if score is not None]
    return pages.render(
        "leaderboard",
        note=note(found),
        remarks=remarks(found),
        standings=found,
        layers=LAYERS,
        languages=LANGUAGES,
        low=min(known, default=0.0),
        high=max(known, default=1.0),
        percent=tables.percent,
        interval=tables.interval,
    )
