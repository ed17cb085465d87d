"""`eicap audit`: can the items be trusted to measure what they say? Numbers against stated limits.

`audit` gathers the checks of the modules beside this one; `yardstick` adds those that need a language model.
"""

from __future__ import annotations

from collections.abc import Sequence

from eicap_tasks.audit import coverage, languages, overlap, shortcuts, surface
from eicap_tasks.audit.checks import Check
from eicap_tasks.documents import Document, documents
from eicap_tasks.errors import EicapError
from eicap_tasks.schema import Dialogue
from eicap_tasks.vocabulary import LAYERS


def tasks_of(dialogues: Sequence[Dialogue]) -> dict[str, Sequence[Document]]:
    """Make the documents of every task that the dialogues have probes for: "appraisal_en" -> documents."""
    made = {
        f"{layer}_{lang}": documents(dialogues, lang, layer)
        for lang in sorted({dialogue.lang for dialogue in dialogues})
        for layer in LAYERS
    }
    return {scope: docs for scope, docs in made.items() if docs}


def audit(dialogues: Sequence[Dialogue]) -> list[Check]:
    """Audit items, in any number of languages.

    Args:
        dialogues: Valid dialogues, as `items.load` returns them.

    Returns:
        Every finding, judged or not, grouped by kind.

    Raises:
        EicapError: There is no dialogue.
    """
    if not dialogues:
        raise EicapError("found no dialogue to audit, expected one or more")
    by_language: dict[str, Sequence[Dialogue]] = {
        lang: [d for d in dialogues if d.lang == lang] for lang in sorted({d.lang for d in dialogues})
    }
    tasks = tasks_of(dialogues)
    everything = [doc for docs in tasks.values() for doc in docs]
    found: list[Check] = []
    for scope, docs in [*tasks.items(), ("all", everything)]:
        found += surface.positions(scope, docs)
        found += surface.lengths(scope, docs)
    for lang in by_language:
        if (scope := f"response_{lang}") in tasks:
            found += surface.style(scope, tasks[scope], lang)
    found += shortcuts.shortcuts(tasks)
    for lang, own in by_language.items():
        found += overlap.overlap(lang, own)
        found += coverage.coverage(lang, own, alone=len(by_language) == 1)
        found += languages.script(lang, own)
    found += languages.parity(by_language)
    groups = list(dict.fromkeys(check.group for check in found))
    return sorted(found, key=lambda check: groups.index(check.group))
