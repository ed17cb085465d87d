"""Evaluate tasks in as many processes as torchrun started, with a scripted model; run by test_processes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import torch
import torch.distributed as dist
from lm_eval.tasks import TaskManager
from models import ScriptedModel

from eicap_tasks.runner import TASKS


def pseudo_random(doc: dict[str, Any], label: str) -> float:
    """Score a label by a hash: arbitrary, and the same everywhere."""
    return -int.from_bytes(hashlib.sha256(f"{doc['id']} {label}".encode()).digest()[:4], "big") / 2**32


def letter(doc: dict[str, Any]) -> str:
    """Write the letter that `pseudo_random` prefers, and for some documents no answer at all."""
    best = max("ABCD", key=lambda label: pseudo_random(doc, label))
    return best if pseudo_random(doc, "x") > -0.8 else "?"


class DistributedModel(ScriptedModel):
    """A scripted model that takes its share of the documents and gathers over gloo."""

    def __init__(self) -> None:
        super().__init__(pseudo_random, write=letter)
        dist.init_process_group("gloo")
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        self._device = torch.device("cpu")

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        out = [torch.zeros_like(tensor) for _ in range(self._world_size)]
        dist.all_gather(out, tensor)
        return torch.stack(out)

    def gather_object(self, obj: object, dst: int = 0) -> Sequence[object] | None:
        out: list[object] | None = [None] * self._world_size if self._rank == dst else None
        dist.gather_object(obj, out, dst=dst)
        return out

    def barrier(self) -> None:
        dist.barrier()


def main(out: Path, tasks: list[str]) -> None:
    """Evaluate and write the scores and the documents' ids, from rank 0."""
    model = DistributedModel()
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    result = lm_eval.simple_evaluate(model=model, tasks=tasks, task_manager=manager, limit=41, bootstrap_iters=0)
    if result is not None and model.rank == 0:
        ids = {name: sorted(s["doc"]["id"] for s in samples) for name, samples in result["samples"].items()}
        signed = {name: config["metadata"]["signature"] for name, config in result["configs"].items()}
        out.write_text(json.dumps([result["results"], ids, signed], sort_keys=True))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
