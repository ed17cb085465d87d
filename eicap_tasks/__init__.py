"""Multi-turn emotional-intelligence tasks in English and Arabic for lm-evaluation-harness."""

__version__ = "0.1.0"
