"""The commands of `eicap` that read results: report, compare, leaderboard, submit."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from eicap_tasks import pages, tables
from eicap_tasks.errors import EicapError

Runs = Annotated[list[str], typer.Argument(help="Result files or folders of lm-eval; NAME=PATH names a run.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (report, compare, leaderboard, submit):
        app.command()(command)


def report(
    run: Annotated[str, typer.Argument(help="A result file or folder of lm-eval with one run.")],
    out: Annotated[Path | None, typer.Option(help="Write report.md, .csv, .json and .html there.")] = None,
    format: Annotated[str | None, typer.Option(help="Format to report; the first that the run has if none.")] = None,
) -> None:
    """Report one run: scores with intervals by layer, skill, emotion, culture and more, traps, calibration.

    Example: `eicap report results --out report`
    """
    from eicap_tasks import report as reporting
    from eicap_tasks import results

    read = results.one(run, documents=out is not None)
    chosen = read.of(_format(read, format))
    found = reporting.sections(chosen)
    if out is not None:
        files = {
            "report.md": reporting.as_markdown(chosen, found),
            "report.csv": reporting.as_csv(found),
            "report.json": reporting.as_json(chosen, found),
            "report.html": reporting.as_page(chosen, found),
        }
        _write(out, files, [run])
    console = Console()
    console.print(Text(f"{chosen.name}, format {chosen.formats[0]}", style="bold"))
    for note in reporting.notes(chosen, read.formats):
        console.print(Text(note, style="yellow"))
    for section in found:
        console.print(tables.terminal(section.shown(), section.title))
        if section.note:
            console.print(Text(section.note, style="dim"))


def compare(
    base: Annotated[str, typer.Argument(help="The run before: a result file or folder; NAME=PATH names it.")],
    others: Runs,
    family: Annotated[
        list[str] | None,
        typer.Option(help="Family of tests, repeatable: layers, emotion-layers, languages."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="Format to compare; the first that all runs have if none.")] = None,
    metric: Annotated[str, typer.Option(help="Score to compare.")] = "acc",
    out: Annotated[Path | None, typer.Option(help="Write compare.md, .csv, .json, .png and .svg there.")] = None,
    fail_on_regression: Annotated[
        list[str] | None,
        typer.Option(help="GROUP[:POINTS], repeatable: status 1 where it fell significantly, or by more than POINTS."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare what two runs share although they differ.")] = False,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap and the test.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of both.")] = 0,
) -> None:
    """Compare runs with a base, probe by probe: difference, interval, tests corrected for their number, power.

    Example: `eicap compare before=results/base after=results/tuned --fail-on-regression appraisal`
    """
    from eicap_tasks import comparison, results

    wanted = family or ["layers", "emotion-layers"]
    name, file = results.find_one(base)
    runs = results.load([f"{name}={file}" if name else file, *others])
    found = comparison.compare(
        runs[0], runs[1:], families=wanted, format=format, metric=metric, force=force, resamples=resamples, seed=seed
    )
    if out is not None:
        forest = comparison.forest(found)
        files: dict[str, Any] = {
            "compare.md": comparison.as_markdown(found),
            "compare.csv": comparison.as_csv(found),
            "compare.json": json.dumps(comparison.as_json(found), ensure_ascii=False, indent=1) + "\n",
            "compare.svg": forest[0],
            "compare.png": forest[1],
        }
        _write(out, files, [base, *others])
    console = Console()
    console.print(Text(f"format {found.format}, score {found.metric}", style="bold"))
    for note in found.notes:
        console.print(Text(note, style="yellow"))
    for row_set in comparison.tables_of(found):
        console.print(tables.terminal(row_set.rows, row_set.title))
    for row, line in zip(found.rows, comparison.lines(found), strict=True):
        style = "green" if row.significant and row.difference > 0 else "red" if row.significant else ""
        console.print(Text(line, style=style))
    fallen = comparison.regressions(found, fail_on_regression or [])
    if fallen:
        typer.echo("\n".join(f"regression: {sentence}" for sentence in fallen), err=True)
        raise typer.Exit(1)


def leaderboard(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Folder; a leaderboard that is there already is merged into.")],
    format: Annotated[str, typer.Option(help="Format that ranks.")] = "letters",
) -> None:
    """Rank models, with ties where the data cannot tell them apart: Markdown, CSV and a page.

    Example: `eicap leaderboard results/model-a results/model-b --out leaderboard`
    """
    from eicap_tasks import leaderboard as board
    from eicap_tasks import results

    file = out / board.FILE
    old = board.load(file) if file.exists() else []
    new = results.each(runs, partial(board.entry, format=format))
    entries = board.merge(old, new)
    found = board.standings(entries)
    files = {
        board.FILE: board.save(entries),
        "leaderboard.md": board.as_markdown(found),
        "leaderboard.csv": board.as_csv(found),
        "leaderboard.html": board.as_page(found),
    }
    _write(out, files, runs)
    console = Console()
    for table in board.terminal(found):
        console.print(table)
    for remark in board.remarks(found):
        console.print(Text(remark, style="yellow"))
    console.print(Text(board.note(found), style="dim"))


def submit(
    run: Annotated[str, typer.Argument(help="A result file or folder of lm-eval with one run.")],
    model_id: Annotated[str, typer.Option("--model-id", help="The model on the hub: ORG/NAME.")],
    out: Annotated[Path, typer.Option(help="Folder to write the files into.")],
    dataset_id: Annotated[
        str | None, typer.Option("--dataset-id", help="The items on the hub: ORG/NAME; must be given for own items.")
    ] = None,
    model_index: Annotated[bool, typer.Option("--model-index", help="The older model-index block, too.")] = False,
) -> None:
    """Write a model's scores for the Hugging Face hub, as `.eval_results/*.yaml`. Nothing is uploaded.

    Example: `eicap submit results/model-a --model-id ORG/NAME --out submission`
    """
    from eicap_tasks import results, submission

    files = submission.files(results.one(run), model_id, dataset_id, model_index=model_index)
    _write(out, files, [run])
    upload = f"hf upload {model_id} {out}/.eval_results .eval_results --create-pr"
    typer.echo(f"to open the pull request: {upload}")
    for name in files:
        if name.startswith("model-index"):
            typer.echo(f"copy {out}/{name} into the header of the model card")


def _format(run: Any, wanted: str | None) -> str:
    formats: list[str] = run.formats
    if wanted is not None and wanted not in formats:
        raise EicapError(f"--format: found {wanted!r}, allowed in this run: {', '.join(formats)}")
    return wanted or formats[0]


def _write(out: Path, files: dict[str, Any], inputs: list[str]) -> None:
    """Write files into a folder, none over what was read."""
    read = [Path(text if Path(text).exists() else text.partition("=")[2]) for text in inputs]
    for name in files:
        for path in read:
            if path.is_file():
                pages.refuse_over(out / name, [path])
    for name, content in files.items():
        pages.write(out / name, content)
    typer.echo(f"wrote {', '.join(str(out / name) for name in files)}")
