"""Run one `lm_eval` or `eicap` command line in this process, with a scripted model behind it.

Only what cannot be had offline is replaced: whatever `--model` names is a scripted model, two documents a task.
"""

from __future__ import annotations

import sys
from typing import Any

import lm_eval.api.registry
from lm_eval.__main__ import cli_evaluate
from models import ScriptedModel, oracle

from eicap_tasks.cli import main as eicap


class StandIn(ScriptedModel):
    """The scripted model, made as lm-eval makes a model from its arguments."""

    @classmethod
    def create_from_arg_obj(cls, arguments: dict[str, Any], extra: dict[str, Any] | None = None) -> StandIn:
        print("model arguments:", sorted(arguments))
        return cls(oracle)


def main(arguments: list[str]) -> None:
    """Run the command."""
    lm_eval.api.registry.get_model = lambda name: StandIn
    program, *rest = arguments
    sys.argv = [program, *rest]
    (eicap if program == "eicap" else cli_evaluate)()


if __name__ == "__main__":
    main(sys.argv[1:])
