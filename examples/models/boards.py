"""Which finished runs there are, and which of them can be ranked in one leaderboard."""

from __future__ import annotations

import sys
from pathlib import Path

from plan import Model

from eicap_tasks import leaderboard, results
from eicap_tasks.errors import EicapError

FINISHED = "finished.txt"
"""In the folder of a configuration: its result files of complete runs, one a line."""


def mark(model: Model, file: Path) -> None:
    """Note a result file of a complete run, beside those of earlier ones.

    Args:
        model: What was run.
        file: The result file, in the model's folder.
    """
    marker, line = model.folder / FINISHED, file.relative_to(model.folder).as_posix()
    known = marker.read_text(encoding="utf-8").splitlines() if marker.exists() else []
    if line not in known:
        marker.write_text("".join(f"{one}\n" for one in [*known, line]), encoding="utf-8")


def boards(out: Path) -> list[list[str]]:
    """Share out all finished runs, so that those of one leaderboard were asked the same; say which have no place.

    A configuration is one entry: its model's name, followed by "@" and its folder's name where another one of the same
    model is in that leaderboard.

    Args:
        out: Folder of all results.

    Returns:
        For each leaderboard its runs as "NAME=FILE". The first is that of the configuration that was finished first.
    """
    files: dict[str, list[Path]] = {}
    found: list[tuple[float, list[leaderboard.Entry]]] = []
    for marker in sorted(out.rglob(FINISHED)):
        model = marker.parent.parent.relative_to(out).as_posix()
        name = f"{model}@{marker.parent.name}"
        entries = []
        for line in marker.read_text(encoding="utf-8").splitlines():
            try:
                entries += results.each([f"{name}={marker.parent / line}"], leaderboard.entry)
                files.setdefault(name, []).append(marker.parent / line)
            except EicapError as error:  # cloze answers alone, say
                print(f"not ranked: {error}", file=sys.stderr)
        if entries:
            found.append((min(date for entry in entries for date in entry.dates.values()), entries))
    shared: list[list[leaderboard.Entry]] = []
    for _, entries in sorted(found, key=lambda dated: (dated[0], dated[1][0].name)):
        try:
            own = leaderboard.merge([], entries)
        except EicapError as error:  # circular answers alone
            print(f"not ranked: {error}", file=sys.stderr)
            continue
        for number, board in enumerate(shared):
            try:
                shared[number] = leaderboard.merge(board, own)
                break
            except EicapError as error:
                print(f"not in leaderboard {number + 1}: {error}", file=sys.stderr)
        else:
            shared.append(own)
    return [_named([entry.name for entry in board], files) for board in shared]


def _named(names: list[str], files: dict[str, list[Path]]) -> list[str]:
    """Return the runs of a leaderboard, under short names where there is one configuration of a model."""
    models = [name.rpartition("@")[0] for name in names]
    short = {name: name if models.count(model) > 1 else model for name, model in zip(names, models, strict=True)}
    return [f"{short[name]}={file}" for name in names for file in files[name]]
