"""The command line `eicap`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eicap_tasks import __version__, context, items, options, pages, prompts, results_cli
from eicap_tasks.errors import EXIT_CODE, EicapError, explain, nearest
from eicap_tasks.examples import check_count, examples
from eicap_tasks.views import Format, view
from eicap_tasks.vocabulary import LABELS, LANGUAGES, LAYERS

app = typer.Typer(
    name="eicap",
    help="Multi-turn emotional-intelligence tasks in English and Arabic for lm-evaluation-harness.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Run the command line; an `EicapError`, or trouble with a server, ends it with a message and exit status 2."""
    try:
        app()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(EXIT_CODE)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eicap-tasks {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def path() -> None:
    """Print the folder of the task definitions.

    Example: `lm_eval --include_path "$(eicap path)" --tasks eicap_en ...`
    """
    typer.echo(Path(__file__).parent / "tasks")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[ARGUMENTS OF lm_eval run]",
)
def run(ctx: typer.Context) -> None:
    """Run tasks: the same arguments as `lm_eval run`, but it starts sooner.

    It does not index lm-eval's built-in tasks (ten seconds and more) unless one of them is asked for, and
    it checks tasks, options and own items before a model is loaded. `lm_eval run --help` lists the arguments.

    Example: `eicap run --model hf --model_args pretrained=MODEL --tasks eicap_en`
    """
    from eicap_tasks.runner import run as run_harness

    if not ctx.args:
        raise EicapError("eicap run: found no arguments, expected those of lm_eval run; see eicap run --help")
    run_harness(ctx.args)


@app.command()
def show(
    probe_id: Annotated[str, typer.Argument(help="Id of a probe, e.g. eicap-290-t.")],
    lang: Annotated[str, typer.Option(help=f"Language: {', '.join(LANGUAGES)}.")] = "en",
    chat: Annotated[bool, typer.Option("--chat", help="Show the messages of a chat model.")] = False,
    num_fewshot: Annotated[int, typer.Option("--num_fewshot", min=0, help="Solved examples first.")] = 0,
    format: Annotated[Format, typer.Option(help="How to ask: the ending of a task's name, letters if it has none.")] = (
        "letters"
    ),
    data: Annotated[Path | None, typer.Option(help="Own items instead of the shipped ones.")] = None,
    metadata: Annotated[str, typer.Option(help="The options of a run, as a JSON object.")] = "{}",
) -> None:
    """Print exactly what a model is shown for one probe of the test split or of own items.

    A chat model whose template has no system role gets the system text at the start of its first message. Of the
    four rotations of a circular task the first is shown.

    Example: `eicap show eicap-290-t --chat --lang ar --metadata '{"eicap": {"context": "transcript"}}'`
    """
    if lang not in LANGUAGES:
        raise EicapError(f"--lang: found {lang!r}, allowed: {', '.join(LANGUAGES)}{nearest(lang, LANGUAGES)}")
    try:
        chosen = options.parse(json.loads(metadata))
    except json.JSONDecodeError as error:
        raise EicapError(f"--metadata: found {metadata!r} ({error}), expected a JSON object") from error
    if data and chosen.data:
        raise EicapError(f"--data: found {data}, and {chosen.data} in --metadata, expected one of them")
    own = data or chosen.data
    test = items.load(own or items.shipped("test", lang))
    layers = {probe.id: probe.layer for dialogue in test if dialogue.lang == lang for probe in dialogue.probes}
    if probe_id not in layers:
        place = own or "the shipped items"
        raise EicapError(
            f"{place}: found no probe {probe_id!r} in {LANGUAGES[lang]['name']}, "
            f"expected one of {len(layers)} ids such as {next(iter(layers), 'none')}{nearest(probe_id, layers)}"
        )
    layer, labels = layers[probe_id], LABELS[chosen.labels]
    asked = {doc["id"]: doc for doc in view(test, lang, layer, format, chosen.show, labels)}
    shots = examples(asked.values(), lang, layer, format, chosen.show, labels)
    check_count(num_fewshot, len(shots), f"eicap_{layer}_{lang}")
    system = prompts.render(asked[probe_id], "instruction") or prompts.instruction(lang, layer, format)
    shots = shots[:num_fewshot]
    if not chat:
        typer.echo(context.text_prompt(asked[probe_id], shots, system=system))
        return
    messages = context.chat_messages(asked[probe_id], shots, system=system, context=chosen.context)
    for message in context.fold_system(messages) if chosen.system == "user" else messages:
        typer.echo(f"<{message['role']}>\n{message['content']}\n")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="JSONL files, or folders with such files.")],
) -> None:
    """Check item files and report every problem, each as `file:line: field: what was found, what is allowed`.

    Example: `eicap validate my_items.jsonl`
    """
    dialogues = items.load(*files)
    for lang in sorted({dialogue.lang for dialogue in dialogues}):
        own = [dialogue for dialogue in dialogues if dialogue.lang == lang]
        layers = Counter(probe.layer for dialogue in own for probe in dialogue.probes)
        counts = ", ".join(f"{layers[layer]} {layer}" for layer in LAYERS)
        typer.echo(f"{LANGUAGES[lang]['name']}: {len(own)} dialogues, {layers.total()} probes ({counts})")
    typer.echo(f"valid, sha256 {items.digest(dialogues)}")


@app.command()
def audit(
    files: Annotated[list[Path] | None, typer.Argument(help="Own items; the shipped test split if none.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all findings there as JSON.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with plots there.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print all checks, not one row for each kind.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Ask a model of lm-eval too, one that gives log-likelihoods, e.g. hf.")
    ] = None,
    model_args: Annotated[str, typer.Option("--model_args", help="Its arguments, e.g. pretrained=MODEL.")] = "",
    apply_chat_template: Annotated[bool, typer.Option("--apply_chat_template", help="Use its chat template.")] = False,
    batch_size: Annotated[int, typer.Option("--batch_size", min=1)] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0 and so on.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many probes of each task for the model.")] = None,
    with_dialogue: Annotated[bool, typer.Option("--with_dialogue", help="Ask it with the dialogue, too.")] = False,
) -> None:
    """Audit items for shortcuts, repetition, coverage and parity, against stated limits.

    Ends with status 1 where a check fails. With a model, its accuracy on the options alone and with the last visible
    turn is measured, over all four rotations of the options.

    Example: `eicap audit my_items.jsonl --page audit.html`
    """
    from eicap_tasks.audit import audit as find
    from eicap_tasks.audit import report, yardstick
    from eicap_tasks.audit.checks import failures

    paths = files or [items.shipped("test", lang) for lang in LANGUAGES]
    for out in (json_file, page):
        if out is not None:
            pages.refuse_over(out, paths)
    dialogues = items.load(*paths)
    name = ", ".join(str(path) for path in files) if files else "the shipped test split"
    loaded = None if model is None else yardstick.load_model(model, model_args, batch_size, device)
    checks = find(dialogues)
    if loaded is not None:
        show = ["choices", "last_turn", *(["dialogue"] if with_dialogue else [])]
        checks += yardstick.with_model(loaded, dialogues, show=show, limit=limit, chat=apply_chat_template)
    failed, judged = failures(checks), sum(check.passed is not None for check in checks)
    digest = items.digest(dialogues)
    probes = sum(len(dialogue.probes) for dialogue in dialogues)
    summary = f"{len(dialogues)} dialogues, {probes} probes, sha256 {digest[:16]}"
    if json_file is not None:
        pages.write(json_file, report.as_json(checks, name, digest))
    if page is not None:
        pages.write(page, report.page(checks, name, summary))
    Console().print(report.tables(checks if everything else report.worst(checks)))
    typer.echo(f"{name}: {summary}; {len(failed)} of {judged} checks failed")
    if failed:
        raise typer.Exit(1)


@app.command("export-dataset")
def export_dataset(
    out: Annotated[Path, typer.Argument(help="Folder to make; it may exist if it is empty.")],
    data: Annotated[
        Path | None, typer.Option(help="Own items, as the split test, instead of the shipped ones.")
    ] = None,
) -> None:
    """Write the items as a dataset folder for the Hugging Face hub, `datasets`, Inspect AI and Croissant.

    A configuration is a task, such as appraisal_en; its rows have what our own prompts show, the options in their
    places, and the letter of the right one. Nothing is uploaded.

    Example: `eicap export-dataset eicap-dataset`
    """
    from eicap_tasks import export

    files = export.export(out, {"test": items.load(data)} if data else export.shipped(), own=data is not None)
    typer.echo("\n".join(str(file) for file in files))
    typer.echo(f"to upload it: hf upload YOUR_NAME/eicap {out} --repo-type dataset")


@app.command("export-sft")
def export_sft(
    out: Annotated[Path, typer.Argument(help="JSONL file to write.")],
    data: Annotated[list[Path] | None, typer.Option(help="Own items; the shipped dev split if none.")] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Own items that must stay out, besides the shipped test split.")
    ] = None,
    lang: Annotated[str | None, typer.Option(help="One language alone.")] = None,
    context_kind: Annotated[
        context.ContextKind, typer.Option("--context", help="The dialogue as chat turns, or as a transcript.")
    ] = "turns",
    system: Annotated[
        options.System, typer.Option(help="Where the instruction stands: user for templates without a system message.")
    ] = "auto",
) -> None:
    """Write dialogues with probes as chats to train on: the probe as a turn, the answer with its reason.

    Dialogues of the test split are refused, and so is what shares much text with one.

    Example: `eicap export-sft ei.jsonl`
    """
    from eicap_tasks import sft

    paths = data or [items.shipped("dev", code) for code in LANGUAGES]
    pages.refuse_over(out, [*paths, *(test or [])])
    if lang is not None and lang not in LANGUAGES:
        raise EicapError(f"--lang: found {lang!r}, allowed: {', '.join(LANGUAGES)}{nearest(lang, LANGUAGES)}")
    chosen = [d for d in items.load(*paths) if lang in (None, d.lang)]
    kept_out = [d for code in LANGUAGES for d in items.load(items.shipped("test", code))]
    rows = sft.examples(
        chosen, [*kept_out, *(items.load(*test) if test else [])], context_kind=context_kind, system=system
    )
    if not rows:
        raise EicapError(f"found no probe in {lang}, expected one or more")
    pages.write(out, sft.as_jsonl(rows))
    counts = Counter(str(row["lang"]) for row in rows)
    typer.echo(f"{out}: " + ", ".join(f"{counts[code]} chats in {LANGUAGES[code]['name']}" for code in sorted(counts)))


results_cli.register(app)


@app.command()
def doctor() -> None:
    """Report versions, registration, data and template hashes, hub and models, with what to do.

    Ends with status 1 where something keeps the tasks from running.

    Example: `eicap doctor`
    """
    from eicap_tasks.doctor import findings

    marks = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("problem", "red")}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for overflow in ("ignore", "ignore", "fold"):  # a path is never shortened
        table.add_column(overflow=overflow, no_wrap=overflow == "ignore")
    statuses = []
    for finding in findings():
        statuses.append(finding.status)
        detail = Text(finding.detail)
        if finding.advice:
            detail.append(f"\n-> {finding.advice}", style="bold")
        table.add_row(Text(marks[finding.status][0], style=marks[finding.status][1]), Text(finding.subject), detail)
    Console(width=None if sys.stdout.isatty() else 400).print(table)
    if "problem" in statuses:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
