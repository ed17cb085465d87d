"""What one run says: scores by layer, skill, emotion and so on, traps, calibration, languages, places."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from eicap_tasks import pages, plots, tables
from eicap_tasks.errors import safe
from eicap_tasks.results import OPTIONS, Run
from eicap_tasks.statistics import cluster_mean
from eicap_tasks.vocabulary import EMOTION_LAYERS, EMOTIONS, LANGUAGES, LAYERS, SKILLS, TRAPS

CHANCE: Final = 1 / OPTIONS
BINS: Final = 10
NAMES: Final = {
    "skill": "skill", "emotion_layer": "emotion layer", "emotion": "emotion", "difficulty": "difficulty",
    "kind": "kind of dialogue", "culture": "culture", "domain": "domain", "variety": "variety", "reach": "evidence",
}  # fmt: skip
"""Columns of a run's probes that the report groups by -> heading."""
REACHES: Final = {0: "last visible turn", 1: "1 or 2 turns before", 3: "3 or 4 turns before", 5: "5 or more before"}


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Attributes:
        key: Its name in JSON and CSV.
        title: Its heading.
        note: How to read it.
        rows: Column -> value; numbers are shares, None where one is not defined.
    """

    key: str
    title: str
    note: str
    rows: tuple[dict[str, Any], ...]

    def shown(self) -> list[dict[str, str]]:
        """Return the rows as text, shares in percent."""
        return [{name: _text(name, value) for name, value in row.items()} for row in self.rows]


def _text(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "p":
        return tables.p_value(value)
    if isinstance(value, tuple | list):
        return tables.interval((value[0], value[1]), signed=name.startswith("95 % of diff"))
    if isinstance(value, float):
        return tables.points(value) if name == "difference" else tables.percent(value)
    return str(value)


def sections(run: Run) -> list[Section]:
    """Summarize the probes of one run and one format.

    Args:
        run: A run, as `Run.of` returns it for one format.

    Returns:
        The tables, those first that a reader wants first; tables about nothing are left out.
    """
    probes = run.probes
    found = [_scores(probes), *_extra(probes)]
    if len(set(probes["lang"])) > 1:
        found.append(_languages(probes))
    read = probes[probes["parsed"] == 1.0]
    found += [_traps(read)] if len(read) else []
    if len(read) and (probes["format"] != "cf").all():  # there no list of options is shown
        found.append(_places(read))
    if probes["p_0"].notna().all():
        found.append(_calibration(probes))
    if (probes["format"] == "chain").all():
        found.append(_links(probes))
    for column, name in NAMES.items():
        found.append(Section(column, f"By {name}", "", tuple(_grouped(probes, column))))
    return [section for section in found if section.rows]


def _row(name: str, group: str, values: pd.Series, dialogues: pd.Series) -> dict[str, Any]:
    estimate = cluster_mean(values.to_numpy(), dialogues.to_numpy())
    return {name: group, "probes": estimate.count, "accuracy": estimate.mean, "95 %": estimate.share_interval()}


def _scores(probes: pd.DataFrame) -> Section:
    rows = []
    for lang in sorted(set(probes["lang"]), key=list(LANGUAGES).index):
        own = probes[probes["lang"] == lang]
        for layer in LAYERS:
            cell = own[own["layer"] == layer]
            if len(cell):
                rows.append(_row("task", f"{layer}, {LANGUAGES[lang]['name']}", cell["acc"], cell["dialogue"]))
        rows.append(_row("task", f"all, {LANGUAGES[lang]['name']}", own["acc"], own["dialogue"]))
    if len(set(probes["lang"])) > 1:
        rows.append(_row("task", "all", probes["acc"], probes["dialogue"]))
    note = (
        "Guessing gives 25.0. Intervals: Wilson's, with the number of probes that clustering by dialogue leaves. "
        "Several tasks together: each probe weighs the same."
    )
    return Section("scores", "Accuracy by layer and language", note, tuple(rows))


def _links(probes: pd.DataFrame) -> Section:
    rows = [_row("place", str(place), own["acc"], own["dialogue"]) for place, own in probes.groupby("link", sort=True)]
    note = (
        "1 is the first probe of a dialogue; before a later one stand the earlier ones with their right answers. All "
        "layers are together, and which of them come late is a matter of the items."
    )
    return Section("link", "By place in the chain", note, tuple(rows))


def _grouped(probes: pd.DataFrame, column: str) -> Iterator[dict[str, Any]]:
    orders: dict[str, Sequence[str]] = {
        "skill": list(SKILLS), "emotion": list(EMOTIONS), "emotion_layer": list(EMOTION_LAYERS),
        "difficulty": ["clear", "moderate", "subtle"], "reach": list(REACHES.values()),
    }  # fmt: skip
    values = probes[column].map(_reach) if column == "reach" else probes[column]
    known = orders.get(column, [])
    for group in sorted(set(values), key=lambda g: (known.index(g) if g in known else len(known), g)):
        own = probes[values == group]
        yield _row(NAMES[column], safe(group), own["acc"], own["dialogue"])


def _reach(turns: int) -> str:
    return "unknown" if turns < 0 else REACHES[max(least for least in REACHES if least <= turns)]


def _extra(probes: pd.DataFrame) -> Iterator[Section]:
    """Yield what only some formats have: circular accuracy, other normalizations, parse rate."""
    names = {
        "acc_circular": "right in all four rotations", "consistency": "same option in all four rotations",
        "acc_bytes": "accuracy per byte", "acc_mutual_info": "accuracy by mutual information",
    }  # fmt: skip
    rows = [
        {"metric": name, **_without_group(_row("metric", "", probes[key], probes["dialogue"]))}
        for key, name in names.items()
        if probes[key].notna().all()
    ]
    if (probes["format"] == "gen").all():
        read = probes[probes["parsed"] == 1.0]
        rows.append({"metric": "answers that could be read",
                     **_without_group(_row("metric", "", probes["parsed"], probes["dialogue"]))})  # fmt: skip
        if len(read):
            rows.append({"metric": "accuracy among those",
                         **_without_group(_row("metric", "", read["acc"], read["dialogue"]))})  # fmt: skip
    yield Section("metrics", "Other metrics", "", tuple(rows))


def _without_group(row: dict[str, Any]) -> dict[str, Any]:
    renamed = {"accuracy": "value"}
    return {renamed.get(name, name): value for name, value in row.items() if name != "metric"}


def _languages(probes: pd.DataFrame) -> Section:
    """Compare the languages on the probes that both have."""
    rows = []
    first, *others = sorted(set(probes["lang"]), key=list(LANGUAGES).index)
    for other in others:
        for layer in [*LAYERS, "all"]:
            own = probes if layer == "all" else probes[probes["layer"] == layer]
            pairs = own[own["lang"] == first].merge(own[own["lang"] == other], on="probe", suffixes=("", "_2"))
            if pairs.empty:
                continue
            gap = cluster_mean((pairs["acc"] - pairs["acc_2"]).to_numpy(), pairs["dialogue"].to_numpy())
            rows.append(
                {
                    "layer": layer, "pairs": gap.count, LANGUAGES[first]["name"]: float(pairs["acc"].mean()),
                    LANGUAGES[other]["name"]: float(pairs["acc_2"].mean()), "difference": gap.mean,
                    "95 % of difference": gap.interval(),
                }
            )  # fmt: skip
    note = f"{LANGUAGES[first]['name']} minus the other language, in points, on the same probes."
    return Section("languages", "Gap between the languages", note, tuple(rows))


def _traps(probes: pd.DataFrame) -> Section:
    """Compare how often wrong options of each kind were chosen with what the errors alone would give."""
    wrong = pd.concat(
        [
            pd.DataFrame(
                {
                    "trap": probes[f"trap_{i}"], "chosen": probes[f"option_{i}"], "dialogue": probes["dialogue"],
                    "share": (probes["parsed"] - _right(probes)) / (OPTIONS - 1),
                }
            )[probes["gold"] != i]
            for i in range(OPTIONS)
        ]
    )  # fmt: skip
    rows = []
    for trap in (name for name in TRAPS if (wrong["trap"] == name).any()):
        own = wrong[wrong["trap"] == trap]
        excess = cluster_mean((own["chosen"] - own["share"]).to_numpy(), own["dialogue"].to_numpy())
        rows.append(
            {
                "trap": trap, "offered": excess.count, "chosen": float(own["chosen"].mean()),
                "expected": float(own["share"].mean()), "difference": excess.mean,
                "95 % of difference": excess.interval(),
            }
        )  # fmt: skip
    note = (
        "How often the model chose a wrong option of this kind where there was one, and how often it would have if its "
        "errors in the same probes fell on the three wrong options alike. The difference is in points."
    )
    return Section("traps", "Trap profile", note, tuple(rows))


def _right(probes: pd.DataFrame) -> pd.Series:
    """Return the share of the answers to each probe that chose the right option."""
    options = probes[[f"option_{i}" for i in range(OPTIONS)]].to_numpy()
    right: pd.Series[Any] = pd.Series(options[np.arange(len(probes)), probes["gold"]], index=probes.index)
    return right


def _places(probes: pd.DataFrame) -> Section:
    shares = [float(probes[f"place_{i}"].mean()) for i in range(OPTIONS)]
    golds = [float((probes["gold"] == i).mean()) for i in range(OPTIONS)]
    note = "How often each place was chosen. Far from the share of right options there means a habit, not knowledge."
    if (probes["format"] == "circular").all():
        golds = [1 / OPTIONS] * OPTIONS
    rows = tuple(
        {"place": "ABCD"[i], "chosen": shares[i], "right option there": golds[i], "difference": shares[i] - golds[i]}
        for i in range(OPTIONS)
    )
    return Section("places", "Position bias", note, rows)


def calibration_bins(probes: pd.DataFrame) -> list[tuple[float, float, int]]:
    """Sort predictions into ten equal ranges of confidence.

    Args:
        probes: Rows with `p_0` to `p_3` and `acc`.

    Returns:
        Mean confidence, accuracy and number of probes of each range that has some.
    """
    confidence = probes[[f"p_{i}" for i in range(OPTIONS)]].max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    groups = pd.DataFrame({"confidence": confidence, "acc": probes["acc"]}).groupby(bins)
    return [(float(g["confidence"].mean()), float(g["acc"].mean()), len(g)) for _, g in groups]


def expected_calibration_error(probes: pd.DataFrame) -> float:
    """Return the mean distance of confidence from accuracy over ten ranges, weighted by probes: 0 to 1.

    Naeini et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning; Guo et al. 2017, On Calibration
    of Modern Neural Networks. The confidence is that of the chosen option among the four.
    """
    return sum(abs(conf - acc) * n for conf, acc, n in calibration_bins(probes)) / len(probes)


def _calibration(probes: pd.DataFrame) -> Section:
    confidence = probes[[f"p_{i}" for i in range(OPTIONS)]].max(axis=1)
    brier = probes["brier_score"]
    rows: list[dict[str, Any]] = [
        {"measure": "mean confidence in the chosen option", "value": float(confidence.mean())},
        {"measure": "accuracy", "value": float(probes["acc"].mean())},
        {"measure": "expected calibration error", "value": expected_calibration_error(probes)},
        {"measure": "Brier score, times 100", "value": float(brier.mean()) if brier.notna().all() else None},
    ]
    note = (
        "Probabilities of the four options. Brier score, times 100: 0 certain and right, 75 even odds, 200 certain and "
        "wrong."
    )
    return Section("calibration", "Calibration", note, tuple(rows))


def notes(run: Run, formats: Sequence[str] = ()) -> list[str]:
    """Say what a reader must know about a run before its numbers.

    Args:
        run: A run of one format.
        formats: All formats that the run had.
    """
    found = [f"partial: {text}" for text in run.partial]
    others = [form for form in formats if form not in run.formats]
    found += [f"also in this run: {', '.join(others)} (--format)"] if others else []
    versions = {f"{task.signature.get('version')}" for task in run.tasks.values()}
    found += [f"tasks of several versions: {', '.join(sorted(versions))}"] if len(versions) > 1 else []
    found += [f"the model did not see the dialogue, but {', '.join(run.blind)}: no measure of EI"] if run.blind else []
    missing = [f"{layer}_{lang}" for lang in LANGUAGES for layer in LAYERS
               if not any((t.layer, t.lang) == (layer, lang) for t in run.tasks.values())]  # fmt: skip
    return found + ([f"not in this run: {', '.join(missing)}"] if missing else [])


def as_markdown(run: Run, found: Sequence[Section]) -> str:
    """Return a report as Markdown."""
    parts = [f"# {tables.plain(run.name)}\n\n{_about(run)}\n"]
    parts += [f"> {tables.plain(note)}\n" for note in notes(run)]
    for section in found:
        parts.append(f"## {section.title}\n\n{section.note + chr(10) + chr(10) if section.note else ''}")
        parts[-1] += tables.markdown(section.shown())
    parts.append(f"## Signatures\n\n{tables.verbatim(run.signatures)}")
    return "\n".join(parts)


def _about(run: Run) -> str:
    form = run.formats[0]
    dialogues = run.probes["dialogue"].nunique()
    return f"{len(run.probes)} probes of {dialogues} dialogues, format {form}. The items are this project's own."


def as_csv(found: Sequence[Section]) -> str:
    """Return all tables as one CSV: section, group, column, value."""
    rows = []
    for section in found:
        for row in section.rows:
            (_, group), *values = row.items()
            for name, value in values:
                low, high = value if isinstance(value, tuple) else ("", "")
                number = "" if isinstance(value, tuple) or value is None else value
                rows.append(
                    {"section": section.key, "group": group, "column": name, "value": number, "low": low, "high": high}
                )
    return tables.as_csv(rows)


def as_json(run: Run, found: Sequence[Section]) -> str:
    """Return all tables as JSON."""
    content = {
        "model": run.name,
        "format": run.formats[0],
        "notes": notes(run),
        "signatures": {name: dict(task.signature) for name, task in run.tasks.items()},
        "sections": {section.key: list(section.rows) for section in found},
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def as_page(run: Run, found: Sequence[Section]) -> str:
    """Return a report as a page, with plots and, where the run has its documents, the probes to browse."""
    by_key = {section.key: section for section in found}
    pictures = {"scores": plots.svg(plots.dots(_points(by_key["scores"]), axis="accuracy", reference=CHANCE))}
    if "traps" in by_key:
        points = [
            plots.Point(row["trap"], row["difference"], row["95 % of difference"]) for row in by_key["traps"].rows
        ]
        drawn = plots.dots(points, axis="chosen more (right) or less often than errors alone would give", reference=0.0)
        pictures["traps"] = plots.svg(drawn)
    if "calibration" in by_key:
        pictures["calibration"] = plots.svg(plots.reliability(calibration_bins(run.probes)))
    return pages.render(
        "report",
        run=run,
        about=_about(run),
        notes=notes(run),
        sections=found,
        pictures={key: pages.picture(picture) for key, picture in pictures.items()},
        entries=list(_entries(run)),
        languages=LANGUAGES,
        layers=LAYERS,
        signatures=run.signatures,
    )


def _points(section: Section) -> list[plots.Point]:
    return [plots.Point(row["task"], row["accuracy"], row["95 %"]) for row in section.rows]


def _entries(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the probes with what was chosen, for browsing; none where the run was read without its documents."""
    for row in run.probes.to_dict("records"):
        doc = run.documents.get((row["task"], row["probe"]))
        if doc is None:
            continue
        options = [
            {"label": "ABCD"[i], "text": str(doc["options"][i]), "trap": row[f"trap_{i}"], "gold": i == row["gold"],
             "chosen": row[f"option_{i}"]}
            for i in range(OPTIONS)
        ]  # fmt: skip
        right = "right" if row["acc"] == 1.0 else "wrong" if row["acc"] == 0.0 else "partly"
        turns = [turn for turn in doc.get("turns", []) if isinstance(turn, dict)]
        yield {
            **{str(name): value for name, value in row.items()},
            "options": options,
            "right": right if row["parsed"] else "unread",
            "turns": turns,
            "doc": doc,
        }
