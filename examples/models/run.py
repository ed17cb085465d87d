"""Run a list of models, one after another, and rank them.

What is finished is not run again, and a model that was interrupted goes on where it stopped: run the same command
again. A model that fails does not stop the others. Arguments that are not listed here go to `eicap run`.

Example: python examples/models/run.py hf/qwen2.5-7b hf/qwen2.5-7b-instruct --out results/models
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import estimate
from boards import boards, mark
from plan import Model, models

from eicap_tasks.errors import EXIT_CODE, EicapError

EICAP = [sys.executable, "-m", "eicap_tasks.cli"]
"""The command `eicap` of this Python, whether or not its environment is active."""
OURS = ("--config", "-C", "--output_path", "-o", "--use_cache", "-c", "--log_samples", "-s")
CHUNK = "1024"
"""Requests that vLLM is given at a time. With "auto" it is given all, and lm-eval keeps no answer before the last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 1 where a model failed, 2 where an argument cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("names", nargs="+", metavar="MODEL", help="a file here, as hf/qwen2.5-7b, or a YAML file")
    parser.add_argument("--out", type=Path, default=Path("results/models"), help="folder of all results")
    parser.add_argument("--limit", help="probes per task, to try something: nothing is ranked")
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and what it would cost")
    parser.add_argument("--tflops", type=float, help="of your device, for the dry run; else measured on this machine")
    given, others = parser.parse_known_args(arguments)
    others += ["--limit", given.limit] if given.limit else []
    try:
        for word in others:
            if word.split("=")[0] in OURS:
                raise EicapError(f"{word}: found an argument that this command sets itself, expected --out FOLDER")
        chosen = models(given.names, given.out, others)
        if given.dry_run:
            estimate.show(chosen, given.tflops)
            return 0
        return run(chosen, given.out, others)
    except EicapError as error:
        print(error, file=sys.stderr)
        return EXIT_CODE
    except KeyboardInterrupt:
        print("\ninterrupted: what was answered is kept, run the same command again to go on", file=sys.stderr)
        return 130


def run(chosen: Sequence[Model], out: Path, others: Sequence[str]) -> int:
    """Run what is not finished, say what became of each model, and rank all finished ones in `out`."""
    ends: dict[str, list[str]] = {"done": [], "finished before, skipped": [], "failed": []}
    for number, model in enumerate(chosen, 1):
        place = f"[{number}/{len(chosen)}] {model.name}"
        end, file = "finished before, skipped", model.finished()
        if file is None:
            print(f"{place}: {model.config.model}, {', '.join(model.names)}, into {model.folder}", flush=True)
            begin = time.monotonic()
            status = evaluate(model, others)
            file = None if status else model.finished()
            end = "failed" if file is None else "done"
            print(f"{place}: {end} after {estimate.clock(time.monotonic() - begin)}", flush=True)
        else:
            print(f"{place}: {end}", flush=True)
        if file is not None and model.config.limit is None:
            mark(model, file)
        ends[end].append(model.name)
    print("\n".join(f"{end}: {', '.join(names) or 'none'}" for end, names in ends.items()), flush=True)
    if any(model.config.limit is not None for model in chosen):
        print("no leaderboard: with a limit only some probes are asked, and a partial run is not ranked")
        return 1 if ends["failed"] else 0
    return 1 if not rank(out) or ends["failed"] else 0


def evaluate(model: Model, others: Sequence[str]) -> int:
    """Run one model in a process of its own, whose memory is free when it ends; return its exit status."""
    # `--use_cache` keeps every answer as soon as it is there: the backends call `CacheHook.add_partial` for each
    # (lm_eval/api/model.py), so that a run which was killed asks only what is missing.
    command = [*EICAP, "run", "--config", str(model.file), *others]
    if model.config.model == "vllm" and str(model.config.batch_size).startswith("auto"):
        command += ["--batch_size", CHUNK]
    command += ["--output_path", str(model.folder), "--use_cache", str(model.folder / "cache"), "--log_samples"]
    return subprocess.run(command, check=False).returncode


def rank(out: Path) -> bool:
    """Rank every finished run in `out`, also of earlier calls; return whether that went well.

    Runs that were asked otherwise (shots, options, items) than those of `leaderboard` have one of their own.
    """
    shared = boards(out)
    if not shared:
        print("no leaderboard: no model is finished")
    well = True
    for number, runs in enumerate(shared, 1):
        board = out / ("leaderboard" if number == 1 else f"leaderboard-{number}")
        (board / "leaderboard.json").unlink(missing_ok=True)  # made anew, not merged: all runs are here
        print(f"{board}:", flush=True)
        well &= subprocess.run([*EICAP, "leaderboard", *runs, "--out", str(board)], check=False).returncode == 0
    return well


if __name__ == "__main__":
    for name in ("lm_eval", "eicap_tasks"):  # they say it again when the model is run
        logging.getLogger(name).setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the model that runs, too
    sys.exit(main())
