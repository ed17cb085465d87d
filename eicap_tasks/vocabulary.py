"""The closed vocabularies of the taxonomy, read from `vocabulary.json`.

Layers and skills follow the EICAP paper (arXiv:2508.06196), whose abstract names four layers of
ability and whose taxonomy figure names five layers of emotion. The 24 skills, the assignment of
emotions to emotion layers and the traps are this project's own; DATACARD.md gives the sources.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

_DATA: Final[dict[str, Any]] = json.loads(files(__package__).joinpath("vocabulary.json").read_text(encoding="utf-8"))

LANGUAGES: Final[dict[str, dict[str, Any]]] = _DATA["languages"]
"""Language code -> name, BCP 47 tag, Unicode script, direction and varieties; for the audit also `hedges`, by which a
reply claims less than certainty, and `foreign_punctuation`, which belongs to other scripts."""

LABELS: Final[dict[str, list[str]]] = _DATA["labels"]
"""Name of a set of labels for the options -> the labels. In all tokenizers tried, each Latin one is one token."""

LAYERS: Final[dict[str, dict[str, Any]]] = _DATA["layers"]
"""Layer -> labels per language and its six skills with their meaning."""

SKILLS: Final[dict[str, str]] = {skill: layer for layer, entry in LAYERS.items() for skill in entry["skills"]}
"""Skill -> the layer it belongs to."""

EMOTION_LAYERS: Final[dict[str, dict[str, dict[str, str]]]] = _DATA["emotion_layers"]
"""Emotion layer -> emotion -> label per language."""

EMOTIONS: Final[dict[str, str]] = {emotion: layer for layer, emotions in EMOTION_LAYERS.items() for emotion in emotions}
"""Emotion -> the emotion layer it belongs to."""

TRAPS: Final[dict[str, dict[str, Any]]] = _DATA["traps"]
"""Trap -> the layers it is used in and why the wrong option is tempting."""

DIFFICULTIES: Final[dict[str, str]] = _DATA["difficulties"]
"""Level of difficulty -> what it means, from easiest to hardest."""

ROLES: Final[list[str]] = _DATA["roles"]
DOMAINS: Final[list[str]] = _DATA["domains"]
CULTURES: Final[list[str]] = _DATA["cultures"]
