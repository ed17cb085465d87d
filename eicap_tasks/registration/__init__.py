"""How lm-eval comes to know our tasks; see `_eicap_lmeval_hook`."""
