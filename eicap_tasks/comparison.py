"""What changed between checkpoints: paired differences with their uncertainty, as `eicap compare` prints them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eicap_tasks import plots, statistics, tables
from eicap_tasks.errors import EicapError, nearest, safe
from eicap_tasks.results import OF_THE_MODEL, SOFTWARE, Run
from eicap_tasks.vocabulary import EMOTION_LAYERS, LANGUAGES, LAYERS

FAMILIES: Final = {
    "layers": "the four layers, all languages together",
    "emotion-layers": "the five emotion layers, all tasks together",
    "languages": "the four layers in each language",
}
ALPHA: Final = 0.05
METRICS: Final = ("acc", "acc_circular", "acc_bytes", "acc_mutual_info")


@dataclass(frozen=True)
class Difference:
    """One row of a comparison.

    Attributes:
        other: Name of the run that is compared with the base.
        family: The family of tests that the row belongs to; "overall" stands alone.
        group: The layer, emotion layer, or layer and language; "overall" for everything.
        probes: Number of pairs.
        dialogues: Number of clusters.
        base: Mean score of the base, 0 to 1.
        score: Mean score of the other run.
        difference: `score - base`.
        interval: 95 % interval of the difference, by cluster bootstrap over dialogues; None with fewer than five, or
            the same difference in all.
        p: Two-sided p value of a sign-flip test over dialogues.
        mcnemar_p: Exact p value of McNemar's test, which takes probes for independent; None for scores between 0 and 1.
        holm_p: `p` corrected for the number of rows in the family.
        tests: How many tests the family has.
        same: Whether every probe scored the same.
        se: Cluster-robust standard error of the difference; None with one dialogue.
    """

    other: str
    family: str
    group: str
    probes: int
    dialogues: int
    base: float
    score: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    mcnemar_p: float | None
    holm_p: float
    tests: int
    same: bool
    se: float | None

    @property
    def detectable(self) -> float | None:
        """The least true difference found with a probability of 80 % at the level 5 % divided by `tests`.

        None where nothing varied between dialogues, or these are too few for any difference to be found.
        """
        if self.dialogues < self.dialogues_needed:
            return None
        estimate = statistics.Estimate(self.difference, self.se, self.probes, self.dialogues)
        return statistics.minimum_detectable(estimate, ALPHA / self.tests)

    @property
    def dialogues_needed(self) -> int:
        """With fewer, nothing can be significant: even where all agree, p is 2^(1 - dialogues) before correction."""
        return math.floor(1 + math.log2(self.tests / ALPHA)) + 1

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after correction."""
        return self.holm_p < ALPHA

    @property
    def sentence(self) -> str:
        """What the row means, in words; where several runs are compared, `lines` puts their names before it."""
        change = f"{tables.points(self.difference)} points {tables.interval(self.interval, signed=True)}"
        if self.significant:
            return f"{self.group}: {change}, significant after correction"
        if self.same:
            return f"{self.group}: no difference at all, {self.probes} probes scored the same"
        if self.detectable is None or self.detectable >= 1:
            return f"{self.group}: {tables.points(self.difference)} points; too few dialogues to say more"
        least = 100 * self.detectable
        blind = f"effects below {least:.{0 if least >= 1 else 1}f} points could not have been seen reliably"
        alone = f" (p {self.p:.3f} before correction)" if self.p < ALPHA else ""
        return f"{self.group}: no significant difference{alone}; {blind}"

    def as_json(self) -> dict[str, Any]:
        """Return all fields and the sentence, as JSON takes them."""
        return {
            **asdict(self),
            "detectable": self.detectable,
            "significant": self.significant,
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Comparison:
    """Differences of one or more runs from a base.

    Attributes:
        base: Name of the base.
        format: The format compared.
        metric: The score compared.
        families: The families of tests.
        rows: The differences.
        notes: What a reader must know: partial runs, differing software, what was forced.
        signatures: Run -> the signatures of its tasks that were compared.
    """

    base: str
    format: str
    metric: str
    families: tuple[str, ...]
    rows: tuple[Difference, ...]
    notes: tuple[str, ...]
    signatures: dict[str, list[str]]

    @property
    def several(self) -> bool:
        """Whether more than one run is compared with the base."""
        return len({row.other for row in self.rows}) > 1


def compare(
    base: Run,
    others: Sequence[Run],
    *,
    families: Sequence[str] = ("layers", "emotion-layers"),
    format: str | None = None,
    metric: str = "acc",
    force: bool = False,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare runs with a base, probe by probe.

    Args:
        base: The run before.
        others: The runs after. Holm's correction covers the rows of one family over all of them.
        families: Which groups to test; "overall" is always there, as a test of its own.
        format: The format to compare; the first that all runs have if None.
        metric: The score to compare.
        force: Compare what two runs share although their signatures differ.
        resamples: Resamples of the bootstrap and arrangements of the test.
        seed: Seed of both.

    Returns:
        The comparison; the same input gives the same numbers.

    Raises:
        EicapError: A family is unknown or none of its groups has a probe, two of the others have one name, the runs
            share no format, they differ in items, prompts, tasks or probes and `force` is not set, or with so few
            resamples nothing can be significant.
    """
    if not others:
        raise EicapError("found one run, expected a base and one or more to compare with it")
    for name, count in Counter(run.name for run in others).items():
        if count > 1:
            raise EicapError(f"found {count} runs of the name {name} to compare, expected NAME=PATH to tell them apart")
    shared = [form for form in base.formats if all(form in run.formats for run in others)]
    chosen = format or next(iter(shared), None)
    if chosen not in shared:
        listed = "; ".join(f"{run.name}: {', '.join(run.formats)}" for run in (base, *others))
        raise EicapError(f"found no {format or 'common'} format in all runs ({listed}), expected one that all have")
    for family in families:
        if family not in FAMILIES:
            raise EicapError(f"--family: found {family!r}, allowed: {', '.join(FAMILIES)}{nearest(family, FAMILIES)}")
    first, notes, rows = base.of(chosen), [], []
    for other in (run.of(chosen) for run in others):
        found = list(_mismatches(first, other))
        if found and not force:
            raise EicapError(
                "\n".join([f"{first.name} and {other.name} are not comparable:", *found, "--force compares"])
            )
        notes += [f"forced: {line}" for line in found] + list(_remarks(first, other))
        rows += list(_differences(first, other, families, metric, resamples, seed))
    signatures = {run.name: run.of(chosen).signatures for run in (base, *others)}
    corrected, said = tuple(_corrected(rows)), tuple(dict.fromkeys(notes))
    tests = max(row.tests for row in corrected)
    if resamples < tests / ALPHA:
        raise EicapError(
            f"--resamples: found {resamples}, expected at least {math.ceil(tests / ALPHA)}: with fewer none of the "
            f"{tests} tests can be significant"
        )
    return Comparison(base.name, chosen, metric, tuple(families), corrected, said, signatures)


def _mismatches(base: Run, other: Run) -> Iterator[str]:
    """Say in what two runs differ that makes their scores incomparable."""
    for name in sorted(base.tasks.keys() ^ other.tasks.keys()):
        yield f"  {name}: found in {(base if name in base.tasks else other).name} only, expected in both"
    probes = [{str(task): set(own) for task, own in run.probes.groupby("task")["probe"]} for run in (base, other)]
    for name in sorted(base.tasks.keys() & other.tasks.keys()):
        one, two = base.tasks[name].signature, other.tasks[name].signature
        for part in dict.fromkeys([*one, *two]):
            if part not in (*OF_THE_MODEL, *SOFTWARE) and one.get(part) != two.get(part):
                yield f"  {name}: {part}: found {one.get(part)} and {two.get(part)}, expected the same"
        if alone := sorted(probes[0][name] ^ probes[1][name]):
            listed = safe(", ".join(alone[:3]))
            yield f"  {name}: found {len(alone)} probes in one run only ({listed}), expected the same probes"


def _remarks(base: Run, other: Run) -> Iterator[str]:
    for run in (base, other):
        if run.partial:
            yield f"{run.name} is partial: {run.partial[0]}{' and others' if len(run.partial) > 1 else ''}"
    for shown in dict.fromkeys(shown for run in (base, other) for shown in run.blind):
        yield f"the models did not see the dialogue, but {shown}: no measure of EI"
    for part in SOFTWARE:
        versions = {task.signature.get(part, "unknown") for run in (base, other) for task in run.tasks.values()}
        if len(versions) > 1:
            yield f"versions of {part} differ: {', '.join(sorted(versions))}"


def _differences(
    base: Run, other: Run, families: Sequence[str], metric: str, resamples: int, seed: int
) -> Iterator[Difference]:
    if metric not in METRICS:
        raise EicapError(f"--metric: found {metric!r}, allowed: {', '.join(METRICS)}{nearest(metric, METRICS)}")
    pairs = base.probes.merge(other.probes[["task", "probe", metric]], on=["task", "probe"], suffixes=("", "_other"))
    if pairs.empty:
        raise EicapError(f"{base.name} and {other.name}: found no common probe, expected some")
    if pairs[[metric, f"{metric}_other"]].isna().any(axis=None):
        raise EicapError(f"--metric: found no {metric} in these tasks, allowed: {', '.join(_metrics(pairs))}")
    groups = list(_groups(pairs, families))
    scores = pairs[metric].to_numpy(), pairs[f"{metric}_other"].to_numpy()
    change = scores[1] - scores[0]
    columns = np.column_stack([np.where(mask, change, np.nan) for _, _, mask in groups])
    clusters = statistics.codes(pairs["dialogue"].to_numpy())
    means = statistics.bootstrap_means(columns, clusters, resamples, seed)
    p_values = statistics.sign_flip_p(columns, clusters, resamples, seed)
    for column, (family, group, mask) in enumerate(groups):
        estimate = statistics.cluster_mean(change[mask], clusters[mask])
        yield Difference(
            other=other.name,
            family=family,
            group=group,
            probes=estimate.count,
            dialogues=estimate.clusters,
            base=float(scores[0][mask].mean()),
            score=float(scores[1][mask].mean()),
            difference=estimate.mean,
            interval=statistics.percentile_interval(means[:, column], estimate.clusters),
            p=float(p_values[column]),
            mcnemar_p=statistics.mcnemar_p(scores[0][mask], scores[1][mask]),
            holm_p=float(p_values[column]),
            tests=sum(name == family for name, _, _ in groups),
            same=not change[mask].any(),
            se=estimate.se,
        )


def _metrics(pairs: pd.DataFrame) -> list[str]:
    return [name for name in METRICS if not pairs[name].isna().any()]


def _groups(pairs: pd.DataFrame, families: Sequence[str]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield family, group and the rows in it. A group without a probe is left out; a family without one is an error."""
    found: list[tuple[str, str, Any]] = []
    for family in families:
        if family == "layers":
            found += [(family, layer, pairs["layer"] == layer) for layer in LAYERS]
        elif family == "emotion-layers":
            found += [(family, f"{name} emotions", pairs["emotion_layer"] == name) for name in EMOTION_LAYERS]
        else:
            found += [
                (family, f"{layer}, {entry['name']}", (pairs["layer"] == layer) & (pairs["lang"] == lang))
                for lang, entry in LANGUAGES.items()
                for layer in LAYERS
            ]
    for family in families:
        if not any(mask.any() for name, _, mask in found if name == family):
            groups = ", ".join(group for name, group, _ in found if name == family)
            raise EicapError(f"--family {family}: found no probe in any of its groups, expected some in {groups}")
    found.append(("overall", "overall", pairs["layer"].notna()))
    yield from ((family, group, mask.to_numpy()) for family, group, mask in found if mask.any())


def _corrected(rows: Sequence[Difference]) -> Iterator[Difference]:
    """Apply Holm's correction within each family, over all runs that are compared with the base."""
    corrected: dict[int, Difference] = {}
    for family in dict.fromkeys(row.family for row in rows):
        own = [i for i, row in enumerate(rows) if row.family == family]
        for i, p in zip(own, statistics.holm([rows[i].p for i in own]), strict=True):
            corrected[i] = replace(rows[i], holm_p=p, tests=len(own))
    yield from (corrected[i] for i in range(len(rows)))


def regressions(comparison: Comparison, limits: Sequence[str]) -> list[str]:
    """Find the groups that fell too far, for a pipeline.

    Args:
        comparison: The comparison.
        limits: "GROUP": no significant fall after correction; "GROUP:POINTS": no fall of more than so many points,
            significant or not.

    Returns:
        A sentence for each that did.

    Raises:
        EicapError: A group is not in the comparison, the points are no number, or no fall could be significant.
    """
    known = {row.group for row in comparison.rows}
    found = []
    for limit in limits:
        group, _, text = limit.rpartition(":") if limit not in known and ":" in limit else (limit, "", "")
        try:
            allowed = float(text) / 100 if text else None
        except ValueError:
            allowed = math.nan
        if allowed is not None and not 0 <= allowed <= 1:
            raise EicapError(f"--fail-on-regression: found {limit!r}, expected GROUP or GROUP:POINTS, 0 to 100 points")
        if group not in known:
            listed = ", ".join(sorted(known))
            raise EicapError(f"--fail-on-regression: found {group!r}, allowed: {listed}{nearest(group, known)}")
        for row in (row for row in comparison.rows if row.group == group):
            if allowed is None and row.dialogues < row.dialogues_needed:
                raise EicapError(
                    f"--fail-on-regression {group}: found {row.dialogues} dialogues, expected "
                    f"{row.dialogues_needed} or more: with fewer no fall can be significant after correction; "
                    f"{group}:POINTS asks for no significance"
                )
            if row.difference < 0 and (row.significant if allowed is None else row.difference < -allowed):
                found.append(f"{row.other}: {row.group} fell by {-100 * row.difference:.1f} points")
    return found


@dataclass(frozen=True)
class FamilyTable:
    """The rows of one family, as text.

    Attributes:
        title: What the family is, and how many tests Holm's correction covers.
        rows: Column -> text.
    """

    title: str
    rows: list[dict[str, str]]


def tables_of(comparison: Comparison) -> list[FamilyTable]:
    """Lay out a comparison as one table for each family."""
    found = []
    for family in (*comparison.families, "overall"):
        own = [row for row in comparison.rows if row.family == family]
        if not own:
            continue
        title = FAMILIES.get(family, "everything")
        found.append(
            FamilyTable(
                f"{title} (Holm over {own[0].tests} test{'s' * (own[0].tests > 1)})",
                [
                    {
                        **({"run": row.other} if comparison.several else {}),
                        "group": row.group,
                        "base": tables.percent(row.base),
                        "other": tables.percent(row.score),
                        "diff.": tables.points(row.difference),
                        "95 %": tables.interval(row.interval, signed=True),
                        "p": tables.p_value(row.p),
                        "McNemar": tables.p_value(row.mcnemar_p),
                        "Holm": tables.p_value(row.holm_p),
                        "MDE": tables.percent(row.detectable),
                    }
                    for row in own
                ],
            )
        )
    return found


NOTE: Final = (
    "Scores and differences in percent and points. 95 %: cluster bootstrap over dialogues. p: sign-flip test over "
    "dialogues; Holm: the same, corrected within the family. McNemar: exact, takes probes for independent. MDE: least "
    "true difference found with 80 % power at the corrected level. Groups pool their probes. The items are this "
    "project's own, not the paper's."
)


def lines(comparison: Comparison) -> list[str]:
    """Return the sentences of all rows, with the name of the run where several are compared with the base."""
    return [f"{row.other}: {row.sentence}" if comparison.several else row.sentence for row in comparison.rows]


def as_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown."""
    how = f"Format {comparison.format}, score {comparison.metric}."
    parts = [f"# Compared with {tables.plain(comparison.base)}\n", f"{how} {NOTE}\n"]
    parts += [f"> {tables.plain(note)}\n" for note in comparison.notes]
    parts += [f"## {table.title}\n\n{tables.markdown(table.rows)}" for table in tables_of(comparison)]
    parts += ["".join(f"- {tables.plain(line)}\n" for line in lines(comparison)), "## Signatures\n"]
    for name, signatures in comparison.signatures.items():
        parts += [f"{tables.plain(name)}:\n", tables.verbatim(signatures)]
    return "\n".join(parts)


def as_csv(comparison: Comparison) -> str:
    """Return a comparison as CSV, one row per group, shares from 0 to 1."""
    rows = []
    for row in comparison.rows:
        values = row.as_json()
        low, high = values.pop("interval") or ("", "")
        rows.append({"base_run": comparison.base, **values, "low": low, "high": high})
    return tables.as_csv(rows)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON takes it."""
    return {**asdict(comparison), "rows": [row.as_json() for row in comparison.rows]}


def forest(comparison: Comparison) -> tuple[str, bytes]:
    """Draw the differences with their intervals.

    Returns:
        The same plot as SVG and as PNG.
    """
    points = [
        plots.Point(
            f"{row.other}: {row.group}" if comparison.several else row.group,
            row.difference,
            row.interval,
            None,
            not (row.significant and row.difference < 0),
        )
        for row in comparison.rows
    ]
    drawn = plots.dots(points, axis=f"difference from {comparison.base}, with 95 % interval", reference=0.0)
    return plots.svg(drawn), plots.png(drawn)
