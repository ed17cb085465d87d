"""Draw the result of a run as an SVG picture of a terminal table: `make picture`.

Usage: python examples/picture.py RESULTS_FOLDER OUT.svg
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from eicap_tasks.vocabulary import LANGUAGES, LAYERS

CHANCE = 0.25


def newest(folder: Path) -> dict[str, Any]:
    """Read the newest result file that lm-eval wrote below a folder."""
    files = sorted(folder.rglob("results_*.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise SystemExit(f"{folder}: found no results_*.json, expected one written by lm_eval --output_path")
    result: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return result


def table(result: dict[str, Any]) -> Table:
    """Lay out accuracy and Brier score per layer and language."""
    scores = result["results"]
    model = Path(result["config"]["model_args"].get("gguf_file", result["config"]["model_args"]["pretrained"])).stem
    grid = Table(title=f"{model}, zero-shot, letters A-D (chance: {CHANCE})", title_justify="left", box=box.SIMPLE_HEAD)
    grid.add_column("layer")
    for language in LANGUAGES.values():
        grid.add_column(f"{language['name']}: acc", justify="right")
        grid.add_column("Brier", justify="right")
    rows = [(f"eicap_{layer}_{{}}", entry["en"]) for layer, entry in LAYERS.items()]
    for name, label in [*rows, ("eicap_{}", "all four")]:
        cells = []
        for lang in LANGUAGES:
            score = scores[name.format(lang)]
            cells.append(f"{score['acc,none']:.3f} ± {score['acc_stderr,none']:.3f}")
            cells.append(f"{score['brier_score,none']:.3f}")
        grid.add_row(label, *cells, end_section=label == rows[-1][1])
    return grid


def main(folder: Path, out: Path) -> None:
    """Write the picture."""
    console = Console(record=True, width=90)
    console.print(table(newest(folder)))
    svg = console.export_svg(title="lm_eval --tasks eicap")
    # The picture stands alone: no font is fetched from anywhere.
    out.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
