"""Makes `lm_eval --tasks eicap_*` work after `pip install`, until lm-eval discovers tasks itself.

Installed at the top of site-packages, beside `eicap_lmeval.pth`, which runs `install()` when an
interpreter starts (from Python 3.18 on, `eicap_lmeval.start` does, PEP 829). `install` only places a
finder that waits for `lm_eval.tasks.manager`; when that module is imported, its `TaskManager` learns
of our task folder and checks our options before any model is loaded.

EICAP_NO_HOOK=1 turns it off. Where lm-eval discovers tasks through entry points (its pull request
4015), the folder is left to that. This file imports nothing of the package until it is needed.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing's, without importing typing when an interpreter starts
if TYPE_CHECKING:
    from typing import Any

_TARGET = "lm_eval.tasks.manager"


class _Finder:
    """Waits for one module, lets the other finders find it, and patches it once it has run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _TARGET:
            return None
        sys.meta_path.remove(self)  # once
        for finder in list(sys.meta_path):  # an editable lm-eval has a finder of its own
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            try:
                _patch(module)
            except Exception as error:  # lm-eval must go on working, whatever we did wrong
                sys.stderr.write(
                    f"eicap-tasks: registering the tasks failed: {error!r}; "
                    'use --include_path "$(eicap path)" instead\n'
                )

        spec.loader.exec_module = exec_module
        return spec


def _patch(module: Any) -> None:
    import functools
    from importlib.util import find_spec
    from pathlib import Path

    package = find_spec("eicap_tasks")
    if package is None or not package.submodule_search_locations:
        return  # uninstalled, with this file left behind
    ours = (Path(next(iter(package.submodule_search_locations))) / "tasks").resolve()
    discovered = hasattr(module, "discover_plugin_task_paths")
    original = module.TaskManager.__init__

    @functools.wraps(original)
    def patched(self: Any, verbosity: Any = None, include_path: Any = None, *args: Any, **kwargs: Any) -> None:
        given = include_path if isinstance(include_path, (list, tuple)) else [include_path] if include_path else []
        covered = [Path(path).expanduser().resolve() for path in given]
        known = discovered or any(path == ours or path in ours.parents for path in covered)
        original(self, verbosity, include_path if known else [ours, *given], *args, **kwargs)
        self.include_path = include_path
        if any("eicap" in str(key).lower() for key in self.metadata or ()):
            from eicap_tasks.preflight import check

            check(self.metadata)

    module.TaskManager.__init__ = patched


def install() -> None:
    """Place the finder, unless the hook is turned off or lm-eval is loaded already."""
    if not os.environ.get("EICAP_NO_HOOK") and _TARGET not in sys.modules:
        sys.meta_path.insert(0, _Finder())
