"""Run one `lm_eval` or `eicap` command line in this process, with a scripted model behind it.

Only what cannot be had offline is replaced: whatever `--model` names is a scripted model, two documents a task.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import lm_eval.api.registry
import lm_eval.tasks
from lm_eval.__main__ import cli_evaluate
from models import ScriptedModel, always_a, oracle

from eicap_tasks.cli import main as eicap
from eicap_tasks.runner import TASKS, _manager


class StandIn(ScriptedModel):
    """The scripted model, made as lm-eval makes a model from its arguments."""

    @classmethod
    def create_from_arg_obj(cls, arguments: dict[str, Any], extra: dict[str, Any] | None = None) -> StandIn:
        print("model arguments:", sorted(arguments))
        score = always_a if arguments.get("pretrained") == "says-a" else oracle
        return cls(score, write=lambda doc: str(doc["labels"][doc["gold"]]))


def main_in(folder: str, arguments: list[str], ours_alone: bool) -> None:
    """Run the command in a folder, where `stdout` and `stderr` get what it prints; for a process of its own."""
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), number)
    if ours_alone:
        os.environ["OURS_ALONE"] = "1"
    main(arguments)


def main(arguments: list[str]) -> None:
    """Run the command."""
    lm_eval.api.registry.get_model = lambda name: StandIn
    if "OURS_ALONE" in os.environ:  # indexing lm-eval's own tasks takes ten seconds and more
        lm_eval.tasks.TaskManager = partial(_manager, [str(TASKS)], False)
    program, *rest = arguments
    sys.argv = [program, *rest]
    (eicap if program == "eicap" else cli_evaluate)()


if __name__ == "__main__":
    main(sys.argv[1:])
