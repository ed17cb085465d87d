"""The paper's study on a model of your choice: `make study`, or `python examples/study.py --help`.

A base model is fine-tuned with LoRA on chats of UltraChat's kind in English and in Arabic, and on dialogues with probes
(the dev split); base and adapters are asked the items, plain and circular; every adapter is compared with the base by
layer and by emotion layer. Each step prints the command that it stands for. What is finished already is not done
again: the same command goes on after an interruption, and one with other settings wants another folder (`--out`).
`study.md` beside this file has what came out here.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, get_args

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "finetune"))

import finetune  # noqa: E402  (the folder above has it)
import settings as settings_module  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from eicap_tasks import items, pages, results  # noqa: E402
from eicap_tasks.cli import app  # noqa: E402
from eicap_tasks.errors import EXIT_CODE, EicapError  # noqa: E402
from eicap_tasks.options import System  # noqa: E402
from eicap_tasks.signature import short_hash  # noqa: E402
from eicap_tasks.vocabulary import LANGUAGES  # noqa: E402

CHATS = {"chats-en": HERE / "study" / "chats_en.jsonl", "chats-ar": HERE / "study" / "chats_ar.jsonl"}
FAMILIES = ("--family", "layers", "--family", "emotion-layers")
EI = "ei"
"""The adapter trained on dialogues with probes, from `eicap export-sft`."""


def eicap(*words: str | Path) -> None:
    """Run `eicap` in this process, and say so."""
    texts = list(map(str, words))
    print(f"\n$ eicap {' '.join(texts)}", flush=True)
    if status := app(texts, standalone_mode=False):
        raise EicapError(f"eicap {texts[0]}: found the status {status}, expected 0: see above")
    gc.collect()
    torch.cuda.empty_cache()


def unpack(folder: str, file: str, out: Path) -> Path:
    """Save the weights of a GGUF file in 32 bits, with the tokenizer, unless that is done; return the folder."""
    if not out.is_dir():
        from transformers import GgufConfig  # which older versions, for models without it, do not have

        part = out.with_name(f"{out.name}.part")  # whole, or not there
        shutil.rmtree(part, ignore_errors=True)
        weights = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(part)
        weights.save_pretrained(part)
        part.rename(out)
    return out


def check_folder(arguments: argparse.Namespace) -> None:
    """Write down what a study is of, or hold it to what is written down if there is something to take over.

    Raises:
        EicapError: The settings are wrong, or the folder has a study of something else, of which nothing may be taken
            over.
    """
    out, known = arguments.out, arguments.out / "study.json"
    sets = [f"model.pretrained={arguments.model}", "data.source=later", "output=later", *arguments.set]
    template = settings_module.load(arguments.settings, sets).model.chat_template
    now = {key: value for key, value in vars(arguments).items() if key not in ("out", "adapters", "batch_size")}
    now["settings"] = short_hash(arguments.settings.read_text(encoding="utf-8"))
    now["chat template"] = short_hash(template.read_text(encoding="utf-8")) if template else None
    now["chats of the study"] = short_hash([file.read_text(encoding="utf-8") for file in CHATS.values()])
    shipped = sorted(items.SHIPPED.rglob("*.jsonl"))  # test, which is asked, and dev, which is trained on
    now["items"] = short_hash([file.read_text(encoding="utf-8") for file in shipped])
    if (out / "runs").exists() or (out / "adapters").exists():
        held = list(now)
    elif (out / "model").exists():
        held = ["model", "gguf_file"]  # whose weights are unpacked there
    else:
        held = []  # a call that failed at once
    before = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    if differing := [key for key in held if before.get(key) != now[key]]:
        found = f"{out}: found a study with other {', '.join(differing)}"
        raise EicapError(f"{found}, expected the same: name another --out")
    pages.write(known, json.dumps(now, indent=1) + "\n")


def choose_items(count: int, out: Path) -> Path:
    """Write whole dialogues of the test split, in both languages, evenly spread over their ids.

    Args:
        count: How many dialogues.
        out: Folder to write into.

    Returns:
        The folder, for the option `data`.
    """
    by_lang = {lang: {d.id: d for d in items.load(items.shipped("test", lang))} for lang in LANGUAGES}
    ids = sorted(by_lang["en"])
    if not 1 <= count <= len(ids):
        raise EicapError(f"--dialogues: found {count}, allowed: 1 to {len(ids)}")
    chosen = [ids[i * len(ids) // count] for i in range(count)]
    for lang, dialogues in by_lang.items():
        lines = [dialogues[name].model_dump_json(exclude_none=True) for name in chosen]
        pages.write(out / f"{lang}.jsonl", "\n".join(lines) + "\n")
    print(f"asked: {count} of {len(ids)} dialogues: {', '.join(chosen)}")
    return out


def train(name: str, data: Path, arguments: argparse.Namespace) -> Path:
    """Fine-tune one adapter, unless it is finished; return its folder."""
    output: Path = arguments.out / "adapters" / name
    record = output / "record.json"
    if record.is_file() and "loss" in json.loads(record.read_text(encoding="utf-8")):
        print(f"{output}: is there already")
        return output
    sets = [f"model.pretrained={arguments.model}", f"data.source={data}", f"output={output}", *arguments.set]
    if not arguments.full:
        sets.append(f"data.limit={arguments.chats}")
    words = [str(arguments.settings), *(word for each in sets for word in ("--set", each))]
    print(f"\n$ python examples/finetune/finetune.py {' '.join(words)}", flush=True)
    finetune.main(words)
    gc.collect()
    return output


def evaluate(name: str, adapter: Path | None, data: Path | None, arguments: argparse.Namespace) -> Path:
    """Ask one model the items, plain and circular, unless that is done; return the folder of its results."""
    out: Path = arguments.out / "runs" / name
    if any(out.rglob("results_*.json")):
        print(f"{out}: is there already")
        return out
    peft = f",peft={adapter}" if adapter else ""
    words = ["--model", "hf", "--model_args", f"pretrained={arguments.model}{peft}", "--tasks", "eicap,eicap_circular"]
    words += ["--output_path", str(out), "--log_samples"]
    words += ["--batch_size", arguments.batch_size]
    words += [] if arguments.no_chat else ["--apply_chat_template"]
    options = {} if data is None else {"data": str(data)}
    options |= {} if arguments.system == "auto" else {"system": arguments.system}
    words += ["--metadata", json.dumps({"eicap": options})] if options else []
    words += [] if torch.cuda.is_available() else ["--device", "cpu"]
    eicap("run", *words)
    return out


def summary(runs: dict[str, Path], adapters: dict[str, Path | None]) -> str:
    """Make a table of the trainings and one of the scores; of answers of equal accuracy, Brier scores still differ."""
    lines = [
        "| adapter | chats | cut | tokens learnt | steps | loss, first and last logged | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, folder in adapters.items():
        if folder is not None:
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            losses = [line.split(",")[2] for line in (folder / "log.csv").read_text().splitlines()[1:]]
            first, last = float(losses[0]), float(losses[-1])
            lines.append(
                f"| {name} | {record['data']['chats']} | {record['data']['cut']} | {record['tokens_learnt']:,} "
                f"| {record['steps_done']} | {first:.2f}, {last:.2f} | {record['seconds'] / 60:.1f} |"
            )
    lines += [
        "",
        "| run | probes | accuracy | Brier score | circular: accuracy | right in all four |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        read = results.one(str(run))
        plain, circular = (read.of(format).probes for format in ("letters", "circular"))
        shares = (plain["acc"], circular["acc"], circular["acc_circular"])
        acc, rotated, all_four = (f"{100 * share.mean():.1f}" for share in shares)
        lines.append(f"| {name} | {len(plain)} | {acc} | {plain['brier_score'].mean():.3f} | {rotated} | {all_four} |")
    return "\n".join(lines) + "\n"


def study(arguments: argparse.Namespace) -> None:
    """Do all of it: items, adapters, scores, comparison, report pages, and a summary of the times."""
    out, times = arguments.out, {}
    check_folder(arguments)
    data = None if arguments.full else choose_items(arguments.dialogues, out / "items")
    if arguments.gguf_file:
        arguments.model = unpack(arguments.model, arguments.gguf_file, out / "model")
    sources = dict(CHATS)
    if EI in arguments.adapters:
        sources[EI] = out / "ei.jsonl"
        context = "transcript" if arguments.no_chat else "turns"
        eicap("export-sft", sources[EI], "--context", context, "--system", arguments.system)
    adapters: dict[str, Path | None] = {"base": None}
    for name in arguments.adapters:
        begin = time.time()
        adapters[name] = train(name, sources[name], arguments)
        times[f"training {name}"] = time.time() - begin
    runs = {}
    for name, adapter in adapters.items():
        begin = time.time()
        runs[name] = evaluate(name, adapter, data, arguments)
        times[f"asking {name}"] = time.time() - begin
    named = [f"{name}={run}" for name, run in runs.items()]
    for format in ("letters", "circular"):
        eicap("compare", *named, "--format", format, *FAMILIES, "--out", out / f"compare-{format}")
    for name, run in runs.items():
        with contextlib.redirect_stdout(io.StringIO()):  # the pages say it better
            eicap("report", f"{name}={run}", "--out", out / "report" / name)
    text = summary(runs, adapters)
    pages.write(out / "summary.md", text)
    print(f"\n{text}")
    print("\n".join(["", *(f"{what}: {seconds / 60:.1f} minutes" for what, seconds in times.items())]))
    print(
        f"{out}/summary.md, {out}/compare-letters/compare.md, {out}/report/base/report.html and so on have the results"
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Any = made.add_argument
    add("--model", required=True, help="id on the hub, or a folder")
    add(
        "--gguf-file",
        help="a GGUF file in that folder: its weights are unpacked first, since packed ones cannot be trained",
    )
    add("--settings", type=Path, required=True, help="of the fine-tuning: a file such as those in examples/finetune")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="above the settings, such as training.epochs=2")
    add("--adapters", nargs="*", default=[*CHATS, EI], choices=[*CHATS, EI])
    add("--chats", type=int, default=8, help="train every adapter on the first so many chats")
    add("--dialogues", type=int, default=3, help="ask so many dialogues of the test split")
    add("--full", action="store_true", help="ask all 200 dialogues, and train on all chats")
    add("--no-chat", action="store_true", help="a base model: no chat template when it is asked")
    add(
        "--system",
        default="auto",
        choices=get_args(System),
        help="user: the instruction stands in the first user message, for templates without a system role",
    )
    add("--batch-size", default="1")
    add("--out", type=Path, default=Path("results/study"))
    return made


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    try:
        study(parser().parse_args(words))
    except EicapError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    main()
